"""The errors that users meet. Each message names what was wrong, what is allowed and what to do next.

`exit_code` is the exit code of a command that ends with the error; `code` names the error in answers of the server. This module
knows neither HTTP nor the command line.
"""


class StimcoreError(Exception):
    """An error that a user can understand and act on; its text is one or two sentences.

    Args:
        what: What was wrong, with the value that was given.
        allowed: What would have been right; empty when there is nothing to name.
        todo: What the reader can do next; empty when that is obvious.

    Example:
        >>> print(UsageError("there is no device 'tpu'", allowed="auto, cpu"))
        there is no device 'tpu'; allowed: auto, cpu.
        >>> print(BundleError("main.onnx is missing", todo="Export the run again."))
        main.onnx is missing. Export the run again.
    """

    code = "error"
    exit_code = 1

    def __init__(self, what: str, *, allowed: str = "", todo: str = "") -> None:
        self.what, self.allowed, self.todo = what, allowed, todo
        super().__init__(what)

    def __str__(self) -> str:
        # one dot alone: the three of an ellipsis belong to what is said
        parts = [self.what.removesuffix(".")]
        if self.allowed:
            parts.append(f"allowed: {self.allowed.removesuffix('.')}")
        text = "; ".join(parts) + "."
        return f"{text} {self.todo}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.allowed, self.todo)


def _rebuild(kind: type[StimcoreError], what: str, allowed: str, todo: str) -> StimcoreError:
    """Make an error again on the other side of a pickle: `Exception` itself would only keep the first argument."""
    return kind(what, allowed=allowed, todo=todo)


class UsageError(StimcoreError):
    """The user asked for something that does not exist, or for things that don't fit together."""

    code = "usage"
    exit_code = 2


class SpecError(UsageError):
    """A sub-network that this network does not have."""

    code = "bad_spec"


class DataMissing(UsageError):
    """A data set is not in the folder where it was expected."""

    code = "data_missing"


class CheckpointError(StimcoreError):
    """A checkpoint can't be used: it is truncated, belongs to another network, or holds more than tensors."""

    code = "bad_checkpoint"


class NoRun(CheckpointError):
    """The user named a folder that is no run folder, or none at all."""

    exit_code = 2


class BundleError(StimcoreError):
    """A bundle is broken or incomplete, or has a newer schema."""

    code = "broken_bundle"


class NoBundle(BundleError):
    """The user named a folder that is no bundle, or none at all."""

    exit_code = 2


class ParityError(StimcoreError):
    """An exported network computes something else than the network that it was exported from."""

    code = "parity"


class TrainingFailed(StimcoreError):
    """Training can't continue: the loss is not finite, or the network collapsed."""

    code = "training_failed"


class Unavailable(StimcoreError):
    """Something that would work later or elsewhere: a server is down, or a package is not installed."""

    code = "unavailable"
