"""`python -m stimcore.serve`: the model server."""

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace

from stimcore import cli, files
from stimcore.serve.arguments import HOST, PORT, parser

if __name__ == "__main__":
    cli.answer_early(parser)

from stimcore.engine.cpus import usable_cpus
from stimcore.errors import StimcoreError, Unavailable, UsageError
from stimcore.serve import logs
from stimcore.serve.http.addresses import parse_networks
from stimcore.serve.http.app import HttpOptions
from stimcore.serve.http.connections import RESERVE
from stimcore.serve.http.uvicorn_server import run
from stimcore.serve.limits import Limits
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.tokens import MIN_TOKEN_CHARS, read_tokens
from stimcore.serve.training.offer import TrainingConfig, check_config
from stimcore.serve.workers.config import engine_token, engine_url, read_niceness

__all__ = ["main", "parser"]

BACKLOG = 1024
"""Connections that the system accepts before the server does."""
OTHER_DESCRIPTORS = 32
"""File descriptors for everything but connections: sockets that listen, pipes to workers, files that are read."""


def main(argv: Sequence[str]) -> int:
    """Serve until the process is asked to end; return the exit code."""
    options = parser().parse_args(argv)
    limits = Limits().with_texts(options.limit)
    if not options.folder.is_dir():
        raise UsageError(f"there is no folder {options.folder}", todo="'python -m stimcore.export' makes one.")
    tokens, niceness = read_tokens(os.environ), read_niceness(os.environ)
    http = HttpOptions(
        read_token=tokens.read,
        trusted_proxies=parse_networks(options.trusted_proxy),
        frame_ancestors=_check_sources(options.frame_ancestors),
    )
    training = TrainingConfig(
        allowed=options.allow_training, folders=tuple(options.train_folder), networks=tuple(options.train_network)
    )
    check_config(training)
    engine_url(options.engine)  # an unknown engine, or a token that can't be sent, is refused before a socket is opened
    engine_token(os.environ)
    sock = _listen(options.host, options.port, options.fd, tokens.admin)
    threads = _threads(options.threads)
    limits = _fitting(limits, 1 if options.metrics_port is None else 2)
    logs.configure(options.log_level)
    print(f"stimcore serves {options.folder} at {_url(sock)}", flush=True)
    metrics_sock = None
    if options.metrics_port is not None:
        metrics_sock = _bind(HOST if _is_unix(sock) else sock.getsockname()[0], options.metrics_port, "--metrics-port")
        print(f"metrics at {_url(metrics_sock)}/metrics", flush=True)
    config = ServiceConfig(
        folder=options.folder,
        runs=options.runs,
        devices=options.device.split(","),
        threads=threads,
        limits=limits,
        token=tokens.admin,
        engine=options.engine,
        training=training,
        niceness=niceness,
    )

    async def serve() -> StimcoreError | None:
        return await run(Service(config), sock, http, metrics_sock=metrics_sock, watch_input=options.until_input_closes)

    reason = asyncio.run(serve())
    if reason is not None:
        raise reason
    return 0


def _check_sources(text: str) -> str:
    """Return the value of `--frame-ancestors`.

    Raises:
        UsageError: The text would end the header or the directive.
    """
    if not text.strip() or not all(" " <= character <= "~" and character not in ";," for character in text):
        raise UsageError(
            f"--frame-ancestors {text[:80]!r}", allowed="'none', 'self', or origins such as https://school.example"
        )
    return text.strip()


def _is_unix(sock: socket.socket) -> bool:
    """Return whether only programs on this machine can connect, through a file."""
    return sock.family == getattr(socket, "AF_UNIX", None)


def _url(sock: socket.socket) -> str:
    if _is_unix(sock):
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _require_token(address: str, token: str | None) -> None:
    """Refuse to listen where other machines can connect without a token.

    Raises:
        UsageError: The address is not on loopback, and there is no token.
    """
    if token is None and not ipaddress.ip_address(address).is_loopback:
        raise UsageError(
            f"{address} is reachable from other machines and there is no token",
            todo=f"Set STIMCORE_TOKEN to a secret of at least {MIN_TOKEN_CHARS} characters.",
        )


