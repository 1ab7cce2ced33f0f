"""How much memory there is: the machine's, or less in a container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from gdmix_core.config.pipeline import Config
from gdmix_core.workers import memory


def config(bound: str) -> Config:
    content = {"name": "n", "input": "i", "output": "o", "coordinates": {"g": {"fixed_effect": {}, "bag": "b"}}}
    return Config.model_validate({**content, "engine": {"local": {"memory": bound}}})


def test_the_bound_is_what_was_given_or_half_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.memory_bound(config("6g")) == 6 << 30
    assert memory.memory_bound(config("300m")) == 300 << 20
    assert memory.memory_bound(config("auto")) == memory.memory_of_machine() // 2
    assert memory.memory_of_machine() <= psutil.virtual_memory().total


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        # cgroups v2: a task within a slice that is limited itself.
        ("0::/slice/task", {"slice/task/memory.max": "max", "slice/memory.max": "1000", "memory.max": "max"}, [1000]),
        ("0::/slice/task", {"slice/task/memory.max": "300", "slice/memory.max": "1000"}, [300, 1000]),
        # In a container the path is the host's, and its own group is what is mounted.
        ("0::/../../kubepods/pod7", {"memory.max": "512"}, [512]),
        ("0::/", {"memory.max": "512"}, [512]),
        # v1: a folder for each controller.
        ("5:cpu,cpuacct:/t\n4:memory:/docker/7", {"memory/docker/7/memory.limit_in_bytes": "77"}, [77]),
        ("4:memory:/docker/7", {"memory/memory.limit_in_bytes": "88"}, [88]),
        ("0::/t", {}, []),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, groups: str, files: dict[str, str], limits: list[int]) -> None:
    write(tmp_path, "groups", groups)
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        write(path.parent, path.name, text)
    assert memory.limits_of_groups(tmp_path / "groups", tmp_path / "mounted") == limits


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert memory.limits_of_groups(tmp_path / "absent", tmp_path) == []
