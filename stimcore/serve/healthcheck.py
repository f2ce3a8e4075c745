"""`python -m stimcore.serve.healthcheck URL`: 0 when the server at URL says in its JSON that it is ready.

The status alone proves nothing: a web page that answers anything with 200 would pass.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from stimcore import cli
from stimcore.errors import Unavailable

SECONDS = 4.0


def main(argv: Sequence[str]) -> int:
    """Asks once; returns the exit code.

    Raises:
        Unavailable: It is not ready, or not there.
    """
    line = cli.Parser(prog="python -m stimcore.serve.healthcheck", description="Ask a server whether it takes work.")
    line.add_argument("url", metavar="URL", help="as in http://127.0.0.1:8000")
    url = line.parse_args(argv).url.rstrip("/") + "/v2/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            value = json.loads(answer.read(10_000))
    except (OSError, ValueError) as reason:
        raise Unavailable(f"{url} does not say that it is ready: {reason}") from reason
    if value != {"ready": True}:
        raise Unavailable(f"{url} does not say that it is ready: {str(value)[:80]}")
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
