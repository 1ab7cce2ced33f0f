"""A search: which numbers of the configuration, and which values of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gdmix_core.config.model import Model, refuse_without_effect

# Airflow maps at most so many tasks by default (core.max_map_length), and a longer table is not read.
MAX_TRIALS = 1000


class Range(Model):
    """Values of a number to search."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = Field(default=False, description="Evenly in the logarithm.")
    integer: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.integer and any(end != round(end) for end in (self.low, self.high)):
            raise ValueError("the ends of a range of integers must be whole numbers")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must begin above 0")
        return self


def _list_or_range(value: Any) -> Any:
    if isinstance(value, list | dict | Range):
        return value
    raise ValueError("expected a list of values, or a range: {low: 0.1, high: 10, log: true}")


Candidates = Annotated[
    Annotated[Range, Tag("[range]")] | Annotated[list[float], Tag("[list]")],
    Discriminator(lambda value: "[list]" if isinstance(value, list) else "[range]"),
    BeforeValidator(_list_or_range),
]


class Tune(Model):
    """A search over numbers of the configuration; each trial trains a whole model, the best is exported."""

    method: Literal["grid", "random", "bayesian"] = "grid"
    parameters: dict[str, Candidates] = Field(
        default_factory=dict, description="Key paths, such as coordinates.per_user.l2, to a range or a list of values."
    )
    trials: int | None = Field(
        default=None, ge=1, le=MAX_TRIALS, description="How many; a grid's number is the product of its lists."
    )
    parallel: int = Field(default=1, ge=1, le=1000, description="Trials made at once, before the next are chosen.")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Tune:
        if self.method == "grid" and self.trials is not None:
            raise ValueError("a grid tries every combination: leave trials out, or use random or bayesian")
        if self.method == "grid" and any(isinstance(values, Range) for values in self.parameters.values()):
            raise ValueError("a grid needs lists of values; for a range use method: random or bayesian")
        if self.method == "grid":
            refuse_without_effect(self, ["seed"], "with method: grid, which draws nothing; leave it out")
        if self.method != "grid" and self.trials is None:
            raise ValueError(f"method {self.method} needs trials: how many to make")
        return self
