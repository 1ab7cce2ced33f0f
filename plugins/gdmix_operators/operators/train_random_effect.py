"""Training of a random effect: one group of its shards, in a task with a process pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator, without_marks

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class TrainRandomEffectOperator(StepOperator):
    """Trains one group of shards and scores its rows; a retry trains the shards that are still missing.

    Made to be mapped over the groups: `TrainRandomEffectOperator.partial(task_id=...).expand(group=[0, 1,
    2])`.
    group: which of the configuration's groups of shards, from 0; None: all shards.
    """

    doing = "Training the random effect"

    def __init__(self, *, group: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group

    def announce(self, run: Run, step: Step) -> str:
        text = super().announce(run, step)
        effect = run.config.random_effects[str(step.coordinate)].random_effect
        if not isinstance(self.group, int) or effect is None:
            return text
        return f"{text}, group {self.group + 1} of {effect.groups}"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.execution.dispatch import execute

        effect = run.config.random_effects[str(step.coordinate)].random_effect
        assert effect is not None
        whole = isinstance(self.group, int) and not isinstance(self.group, bool)
        if self.group is not None and not (whole and 0 <= self.group < effect.groups):
            raise ConfigError(
                f"task {self.task_id}: group {self.group!r} of {step.coordinate} does not exist: random_effect.groups "
                f"is {effect.groups} in {run.root}, so its groups are 0 to {effect.groups - 1}; map the task over these"
            )
        return without_marks(execute(run, step, group=self.group))
