"""Messages between front and worker: what is packed comes out as it was, and large arrays are not copied into the pickle."""

import numpy as np
import pytest

from stimcore.serve.repository.models import BundleRef
from stimcore.serve.workers import messages
from stimcore.serve.workers.messages import HEAD, LARGE_BYTES, Answer, Infer, Part
from stimcore.subnets.spec import Spec

LARGE, SMALL = LARGE_BYTES // 4, LARGE_BYTES // 4 - 1
"""Numbers of float32 that are just large, and just not."""


def read(parts: list[Part]) -> object:
    """Return the message in the parts, whose length must be the one in front of them."""
    data = b"".join(parts)
    assert HEAD.unpack_from(data) == (len(data) - HEAD.size,)
    return messages.unpack(data[HEAD.size :])


@pytest.mark.parametrize("sizes", [(), (1,), (SMALL,), (LARGE,), (SMALL, LARGE, 3, LARGE + 1), (LARGE, LARGE, LARGE)])
def test_arrays_of_every_size_arrive_as_they_were(sizes: tuple[int, ...]) -> None:
    arrays = [np.arange(size, dtype=np.float32) + size for size in sizes]
    message = read(messages.pack(Answer(7, (arrays, 5))))
    assert isinstance(message, Answer)
    assert (message.id, message.value[1]) == (7, 5)
    assert [array.tolist() for array in message.value[0]] == [array.tolist() for array in arrays]


def test_large_images_are_sent_from_where_they_are() -> None:
    body = b"{}" + np.arange(LARGE, dtype=np.float32).tobytes()  # as a request has them: behind JSON, read-only, unaligned
    images = np.frombuffer(memoryview(body)[2:], "<f4").reshape(1, 1, 1, -1)
    call = Infer(1, BundleRef("/nowhere", "0"), Spec(((1,),)), True, images)
    parts = messages.pack(call)
    assert any(isinstance(part, memoryview) and np.shares_memory(np.frombuffer(part, np.uint8), images) for part in parts)
    assert sum(len(part) for part in parts if isinstance(part, bytes)) < 1024
    message = read(parts)
    assert isinstance(message, Infer)
    assert message.images.shape == images.shape
    assert np.array_equal(message.images, images)


@pytest.mark.parametrize("images", [np.zeros((0, 1, 2, 2), np.float32), np.zeros((LARGE, 2), np.float32)[:, ::2]])
def test_empty_and_strided_arrays_arrive_too(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    message = read(messages.pack(Answer(1, images)))
    assert isinstance(message, Answer)
    assert message.value.shape == images.shape
