"""TLS between clients and a server: a company's authority counts when SSL_CERT_FILE names it, and only then."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme

from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import Unavailable, UsageError
from stimcore.serve import tls
from stimcore.serve.client.client import Client
from stimcore.serve.workers.config import engine_url
from stimcore.serve.workers.remote_engine import RemoteEngine
from tests.serve.processes import Running


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def proxy(server: Running, authority: trustme.CA) -> Iterator[int]:
    """The port of a proxy that ends TLS in front of the model server, with a certificate of a company's authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer(client: socket.socket) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as plain:
                with socket.create_connection(("127.0.0.1", server.port)) as behind:
                    threading.Thread(target=_pump, args=(behind, plain), daemon=True).start()
                    _pump(plain, behind)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the socket is closed when the tests are over
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.fixture(autouse=True)
def fresh_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes read SSL_CERT_FILE once."""
    monkeypatch.delenv(tls.VARIABLE, raising=False)
    tls.ssl_context.cache_clear()
    yield
    tls.ssl_context.cache_clear()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    monkeypatch.setenv(tls.VARIABLE, str(tmp_path / "company.pem"))


@pytest.mark.usefixtures("trusted")
def test_client_and_engine_trust_the_authority_of_a_company(proxy: int, exported: Path) -> None:
    assert Client(f"https://127.0.0.1:{proxy}").catalogue().experiments
    url = engine_url(f"triton+https://127.0.0.1:{proxy}")
    assert url is not None
    bundle = open_bundle(exported / "tiny" / "common")
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:8])
    local = Engine(bundle, device="cpu", threads=1)
    remote = RemoteEngine(bundle, url, lambda: local)
    full = bundle.topology.full
    np.testing.assert_allclose(remote.logits(full, images), local.logits(full, images), rtol=1e-4, atol=1e-4)


def test_without_it_the_sentence_names_the_certificate(proxy: int, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:1])
    engine = RemoteEngine(bundle, f"https://127.0.0.1:{proxy}", lambda: Engine(bundle, device="cpu"))
    for ask in (Client(f"https://127.0.0.1:{proxy}").catalogue, lambda: engine.logits(bundle.topology.full, images)):
        with pytest.raises(Unavailable, match="certificate of the .* server at .* is not trusted. Set SSL_CERT_FILE"):
            ask()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_that_holds_no_certificates_is_one_sentence(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "file.pem").write_text(content)
    monkeypatch.setenv(tls.VARIABLE, str(tmp_path / "file.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE .* can't be used .*; allowed: a PEM file"):
        Client("https://127.0.0.1:9")
