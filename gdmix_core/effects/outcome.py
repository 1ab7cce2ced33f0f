"""The outcome of a coordinate's training, as one row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Bookkeeping of a marker, and values of other tables.
_NOT_SHOWN = ("key", "step", "curve", "l2", "rows", "converged", "entities", "coefficients", "goal", "gradient")


@dataclass(frozen=True)
class Outcome:
    """kind: in words; models, coefficients, converged: as text, empty where they mean nothing; doubtful: look here."""

    kind: str
    models: str = ""
    coefficients: str = ""
    converged: str = ""
    details: str = ""
    doubtful: bool = False


def of_locked(marker: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a coordinate whose model is the initial one."""
    models, coefficients = (whole(marker.get(key)) for key in ("entities", "coefficients"))
    return Outcome("locked model", models, coefficients, details=other_values(marker))


def other_values(marker: Mapping[str, Any]) -> str:
    """Return the numbers and words of a marker that no other column shows."""
    shown = {
        key: value for key, value in marker.items() if isinstance(value, str | int | float) and key not in _NOT_SHOWN
    }
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.6g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in shown.items()
    )


def whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def iterations(marker: Mapping[str, Any]) -> str:
    return f"{marker['iterations']} iteration{'' if marker['iterations'] == 1 else 's'}"
