"""The dashboard listens on this machine unless it is opened, and answers only under names that are its own."""

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest
import websockets
import websockets.exceptions
from websockets.sync.client import connect

from app.access import HostCheck, accepts_page, announcement, answers_under, network_address, own_names
from tests.app.browsing import environment, free_port

ROOT = Path(__file__).parents[2]


def test_the_default_is_this_machine() -> None:
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert settings["server"]["address"] == "127.0.0.1"
    for name in ("Makefile", "README.md"):
        assert "--server.address" not in (ROOT / name).read_text(encoding="utf-8"), f"{name} opens the dashboard to others"


@pytest.mark.parametrize(
    ("address", "host", "origin", "allowed"),
    [
        ("127.0.0.1", "localhost:8501", "", True),
        ("127.0.0.1", "LOCALHOST", "http://127.0.0.1:8501", True),
        ("127.0.0.1", "[::1]:8501", "http://[::1]:8501", True),
        ("127.0.0.1", "", "", False),
        ("127.0.0.1", "192.168.1.7:8501", "", False),
        ("127.0.0.1", "evil.example", "http://evil.example", False),
        ("127.0.0.1", "localhost:8501", "https://evil.example", False),
        ("127.0.0.1", "localhost:8501", "null", False),
        ("127.0.0.1", "127.0.0.1.evil.example:8501", "", False),
        ("127.0.0.1", "[", "", False),
        ("127.0.0.1", "dash.school.example", "https://dash.school.example", True),
        ("0.0.0.0", "192.168.1.7:8501", "http://192.168.1.7:8501", True),
        ("0.0.0.0", "[fe80::7]:8501", "", True),
        ("0.0.0.0", "localhost:8501", "http://localhost:8501", True),
        ("0.0.0.0", "192.168.1.7:8501", "http://192.168.1.8:8501", False),
        ("0.0.0.0", "192.168.1.7:8501", "http://localhost:8501", False),
        ("0.0.0.0", "evil.example:8501", "http://evil.example:8501", False),
        ("", "evil.example:8501", "", False),
        ("192.168.1.7", "192.168.1.7", "", True),
    ],
)
def test_host_and_origin_name_the_dashboard(address: str, host: str, origin: str, allowed: bool) -> None:
    names = {"dash.school.example"}
    assert (answers_under(host, address, names) and (not origin or accepts_page(origin, host, names))) is allowed


def test_names_of_a_proxy_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STIMCORE_HOSTS", " Dash.School.example ,,other.example")
    assert own_names() == {"dash.school.example", "other.example"}
    assert HostCheck(None).names == own_names()  # type: ignore[arg-type]  # no request is passed on


def test_the_address_of_this_machine_is_printed_as_a_number() -> None:
    assert re.fullmatch(r"[0-9.]+", network_address())
    assert f"http://{network_address()}:80 " in announcement("0.0.0.0", 80) == announcement("", 80)
    assert "http://[fe80::7]:80 " in announcement("fe80::7", 80)
    assert announcement("::1", 80) == announcement("localhost", 80) == ""


def test_opened_to_a_class_it_prints_its_address_and_still_refuses_other_sites(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    words = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.address", "0.0.0.0", "--server.port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment())
    here = f"127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                if httpx.get(f"http://{here}/_stcore/health", trust_env=False).text == "ok":
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        assert f"can open the dashboard at http://{network_address()}:{port} (there is no login)" in log.read_text()
        for host, status in ((here, 200), (f"192.168.1.7:{port}", 200), (f"evil.example:{port}", 403)):
            assert httpx.get(f"http://{here}/", headers={"Host": host}, trust_env=False).status_code == status
        stream = f"ws://{here}/_stcore/stream"
        with connect(stream, origin=websockets.Origin(f"http://{here}"), proxy=None):
            pass
        for origin in ("http://evil.example", f"http://evil.example:{port}", "null"):
            with pytest.raises(websockets.exceptions.InvalidStatus):
                connect(stream, origin=websockets.Origin(origin), proxy=None)
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text()