def _threads(asked: int | None) -> int:
    """Return the threads of a worker: as many as asked for, at most one per processor that this process may use.

    A command line is written once for machines of many sizes, so that too many are no error. They are not started either: with
    5,000 threads, a session of onnxruntime took six minutes to open on two busy processors.

    Raises:
        UsageError: Fewer than one is asked for.
    """
    usable = usable_cpus()
    if asked is None:
        return usable
    if asked < 1:
        raise UsageError(f"--threads {asked}", allowed="1 and more")
    if asked > usable:
        print(f"--threads {asked}: {usable} run, one for each processor that this process may use", file=sys.stderr, flush=True)
    return min(asked, usable)


def _fitting(limits: Limits, num_sockets: int) -> Limits:
    """Return limits with no more connections than this process may have file descriptors for.

    Without descriptors no connection is accepted, that of a health check neither, and the log fills with failed attempts.

    Args:
        limits: Limits as they were asked for.
        num_sockets: Sockets that listen, each of which accepts `connections`.
    """
    # room for a whole queue: all connections that wait are accepted before those in excess are closed
    num_descriptors = files.allow_descriptors(num_sockets * (limits.connections + BACKLOG) + OTHER_DESCRIPTORS)
    fitting = max(1, (num_descriptors - OTHER_DESCRIPTORS) // num_sockets - RESERVE)
    if fitting >= limits.connections:
        return limits
    print(
        f"connections={limits.connections}: {fitting} are accepted, because this process may have {num_descriptors} file "
        "descriptors; 'ulimit -n' sets how many",
        file=sys.stderr,
        flush=True,
    )
    return replace(limits, connections=fitting)


def _listen(host: str, port: int, fd: int | None, token: str | None) -> socket.socket:
    """Return a socket that listens, on an address or inherited.

    Raises:
        UsageError: There is no such address, it needs a token, or both an address and a socket are given.
        Unavailable: The port is in use.
    """
    if fd is not None:
        if (host, port) != (HOST, PORT):
            raise UsageError("--fd with --host or --port", allowed="--fd alone: the socket has an address already")
        return _inherited(fd, token)
    return _bind(host, port, "--port", token, guarded=True)


def _bind(host: str, port: int, option: str, token: str | None = None, *, guarded: bool = False) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: Name or number of the address.
        port: The port; 0 for a free one.
        option: Option that chose the port.
        token: Token that requests need.
        guarded: Whether an address that other machines can reach needs a token.

    Raises:
        UsageError: There is no such address, or it needs a token.
        Unavailable: The port is in use.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"{option} {port}", allowed="0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as reason:
        raise UsageError(
            f"there is no address '{host[:80]}'", allowed="127.0.0.1, 0.0.0.0, a name or number of this machine"
        ) from reason
    if guarded:
        _require_token(str(address[0]), token)
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it, small answers wait for acknowledgements
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # on Windows, reusing an address would let two programs share a port
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
    try:
        sock.bind(address)
    except OSError as reason:
        sock.close()
        raise Unavailable(
            f"{host}:{port} can't be used ({reason.strerror})", todo=f"Give another {option}, or 0 for a free one."
        ) from reason
    sock.listen(BACKLOG)
    return sock


def _inherited(fd: int, token: str | None) -> socket.socket:
    """Return the socket behind a file descriptor.

    Raises:
        UsageError: The descriptor is not a socket, or its address needs a token.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as reason:
        raise UsageError(f"--fd {fd} is not a socket ({reason.strerror})") from reason
    if not _is_unix(sock):
        _require_token(str(sock.getsockname()[0]), token)
    return sock


if __name__ == "__main__":
    cli.run(main)
