"""Fixed effects that are trained elsewhere: by another system, of which there are scores, or by the user's own code."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from gdmix_core.config.effect import EffectSettings
from gdmix_core.config.model import Paths, is_lenient
from gdmix_core.config.secret_settings import holds_secret
from gdmix_core.config.yaml_text import texts_in

ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class ExternalModel(EffectSettings):
    """Scores of a model that is trained elsewhere, a score a uid; joined in validate, the same in every pass."""

    kind: ClassVar[str] = "external"
    training: ClassVar[str] = "train_external"
    is_given: ClassVar[bool] = True

    model: Literal["external"]
    scores: Paths = Field(
        min_length=1,
        description="Files or folders of Parquet, CSV, or Avro as GDMix or Photon ML write it; all splits together.",
    )
    uid: str | None = Field(default=None, description="Column of the uid. Default: columns.uid, else uid.")
    score: str | None = Field(
        default=None, description="Default: score, predictionScorePerCoordinate or predictionScore."
    )
    missing: Literal["error", "zero"] = Field(
        default="error", description="error: a uid without a score breaks a rule of validate; zero: its score is 0."
    )

    @property
    def joined_scores(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class PythonModel(EffectSettings):
    """A trainer of the user's own: a function that is given the frame and the offsets, and returns scores."""

    kind: ClassVar[str] = "python"
    training: ClassVar[str] = "train_python"
    reads_files: ClassVar[bool] = True

    model: Literal["python"]
    function: ImportPath = Field(description="package.module:function; see docs/external.md for what it is given.")
    bags: list[str] = Field(default=[], description="Bags of the input that it reads.")
    columns: list[str] = Field(default=[], description="Further columns that it reads: text or integers.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Handed to the function as they are; no secrets: they are written down."
    )

    @field_validator("settings")
    @classmethod
    def _without_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        for path, text in () if is_lenient() else texts_in(value):
            name = next(key for key in reversed(path) if isinstance(key, str))
            if holds_secret(name, text):
                raise ValueError(
                    f"{name} looks like a secret, which would be written to config.yaml; let the function read it from "
                    "the environment"
                )
        return value

    @property
    def read_bags(self) -> tuple[str, ...]:
        return tuple(self.bags)

    @property
    def read_columns(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def to_score(self) -> PythonModel:
        return self.model_copy(update={"bags": [], "columns": []})
