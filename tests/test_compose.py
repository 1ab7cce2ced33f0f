"""docker-compose.yml: what it promises about secrets, ports, users and health, and that Compose accepts it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER = REPOSITORY / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer"}
AIRFLOW = {"init", "api-server", "scheduler", "dag-processor", "triggerer"}

# ${NAME:?message} fails when NAME is empty or missing; ${NAME:-value} has a default.
REFERENCE = re.compile(r"\$\{(\w+)(:\?|:-)?[^}]*\}")
SECRET = re.compile(r"PASSWORD|SECRET|FERNET_KEY|SQL_ALCHEMY_CONN", re.IGNORECASE)


def texts(value: Any) -> Iterator[str]:
    """All strings in a piece of parsed YAML."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from texts(key)
            yield from texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from texts(child)
    else:
        yield str(value)


REQUIRED = {m[1] for text in texts(COMPOSE) for m in REFERENCE.finditer(text) if m[2] == ":?"}


def settings_of(service: str) -> dict[str, str]:
    return {key: str(value) for key, value in SERVICES[service]["environment"].items()}


def test_services_are_those_of_airflow_with_a_local_executor() -> None:
    assert set(SERVICES) == LONG_RUNNING | {"init"}
    for name in AIRFLOW:
        assert settings_of(name)["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert {name: SERVICES[name]["command"] for name in AIRFLOW - {"init"}} == {n: n for n in AIRFLOW - {"init"}}


# ---- secrets


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_secret_comes_from_a_required_variable(name: str) -> None:
    secrets = {key: value for key, value in settings_of(name).items() if SECRET.search(key)}
    assert secrets
    for key, value in secrets.items():
        found = list(REFERENCE.finditer(value))
        assert [match[2] for match in found] == [":?"], f"{name}: {key} must be ${{VARIABLE:?message}}"
        around = REFERENCE.sub("", value)
        assert around in ("", "postgresql+psycopg2://airflow:@postgres:5432/airflow"), f"{name}: {key}"


def test_no_variable_is_both_required_and_optional() -> None:
    optional = {m[1] for text in texts(COMPOSE) for m in REFERENCE.finditer(text) if m[2] != ":?"}
    assert not REQUIRED & optional
    assert not [name for name in optional if SECRET.search(name)]


def test_a_service_gets_no_secret_that_it_does_not_use() -> None:
    assert {key for key in settings_of("postgres") if SECRET.search(key)} == {"POSTGRES_PASSWORD"}
    assert [name for name in SERVICES if "ADMIN_PASSWORD" in settings_of(name)] == ["init"]


def test_the_database_asks_for_a_password() -> None:
    assert "POSTGRES_HOST_AUTH_METHOD" not in settings_of("postgres")


def test_every_airflow_service_has_the_same_keys() -> None:
    common = [
        {k: v for k, v in settings_of(name).items() if k != "ADMIN_PASSWORD" and SECRET.search(k)} for name in AIRFLOW
    ]
    assert all(settings == common[0] for settings in common)
    assert {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"} <= set(common[0])


def test_the_example_names_exactly_the_required_variables_and_fills_in_none() -> None:
    lines = (DOCKER / ".env.example").read_text().splitlines()
    assert {line.split("=")[0] for line in lines if re.match(r"\w+=", line)} == REQUIRED
    assert all(line.endswith("=") for line in lines if re.match(r"\w+=", line))


# ---- what can be reached, and as whom


def test_only_the_api_server_is_published_and_only_on_the_loopback_address() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"api-server"}
    assert all(port.startswith("127.0.0.1:") for port in ports["api-server"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_run_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert str(service["user"]).split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_folders_of_the_host_are_read_only(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source = volume.split(":")[0]
        if source in COMPOSE["volumes"]:
            continue
        assert source == "./dags", f"{name} reaches {source}"
        assert volume.endswith(":ro")


def test_the_database_is_on_a_network_without_a_way_out() -> None:
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"]["internal"] is True


# ---- health and order


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_long_running_services_are_watched_and_restarted(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_each_airflow_service_asks_for_its_own_health() -> None:
    components = {"api-server": "metadatabase", "dag-processor": "dag_processor"}
    for name in AIRFLOW - {"init"}:
        assert SERVICES[name]["healthcheck"]["test"][-1] == components.get(name, name)


def test_init_runs_once_after_the_database_and_before_everything_else() -> None:
    assert SERVICES["init"]["restart"] == "no"
    assert SERVICES["init"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in AIRFLOW - {"init"}:
        assert SERVICES[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


# ---- settings


def test_settings_are_ones_that_airflow_knows() -> None:
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    template = Path(next(iter(spec.submodule_search_locations))) / "config_templates" / "config.yml"
    known = yaml.safe_load(template.read_text())
    for key in settings_of("scheduler"):
        if match := re.fullmatch(r"AIRFLOW__(.+?)__(.+)", key):
            section, option = match[1].lower(), match[2].lower()
            assert option in known[section]["options"], f"{key} is not a setting of this Airflow"


# ---- the file is valid


@pytest.fixture(scope="module")
def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=300)
        if version.returncode == 0 and not version.stdout.startswith("1."):
            return command
    pytest.skip("DOCKER COMPOSE MISSING: docker-compose.yml was not checked against Compose's own schema")


def resolve(command: list[str], folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The configuration as Compose understands it, as JSON."""
    env_file = folder / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    where = f"--project-directory={REPOSITORY}", f"--file={REPOSITORY / 'docker-compose.yml'}"
    return subprocess.run(
        [*command, *where, f"--env-file={env_file}", "config", "--format=json"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key not in REQUIRED},
        timeout=300,
    )


def test_compose_accepts_the_file(compose_command: list[str], tmp_path: Path) -> None:
    done = resolve(compose_command, tmp_path, {name: f"value-of-{name}" for name in REQUIRED})
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert [(port["host_ip"], port["target"]) for port in published] == [("127.0.0.1", 8080)]
    url = services["scheduler"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert url == "postgresql+psycopg2://airflow:value-of-POSTGRES_PASSWORD@postgres:5432/airflow"


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_compose_refuses_to_start_without_a_secret(compose_command: list[str], tmp_path: Path, missing: str) -> None:
    done = resolve(compose_command, tmp_path, {name: "" if name == missing else "x" for name in REQUIRED})
    assert done.returncode != 0
    assert missing in done.stderr
    assert "docker/make-env.sh" in done.stderr
