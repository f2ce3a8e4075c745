"""Requests of unmodified clients of KServe, MLServer and NVIDIA: recorded ones are read; the clients run on demand."""

import base64
import json
import subprocess
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.serve import oip_codec
from stimcore.serve.limits import Limits
from tests.serve.processes import Running

FOREIGN = Path(__file__).parents[1] / "foreign"
RECORDED = sorted(FOREIGN.glob("*.json"))


def images(shape: list[int]) -> Any:
    """The images that the programs in `tests/serve/foreign` send."""
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_requests_are_read(path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert recorded["requests"]
    for request in recorded["requests"]:
        assert request["path"] == f"/v2/models/{recorded['model']}/infer"
        length = request["headers"].get("inference-header-content-length")
        body = base64.b64decode(request["body"])
        read = oip_codec.decode_request(body, length, tuple(recorded["shape"][1:]), Limits())
        np.testing.assert_allclose(read.images, images(recorded["shape"]), atol=1e-6)
        assert read.spec in (None, "d1-1-1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kserve", "mlserver", "tritonclient[http]"])
def test_the_clients_themselves_get_the_logits(name: str, server: Running, exported: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", name], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a registry that has {name}")
    program = {"kserve": "ask_kserve.py", "mlserver": "ask_mlserver.py"}.get(name, "ask_triton.py")
    bundle = open_bundle(exported / "tiny" / "common")
    shape = [2, *bundle.experiment.image_shape]
    words = [str(python), str(FOREIGN / program), server.url, "tiny.common", json.dumps(shape)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    engine = Engine(bundle, device="cpu", threads=1)
    whole = engine.logits(bundle.topology.full, images(shape))
    small = engine.logits(bundle.topology.parse("d1-1-1"), images(shape))
    for answer in json.loads(done.stdout.splitlines()[-1]):
        logits = np.array(answer).reshape(small.shape)
        assert min(np.abs(logits - one).max() for one in (whole, small)) < 1e-4
