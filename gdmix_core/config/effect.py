"""The properties of each kind of effect: the rest of the project asks for these, and not which kind it is."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from gdmix_core.config.model import Model


class EffectSettings(Model):
    """The settings of one kind of effect, and what follows from the kind.

    kind: its name, and that of the folder below gdmix_core/effects that holds what it does
    training: the kind of the step that trains it, which is a part of the step's key
    has_coefficients: whether its models are coefficients of features: with a penalty, and a prior
    is_network: whether its model is a network's weights
    is_given: whether its scores come with the data, and are the same in every pass
    is_sharded: whether its rows are partitioned into shards, which train on their own
    gives_classes: whether it can give a score for each class
    uses_metric: whether the primary metric decides when its training stops
    reads_files: whether its result depends on files beside the input
    execution_keys: keys that change where and how it is trained, and not the result
    """

    kind: ClassVar[str]
    training: ClassVar[str]
    has_coefficients: ClassVar[bool] = False
    is_network: ClassVar[bool] = False
    is_given: ClassVar[bool] = False
    is_sharded: ClassVar[bool] = False
    gives_classes: ClassVar[bool] = False
    uses_metric: ClassVar[bool] = False
    reads_files: ClassVar[bool] = False
    execution_keys: ClassVar[tuple[str, ...]] = ()

    @property
    def starts_from_initial(self) -> bool:
        """True where its training starts from its model in initial_model."""
        return self.has_coefficients

    @property
    def read_bags(self) -> tuple[str, ...]:
        """The bags that it reads; those with coefficients read their coordinate's `bag`."""
        return ()

    @property
    def read_columns(self) -> tuple[str, ...]:
        """Scalar columns that it reads as features (text, ids), beside uid, label, weight and offset."""
        return ()

    @property
    def ranked_within(self) -> str | None:
        """The column whose rows it ranks together; its scores are then not margins."""
        return None

    @property
    def joined_scores(self) -> dict[str, Any] | None:
        """The settings that say where its scores are, which validate joins to the rows; None: it has none."""
        return None

    def to_score(self) -> Self:
        """Return the settings without what only training needs."""
        return self
