"""Independent pieces of work on several processes of this machine (joblib's loky) or of many (dask futures).

A worker that dies loses nothing: its pieces run again, and a piece that kills its worker twice is reported by name.
Not joblib's dask backend: it waits for ever when a worker dies.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from stimcore.errors import Unavailable, UsageError

T = TypeVar("T")
RETRIES = 2


def run(
    function: Callable[..., T], pieces: Sequence[tuple[Any, ...]], *, jobs: int = 1, scheduler: str | None = None
) -> Iterator[tuple[int, T]]:
    """Calls a function with every piece; yields `(index of the piece, result)` as they finish.

    Args:
        function: Importable by name; gets a piece's values as arguments.
        pieces: Pickled to the workers: paths and plain values.
        jobs: Processes on this machine; 1 runs here.
        scheduler: Address of a dask scheduler, `tcp://HOST:PORT`; its workers see the same files.

    Raises:
        UsageError: Not a number of jobs, or not an address.
        Unavailable: No scheduler there, dask is not installed, or a piece killed its worker again and again.
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
        # after a death one piece at a time, so that the one that kills its worker is known
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
        from distributed import Client, as_completed
    except ImportError as reason:
        raise Unavailable("--scheduler needs the package 'distributed'", todo="pip install distributed") from reason
    try:
        client = Client(scheduler, timeout=10)  # type: ignore[no-untyped-call]  # dask has no annotations
    except OSError as reason:
        raise Unavailable(f"no scheduler answers at {scheduler}", todo="'dask scheduler' starts one.") from reason
    with client:
        futures = [
            client.submit(_numbered, function, index, piece, retries=RETRIES, pure=False) for index, piece in enumerate(pieces)
        ]
        for future in as_completed(futures):  # type: ignore[no-untyped-call]  # dask has no annotations
            index, result = future.result()
            yield index, result
