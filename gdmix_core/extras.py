"""Packages that only a part of the product needs, each installed by an extra: pip install 'gdmix-airflow[text]'."""

from __future__ import annotations

from importlib.util import find_spec

from gdmix_core.errors import ConfigError


def missing(package: str, extra: str, what: str) -> str | None:
    """Return the sentence that names the extra, where the package is not installed; None where it is.

    what: what needs it, as the beginning of the sentence
    """
    if find_spec(package) is not None:
        return None
    return f"{what} needs {package}, which is not installed; pip install '{requirement(extra)}'"


def require(package: str, extra: str, what: str) -> None:
    """Raise ConfigError, which names the extra, where the package is not installed."""
    if (sentence := missing(package, extra, what)) is not None:
        raise ConfigError(sentence)


def requirement(extra: str) -> str:
    """Return what pip is asked for."""
    return f"gdmix-airflow[{extra}]"
