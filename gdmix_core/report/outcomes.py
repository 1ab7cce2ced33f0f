"""How the training of a coordinate ended, as one row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gdmix_core.report.contents import Evaluation

# Bookkeeping of a marker, and what stands in other tables.
_NOT_SHOWN = ("key", "step", "curve", "l2", "rows", "converged", "entities", "coefficients", "goal", "gradient")


@dataclass(frozen=True)
class Outcome:
    """kind: in words; models, coefficients, converged: as text, empty where they mean nothing; doubtful: look here."""

    kind: str
    models: str
    coefficients: str
    converged: str
    details: str
    doubtful: bool


def outcome(evaluation: Evaluation) -> Outcome:
    """Of the coordinate that was trained before the evaluation."""
    marker = evaluation.training
    if evaluation.kind == "random":
        return _random(marker)
    if evaluation.kind == "linear":
        return _linear(marker)
    if evaluation.kind == "text":
        return _text(marker)
    kinds = {"locked": "locked model", "external": "external scores", "python": "own trainer"}
    return Outcome(
        kinds[evaluation.kind], _whole(marker.get("entities")), _whole(marker.get("coefficients")), "", _rest(marker),
        doubtful=False,
    )  # fmt: skip


def _random(marker: Mapping[str, Any]) -> Outcome:
    trained = marker["entities"] - marker["no_data"]
    converged = marker["converged"]
    left = [
        f"{marker[name]:,} {word}"
        for name, word in (
            ("iteration_limit", "at the iteration limit"),
            ("unbounded", "without a finite optimum"),
            ("no_data", "without training rows"),
        )
        if marker[name]
    ]
    return Outcome(
        kind="random effect",
        models=_whole(marker["entities"]),
        coefficients=_whole(marker["coefficients"]),
        converged=f"{converged:,} of {trained:,}",
        details=", ".join([*left, f"at most {_iterations(marker)}"]),
        doubtful=converged < trained,
    )


def _linear(marker: Mapping[str, Any]) -> Outcome:
    return Outcome(
        kind="fixed effect",
        models="1",
        coefficients=_whole(marker["coefficients"]),
        converged="yes" if marker["converged"] else "no",
        details=f"{_iterations(marker)}, gradient {marker['gradient']:.2g} (goal {marker['goal']:.2g})"
        + (", without a finite optimum" if marker.get("unbounded") else ""),
        doubtful=not marker["converged"] or marker.get("unbounded", False),
    )


def _text(marker: Mapping[str, Any]) -> Outcome:
    best = marker.get("best_value")
    details = [
        f"{marker.get('epochs', 0):g} epochs, {marker.get('steps', 0):,} steps",
        f"best {marker.get('metric')} {best:.5f} at step {marker['best_step']:,}" if best is not None else "",
        f"{marker['rows_per_second']:,.0f} rows/s" if "rows_per_second" in marker else "",
    ]
    return Outcome(
        kind="text network",
        models="1",
        coefficients=_whole(marker.get("weights")),
        converged="stopped early" if marker.get("stopped_early") else "all epochs",
        details=", ".join(filter(None, details)),
        doubtful=False,
    )


def _rest(marker: Mapping[str, Any]) -> str:
    """Whatever numbers and words a marker of another kind holds."""
    if marker.get("external"):
        return "scores taken over"
    shown = {
        key: value for key, value in marker.items() if isinstance(value, str | int | float) and key not in _NOT_SHOWN
    }
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.6g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in shown.items()
    )


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _iterations(marker: Mapping[str, Any]) -> str:
    return f"{marker['iterations']} iteration{'' if marker['iterations'] == 1 else 's'}"
