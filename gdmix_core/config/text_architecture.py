"""The settings of a text network on which its weights depend: their names, shapes and meaning, and their start."""

from __future__ import annotations

from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.text import TextModel, TransformerEncoder

_ALWAYS = (
    "document", "query", "user", "document_ids", "user_ids", "dense", "sparse", "units", "combine_fields", "hidden",
    "activation",
)  # fmt: skip
# The settings of an encoder that change its training alone.
_OF_TRAINING = ("dropout",)


def architecture(settings: TextModel) -> dict[str, Any]:
    """Return key path below fixed_effect → value, plain data. Networks in which all are equal differ in words alone.

    Settings that the network does not use are left out, such as the size of ids' vectors where there is no id field.
    """
    used = set(_ALWAYS)
    used |= {"interactions"} if settings.user_fields else set()
    used |= {"id_embedding"} if settings.id_fields else set()
    used |= {"sparse_embedding"} if settings.sparse else set()
    found = settings.model_dump(mode="json", include=used) | {"linear": sorted(settings.linear_bags)}
    if not settings.text_fields:
        return found
    encoder = settings.encoder
    found["vocabulary.tokenizer"] = settings.vocabulary.tokenizer
    found |= {f"encoder.{key}": value for key, value in _of_encoder(settings).items()}
    if not isinstance(encoder, TransformerEncoder):
        found["embedding"] = settings.embedding
    elif encoder.path is None:  # It has a vector for each position.
        found["max_tokens"] = settings.max_tokens
    return found


def _of_encoder(settings: TextModel) -> dict[str, Any]:
    encoder = settings.encoder
    if isinstance(encoder, TransformerEncoder) and encoder.path is not None:  # What its folder says holds.
        return {"type": encoder.type, "path": encoder.path, "pooling": encoder.pooling}
    return {key: value for key, value in encoder.model_dump(mode="json").items() if key not in _OF_TRAINING}


def differences(earlier: TextModel, now: TextModel) -> dict[str, tuple[Any, Any]]:
    """Return key path below fixed_effect → (value there, here) where they differ; of another encoder its type."""
    there, here = architecture(earlier), architecture(now)
    keys = [key for key in {**here, **there} if there.get(key) != here.get(key)]
    if "encoder.type" in keys:
        keys = [key for key in keys if key == "encoder.type" or not (key.startswith("encoder.") or key == "embedding")]
    return {key: (there.get(key), here.get(key)) for key in keys}


def needs_initial_scores(config: Config, coordinate: str) -> bool:
    """Return whether the scores of a text network's initial model are wanted.

    They are its own when it is locked; else a coordinate before it trains on them in the first pass. Those of a ranking
    loss are not margins to train on.
    """
    settings = config.coordinates[coordinate]
    trained = [name for name, other in config.coordinates.items() if not other.trained_once]
    return settings.locked or (settings.text.loss == "pointwise" and coordinate != trained[0])


def settings_of_start(config: Config, coordinate: str) -> dict[str, Any]:
    """Return the settings on which the network depends that training starts from, with first weights of new words."""
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
