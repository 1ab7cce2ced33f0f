"""What the step `initialize` makes of an earlier text network, and what that depends on."""

from __future__ import annotations

from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.text_architecture import architecture


def needs_initial_scores(config: Config, coordinate: str) -> bool:
    """Whether the scores of a text network's initial model are wanted: they are its own when it is locked; else a
    coordinate before it trains on them in the first pass. Those of a ranking loss are no margins to train on."""
    settings = config.coordinates[coordinate]
    trained = [name for name, other in config.coordinates.items() if not other.trained_once]
    return settings.locked or (settings.text.loss == "pointwise" and coordinate != trained[0])


def settings_of_start(config: Config, coordinate: str) -> dict[str, Any]:
    """On what the network that training starts from depends, with the first weights of words that are new."""
    settings = config.coordinates[coordinate].text
    return {
        "locked": config.coordinates[coordinate].locked,
        "scored": needs_initial_scores(config, coordinate),
        "classes": config.classes,
        "architecture": architecture(settings),
        "vocabulary": settings.vocabulary.model_dump(mode="json"),
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
    }
