"""What docker/ holds: the secrets that make-env.sh draws, the health check, the image's versions and contents."""

from __future__ import annotations

import importlib.util
import json
import re
import stat
import subprocess
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.fernet import Fernet

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER = REPOSITORY / "docker"


# ---- .env


def make_env(target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DOCKER / "make-env.sh", target], capture_output=True, text=True, timeout=300)


def read_env(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def test_make_env_writes_fresh_secrets_that_only_the_owner_can_read(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = make_env(first), make_env(second)
    assert [run.returncode for run in done] == [0, 0], done
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    a, b = read_env(first), read_env(second)
    secrets = [*a.values(), *b.values()]
    assert set(a) == set(read_env(DOCKER / ".env.example"))
    assert len(set(secrets)) == 2 * len(a), "two secrets are the same"
    assert all(len(secret) >= 24 for secret in secrets)
    assert re.fullmatch("[0-9a-f]+", a["POSTGRES_PASSWORD"]), "it becomes part of a URL"
    assert len(a["AIRFLOW_JWT_SECRET"]) >= 64, "shorter than SHA-512's output"
    for key in (a["AIRFLOW_FERNET_KEY"], b["AIRFLOW_FERNET_KEY"]):
        assert re.fullmatch(r"[\w-]{43}=", key), "not in the URL-safe alphabet"
        Fernet(key)  # raises on a key of the wrong length
    assert not any(secret in run.stdout + run.stderr for run in done for secret in secrets)
    assert sorted(tmp_path.iterdir()) == [first, second], "an unfinished file is left behind"


def test_make_env_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    target.write_text("mine")
    done = make_env(target)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert target.read_text() == "mine"


# ---- health check


class _HealthReport(BaseHTTPRequestHandler):
    """Answers as Airflow 3.3's /api/v2/monitor/health does when the triggerer is dead."""

    def do_GET(self) -> None:
        report = {"metadatabase": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(report).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def is_healthy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("is_healthy", DOCKER / "is_healthy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_health_check_reports_what_the_api_server_knows(
    is_healthy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), _HealthReport)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setattr(is_healthy, "HEALTH_REPORT", f"http://127.0.0.1:{server.server_port}/health")
        assert is_healthy.main("metadatabase") == 0
        assert is_healthy.main("triggerer") == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert is_healthy.main("metadatabase") == 1, "nobody answers any more"


# ---- image


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    assert all(re.fullmatch(r"[\w.\-]+==[^\s*]+", line) for line in lines if line), f"{path}: exact versions only"
    pairs = (line.split("==") for line in lines if line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_the_image_agrees_with_the_lock_and_with_the_project() -> None:
    lock, image = pins(REPOSITORY / "requirements.lock"), pins(DOCKER / "requirements.lock")
    base = re.search(r"AIRFLOW_IMAGE=apache/airflow:slim-([\d.]+)-python3\.11", (DOCKER / "Dockerfile").read_text())
    assert base is not None
    assert base[1] == lock["apache-airflow"]
    assert {name: version for name, version in image.items() if lock.get(name, version) != version} == {}
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"image: gdmix-airflow:{version}\n" in (REPOSITORY / "docker-compose.yml").read_text()


def test_the_image_is_not_of_root_and_copies_only_what_the_ignore_file_lets_in() -> None:
    instructions = [line.split() for line in (DOCKER / "Dockerfile").read_text().splitlines()]
    users = [words[1] for words in instructions if words[:1] == ["USER"]]
    assert users[-1] == "50000:0"
    allowed = {
        line.removeprefix("!").rstrip("/")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copies = [
        [w for w in words[1:-1] if not w.startswith("--chown")] for words in instructions if words[:1] == ["COPY"]
    ]
    sources = {source for words in copies if not words[0].startswith("--from") for source in words}
    assert sources == allowed
    assert all((REPOSITORY / source).exists() for source in sources)
