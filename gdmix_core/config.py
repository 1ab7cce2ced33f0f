"""The pipeline's one YAML file as typed models: every key, every default, every limit stands here.

`Config` is what the rest of the project reads. Loading, templates and error messages are in config_file.py.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gdmix_core.errors import ConfigError
from gdmix_core.evaluation.registry import DEFAULT_METRIC, parse_metric

Task = Literal["logistic_regression", "linear_regression", "poisson_regression"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Columns(Model):
    """Names of the input's columns."""

    uid: str = Field(default="uid", description="Unique id of a record, integer or string.")
    label: str = Field(default="label", description="What is predicted.")
    weight: str | None = Field(default=None, description="Weight of a record (> 0). Without it every record weighs 1.")
    offset: str | None = Field(default=None, description="Known part of the score, added before the loss. Default 0.")


class Convergence(Model):
    tolerance: float = Field(
        default=1e-6, gt=0, description="Stop at gradient max-norm <= tolerance x max(1, sum of weights)."
    )
    max_iterations: int = Field(
        default=200, ge=1, description="Iterations after which a model counts as not converged."
    )


class FixedEffect(Convergence):
    """One global model."""

    max_iterations: int = Field(default=500, ge=1, description="Iterations after which it counts as not converged.")
    workers: int = Field(
        default=1, ge=1, le=1024, description="Synchronous worker processes; 1 trains without TensorFlow."
    )
    restarts: int = Field(default=2, ge=0, description="Restarts from the last checkpoint after a worker died.")
    history: int = Field(default=10, ge=1, description="Curvature pairs of L-BFGS.")


class Samples(Model):
    min: int = Field(default=1, ge=1, description="Entities with fewer training rows get no model (score 0).")
    max: int | None = Field(
        default=None, ge=1, description="At most so many rows train an entity; the rest are only scored."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Samples:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class RandomEffect(Convergence):
    """One small model per entity."""

    entity: str = Field(description="Column with the entity's id, integer or string.")
    shards: int | Literal["auto"] = Field(default="auto", description="Number of shards, or auto: by rows_per_shard.")
    rows_per_shard: int = Field(default=2_000_000, ge=1, description="Target size of a shard when shards is auto.")
    samples: Samples = Samples()
    groups: int = Field(default=1, ge=1, le=1000, description="Airflow tasks the shards are spread over.")
    max_iterations: int = Field(
        default=100, ge=1, description="Newton iterations after which an entity is not converged."
    )

    @field_validator("shards")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 100_000:
            raise ValueError("must be between 1 and 100000, or auto")
        return value


class Coordinate(Model):
    """One effect of the model: fixed_effect or random_effect."""

    fixed_effect: FixedEffect | None = None
    random_effect: RandomEffect | None = None
    data: str = Field(default=".", description="Directory under input; coordinates may share one.")
    bag: str | None = Field(default=None, description="Feature bag; without it the model is an intercept alone.")
    l2: float = Field(default=1.0, ge=0, description="Weight of the penalty l2/2 * sum of squared coefficients.")
    intercept: bool = True
    regularize_intercept: bool = Field(False, description="Whether l2 covers the intercept too.")

    @model_validator(mode="after")
    def _one_effect(self) -> Coordinate:
        if (self.fixed_effect is None) == (self.random_effect is None):
            raise ValueError("give exactly one of fixed_effect and random_effect (an empty fixed_effect is {})")
        if self.bag is None and not self.intercept:
            raise ValueError("has neither a bag nor an intercept: nothing to train")
        return self


class Passes(Model):
    max: int = Field(default=1, ge=1, le=100, description="Sweeps over all coordinates at most.")
    min_delta: float = Field(default=0.0, description="Stop when a pass improves the first metric by less than this.")


class Checks(Model):
    """What validate does with records that break a rule."""

    on_error: Literal["fail", "drop"] = "fail"
    max_dropped: float = Field(
        default=0.01, ge=0, le=1, description="Under drop: fail above this share of dropped records."
    )


class Frame(Model):
    rows_per_block: int = Field(default=500_000, ge=1, description="Target rows of one block of the frame.")


class Spark(Model):
    """How the two Spark jobs run."""

    master: str = "local[*]"
    driver_memory: str = Field(default="2g", pattern=r"^\d+[kmgt]$")
    conf: dict[str, str] = Field(default_factory=dict, description="Further Spark settings; no secrets.")

    @field_validator("conf")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            # The configuration is written into the run directory, and settings stand on a command line.
            if re.search(r"secret|password|passwd|token|access\.?key", key, re.IGNORECASE):
                raise ValueError(
                    f"{key} looks like a secret, which would be written to config.yaml; "
                    "set it in spark-defaults.conf or the environment"
                )
        return value


class Local(Model):
    """Everything on one machine."""

    processes: int | Literal["auto"] = Field(default="auto", description="Cores used at once; auto: all of them.")

    @field_validator("processes")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or auto")
        return value


class Engine(Model):
    local: Local = Local()


class Export(Model):
    formats: list[Literal["native", "avro"]] = ["native", "avro"]
    sparsity_threshold: float = Field(default=0.0, ge=0, description="Avro: coefficients up to this size are left out.")


class Airflow(Model):
    schedule: str | None = Field(
        default=None, description="Cron expression or preset such as @daily; none: by trigger only."
    )
    start_date: datetime.date | None = None
    catchup: bool = False
    max_active_runs: int = Field(default=1, ge=1)
    retries: int = Field(default=2, ge=0)
    retry_delay_seconds: int = Field(default=60, ge=0)
    tags: list[str] = ["gdmix"]
    spark_connection: str = Field(default="spark_local", description="Airflow connection of spark-submit.")

    @model_validator(mode="after")
    def _scheduled_since(self) -> Airflow:
        if self.schedule is not None and self.start_date is None:
            raise ValueError("a schedule needs a start_date")
        return self


class Config(Model):
    """One pipeline."""

    name: Name
    description: str | None = None
    task: Task = "logistic_regression"
    input: str = Field(description="Directory or URL of the input; may hold templates such as {{ ds }}.")
    output: str = Field(description="Directory or URL of the run; may hold templates such as {{ ds }}.")
    columns: Columns = Columns()
    coordinates: dict[Name, Coordinate] = Field(min_length=1, description="In the order in which they are trained.")
    passes: Passes = Passes()
    metrics: list[str] = Field(default_factory=list, description="The first is the primary one. Default by task.")
    checks: Checks = Checks()
    frame: Frame = Frame()
    spark: Spark = Spark()
    engine: Engine = Engine()
    export: Export = Export()
    airflow: Airflow = Airflow()

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_by_name(cls, value: Any) -> Any:
        return {"local": {}} if value == "local" else value

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        try:
            names = [parse_metric(name).name for name in value]
        except ConfigError as error:
            raise ValueError(str(error)) from None  # pydantic adds the key path to ValueErrors alone
        if len(set(names)) != len(names):
            raise ValueError("a metric is named twice")
        return names

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("metrics"):
            default = DEFAULT_METRIC.get(str(value.get("task", "logistic_regression")))
            if default is not None:
                return {**value, "metrics": [default]}
        return value

    @property
    def primary_metric(self) -> str:
        return self.metrics[0]

    @property
    def random_effects(self) -> dict[str, Coordinate]:
        return {name: c for name, c in self.coordinates.items() if c.random_effect is not None}
