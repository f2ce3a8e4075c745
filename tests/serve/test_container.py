"""The Dockerfile is linted; what it installs and starts is installed and started in fresh virtual environments."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stimcore.errors import Unavailable
from stimcore.serve import __main__ as serve
from stimcore.serve import healthcheck
from stimcore.serve.limits import Limits
from tests.serve.processes import Running

ROOT = Path(__file__).parents[2]
TOKEN = "a-secret-of-some-length"


def target(name: str) -> dict[str, list[str]]:
    """Return the instructions of a target, by keyword."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (block,) = re.findall(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", text, flags=re.S | re.M)
    instructions: dict[str, list[str]] = {}
    for line in block.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word and not word.startswith("#"):
            instructions.setdefault(word, []).append(rest.strip())
    return instructions


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_target_runs_as_root_and_each_has_an_init() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert text.count('ENTRYPOINT ["tini", "--"]') == 2
    assert "nvidia/cuda:13." in text
    for name in ("serve", "app", "train"):
        instructions = target(name)
        assert instructions["USER"] == ["10001"]
        assert "HEALTHCHECK" in instructions
        assert "CMD" in instructions
    assert "/home/stimcore/exported" in (ROOT / "compose.yaml").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, list[Requirement]]:
    """Return what a lock file pins, by canonical name; one with different markers may be there several times."""
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    pins: dict[str, list[Requirement]] = {}
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")):
        if not entry.startswith("#"):
            line = entry.split("\n")[0]
            assert re.search(r" --hash=sha256:[0-9a-f]{64}\b", line), f"{line[:60]} has no hash"
            pin = Requirement(line.partition(" --hash")[0].strip())
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.mark.parametrize(
    ("name", "file"), [("serve", "requirements-serve.txt"), ("app", "requirements-app.txt"), ("train", "requirements.txt")]
)
def test_lock_files_hold_exact_versions_that_the_requirements_allow(name: str, file: str) -> None:
    pins = locked(name)
    for line in requirements(file):
        wanted = Requirement(line)
        assert canonicalize_name(wanted.name) in pins, f"{wanted.name} is not in locks/{name}.txt: run 'make lock'"
        for pin in pins[canonicalize_name(wanted.name)]:
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert exact.version in wanted.specifier, f"locks/{name}.txt has {pin}, {file} asks for {line}: run 'make lock'"
    assert ("torch" in pins) is (name == "train")
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    assert "//" not in text, "a lock file names no host"
    assert f"pip install --require-hashes -r {name}.txt" in target(name)["RUN"]


def test_requirements_of_targets_are_part_of_the_whole() -> None:
    whole = requirements("requirements.txt")
    server, app = requirements("requirements-serve.txt"), requirements("requirements-app.txt")
    assert server < whole
    assert app < whole
    assert not any(line.startswith(("torch", "streamlit")) for line in server)
    assert not any(line.startswith(("torch", "onnx")) for line in app)


def test_compose_names_targets_and_variables_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"server", "server-gpu", "app"}
    assert services["server-gpu"]["profiles"] == ["gpu"]
    assert "profiles" not in services["server"]
    for service in services.values():
        assert target(service["build"]["target"])
        assert service["environment"]["STIMCORE_TOKEN_FILE"] == "/run/secrets/stimcore_token"
        assert service["secrets"] == list(compose["secrets"]) == ["stimcore_token"]
        # Compose mounts files; any other secret it would copy into the container, and refuses to where that is read-only
        assert set(compose["secrets"]["stimcore_token"]) == {"file"}
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
        assert {"max-size", "max-file"} == set(service["logging"]["options"])
    assert services["app"]["environment"]["STIMCORE_SERVER"].startswith("http://model-server:8000")


def test_compose_starts_the_server_as_the_image_does_with_its_share_of_the_machine() -> None:
    server = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["server"]
    (words,) = target("serve")["CMD"]
    given = server["command"]
    assert given[: len(json.loads(words))] == json.loads(words)
    options = serve.parser().parse_args(given[3:])
    assert options.threads == server["cpus"]
    assert Limits().with_texts(options.limit).keep_bytes < int(server["mem_limit"].removesuffix("g")) << 30


