"""Request bodies: JSON is checked in linear time and bounded memory, whatever it holds, and agrees with a plain reference."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import UsageError
from stimcore.serve.limits import Limits
from stimcore.serve.parsing import check_depth, json_depth, parse_json, parse_length

LIMITS = Limits()

HOSTILE: dict[str, Callable[[int], bytes]] = {
    "an escaped quote again and again, and no end": lambda size: b'"' + b'\\"' * (size // 2),
    "the same with a backslash at the end": lambda size: b'"' + b'\\"' * (size // 2) + b"\\",
    "quotes": lambda size: b'"' * size,
    "backslashes": lambda size: b"\\" * size,
    "a string of backslashes": lambda size: b'"' + b"\\" * size,
    "brackets": lambda size: b"[" * size,
    "brackets in a string": lambda size: b'"' + b"[" * size,
    "many strings": lambda size: b"[" + b'"a",' * (size // 4),
    "empty objects": lambda size: b"[" + b"{}," * (size // 3),
    "digits": lambda size: b"9" * size,
    "digits of a fraction": lambda size: b"1." + b"9" * size,
    "an exponent": lambda size: b"1e" + b"9" * size,
    "white space": lambda size: b" " * size,
    "escapes": lambda size: b'"' + b"\\ud800" * (size // 6),
    "NaN": lambda size: b"[" + b"NaN," * (size // 4),
    "bytes that are not UTF-8": lambda size: b'"' + b"\xc3" * size,
    "keys that repeat": lambda size: b"{" + b'"a":1,' * (size // 6),
}


def plain_depth(text: bytes) -> int:
    """Return the depth by reading one character after the other."""
    depth = deepest = position = 0
    inside = False
    while position < len(text):
        character = text[position : position + 1]
        if character == b"\\":
            position += 1 if text[position + 1 : position + 2] in (b"\\", b'"') else 0
        elif character == b'"':
            inside = not inside
        elif not inside and character in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif not inside and character in (b"]", b"}"):
            depth -= 1
        position += 1
    return deepest


def parse(text: bytes) -> None:
    with contextlib.suppress(UsageError):
        parse_json(text, LIMITS)


def seconds(work: Callable[[bytes], object], text: bytes) -> float:
    """Return the processor time of the fastest of several runs."""
    times = []
    for _ in range(5):
        began = time.process_time()
        work(text)
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("work", [json_depth, parse])
@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_length_and_not_with_its_square(kind: str, work: Callable[[bytes], object]) -> None:
    small, large = HOSTILE[kind](8_000), HOSTILE[kind](32_000)
    # Four times the bytes: a linear scan takes about four times as long, a quadratic one sixteen times. The 100 microseconds
    # stand for what does not depend on the length.
    assert seconds(work, large) < 8 * seconds(work, small) + 1e-4
    work(HOSTILE[kind](1_000_000))


structure = st.text(alphabet='[]{}"\\a,:', max_size=60).map(str.encode)


@settings(max_examples=500)
@given(structure | st.binary(max_size=60))
def test_the_depth_is_that_of_a_plain_reading(text: bytes) -> None:
    assert json_depth(text) == plain_depth(text)
    for depth in (1, 2, 3):
        limits = Limits(json_depth=depth)
        if plain_depth(text) > depth:
            with pytest.raises(UsageError, match="nested too deeply"):
                check_depth(text, limits)
        else:
            check_depth(text, limits)


@settings(max_examples=300)
@given(structure)
def test_no_json_is_deeper_than_its_depth(text: bytes) -> None:
    def deep(item: object) -> int:
        if isinstance(item, dict):
            return 1 + max(map(deep, item.values()), default=0)
        return 1 + max(map(deep, item), default=0) if isinstance(item, list) else 0

    try:
        value = json.loads(text)
    except ValueError:
        return
    assert json_depth(text) == deep(value)


def test_other_encodings_than_utf_8_are_refused() -> None:
    """In UTF-16, the bytes of brackets and quotes mean something else than in the check of the depth."""
    assert parse_json('{"é": [1]}'.encode(), LIMITS) == {"é": [1]}
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(UsageError, match="failed to parse"):
            parse_json('{"a": [1]}'.encode(encoding), LIMITS)


def test_lengths_of_any_number_of_digits() -> None:
    assert parse_length("0") == 0
    assert parse_length("9" * 18) == 10**18 - 1
    for bad in ("", "-1", "1e3", "0x10", "٣", "²", "9" * 19, "9" * 5000):
        assert parse_length(bad) is None


MEASURE = """
import json, resource, sys
from stimcore.serve import oip_codec
from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.limits import Limits
from pydantic import ValidationError

kind, limits = sys.argv[1], Limits()
size = 1_000_000
texts = {
    "one long text": '["' + "x" * (size - 4) + '"]',
    "a long text and many short ones": '["' + "x" * (size // 2) + '"' + ', "y"' * (size // 12) + "]",
    "short texts": "[" + ",".join(['"y"'] * (size // 4)) + "]",
    "empty lists": "[" + ",".join(["[]"] * (size // 3)) + "]",
    "lists of one text": "[" + ",".join(['["y"]'] * (size // 6)) + "]",
    "objects": "[" + ",".join(["{}"] * (size // 3)) + "]",
    "null": "[" + ",".join(["null"] * (size // 5)) + "]",
    "true": "[" + ",".join(["true"] * (size // 5)) + "]",
    "numbers, then a text": "[" + ",".join(["1"] * (size // 2 - 8)) + ',"y"]',
    "long whole numbers": "[" + ",".join(["9" * 4000] * (size // 4001)) + "]",
    "too many numbers": "[" + ",".join(["1"] * (size // 2)) + "]",
}
tensor = '{"name": "images", "datatype": "FP32", "shape": [4, 1, 12, 12], "data": %s}' % texts[kind]
body = ('{"inputs": [%s]}' % tensor).encode()
job = json.dumps({"experiment": "e", "method": "m", "specs": json.loads(texts[kind])})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    oip_codec.decode_request(body, None, (1, 12, 12), limits)
except UsageError as reason:
    print(str(reason)[:60])
else:
    sys.exit("not refused")
try:
    types.JobRequest.model_validate(json.loads(job), strict=True)
except ValidationError as reason:
    assert len(reason.errors()) == 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "one long text",
        "a long text and many short ones",
        "lists of one text",
        "objects",
        "long whole numbers",
        "too many numbers",
    ],
)
def test_a_megabyte_of_what_is_no_number_takes_at_most_64_megabytes(kind: str) -> None:
    """In a new process each, because the highest memory of a process never falls."""
    done = subprocess.run([sys.executable, "-c", MEASURE, kind], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    sentence, grown = done.stdout.splitlines()
    assert "Unable to parse 'data'" in sentence
    assert int(grown) <= 64
