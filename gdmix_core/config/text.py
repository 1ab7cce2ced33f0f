"""A fixed effect that is a text network: text and id fields, wide features, and how the network is trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from gdmix_core.config.effect import EffectSettings
from gdmix_core.config.model import Model, Names, Path, chosen_by, known, one_or_list, refuse_without_effect, short_for

Interaction = Literal["cosine", "dot", "hadamard", "difference", "concat"]
Activation = Literal["tanh", "relu", "gelu"]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class Vocabulary(Model):
    """The tokens the network knows; built from the training data unless a file is given."""

    tokenizer: Literal["words", "wordpiece"] = Field(
        default="words", description="wordpiece needs a vocabulary file, or a transformer's folder that has one."
    )
    file: Path | None = Field(
        default=None, description="A token a line. Default: the most frequent of the training data."
    )
    size: int = Field(default=20_000, ge=1, description="Tokens at most, when built from the training data.")
    min_count: int = Field(default=1, ge=1, description="Occurrences a token needs, when built from the training data.")
    lowercase: bool = True

    @model_validator(mode="after")
    def _pieces_from_a_file(self) -> Vocabulary:
        if self.file is not None and not self.file.strip():
            raise ValueError("file must be the path of a vocabulary, or left out")
        return self


class CnnEncoder(Model):
    """Convolutions over windows of words, the largest response of each filter; filters of their own for each field."""

    type: Literal["cnn"] = "cnn"
    windows: list[Annotated[int, Field(ge=1, le=32)]] = Field(default=[1, 2, 3], min_length=1)
    filters: int = Field(default=50, ge=1, description="Filters of each window size.")


class RecurrentEncoder(Model):
    """Stacked recurrent layers, their last state; one encoder for all fields."""

    type: Literal["lstm", "gru"]
    layers: int = Field(default=1, ge=1, le=16)
    bidirectional: bool = False
    dropout: Dropout = 0.0


class TransformerEncoder(Model):
    """A transformer encoder (BERT); one for all fields, which are encoded independently of each other."""

    type: Literal["transformer"]
    path: Path | None = Field(
        default=None,
        description="Local folder of a pretrained one: Hugging Face (config.json, model.safetensors, vocab.txt) or "
        "Keras (model.keras, vocab.txt). Without it a new one is trained.",
    )
    layers: int = Field(default=2, ge=1, le=48)
    heads: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=1, description="Of the hidden vectors; a multiple of heads.")
    feed_forward: int = Field(default=256, ge=1)
    dropout: Dropout = 0.1
    pooling: Literal["first", "mean"] = Field(default="first", description="first: the vector of [CLS].")

    @model_validator(mode="after")
    def _divisible(self) -> TransformerEncoder:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if self.path is not None:
            shape = ("layers", "heads", "width", "feed_forward")
            refuse_without_effect(self, shape, "beside path: the encoder there has its own; leave it out")
        return self


_TAGS = {"cnn": "[cnn]", "lstm": "[recurrent]", "gru": "[recurrent]", "transformer": "[transformer]"}
Encoder = Annotated[
    Annotated[CnnEncoder, Tag("[cnn]")]
    | Annotated[RecurrentEncoder, Tag("[recurrent]")]
    | Annotated[TransformerEncoder, Tag("[transformer]")],
    chosen_by("type", "cnn", _TAGS),
    known("type", "cnn", _TAGS),
]


class Optimizer(Model):
    """The optimizer that finds the weights."""

    name: Literal["adamw", "lamb", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    encoder_learning_rate: float | None = Field(
        default=None, ge=0, description="Of the encoder's weights; default the same; 0 leaves them as they are."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="adamw, lamb: of all but biases and normalisations.")
    gradient_norm: float = Field(default=1.0, ge=0, description="Global norm gradients are clipped to; 0: no clipping.")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
    decay: Literal["linear", "cosine", "none"] = Field(default="linear", description="Of the rate, to 0 at the end.")

    @model_validator(mode="after")
    def _effective(self) -> Optimizer:
        if self.name in ("adam", "sgd") and self.weight_decay:
            refuse_without_effect(self, ["weight_decay"], f"with {self.name}; use adamw or lamb, or leave it out")
        return self


class TextModel(EffectSettings):
    """A network over text, id fields and wide features, which scores a row.

    Text and id fields are columns of the input that hold a string (or integer); ids are separated by blanks. Bags are
    named as in the input. The wide features also enter the score linearly, beside the network.
    """

    kind: ClassVar[str] = "text"
    training: ClassVar[str] = "train_text"
    is_network: ClassVar[bool] = True
    gives_classes: ClassVar[bool] = True
    uses_metric: ClassVar[bool] = True
    reads_files: ClassVar[bool] = True
    execution_keys: ClassVar[tuple[str, ...]] = ("restarts", "tensorboard")

    model: Literal["text"]
    document: Names = Field(default=[], description="Text columns of what is scored, such as its title.")
    query: str | None = Field(default=None, description="Text column of what was searched for; a further user field.")
    user: Names = Field(default=[], description="Text columns of whom it is scored for.")
    document_ids: Names = Field(default=[], description="Columns of ids of what is scored, embedded, their mean.")
    user_ids: Names = Field(default=[], description="Columns of ids of whom it is scored for.")
    dense: Names = Field(default=[], description="Bags of few features, as dense vectors into the network.")
    sparse: Names = Field(default=[], description="Bags of many features, embedded and summed, into the network.")
    linear: Names | None = Field(
        default=None, description="Bags that enter the score linearly as well; default all of dense and sparse."
    )

    vocabulary: Vocabulary = Vocabulary()
    max_tokens: int = Field(default=32, ge=1, le=4096, description="Tokens of a field; what is beyond is cut off.")
    embedding: int = Field(default=64, ge=1, description="Size of a word's vector (cnn, lstm, gru).")
    encoder: Annotated[Encoder, short_for("type", str | Encoder)] = CnnEncoder()
    units: int = Field(default=64, ge=1, description="Size of a field's vector.")
    id_embedding: int = Field(default=32, ge=1, description="Size of an id's vector.")
    sparse_embedding: int = Field(default=8, ge=1, description="Size of the vector of a sparse bag.")
    combine_fields: bool = Field(
        default=False, description="One vector of all document fields, one of all user fields."
    )
    interactions: Annotated[list[Interaction], one_or_list(str | int | list[str] | list[int])] = Field(
        default=["cosine", "hadamard"],
        min_length=1,
        description="Between each user field and each document field; without user fields the documents' vectors.",
    )
    hidden: Annotated[list[Annotated[int, Field(ge=1)]], one_or_list(str | int | list[str] | list[int])] = Field(
        default=[64], description="Sizes of the hidden layers."
    )
    activation: Activation = "relu"
    dropout: Dropout = 0.1

    loss: Literal["pointwise", "pairwise", "listwise"] = Field(
        default="pointwise",
        description="pointwise: the task's loss, which random effects need. Others rank in a group.",
    )
    group: str | None = Field(default=None, description="Column whose rows are ranked together, such as a search.")
    batch: int = Field(default=256, ge=1, description="Rows of a step, of all workers together.")
    epochs: int = Field(default=10, ge=1)
    evaluations: int = Field(default=1, ge=1, description="Validations within an epoch, each also a checkpoint.")
    patience: int = Field(default=2, ge=1, description="Validations without a better primary metric, then it stops.")
    optimizer: Annotated[Optimizer, short_for("name", str | Optimizer)] = Optimizer()
    warm_start: bool = Field(
        default=True, description="Start from the weights of the pass before, in the first from initial_model's."
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="auto", description="auto: mixed_float16 on a GPU, else float32."
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    tensorboard: bool = Field(default=True, description="Write summaries for TensorBoard.")

    workers: int = Field(default=1, ge=1, le=1024)
    mode: Literal["synchronous", "parameter_server"] = Field(
        default="synchronous", description="parameter_server: workers do not wait for each other."
    )
    parameter_servers: int = Field(default=1, ge=1, le=1024, description="mode parameter_server: so many hold weights.")
    restarts: int = Field(default=2, ge=0, description="Restarts from the last checkpoint after a worker died.")

    @model_validator(mode="after")
    def _something_to_read(self) -> TextModel:
        names = [*self.fields, *self.bags]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{twice[0]} stands in two of document, query, user, document_ids, user_ids, dense, sparse"
            )
        if not self.fields:
            raise ValueError("has no text and no id field; a model of wide features alone is fixed_effect: {}")
        if (self.query or self.user or self.user_ids) and not (self.document or self.document_ids):
            raise ValueError("has fields of the user alone; what is scored needs document or document_ids")
        unknown = sorted(set(self.linear or []) - set(self.bags))
        if unknown:
            raise ValueError(f"linear names {unknown[0]}, which is neither in dense nor in sparse")
        return self

    @model_validator(mode="after")
    def _trainable(self) -> TextModel:
        if (self.loss == "pointwise") != (self.group is None):
            raise ValueError(
                f"loss {self.loss} ranks the rows of a group: name its column in group"
                if self.group is None
                else "group is for loss pairwise or listwise"
            )
        if self.mode == "parameter_server" and self.loss != "pointwise":
            raise ValueError(f"mode parameter_server goes with loss pointwise alone, not {self.loss}")
        pretrained = isinstance(self.encoder, TransformerEncoder) and self.encoder.path is not None
        if self.vocabulary.tokenizer == "wordpiece" and self.vocabulary.file is None and not pretrained:
            raise ValueError("vocabulary.tokenizer: wordpiece needs vocabulary.file, or encoder.path with a vocab.txt")
        return self

    @model_validator(mode="after")
    def _effective(self) -> TextModel:
        if self.mode == "synchronous":
            servers = "with mode: synchronous; set mode: parameter_server, or leave it out"
            refuse_without_effect(self, ["parameter_servers"], servers)
        if self.vocabulary.file is not None:
            counted = "beside vocabulary.file, whose tokens are all taken; leave one of them out"
            refuse_without_effect(self.vocabulary, ["size", "min_count"], counted, "vocabulary.")
        elif isinstance(self.encoder, TransformerEncoder) and self.encoder.path is not None:
            counted = "beside encoder.path, where the vocabulary is that of the folder; leave it out"
            refuse_without_effect(self.vocabulary, ["size", "min_count"], counted, "vocabulary.")
        # Not embedding under a transformer: with all else as it is, another encoder can be tried.
        for there, keys, what in (
            (self.text_fields, ["encoder", "vocabulary"], "text in document, query or user"),
            (self.id_fields, ["id_embedding"], "column in document_ids or user_ids"),
            (self.sparse, ["sparse_embedding"], "bag in sparse"),
            (self.user_fields, ["interactions"], "field of the user (query, user, user_ids) to meet the document's"),
            (self.hidden, ["activation"], "hidden layer"),
        ):
            if not there:
                refuse_without_effect(self, keys, f"without any {what}; leave it out")
        return self

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The text columns: documents first, then query and user."""
        return (*self.document, *([self.query] if self.query else []), *self.user)

    @property
    def id_fields(self) -> tuple[str, ...]:
        return (*self.document_ids, *self.user_ids)

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns with text or ids."""
        return (*self.text_fields, *self.id_fields)

    @property
    def document_fields(self) -> tuple[str, ...]:
        """Columns with text or ids of what is scored."""
        return (*self.document, *self.document_ids)

    @property
    def user_fields(self) -> tuple[str, ...]:
        """Columns with text or ids of whom it is scored for."""
        return (*([self.query] if self.query else []), *self.user, *self.user_ids)

    @property
    def bags(self) -> tuple[str, ...]:
        return (*self.dense, *self.sparse)

    @property
    def starts_from_initial(self) -> bool:
        return self.warm_start

    @property
    def read_bags(self) -> tuple[str, ...]:
        return self.bags

    @property
    def read_columns(self) -> tuple[str, ...]:
        return self.fields

    @property
    def ranked_within(self) -> str | None:
        return self.group

    @property
    def linear_bags(self) -> tuple[str, ...]:
        return self.bags if self.linear is None else tuple(self.linear)
