"""Ask a server with NVIDIA's client: `python ask_triton.py URL MODEL SHAPE`; prints the logits of every answer as JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def main(url: str, model: str, shape: list[int]) -> None:
    """Send tensors as JSON and as bytes."""
    images = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    answers = []
    for binary in (False, True):
        tensor = triton.InferInput("images", shape, "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        outputs = [triton.InferRequestedOutput("logits", binary_data=binary)]
        answer = client.infer(model, [tensor], outputs=outputs, request_id="mine", parameters={"spec": "d1-1-1"})
        answers.append(answer.as_numpy("logits").tolist())
    print(json.dumps(answers))
    client.close()


main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
