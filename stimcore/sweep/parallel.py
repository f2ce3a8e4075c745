"""Independent pieces of work on several processes of this machine (joblib's loky) or of many (dask futures).

When a worker process dies, its pieces run again in another one; a piece that ends its process again and again is an error.
dask is used directly: joblib's dask backend waits for ever when a worker dies.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from stimcore.errors import Unavailable, UsageError

T = TypeVar("T")
CONNECT_S = 10.0
"""Seconds within which a scheduler has to answer."""
RETRIES = 2
"""Times that a piece runs again after its process died."""


def run(
    function: Callable[..., T], pieces: Sequence[tuple[Any, ...]], *, jobs: int = 1, scheduler: str | None = None
) -> Iterator[tuple[int, T]]:
    """Call a function with every piece; yield the index of the piece and its result as they finish.

    Args:
        function: A function that can be imported by name.
        pieces: The function's arguments, sent to the workers with pickle.
        jobs: Processes on this machine; 1 runs everything in this process.
        scheduler: Address of a dask scheduler, `tcp://HOST:PORT`; its workers see the same files.

    Raises:
        UsageError: `jobs` is below 1, or the address has another form.
        Unavailable: No scheduler answers, it went away, dask is not installed, or a piece ended its process again and again.

    Example:
        >>> list(run(max, [(1, 2), (4, 3)]))
        [(0, 2), (1, 4)]
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}", allowed="1 and more")
    if scheduler is not None:
        yield from _on_dask(function, pieces, scheduler)
    elif jobs == 1:
        for index, piece in enumerate(pieces):
            yield index, function(*piece)
    else:
        yield from _on_loky(function, pieces, jobs)


def _numbered(function: Callable[..., T], index: int, piece: tuple[Any, ...]) -> tuple[int, T]:
    return index, function(*piece)


def _on_loky(function: Callable[..., T], pieces: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[tuple[int, T]]:
    open_pieces = dict(enumerate(pieces))
    died = 0
    while open_pieces:
        # loky does not report which piece ended its process, only that one did: after that they run one at a time until one
        # is done, so that a piece that always fails is known by its number
        batch = list(open_pieces.items()) if not died else list(open_pieces.items())[:1]
        calls = [delayed(_numbered)(function, index, piece) for index, piece in batch]
        try:
            for index, result in Parallel(n_jobs=jobs if len(batch) > 1 else 2, return_as="generator_unordered")(calls):
                del open_pieces[index]
                yield index, result
            died = 0
        except TerminatedWorkerError as reason:
            died += 1
            if died > RETRIES:
                raise Unavailable(
                    f"piece {batch[0][0]} of the work killed its process {died} times", todo="It may need more memory."
                ) from reason


def _on_dask(function: Callable[..., T], pieces: Sequence[tuple[Any, ...]], scheduler: str) -> Iterator[tuple[int, T]]:
    if not scheduler.startswith(("tcp://", "tls://")):
        raise UsageError(f"the scheduler '{scheduler}'", allowed="tcp://HOST:PORT")
    try:
        from distributed import Client, KilledWorker, as_completed
        from distributed.client import FutureCancelledError
    except ImportError as reason:
        raise Unavailable("--scheduler needs the package 'distributed'", todo="pip install distributed") from reason
    try:
        client = Client(scheduler, timeout=CONNECT_S)  # type: ignore[no-untyped-call]  # dask has no annotations
    except OSError as reason:
        raise Unavailable(f"no scheduler answers at {scheduler}", todo="'dask scheduler' starts one.") from reason
    with client:
        futures = [
            client.submit(_numbered, function, index, piece, retries=RETRIES, pure=False) for index, piece in enumerate(pieces)
        ]
        for future in as_completed(futures):  # type: ignore[no-untyped-call]  # dask has no annotations
            try:
                index, result = future.result()
            except KilledWorker as reason:
                raise Unavailable(
                    f"piece {futures.index(future)} of the work killed its worker again and again",
                    todo="It may need more memory; what is finished is kept.",
                ) from reason
            except FutureCancelledError as reason:
                raise Unavailable(
                    f"the scheduler at {scheduler} went away", todo="Run the command again: what is finished is kept."
                ) from reason
            yield index, result
