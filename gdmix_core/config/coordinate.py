"""One coordinate of the configuration: its effect, its penalty, and how its data are shaped."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, Tag, field_validator, model_validator

from gdmix_core.config.effect import EffectSettings
from gdmix_core.config.external import ExternalModel, PythonModel
from gdmix_core.config.model import Model, chosen_by, known, refuse_without_effect
from gdmix_core.config.text import TextModel


class Convergence(EffectSettings):
    tolerance: float = Field(
        default=1e-6, gt=0, description="Stop at gradient max-norm <= tolerance x max(1, sum of weights)."
    )
    max_iterations: int = Field(
        default=200, ge=1, description="Iterations after which a model counts as not converged."
    )


class FixedEffect(Convergence):
    """One global model, linear in its features."""

    kind: ClassVar[str] = "linear"
    training: ClassVar[str] = "train_fixed"
    has_coefficients: ClassVar[bool] = True
    execution_keys: ClassVar[tuple[str, ...]] = ("restarts",)

    model: Literal["linear"] = "linear"
    max_iterations: int = Field(default=500, ge=1, description="Iterations after which it counts as not converged.")
    solver: Literal["auto", "lbfgs", "newton_cg"] = Field(
        default="auto", description="auto: newton_cg, which needs many times fewer passes over the data."
    )
    workers: int = Field(
        default=1, ge=1, le=1024, description="Synchronous worker processes; 1 trains without TensorFlow."
    )
    restarts: int = Field(default=2, ge=0, description="Restarts from the last checkpoint after a worker died.")
    history: int = Field(default=10, ge=1, description="Curvature pairs of L-BFGS.")
    downsampling: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the rows with label 0 (linear, Poisson: of all rows) that train, weighted up by 1/share.",
    )


_TAGS = {effect.kind: f"[{effect.kind}]" for effect in (FixedEffect, TextModel, ExternalModel, PythonModel)}


def _no_text_unsaid(value: Any) -> Any:
    """Refuse a mapping with a text network's fields that does not say so: it would be taken for a linear model."""
    if isinstance(value, dict) and "model" not in value and {"document", "encoder", "document_ids"} & set(value):
        raise ValueError("reads like a text network; say so: model: text")
    return value


AnyFixedEffect = Annotated[
    Annotated[FixedEffect, Tag("[linear]")]
    | Annotated[TextModel, Tag("[text]")]
    | Annotated[ExternalModel, Tag("[external]")]
    | Annotated[PythonModel, Tag("[python]")],
    chosen_by("model", "linear", _TAGS),
    known("model", "linear", _TAGS),
    BeforeValidator(_no_text_unsaid),
]

# Settings of a coordinate that only a model with coefficients has.
_OF_LINEAR_MODELS = (
    "bag", "l2", "l1", "alpha", "bounds", "intercept", "regularize_intercept", "normalization", "variances", "locked",
)  # fmt: skip


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

    kind: ClassVar[str] = "random"
    training: ClassVar[str] = "train_random"
    has_coefficients: ClassVar[bool] = True
    is_sharded: ClassVar[bool] = True
    execution_keys: ClassVar[tuple[str, ...]] = ("groups", "rows_per_group")

    entity: str = Field(description="Column with the entity's id, integer or string.")
    shards: int | Literal["auto"] = Field(default="auto", description="Number of shards, or auto: by rows_per_shard.")
    rows_per_shard: int = Field(default=2_000_000, ge=1, description="Target size of a shard when shards is auto.")
    samples: Samples = Samples()
    features_to_samples: float | None = Field(
        default=None,
        gt=0,
        description="An entity of n training rows keeps the ceil(this x n) features most correlated with its label.",
    )
    groups: int = Field(default=1, ge=1, le=1000, description="Airflow tasks the shards are spread over, at most.")
    rows_per_group: int = Field(
        default=100_000, ge=1, description="Training rows that such a task has at least: a small effect is one task."
    )
    max_iterations: int = Field(
        default=100, ge=1, description="Newton iterations after which an entity is not converged."
    )

    @field_validator("shards")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 100_000:
            raise ValueError("must be between 1 and 100000, or auto")
        return value


Mode = Literal["coordinate", "intercept_slopes", "feature"]


