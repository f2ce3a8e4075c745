"""`python -m stimcore.serve.healthcheck URL`: exit with 0 if the server at URL reports in its JSON that it is ready.

The status alone proves nothing: a web server that answers every path with 200 would pass. The command needs only the
standard library and starts fast, because a container runs it every few seconds.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from stimcore import cli
from stimcore.errors import Unavailable

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks without a proxy: containers get the proxy of their host in `HTTP_PROXY`, and it can't reach the server in this one."""
TIMEOUT_S = 4.0
"""Time for the answer; shorter than the timeout of the container's health check."""


def parser() -> cli.Parser:
    """Return the command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.serve.healthcheck", description="Ask a server whether it takes work.")
    line.add_argument("url", metavar="URL", help="as in http://127.0.0.1:8000")
    return line


def main(argv: Sequence[str]) -> int:
    """Ask the server once; return the exit code.

    Raises:
        Unavailable: The server is not ready, or does not answer.
    """
    url = parser().parse_args(argv).url.rstrip("/") + "/v2/health/ready"
    try:
        with DIRECT.open(url, timeout=TIMEOUT_S) as answer:
            value = json.loads(answer.read(10_000))
    except (OSError, ValueError) as reason:
        raise Unavailable(f"{url} does not report that the server is ready: {reason}") from reason
    if value != {"ready": True}:
        raise Unavailable(f"{url} does not report that the server is ready: {str(value)[:80]}")
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
