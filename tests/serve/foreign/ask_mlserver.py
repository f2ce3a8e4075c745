"""Ask a server as MLServer's users do: `python ask_mlserver.py URL MODEL SHAPE`; prints the logits of every answer as JSON.

Once with MLServer's types and codecs, sent as JSON, once with its command `mlserver infer`.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters


def main(url: str, model: str, shape: list[int]) -> None:
    """Send one request in each of three ways."""
    images = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    whole = NumpyRequestCodec.encode_request(images)
    whole.inputs[0].name = "images"
    part = InferenceRequest(
        inputs=[NumpyCodec.encode_input("images", images)], parameters=Parameters(content_type="np", spec="d1-1-1")
    )
    answers = []
    for request in (whole, part):
        body, headers = request.model_dump_json().encode(), {"Content-Type": "application/json"}
        sent = urllib.request.Request(f"{url}/v2/models/{model}/infer", body, headers)
        with urllib.request.urlopen(sent, timeout=60) as answer:
            response = InferenceResponse(**json.load(answer))
        answers.append(NumpyCodec.decode_output(response.outputs[0]).tolist())
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "in", Path(folder) / "out"
        given.write_text(whole.model_dump_json() + "\n", encoding="utf-8")
        words = ["infer", "-u", url.removeprefix("http://"), "-m", model, "-i", str(given), "-o", str(written), "-w", "1"]
        subprocess.run([Path(sys.executable).with_name("mlserver"), *words], check=True, capture_output=True, timeout=120)
        (line,) = written.read_text(encoding="utf-8").splitlines()
        answers.append(np.array(json.loads(line)["outputs"][0]["data"]).reshape(shape[0], -1).tolist())
    print(json.dumps(answers))


main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
