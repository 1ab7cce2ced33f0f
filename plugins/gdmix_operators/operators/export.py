"""The selected model, in the formats that other systems read."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class ExportOperator(StepOperator):
    """Writes the selected pass's models in the configured formats."""

    doing = "Exporting the model"
