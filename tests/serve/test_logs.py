"""The log: one JSON object per line, whatever a process has to say."""

import json
import subprocess
import sys

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
