"""Encoders of text fields: token ids to vectors. `encoder_of` gives the one of the settings."""

from __future__ import annotations

from typing import Any, Protocol

from gdmix_core.text.encoders.convolution import CnnTextEncoder
from gdmix_core.text.encoders.recurrent import RecurrentTextEncoder
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights
from gdmix_core.text_config import CnnEncoder, RecurrentEncoder, TextModel


class TextEncoder(Protocol):
    width: int

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        """int32 [U, T], 0 is padding, at the end → [U, width]; does not depend on the amount of padding."""


def encoder_of(settings: TextModel, inputs: NetworkInputs, weights: Weights) -> TextEncoder:
    """All its weights have names that start with encoder/."""
    if isinstance(settings.encoder, CnnEncoder):
        return CnnTextEncoder(settings.encoder, settings, inputs, weights)
    if isinstance(settings.encoder, RecurrentEncoder):
        return RecurrentTextEncoder(settings.encoder, settings, inputs, weights)
    raise NotImplementedError
