"""The choice among the passes."""

from __future__ import annotations

from typing import Any

from gdmix_operators.operators.base import StepOperator


class SelectOperator(StepOperator):
    """Picks the pass with the best primary metric, of those that were made."""

    doing = "Selecting the best pass"

    def __init__(self, *, trigger_rule: str = "none_failed_min_one_success", **kwargs: Any) -> None:
        """trigger_rule: by default passes that were skipped are no obstacle, passes that failed are."""
        super().__init__(trigger_rule=trigger_rule, **kwargs)
