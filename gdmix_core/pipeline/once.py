"""The protocol by which every step is made once: a kill at any moment leaves a result that is whole, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run

log = logging.getLogger(__name__)

Result = dict[str, Any]


def once(
    run: Run,
    step: Step,
    work: Callable[[], Result],
    *,
    before: Callable[[], object] | None = None,
    after: Callable[[Result], object] | None = None,
) -> Result:
    """Return the step's result: what its marker says if it is done, else what `work` returns, committed.

    The marker of an older result is removed before any of that result's files, and the new one is written after all
    of its own. So `work` may write in place. Neither `before` nor `after` is called where there is nothing to make.

    before: refuses what cannot be made, while the older result is still there
    after: is given the committed result

    Raises StepError when a step that this one reads is not done.
    """
    run.require(step)
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    if before is not None:
        before()
    run.drop(step)
    result = run.commit(step, work())
    if after is not None:
        after(result)
    return result
