"""Ask a server with KServe's client: `python ask_kserve.py URL MODEL SHAPE`; prints the logits of every answer as JSON."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def main(url: str, model: str, shape: list[int]) -> None:
    """Send tensors as JSON and as bytes, and ask for logits as bytes."""
    images = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=60))
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    answers = []
    for binary in (False, True):
        tensor = InferInput("images", shape, "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        outputs = [RequestedOutput("logits", {"binary_data": True})] if binary else None
        request = InferRequest(model, [tensor], request_id="mine", parameters={"spec": "d1-1-1"}, request_outputs=outputs)
        answer = await client.infer(url, request, model_name=model)
        answers.append(answer.outputs[0].as_numpy().tolist())
    print(json.dumps(answers))
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