class AutomaticL2(Model):
    """λ by empirical Bayes: one of all coefficients, one of intercepts and one of slopes, or one of each feature."""

    auto: Mode = "intercept_slopes"


def _spelled_out(value: Any) -> Any:
    """Make {auto: intercept_slopes} of auto; raise one clear message in place of one for each type a value may have."""
    if value == "auto":
        return {"auto": "intercept_slopes"}
    numbers = value if isinstance(value, list | tuple) else [value]
    numeric = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < inf for n in numbers) and numbers
    automatic = isinstance(value, dict) and set(value) == {"auto"} and value["auto"] in get_args(Mode)
    if numeric or automatic or isinstance(value, AutomaticL2):
        return value
    raise ValueError(
        "expected a number >= 0, auto, {auto: coordinate | intercept_slopes | feature}, or a list of numbers to try"
        + ("" if isinstance(value, str | int | float) else f", not {value!r}")
    )


Penalty = Annotated[
    float | AutomaticL2 | list[float],
    BeforeValidator(_spelled_out, json_schema_input_type=float | Literal["auto"] | AutomaticL2 | list[float]),
]


class Bound(Model):
    """Limits of the coefficients whose name and term match; * stands for any text. The intercept: name (INTERCEPT)."""

    name: str = "*"
    term: str = "*"
    lower: float | None = None
    upper: float | None = None

    @model_validator(mode="after")
    def _an_interval(self) -> Bound:
        if self.lower is None and self.upper is None:
            raise ValueError("needs lower, upper or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower:g}) must be below upper ({self.upper:g})")
        return self


# All kinds of effects, by name: a new one is a line here, its settings, and its folder below gdmix_core/effects.
KINDS: dict[str, type[EffectSettings]] = {
    effect.kind: effect for effect in (FixedEffect, RandomEffect, TextModel, ExternalModel, PythonModel)
}


