"""The pipeline's one YAML file as typed models: every key, every default, every limit stands in this room.

`Config` is what the rest of the project reads. Loading, templates and error messages are in pipeline/loading.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.execution import Airflow, Engine, Spark, is_local_master
from gdmix_core.config.model import Model, Path, is_lenient, refuse_without_effect
from gdmix_core.config.tune import Tune
from gdmix_core.errors import ConfigError
from gdmix_core.metrics.registry import DEFAULT_METRIC, metrics_of, parse_metric

Task = Literal[
    "logistic_regression",
    "linear_regression",
    "poisson_regression",
    "smoothed_hinge",
    "multiclass_classification",
    "multilabel_classification",
]
# Tasks with a score for each class: no other coordinate can add to them.
TASKS_OF_CLASSES = ("multiclass_classification", "multilabel_classification")
# The bits of an int64 but for its sign, less one.
MAX_CHECKS = 62
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]


class Columns(Model):
    """Names of the input's columns."""

    uid: str = Field(default="uid", description="Unique id of a record, integer or string.")
    label: str = Field(default="label", description="What is predicted.")
    weight: str | None = Field(default=None, description="Weight of a record (> 0). Without it every record weighs 1.")
    offset: str | None = Field(default=None, description="Known part of the score, added before the loss. Default 0.")


class Passes(Model):
    max: int = Field(default=1, ge=1, le=1000, description="Sweeps over all coordinates at most.")
    min_delta: float | Literal["none"] = Field(
        default=0.0,
        description="Stop when a pass improves the first metric by less than this. Below 0: stop when it loses more "
        "than this. none: never; all passes are made, and the best is exported.",
    )
    tolerance: float = Field(
        default=1e-4,
        ge=0,
        description="Without validation data: stop when a pass moves no coordinate's scores by more than this share of "
        "the margins' standard deviation (root mean square).",
    )
    acceleration: Literal["anderson", "none"] = Field(
        default="anderson",
        description="From the third pass on, begin where the passes before were heading for. none: where they ended.",
    )

    @model_validator(mode="after")
    def _effective(self) -> Passes:
        if self.min_delta == "none":
            refuse_without_effect(self, ["tolerance"], "with min_delta: none, which makes all passes; leave it out")
        return self


class InitialModel(Model):
    """Models of an earlier run to start from, or to stay close to."""

    path: Path | None = Field(default=None, description="A run directory or its export; holds every coordinate named.")
    coordinates: dict[Name, Path] = Field(
        default_factory=dict, description="For a coordinate, a file or folder of GDMix or Photon ML Avro models."
    )
    required: bool = Field(
        default=True,
        description="False: without a finished run at path, start from the newest dated before it, or from nothing.",
    )
    prior_weight: float = Field(
        default=0.0,
        ge=0,
        description="Above 0: a Gaussian prior with the earlier means and variances, its precision times this.",
    )
    entities_without_data: Literal["keep", "drop"] = Field(
        default="keep", description="Models of entities that have no training rows now."
    )
    features_without_data: Literal["keep", "drop"] | None = Field(
        default=None,
        description="Coefficients of features that a model's rows do not have now. Default: keep under a prior.",
    )

    @model_validator(mode="after")
    def _somewhere(self) -> InitialModel:
        if self.path is None and not self.coordinates:
            raise ValueError("needs path (a run or its export) or coordinates (Avro files of coordinates)")
        if self.path is None:
            refuse_without_effect(self, ["required"], "without path: the files of coordinates must be there")
        return self

    @property
    def keeps_features(self) -> bool:
        wanted = self.features_without_data
        return self.prior_weight > 0 if wanted is None else wanted == "keep"


class Checks(Model):
    """The treatment of records that break a rule of validate."""

    on_error: Literal["fail", "drop"] = "fail"
    max_dropped: float = Field(
        default=0.01, ge=0, le=1, description="Under drop: fail above this share of dropped records."
    )
    uninformative: Literal["fail", "allow"] = Field(
        default="fail",
        description="Where there is nothing to learn or to choose by: training labels that are all the same, and a "
        "first metric that is undefined in every pass.",
    )

    @model_validator(mode="after")
    def _effective(self) -> Checks:
        if self.on_error == "fail":
            refuse_without_effect(self, ["max_dropped"], "with on_error: fail, which drops nothing; use on_error: drop")
        return self


class Frame(Model):
    rows_per_block: int = Field(default=500_000, ge=1, description="Target rows of one block of the frame.")


class Export(Model):
    formats: list[Literal["native", "avro"]] = Field(default=["native", "avro"], min_length=1)
    sparsity_threshold: float = Field(default=0.0, ge=0, description="Avro: coefficients up to this size are left out.")

    @model_validator(mode="after")
    def _effective(self) -> Export:
        if "avro" not in self.formats:
            refuse_without_effect(self, ["sparsity_threshold"], "without avro among the formats; leave it out")
        return self


