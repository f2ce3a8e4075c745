"""The log: one JSON object per line, whatever a process has to say."""

import json
import logging
import subprocess
import sys

from stimcore.serve import logs

PROGRAM = """
import asyncio, logging, threading, warnings
from stimcore.serve import logs

class Odd:
    def __del__(self):
        raise ValueError("in a destructor")

def fail(text):
    raise ValueError(text)

async def main():
    asyncio.get_running_loop().call_soon(fail, "in a callback")
    await asyncio.sleep(0)

logs.configure("info")
logging.getLogger("stimcore.serve").info("of the server")
logging.getLogger("stimcore.serve").debug("not wanted")
logging.getLogger("asyncio").warning("of asyncio")
logging.getLogger("a.library").warning("two\\nlines")
logging.getLogger("a.library").info("not wanted")
logging.getLogger("uvicorn.error").error("of uvicorn")
logging.getLogger("uvicorn.error").warning("not wanted")
warnings.warn("a warning")
thread = threading.Thread(target=fail, args=["in a thread"])
thread.start()
thread.join()
Odd()
asyncio.run(main())
fail("in the end")
"""


def test_every_line_is_json_whatever_it_comes_from() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert all({"time", "level", "event"} <= set(line) for line in lines)
    events = [line["event"] for line in lines]
    assert events[:4] == ["of the server", "of asyncio", "two\nlines", "of uvicorn"]
    assert "UserWarning: a warning" in events[4]
    ends = [line["traceback"].splitlines()[-1] for line in lines if "traceback" in line]
    assert ends == [f"ValueError: in {place}" for place in ("a thread", "a destructor", "a callback", "the end")]
    assert len(lines) == 9


def test_asyncio_says_the_same_once_a_second() -> None:
    filter_ = logs.RepetitionFilter()

    def passes(name: str, message: str, created: float) -> bool:
        return filter_.filter(logging.makeLogRecord({"name": name, "msg": message, "created": created}))

    assert [passes("asyncio", "no descriptors", created) for created in (50.0, 50.9, 51.0, 51.5, 20.0, 20.5)] == [
        True,
        False,
        True,
        False,
        True,  # the clock was set back
        False,
    ]
    assert passes("asyncio", "another", 20.6)
    assert passes("stimcore.serve", "another", 20.7)
    assert passes("stimcore.serve", "another", 20.7)
