"""A BERT model as Hugging Face lays it out: config.json, model.safetensors, vocab.txt in a local folder."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.bert_shape import TransformerShape
from gdmix_core.errors import DataError
from gdmix_core.extras import require
from gdmix_core.text.weights import Weights

# Names of the tensors, with the model's own prefix before them or not; layers are numbered.
_EMBEDDINGS = "embeddings"
_LAYER = "encoder.layer.{}"
_DENSE = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "inner": "intermediate.dense",
    "outer": "output.dense",
}
_NORMALIZATIONS = {"attended_normalization": "attention.output.LayerNorm", "outer_normalization": "output.LayerNorm"}


def load_bert_weights(folder: str, shape: TransformerShape, weights: Weights) -> None:
    """Set the weights of a TransformerTextEncoder of that shape. Raises DataError for tensors that do not fit."""
    tensors = _Tensors(os.path.join(folder, "model.safetensors"))
    width = shape.width

    def dense(name: str, theirs: str, inputs: int, outputs: int) -> None:
        # PyTorch keeps a linear layer's weight as [outputs, inputs].
        weights.variables[f"{name}/kernel"].assign(tensors.get(f"{theirs}.weight", (outputs, inputs)).T)
        weights.variables[f"{name}/bias"].assign(tensors.get(f"{theirs}.bias", (outputs,)))

    def normalization(name: str, theirs: str) -> None:
        # The oldest models call them gamma and beta.
        weights.variables[f"{name}/gamma"].assign(tensors.get(f"{theirs}.weight", (width,), f"{theirs}.gamma"))
        weights.variables[f"{name}/beta"].assign(tensors.get(f"{theirs}.bias", (width,), f"{theirs}.beta"))

    tokens = tensors.get(f"{_EMBEDDINGS}.word_embeddings.weight", (shape.tokens, width))
    positions = tensors.get(f"{_EMBEDDINGS}.position_embeddings.weight", (shape.positions, width))
    types = tensors.get(f"{_EMBEDDINGS}.token_type_embeddings.weight", (None, width))
    weights.variables["encoder/tokens"].assign(tokens)
    # Every text is a first segment: its type's vector is added at each position.
    weights.variables["encoder/positions"].assign(positions + types[0])
    normalization("encoder/normalization", f"{_EMBEDDINGS}.LayerNorm")
    for number in range(shape.layers):
        ours, theirs = f"encoder/{number}", _LAYER.format(number)
        for part, name in _DENSE.items():
            inputs = shape.feed_forward if part == "outer" else width
            outputs = shape.feed_forward if part == "inner" else width
            dense(f"{ours}/{part}", f"{theirs}.{name}", inputs, outputs)
        for part, name in _NORMALIZATIONS.items():
            normalization(f"{ours}/{part}", f"{theirs}.{name}")


class _Tensors:
    """The tensors of a safetensors file by name, read when asked for."""

    def __init__(self, path: str) -> None:
        require("safetensors", "text", "a pretrained encoder")
        from safetensors import SafetensorError, safe_open

        self._path = path
        try:
            self._file: Any = safe_open(path, framework="numpy")
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read ({error}); save the model with save_pretrained") from None
        self._names = set(self._file.keys())

    def get(self, name: str, shape: tuple[int | None, ...], older: str | None = None) -> NDArray[np.float32]:
        """Return a tensor as float32; also under the prefix bert. or its older name. Raises DataError."""
        candidates = [prefix + n for n in (name, older) if n for prefix in ("", "bert.")]
        found = next((candidate for candidate in candidates if candidate in self._names), None)
        if found is None:
            raise DataError(f"{self._path}: the tensor {name} is missing; it must be a BERT model as config.json says")
        try:
            tensor = self._file.get_tensor(found)
        except TypeError as error:
            raise DataError(f"{self._path}: {found} has an unsupported type ({error}); save it as float32") from None
        if len(tensor.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, tensor.shape, strict=True)):
            wanted = tuple("any" if n is None else n for n in shape)
            raise DataError(f"{self._path}: {found} has shape {tensor.shape}, by config.json it must be {wanted}")
        return np.asarray(tensor, np.float32)
