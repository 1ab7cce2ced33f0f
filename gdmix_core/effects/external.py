"""Placeholder until the branch that brings it is merged."""

from __future__ import annotations

from typing import Any

from gdmix_core.plan import Step
from gdmix_core.run import Run


def train(run: Run, step: Step) -> dict[str, Any]:
    raise NotImplementedError