class Config(Model):
    """One pipeline."""

    name: Name
    description: str | None = None
    task: Task = "logistic_regression"
    classes: int | None = Field(
        default=None, ge=2, description="Of multiclass_classification, whose labels are 0 … classes - 1."
    )
    input: Path = Field(description="Directory or URL of the input; may hold templates such as {{ ds }}.")
    output: Path = Field(description="Directory or URL of the run; may hold templates such as {{ ds }}.")
    columns: Columns = Columns()
    coordinates: dict[Name, Coordinate] = Field(min_length=1, description="In the order in which they are trained.")
    initial_model: InitialModel | None = None
    passes: Passes = Passes()
    tune: Tune | None = None
    metrics: list[str] = Field(default_factory=list, description="The first is the primary one. Default by task.")
    checks: Checks = Checks()
    frame: Frame = Frame()
    spark: Spark = Spark()
    engine: Engine = Engine()
    export: Export = Export()
    airflow: Airflow = Airflow()

    @field_validator("engine", mode="before", json_schema_input_type=Literal["local"] | Engine)
    @classmethod
    def _engine_by_name(cls, value: Any) -> Any:
        return {"local": {}} if value == "local" else value

    @field_validator("initial_model", mode="before", json_schema_input_type=str | InitialModel | None)
    @classmethod
    def _by_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        try:
            names = [parse_metric(name).name for name in value]
        except ConfigError as error:
            raise ValueError(str(error)) from None  # pydantic adds the key path to ValueErrors alone
        if len(set(names)) != len(names):
            raise ValueError("a metric is named twice")
        if names and parse_metric(names[0]).is_matrix:
            raise ValueError(
                f"the first metric decides which pass is best, and {names[0]} is a matrix: name another first"
            )
        return names

    @field_validator("coordinates")
    @classmethod
    def _apart_from_tasks(cls, value: dict[str, Coordinate]) -> dict[str, Coordinate]:
        effects = [c.random_effect for c in value.values() if c.random_effect is not None]
        for name in ("gate", "accelerate"):
            if name in value and any(effect.groups > 1 for effect in effects):
                raise ValueError(f"with random_effect.groups, {name} is the name of a task of its own: choose another")
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("metrics"):
            default = DEFAULT_METRIC.get(str(value.get("task", "logistic_regression")))
            if default is not None:
                return {**value, "metrics": [default]}
        return value

    @model_validator(mode="after")
    def _initial_models_exist(self) -> Config:
        locked = [name for name, c in self.coordinates.items() if c.locked]
        if locked and self.initial_model is None:
            raise ValueError(f"coordinate {locked[0]} is locked, so initial_model must say where its model is")
        if all(c.trained_once for c in self.coordinates.values()):
            raise ValueError(
                "every coordinate is locked or external: nothing to train; score the data with `gdmix score`"
            )
        unknown = set(self.initial_model.coordinates if self.initial_model else ()) - set(self.coordinates)
        if unknown:
            raise ValueError(f"initial_model.coordinates names {min(unknown)}, which is no coordinate of this pipeline")
        for name in self.initial_model.coordinates if self.initial_model else ():
            if not self.coordinates[name].has_coefficients:
                effect = self.coordinates[name].effect
                raise ValueError(
                    f"initial_model.coordinates names {name}, whose model is {effect.kind}: it has no coefficients"
                    + ("; a network is found in initial_model.path" if effect.is_network else "")
                )
        return self

    @model_validator(mode="after")
    def _effective(self) -> Config:
        idle = [name for name, c in self.coordinates.items() if not c.reads_data and c.data != "."]
        if idle and len(idle) < len(self.coordinates) and not is_lenient():  # alone it says where uids and labels are
            given = self.coordinates[idle[0]].effect.is_given
            why = "scores are found by uid" if given else "without bags and columns nothing is read there"
            raise ValueError(f"coordinate {idle[0]}: data has no effect: {why}; leave it out")
        return self

    @model_validator(mode="after")
    def _checks_of_a_record(self) -> Config:
        """A record's broken rules travel through the shuffle as the bits of one integer."""
        first = next((c.data for c in self.coordinates.values() if c.reads_data), ".")
        for data in {c.data: None for c in self.coordinates.values()}:
            here = [c for c in self.coordinates.values() if c.data == data]
            bags = len({bag for c in here for bag in c.bags})
            ids = len({c.random_effect.entity for c in here if c.random_effect})
            texts = len({column for c in here for column in c.columns})
            numbers = 1 + (self.columns.weight is not None) + (self.columns.offset is not None) if data == first else 0
            checks = 1 + 4 * bags + 2 * ids + texts + 3 * numbers
            if checks > MAX_CHECKS:
                raise ValueError(
                    f"directory {data!r} has {checks} rules for a record (4 for a bag, 2 for an id, 1 for a text, 3 "
                    f"for label, weight and offset each), and at most {MAX_CHECKS} can be checked; put some of its "
                    f"{bags} bags into records of another directory (data)"
                )
        return self

    @model_validator(mode="after")
    def _prior_of_coefficients(self) -> Config:
        """A network has no Gaussian prior: it would silently have none where it alone is trained."""
        trained = [c for c in self.coordinates.values() if not c.trained_once]
        networks = [name for name, c in self.coordinates.items() if c.effect.is_network and not c.locked]
        weighted = self.initial_model is not None and self.initial_model.prior_weight > 0
        if weighted and networks and not any(c.has_coefficients for c in trained):
            raise ValueError(
                "initial_model.prior_weight is a prior of coefficients, and no coordinate that is trained has any; "
                f"text network {networks[0]} can only start from its earlier weights: leave prior_weight out"
            )
        return self

    @model_validator(mode="after")
    def _scores_that_add_up(self) -> Config:
        """Random effects add to a margin of the task's loss alone."""
        if self.task == "multiclass_classification" and self.classes is None:
            raise ValueError("task multiclass_classification needs classes, their number (beside task)")
        if self.task != "multiclass_classification" and self.classes is not None:
            raise ValueError(f"classes is for task multiclass_classification, not {self.task}")
        if self.task in TASKS_OF_CLASSES and [c.effect.gives_classes for c in self.coordinates.values()] != [True]:
            raise ValueError(
                f"task {self.task} gives a score for each class, to which no other coordinate can add: "
                "it needs exactly one coordinate, a fixed effect with model: text"
            )
        roles = {value: role for role, value in self.columns.model_dump().items() if value is not None}
        for position, (name, coordinate) in enumerate(self.coordinates.items()):
            for column in coordinate.columns:
                if roles.get(column, "uid") != "uid":
                    raise ValueError(f"coordinate {name} reads {column}, which is columns.{roles[column]}")
            if coordinate.group is None:
                continue
            loss = coordinate.text.loss
            if coordinate.locked:
                raise ValueError(
                    f"coordinate {name}: a locked model is scored first, for the others to add to, but scores of loss "
                    f"{loss} are no margins; train it, or score the data with `gdmix score`"
                )
            if self.task not in ("logistic_regression", "linear_regression"):
                raise ValueError(f"coordinate {name}: loss {loss} ranks by the label, which task {self.task} does not")
            if position < len(self.coordinates) - 1 or self.passes.max > 1:
                raise ValueError(
                    f"coordinate {name}: scores of loss {loss} are no margins that others could add to; it must be "
                    "the last coordinate, in a single pass (passes.max: 1), or use loss: pointwise"
                )
        return self

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Config:
        for name in self.metrics:
            if not parse_metric(name).fits(self.task):
                raise ValueError(f"metric {name} is not for task {self.task}; for it there are {metrics_of(self.task)}")
        if "confusion_matrix" in self.metrics and (self.classes or 2) > 1000:
            raise ValueError(f"confusion_matrix of {self.classes} classes: it is kept for 1000 at most")
        if self.task in TASKS_OF_CLASSES and self.columns.offset is not None:
            raise ValueError(f"columns.offset: task {self.task} has a score for each class, to which no offset adds")
        return self

    @model_validator(mode="after")
    def _likelihood_to_estimate_from(self) -> Config:
        automatic = [name for name, c in self.coordinates.items() if c.automatic is not None]
        if automatic and self.task == "smoothed_hinge":
            raise ValueError(
                f"l2: auto of coordinate {automatic[0]} needs a likelihood, which the smoothed hinge is not"
            )
        return self

    @property
    def data_engine(self) -> Literal["embedded", "spark"]:
        """Who carries out validate and partition, where no Airflow connection has a say."""
        if self.engine.data != "auto":
            return self.engine.data
        return "embedded" if is_local_master(self.spark.master) else "spark"

    @property
    def foreign_metrics(self) -> dict[str, str]:
        """Metrics that are meant for another task, and that task: on this one's margins they mean little."""
        tasks = {name: parse_metric(name).foreign_to(self.task) for name in self.metrics}
        return {name: task for name, task in tasks.items() if task is not None}

    @property
    def numeric_metrics(self) -> list[str]:
        """The metrics whose value is a number; the others (confusion_matrix) are in metrics.json and in the report."""
        return [name for name in self.metrics if not parse_metric(name).is_matrix]

    @property
    def primary_metric(self) -> str:
        return self.metrics[0]

    @property
    def random_effects(self) -> dict[str, Coordinate]:
        return {name: c for name, c in self.coordinates.items() if c.random_effect is not None}
