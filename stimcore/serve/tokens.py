"""The tokens of a server: read from the environment or from files, and checked before the server starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stimcore.errors import UsageError

ADMIN_VARIABLE, READ_VARIABLE = "STIMCORE_TOKEN", "STIMCORE_READ_TOKEN"
"""Environment variables of the tokens; with `_FILE` appended, of files that hold them."""
ENGINE_TOKEN_VARIABLE = "STIMCORE_ENGINE_TOKEN"
"""Environment variable with the token of the inference server that runs networks in place of the workers."""
MIN_TOKEN_CHARS = 16
MAX_TOKEN_CHARS = 4096


@dataclass(frozen=True)
class Tokens:
    """The tokens that requests carry; without an admin token there is no access control by token.

    Attributes:
        admin: Opens everything.
        read: Opens everything but what changes the server or shows its run folders; None where there is none.
    """

    admin: str | None = None
    read: str | None = None


def read_tokens(environment: Mapping[str, str]) -> Tokens:
    """Return the tokens of a server.

    Args:
        environment: Environment variables.

    Raises:
        UsageError: A token is too short, holds characters that no header can carry, is given twice, or its file can't be read;
            or there is a read token alone.

    Example:
        >>> read_tokens({"STIMCORE_TOKEN": "correct-horse-battery"})
        Tokens(admin='correct-horse-battery', read=None)
    """
    admin, read = read_token(environment, ADMIN_VARIABLE), read_token(environment, READ_VARIABLE)
    if read is not None and admin is None:
        raise UsageError(f"{READ_VARIABLE} without {ADMIN_VARIABLE}", allowed="both, or the latter alone")
    if read is not None and read == admin:
        raise UsageError(f"{READ_VARIABLE} is {ADMIN_VARIABLE}", allowed="two different secrets")
    return Tokens(admin, read)


def is_sendable(text: str) -> bool:
    """Return whether a header can carry a text unchanged: it is printable ASCII without white space.

    HTTP removes white space around a header, and a line break would end it.

    Example:
        >>> is_sendable("correct-horse-battery"), is_sendable("two words"), is_sendable("geheimniß")
        (True, False, False)
    """
    return all(" " < character <= "~" for character in text)


def read_token(environment: Mapping[str, str], name: str) -> str | None:
    """Return a token from its variable or from its file; None where neither is set.

    Raises:
        UsageError: It is too short or too long, holds characters that no header can carry, is given twice, or its file can't be
            read.
    """
    file, token = environment.get(f"{name}_FILE", ""), environment.get(name, "")
    source = name
    if file:
        if token:
            raise UsageError(f"both {name} and {name}_FILE are set", allowed="one of them")
        source = f"{name}_FILE"
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as reason:
            why = reason.strerror if isinstance(reason, OSError) else "it is no text"
            raise UsageError(f"{source} {file} can't be read ({why})") from reason
        token = token.removesuffix("\n").removesuffix("\r")  # editors end a file with a line break
    elif not token:
        return None
    if len(token) < MIN_TOKEN_CHARS or len(token) > MAX_TOKEN_CHARS:
        raise UsageError(f"{source} has {len(token)} characters", allowed=f"{MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS}")
    if not is_sendable(token):
        raise UsageError(f"{source} holds white space or characters outside of ASCII", allowed="printable ASCII characters")
    return token
