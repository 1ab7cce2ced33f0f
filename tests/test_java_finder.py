"""tools/java.py, which the Makefile asks for a Java: with made-up installations, and the one of this machine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def finder() -> ModuleType:
    specification = importlib.util.spec_from_file_location("java_finder", REPOSITORY / "tools" / "java.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def installation(home: Path, version: str, modules: str = "java.base@17\njdk.incubator.vector@17") -> Path:
    """A folder whose bin/java answers as a Java of that version would."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    answer = f"openjdk version {version!r}".replace("'", '"')
    java.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"print({modules!r}) if '--list-modules' in sys.argv else sys.stderr.write({answer!r})\n"
    )
    java.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("version", "modules", "fault"),
    [
        ("17.0.2", "java.base@17\njdk.incubator.vector@17", None),
        ("21", "java.base@21\njdk.incubator.vector@21", None),
        ("11.0.20", "java.base@11\njdk.incubator.vector@11", "version 11"),
        ("1.8.0_302", "", "version 1,"),
        ("17.0.2", "java.base@17", "jdk.incubator.vector"),
    ],
)
def test_what_serves(finder: ModuleType, tmp_path: Path, version: str, modules: str, fault: str | None) -> None:
    found = finder.fault(installation(tmp_path / "jdk", version, modules))
    assert (found is None) if fault is None else (fault in found)


def test_java_home_comes_first_and_one_that_does_not_serve_is_passed_over(
    finder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = installation(tmp_path / "good", "17.0.2")
    monkeypatch.setenv("JAVA_HOME", str(good))
    assert finder.find() == good
    old = installation(tmp_path / "old", "11.0.1")
    monkeypatch.setattr(finder, "candidates", lambda: iter([tmp_path / "absent", old, good]))
    assert finder.find() == good
    assert "version 11, needs 17" in capsys.readouterr().err


def test_without_any_way_to_get_one_the_message_says_what_was_tried(
    finder: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finder, "candidates", lambda: iter(()))
    monkeypatch.setattr(finder, "install_own", lambda: "install-jdk: URLError: no network")
    monkeypatch.setattr(finder, "install_package", lambda: "apt-get: needs root")
    assert finder.main() == 1
    message = capsys.readouterr().err
    assert "no network" in message
    assert "needs root" in message
    assert "set JAVA_HOME" in message
