"""One operator for each kind of step. All can be imported from here, as from gdmix_operators; each when first asked for."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if not name.endswith("Operator"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import gdmix_operators

    return getattr(gdmix_operators, name)
