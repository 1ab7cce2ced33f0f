"""Templates that would bring a secret into a configuration.

Whatever a configuration holds is written to the run's config.yaml, and shown in logs and on Airflow's pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gdmix_core.config.secret_settings import holds_secret
from gdmix_core.config.templates import is_template
from gdmix_core.config.yaml_text import KeyPath, Lines, place_of, texts_in
from gdmix_core.errors import ConfigError

# Ways to an Airflow connection, as names, attributes and keys of a template.
_CONNECTIONS = frozenset({"conn", "get_connection", "get_connections", "get_hook", "BaseHook", "Connection"})


def _by_name(name: str) -> bool:
    return holds_secret(name, "some value")


def texts(content: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yield (key path, text) of every text of plain data that may be a template."""
    return ((at, text) for at, text in texts_in(content) if is_template(text))


def dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def refuse_secret_templates(
    content: Any, where: str, is_secret: Callable[[str], bool] = _by_name, lines: Lines | None = None
) -> None:
    """Raise ConfigError for a template that reads an Airflow connection, or a Variable whose name calls it a secret.

    is_secret: whether a Variable's name says so; lines: for messages, as in pipeline.loading.parse_config. Nothing is
    rendered: what a template reaches by other ways is looked for in its result, by Airflow's own masks.
    """
    for path, text in texts(content):
        place = f"{place_of(path, where, lines or {})}: {dotted(path)}"
        for name in _names(text, place):
            if name in _CONNECTIONS:
                raise ConfigError(
                    f"{place}: the template {text!r} reads an Airflow connection, whose values would be written "
                    "to config.yaml and to logs; write the path itself, or keep it in a Variable, and give credentials "
                    "by the environment, a profile, or fsspec's configuration"
                )
            if name.startswith("var.") and is_secret(name.removeprefix("var.")):
                raise ConfigError(
                    f"{place}: the template {text!r} reads the Variable {name.removeprefix('var.')}, which its "
                    "name calls a secret, and which would be written to config.yaml; give credentials by the "
                    "environment, a profile, or fsspec's configuration; a Variable that is not one needs another name"
                )


def _names(text: str, where: str) -> set[str]:
    """Return the names, attributes and keys in a template; where it reads Variables, also var.NAME for each."""
    import jinja2
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

    try:
        tree = SandboxedEnvironment().parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{where}: template {text!r}: {str(error).rstrip('.')}; correct the expression") from None
    free = {node.name for node in tree.find_all(nodes.Name)}
    found = {node.attr for node in tree.find_all(nodes.Getattr)}
    found |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    if found & {"var", "get_variable"} or free & {"var", "Variable"}:
        found |= {f"var.{name}" for name in found}
    return found | free
