"""The error tree: every refusal says what was wrong, what is allowed and what to do.

Owns the exceptions and the one table that maps them to exit codes. Knows nothing of HTTP or of the command line.
"""


class StimcoreError(Exception):
    """A refusal in one sentence.

    Args:
        what: What was wrong, with the value that was given.
        allowed: What would have been right; empty when nothing could be named.
        todo: What the reader can do next; empty when that is obvious.
    """

    code = "error"
    exit_code = 1

    def __init__(self, what: str, *, allowed: str = "", todo: str = "") -> None:
        self.what, self.allowed, self.todo = what, allowed, todo
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what.rstrip(".")]
        if self.allowed:
            parts.append(f"allowed: {self.allowed.rstrip('.')}")
        text = "; ".join(parts) + "."
        return f"{text} {self.todo}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.allowed, self.todo)


def _rebuild(kind: type[StimcoreError], what: str, allowed: str, todo: str) -> StimcoreError:
    """Carries an error through pickle (worker processes) with all three of its parts."""
    return kind(what, allowed=allowed, todo=todo)


class UsageError(StimcoreError):
    """The caller asked for something that does not exist or does not fit together."""

    code = "usage"
    exit_code = 2


class SpecError(UsageError):
    """A sub-network that this network does not have."""

    code = "bad_spec"


class DataMissing(UsageError):
    """A data set that is not where it was looked for."""

    code = "data_missing"


class CheckpointError(StimcoreError):
    """A checkpoint that cannot be used: truncated, of another network, or more than tensors."""

    code = "bad_checkpoint"


class BundleError(StimcoreError):
    """A bundle that is broken, incomplete or of another version."""

    code = "broken_bundle"


class ParityError(StimcoreError):
    """An exported network that does not say what its original says."""

    code = "parity"


class TrainingFailed(StimcoreError):
    """A run that cannot go on: a loss that is not finite, or a network that collapsed."""

    code = "training_failed"


class Unavailable(StimcoreError):
    """Something that would work later or elsewhere: a server that is down, a device that is not there."""

    code = "unavailable"
