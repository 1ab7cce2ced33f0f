"""The interface that every kind of effect implements, so that no other code asks which kind it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdmix_core.data.ingest.source import Layout
    from gdmix_core.effects.outcome import Outcome
    from gdmix_core.effects.scorer import Format, Scorer
    from gdmix_core.models.exported import Export
    from gdmix_core.training_context import TrainingContext


class Effect:
    """One kind of effect. Its doors import what they need: a process loads what its own step works with."""

    def packages(self, name: str, coordinate: Coordinate) -> Iterator[tuple[str, str, str]]:
        """(module, extra that brings it, key that asks for it) of what training needs beside the base."""
        yield from ()

    def preflight(
        self, name: str, coordinate: Coordinate, config: Config, *, data_here: bool
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        """(key, look) of what training needs: look raises an error where it is not there.

        data_here: whether this process sees the files that validate reads
        """
        yield from ()

    def files(self, name: str, coordinate: Coordinate) -> dict[str, str]:
        """Return description → path of the files beside the input on whose content the result of training depends."""
        return {}

    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        """Train the coordinate and score all rows. Returns what its marker says, of the group of shards if any."""
        raise NotImplementedError

    def use_initial(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        """Do for a locked coordinate what training does: its model and scores are those of the initial model."""
        raise NotImplementedError

    def initial_scores(self, context: TrainingContext, split: str) -> NDArray[np.float32] | None:
        """Return float32 [rows]: the scores of a split by the coordinate's initial coefficients; None without any."""
        raise NotImplementedError

    def export(self, context: TrainingContext, directory: str) -> int:
        """Write the models that the step has made to a directory of the export; return how many they are."""
        raise NotImplementedError

    def scorer(
        self, export: Export, name: str, config: Config, layout: Layout, kind: Format, given: Sequence[str] | None
    ) -> Scorer:
        """Return the scorer of new data by an export. given: files with the coordinate's scores of these data, if any.

        Raises DataError when they are needed and not given, or given and not needed.
        """
        if given is not None:
            own = config.coordinates[name].kind
            raise DataError(f"coordinate {name}: its model is {own} and scores the data itself; give no scores for it")
        return self._scorer(export, name, config, layout, kind)

    def _scorer(self, export: Export, name: str, config: Config, layout: Layout, kind: Format) -> Scorer:
        raise NotImplementedError

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        """Describe how training ended, for the report. marker: what training returned"""
        raise NotImplementedError


def effect_of(kind: str) -> Effect:
    """Return the effect of a kind: EFFECT of its folder."""
    effect: Effect = importlib.import_module(f"gdmix_core.effects.{kind}.effect").EFFECT
    return effect
