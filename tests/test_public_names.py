"""The names that may be relied on: typed, documented, and cheap until they are used."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = {"gdmix_core": REPOSITORY / "gdmix_core", "gdmix_operators": REPOSITORY / "plugins/gdmix_operators"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_typed_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    names = {name for name in module.__all__ if not name.startswith("__")}
    assert names
    for name in names:
        assert getattr(module, name).__name__ == name
    guarded = next(node for node in ast.parse((PACKAGES[package] / "__init__.py").read_text()).body
                   if isinstance(node, ast.If))  # fmt: skip
    typed = {alias.asname for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == names
    page = (REPOSITORY / "docs/python.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []
    api = (REPOSITORY / "docs/api" / ("library.md" if package == "gdmix_core" else "operators.md")).read_text()
    homes = {name: getattr(module, name).__module__ for name in names}
    assert [name for name in names if f"::: {homes[name]}.{name}\n" not in api] == []
    assert (PACKAGES[package] / "py.typed").exists()


def test_importing_them_loads_nothing_heavy() -> None:
    code = (
        "import sys, gdmix_core, gdmix_operators; "
        "print([m for m in ('airflow', 'pyspark', 'tensorflow', 'numpy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_make_help_names_every_target() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = makefile.partition(".PHONY:")[2].splitlines()[0].split()
    assert [target for target in targets if target != "help" and f'"make {target} ' not in makefile] == []


def test_the_files_that_the_design_names_are_there() -> None:
    """Among them those on the way of one shard and of one fixed effect."""
    named = re.findall(r"(?<![\w/])[a-z_]+/[a-z_0-9/]+\.py", (REPOSITORY / "docs/design.md").read_text())
    roots = [REPOSITORY, REPOSITORY / "gdmix_core"]
    assert [name for name in named if not any((root / name).is_file() for root in roots)] == []
    assert len(named) > 25
