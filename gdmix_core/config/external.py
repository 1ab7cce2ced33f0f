"""Fixed effects that are trained elsewhere: by another system, of which there are scores, or by the user's own code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gdmix_core.config.model import Model, Paths

ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class ExternalModel(Model):
    """Scores of a model that is trained elsewhere, a score a uid; joined in validate, the same in every pass."""

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


class PythonModel(Model):
    """A trainer of the user's own: a function that is given the frame and the offsets, and returns scores."""

    model: Literal["python"]
    function: ImportPath = Field(description="package.module:function; see docs/external.md for what it is given.")
    bags: list[str] = Field(default=[], description="Bags of the input that it reads.")
    columns: list[str] = Field(default=[], description="Further columns that it reads: text or integers.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Handed to the function as they are.")