class Coordinate(Model):
    """One effect of the model: fixed_effect or random_effect."""

    fixed_effect: AnyFixedEffect | None = None
    random_effect: RandomEffect | None = None
    data: str = Field(default=".", description="Directory under input; coordinates may share one.")
    bag: str | None = Field(default=None, description="Feature bag; without it the model is an intercept alone.")
    l2: Penalty = Field(
        default=1.0, description="Weight of the penalty l2/2 * sum of squares; auto estimates it; a list is a grid."
    )
    l1: float = Field(default=0.0, ge=0, description="Weight of the penalty l1 * sum of absolute coefficients.")
    alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Elastic net: this share of l2 is L1: l2 * ((1 - alpha)/2 * squares + alpha * absolutes).",
    )
    bounds: list[Bound] = Field(default=[], description="Limits of coefficients, in the features' units.")
    intercept: bool = True
    regularize_intercept: bool = Field(
        False, description="Whether the penalty covers the intercept too (a random effect's under l2: auto always)."
    )
    normalization: Literal["none", "standard_deviation", "max_magnitude", "standardization"] = Field(
        default="none", description="Features are scaled for training; the model is in the features' own units."
    )
    variances: Literal["none", "simple", "full"] = Field(
        default="none", description="Of the coefficients: simple 1/diag(H), full diag(inverse of H)."
    )
    locked: bool = Field(default=False, description="Take the model from initial_model and only score with it.")

    @model_validator(mode="after")
    def _intercept_to_regularize(self) -> Coordinate:
        if not self.intercept:
            refuse_without_effect(self, ["regularize_intercept"], "with intercept: false: there is none; leave it out")
        return self

    @model_validator(mode="after")
    def _one_effect(self) -> Coordinate:
        if (self.fixed_effect is None) == (self.random_effect is None):
            raise ValueError("give exactly one of fixed_effect and random_effect (an empty fixed_effect is {})")
        if not self.has_coefficients:
            # A run's own config.yaml spells out every default.
            fields = type(self).model_fields
            defaults = {name: fields[name].get_default(call_default_factory=True) for name in _OF_LINEAR_MODELS}
            if self.effect.is_network:
                del defaults["locked"]
            foreign = [name for name, default in defaults.items() if getattr(self, name) != default]
            if foreign == ["locked"]:
                raise ValueError(
                    f"locked is a setting of linear models and text networks; fixed_effect.model {self.kind} has none"
                )
            if foreign:
                raise ValueError(f"{foreign[0]} is a setting of linear models; fixed_effect.model {self.kind} has none")
        elif self.bag is None and not self.intercept:
            raise ValueError("has neither a bag nor an intercept: nothing to train")
        return self

    @model_validator(mode="after")
    def _one_penalty(self) -> Coordinate:
        if self.alpha is not None and self.l1:
            raise ValueError("give l1, or alpha as the share of l2 that is L1, but not both")
        if isinstance(self.l2, AutomaticL2) and (self.l1 or self.alpha):
            raise ValueError("l2: auto estimates a Gaussian prior; it goes with neither l1 nor alpha")
        if isinstance(self.l2, AutomaticL2) and self.bounds:
            raise ValueError("l2: auto needs the posterior's curvature, which a bound cuts off; give l2 a number")
        if not self.intercept and any(b.name == "(INTERCEPT)" for b in self.bounds):
            raise ValueError("a bound limits the intercept, but there is none (intercept: false)")
        if self.normalization == "standardization" and not self.intercept:
            raise ValueError("standardization moves the features' means into the intercept, so it needs one")
        if self.normalization == "standardization" and any(b.name == "(INTERCEPT)" for b in self.bounds):
            raise ValueError("standardization moves the intercept, so it cannot be bounded; use standard_deviation")
        return self

    @property
    def effect(self) -> EffectSettings:
        """The settings of its effect, whichever it is."""
        effect = self.random_effect if self.fixed_effect is None else self.fixed_effect
        assert effect is not None
        return effect

    @property
    def kind(self) -> str:
        """The kind of model: a key of KINDS; linear: a linear fixed effect."""
        return self.effect.kind

    @property
    def has_coefficients(self) -> bool:
        """True where its models are coefficients of features: with a penalty, and a prior."""
        return self.effect.has_coefficients

    @property
    def takes_initial_model(self) -> bool:
        """True where it starts from its model in initial_model, or is that model."""
        return self.locked or self.effect.starts_from_initial

    @property
    def linear(self) -> FixedEffect:
        """The settings of a linear fixed effect."""
        assert isinstance(self.fixed_effect, FixedEffect)
        return self.fixed_effect

    @property
    def text(self) -> TextModel:
        """The settings of a text network."""
        assert isinstance(self.fixed_effect, TextModel)
        return self.fixed_effect

    @property
    def trained_once(self) -> bool:
        """True where its model, and so its scores, are given and the same in every pass."""
        return self.locked or self.effect.is_given

    @property
    def bags(self) -> tuple[str, ...]:
        """The bags of the input that it reads."""
        return self.effect.read_bags if self.bag is None else (self.bag,)

    @property
    def columns(self) -> tuple[str, ...]:
        """Scalar columns that it reads as features (text, ids), beside uid, label, weight and offset."""
        return self.effect.read_columns

    @property
    def reads_data(self) -> bool:
        """True where it reads anything from its directory (a linear model without a bag does: it is its directory)."""
        return bool(self.bags or self.columns) or self.has_coefficients

    @property
    def group(self) -> str | None:
        """The column whose rows it ranks together."""
        return self.effect.ranked_within

    def to_score(self) -> Coordinate:
        """Return the settings without what only training needs."""
        if self.fixed_effect is None:
            return self
        return self.model_copy(update={"fixed_effect": self.fixed_effect.to_score()})

    @property
    def automatic(self) -> AutomaticL2 | None:
        """The way λ is estimated; None where it is given."""
        return self.l2 if isinstance(self.l2, AutomaticL2) else None

    @property
    def l1_weight(self) -> float:
        """The weight of Σ |w_j|."""
        return self.alpha * self._given if self.alpha else self.l1

    @property
    def l2_weight(self) -> float:
        """The weight of ½ Σ w_j². Raises ValueError where it is estimated or one of a grid."""
        return self._given * (1.0 - (self.alpha or 0.0))

    @property
    def _given(self) -> float:
        if not isinstance(self.l2, int | float):
            raise ValueError(f"l2 is {self.l2!r}, not one number")
        return float(self.l2)
