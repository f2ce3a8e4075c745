"""The command line of `python -m stimcore.serve`: what is served, where and within which limits."""

from pathlib import Path

from stimcore import cli
from stimcore.serve.workers.config import LOCAL_ENGINE

HOST, PORT = "127.0.0.1", 8000


def parser() -> cli.Parser:
    """Return the command line; its help text is frozen by a test."""
    line = cli.Parser(
        prog="python -m stimcore.serve",
        description="Serve bundles: Open Inference Protocol under /v2, evaluations under /v1, Prometheus under /metrics.",
    )
    line.add_argument("folder", metavar="EXPORTED", type=Path, help="folder of experiments, as stimcore.export writes it")
    line.add_argument("--host", default=HOST, help="address (default: %(default)s); any other needs STIMCORE_TOKEN")
    line.add_argument("--port", type=int, default=PORT, help="0 for a free one (default: %(default)s)")
    line.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda or cuda:N; several with commas, a worker process each (default: %(default)s)",
    )
    cli.add_provider(line)
    line.add_argument(
        "--threads", type=int, metavar="N", help="threads per worker, on a CPU (default, and at most: one per usable processor)"
    )
    line.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="run folders to show (default: %(default)s)"
    )
    line.add_argument(
        "--allow-training", action="store_true", help="train networks on request and export them into EXPORTED (needs torch)"
    )
    line.add_argument(
        "--train-folder",
        action="append",
        default=[],
        metavar="PATH[@PIXELS]",
        help="with --allow-training: a folder of pictures that may be trained on; may be repeated",
    )
    line.add_argument(
        "--train-network",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="with --allow-training: a network of yours that may be trained; may be repeated",
    )
    line.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="one of docs/serving.md's limits; may be repeated"
    )
    line.add_argument(
        "--engine",
        default=LOCAL_ENGINE,
        metavar="E",
        help="onnxruntime, triton://HOST:PORT or triton+https://HOST:PORT (default: %(default)s)",
    )
    line.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For counts; may be repeated",
    )
    line.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="serve /metrics there too, without a token; 0 for a free one"
    )
    line.add_argument(
        "--frame-ancestors",
        default="'none'",
        metavar="SOURCES",
        help="origins that may show a response in a frame, as in Content-Security-Policy (default: %(default)s)",
    )
    line.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="default: %(default)s")
    line.add_argument("--fd", type=int, help="an inherited socket that listens already, instead of --host and --port")
    line.add_argument("--until-input-closes", action="store_true", help="end when standard input closes")
    return line
