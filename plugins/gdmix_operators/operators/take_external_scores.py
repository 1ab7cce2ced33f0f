"""Scores of a fixed effect that was trained elsewhere, taken from the frame."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class TakeExternalScoresOperator(StepOperator):
    """Brings the scores that validate joined to the rows into the run, as those of a coordinate."""

    doing = "Taking the external scores"