def test_health_checks_ask_without_the_proxy_of_their_host(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker puts it into every container, and it can't reach a server in one."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)
    assert healthcheck.main([server.url]) == 0
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    python, dash, code = json.loads(next(line for line in lines if "_stcore/health" in line).partition("CMD ")[2])
    for app, here in (("127.0.0.1:8501/_stcore/health", f"{server.url}/v2/health/live"[7:]), ("b'ok'", """b'{"live":true}'""")):
        assert app in code
        code = code.replace(app, here)
    assert (python, dash) == ("python", "-c")
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_health_check_reads_the_body(server: Running) -> None:
    assert healthcheck.main([server.url]) == 0
    with pytest.raises(Unavailable):
        healthcheck.main(["http://127.0.0.1:9"])
    page = subprocess.Popen(
        [sys.executable, "-c", PAGE], stdout=subprocess.PIPE, text=True
    )  # what answers everything with 200 is no model server
    assert page.stdout is not None
    try:
        with pytest.raises(Unavailable, match="does not report that the server is ready"):
            healthcheck.main([f"http://127.0.0.1:{page.stdout.readline().strip()}"])
    finally:
        page.kill()
        page.wait()
        page.stdout.close()


PAGE = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"<html>")
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"""


def image(name: str, folder: Path) -> Path:
    """Make a virtual environment and a home with what the target installs and copies; return the environment's python."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    home = folder / "home"
    home.mkdir()
    instructions = target(name)
    for copy in instructions["COPY"]:
        source, to = copy.split()
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, home / to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, home)
    (install,) = [run for run in instructions["RUN"] if run.startswith("pip ")]
    done = subprocess.run([python, "-m", *install.split()], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return python


def command(name: str, python: Path) -> list[str]:
    (words,) = target(name)["CMD"]
    return [str(python), *json.loads(words)[1:]]


def bare(**more: str) -> dict[str, str]:
    """Return environment variables that do not lead to this repository."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.slow
def test_target_serve_installs_and_serves_without_torch(exported: Path, tmp_path: Path) -> None:
    python = image("serve", tmp_path)
    home = tmp_path / "home"
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 1
    (home / "exported").symlink_to(exported)
    port = free_port()
    words = [word.replace("8000", str(port)) for word in command("serve", python)]
    log = (tmp_path / "log").open("w", encoding="utf-8")
    process = subprocess.Popen(words, cwd=home, env=bare(STIMCORE_TOKEN=TOKEN), stdout=log, stderr=log)
    check = [str(python), *json.loads(re.findall(r"CMD (\[.*\])", target("serve")["HEALTHCHECK"][0])[0])[1:]]
    check[-1] = check[-1].replace("8000", str(port))
    try:
        end = time.monotonic() + 90
        while subprocess.run(check, cwd=home, env=bare(), capture_output=True).returncode != 0:
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, (tmp_path / "log").read_text(encoding="utf-8")
            time.sleep(0.2)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/experiments/tiny/methods/common/onnx?spec=d1-1-1", headers=headers)
        assert answer.status_code == 200
        assert len(answer.content) > 10_000
    finally:
        process.terminate()
        assert process.wait(15) == 0
        log.close()
    refused = subprocess.run(words, cwd=home, env=bare(), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "STIMCORE_TOKEN" in refused.stderr


@pytest.mark.slow
def test_target_app_installs_and_shows_a_page(server: Running, tmp_path: Path) -> None:
    python = image("app", tmp_path)
    port = free_port()
    words = [word.replace("8501", str(port)) for word in command("app", python)]
    log = (tmp_path / "log").open("w", encoding="utf-8")
    process = subprocess.Popen(words, cwd=tmp_path / "home", env=bare(STIMCORE_SERVER=server.url), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/_stcore/health").text == "ok":
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, (tmp_path / "log").read_text(encoding="utf-8")
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(15)
        log.close()
    code = (
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('app/main.py', default_timeout=60).run()\n"
        "assert not page.exception, page.exception\n"
    )
    done = subprocess.run(
        [python, "-c", code],
        cwd=tmp_path / "home",
        env=bare(STIMCORE_SERVER=server.url, PYTHONPATH="."),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_target_train_installs_and_starts(tmp_path: Path) -> None:
    python = image("train", tmp_path)
    done = subprocess.run(command("train", python), cwd=tmp_path / "home", env=bare(), capture_output=True, text=True)
    assert done.returncode == 0
    assert "RECIPE" in done.stdout
