"""One operator for each kind of step; all can be imported from here, as from gdmix_operators."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if not name.endswith("Operator"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import gdmix_operators

    return getattr(gdmix_operators, name)
