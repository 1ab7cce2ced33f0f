"""The plugins folder and the installed package: loaded once, and only what is a plugin."""

from __future__ import annotations

import json
import runpy
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import airflow
import jsonschema
import pytest
from airflow._shared.plugins_manager import _load_plugins_from_plugin_directory

from gdmix_operators import get_provider_info
from gdmix_operators.plugin import GdmixPlugin

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_folder_holds_one_plugin() -> None:
    """Without .airflowignore every file of the package would be executed under its bare name, and fail."""
    plugins, errors = _load_plugins_from_plugin_directory(
        plugins_folder=str(ROOT / "plugins"), ignore_file_syntax="glob"
    )
    assert errors == {}
    assert len(plugins) <= 1


def test_entry_points_are_there() -> None:
    plugin = PROJECT["entry-points"]["airflow.plugins"]["gdmix"]
    assert EntryPoint("gdmix", plugin, "airflow.plugins").load() is GdmixPlugin
    info = PROJECT["entry-points"]["apache_airflow_provider"]["provider_info"]
    assert callable(EntryPoint("provider_info", info, "apache_airflow_provider").load())


@pytest.mark.parametrize("installed", [True, False])
def test_registered_once(installed: bool) -> None:
    found = [EntryPoint("gdmix", "gdmix_operators.plugin:GdmixPlugin", "airflow.plugins")] if installed else []
    with patch("importlib.metadata.entry_points", return_value=found):
        module = runpy.run_path(str(ROOT / "plugins" / "gdmix_plugin.py"))
    assert ("GdmixPlugin" in module) is not installed


def test_provider_info() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    with patch("importlib.metadata.version", return_value=PROJECT["version"]):
        info = get_provider_info.get_provider_info()
    jsonschema.validate(info, schema)
    assert info["package-name"] == PROJECT["name"]


def test_operators_can_be_imported_from_their_own_package_too() -> None:
    import gdmix_operators
    from gdmix_operators import operators

    for name in gdmix_operators.__all__:
        if name.endswith("Operator"):
            assert getattr(operators, name) is getattr(gdmix_operators, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        operators.Nothing  # noqa: B018
