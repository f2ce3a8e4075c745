"""A model repository for NVIDIA's Triton Inference Server: one folder per network, with batching and a bounded queue.

Source: Triton's model configuration (`dynamic_batching`, `default_queue_policy`). No Triton has run these files yet: the
machines on which this was developed have none.
"""

from collections.abc import Sequence
from pathlib import Path

from stimcore import files
from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.subnets.spec import Spec

MAX_BATCH = 256
"""Images that Triton may run at once."""
_CONFIG = """name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch}
input [{{ name: "images" data_type: TYPE_FP32 dims: [{dims}] }}]
output [{{ name: "logits" data_type: TYPE_FP32 dims: [{classes}] }}]
dynamic_batching {{
  preferred_batch_size: [32, 64, 128]
  max_queue_delay_microseconds: 2000
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: 2000000
    allow_timeout_override: true
    max_queue_size: 64
  }}
}}
instance_group [{{ kind: KIND_AUTO count: 1 }}]
"""


def write_repository(bundle: Bundle, specs: Sequence[Spec], folder: Path) -> list[Path]:
    """Write a model folder `EXPERIMENT.METHOD[.SUBNET]` with `config.pbtxt` and `1/model.onnx` for every spec.

    The networks are self-contained, with batch norms folded.

    Args:
        bundle: The bundle of the networks.
        specs: Any sub-networks.
        folder: The model repository.

    Returns:
        The model folders.
    """
    engine = Engine(bundle, device="cpu")
    base = f"{bundle.experiment.name}.{bundle.method}"
    models = []
    for spec in specs:
        name = base if spec == bundle.topology.full else f"{base}.{bundle.topology.short(spec)}"
        model = folder / name
        (model / "1").mkdir(parents=True, exist_ok=True)
        with files.replacing(model / "1" / "model.onnx") as temporary:
            temporary.write_bytes(engine.standalone(spec))
        dims = ", ".join(map(str, bundle.experiment.image_shape))
        text = _CONFIG.format(name=name, max_batch=MAX_BATCH, dims=dims, classes=len(bundle.experiment.classes))
        files.write_text(model / "config.pbtxt", text)
        models.append(model)
    return models
