"""The certificate authorities that clients trust: those of the system's programs, or those of a company."""

import os
import ssl
from functools import cache

import httpx

from stimcore.errors import Unavailable, UsageError

VARIABLE = "SSL_CERT_FILE"
"""Environment variable with a file of certificates."""


@cache
def ssl_context() -> ssl.SSLContext:
    """Return the trusted certificate authorities.

    `SSL_CERT_FILE` names a file with those of a company, which then count in place of the usual ones. The context is shared,
    because reading the file for every client takes longer than the whole page of a visitor otherwise does.

    Raises:
        UsageError: The file can't be read, or holds no certificates.
    """
    file = os.environ.get(VARIABLE, "")
    if not file:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as reason:  # ssl's own errors are among them
        raise UsageError(f"{VARIABLE} {file} can't be used ({reason.strerror or reason})", allowed="a PEM file") from reason


def is_distrust(reason: BaseException | None) -> bool:
    """Return whether an exception, or one that caused it, says that a server's certificate is not trusted."""
    while reason is not None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return True
        reason = reason.__cause__ or reason.__context__
    return False


def distrust_error(server: str) -> Unavailable:
    """Return the error of a client that does not trust a server's certificate.

    Example:
        >>> distrust_error("the model server at https://gpu-box").what
        'the certificate of the model server at https://gpu-box is not trusted'
    """
    return Unavailable(
        f"the certificate of {server} is not trusted", todo=f"Set {VARIABLE} to a PEM file with the authority that signed it."
    )
