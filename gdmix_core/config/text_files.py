"""The files a text network is given: a vocabulary, and the folder of a pretrained encoder. Read without TensorFlow, so
that a run can check them before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gdmix_core import storage
from gdmix_core.config.bert_shape import read_bert_shape
from gdmix_core.config.text import TextModel, TransformerEncoder, Vocabulary
from gdmix_core.errors import ConfigError, DataError, GdmixError

KERAS_FILE = "model.keras"
VOCABULARY_FILE = "vocab.txt"
# The files that are read of a folder as Hugging Face lays it out; the last one may be absent.
_BERT_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")


def encoder_folder(settings: TextModel) -> str | None:
    """Return the folder of the pretrained encoder, None without one."""
    return settings.encoder.path if isinstance(settings.encoder, TransformerEncoder) else None


def vocabulary_path(settings: TextModel) -> str | None:
    """Return the path of the tokens of text fields; None: they are counted in the training data."""
    if settings.vocabulary.file is not None:
        return settings.vocabulary.file
    folder = encoder_folder(settings)
    return None if folder is None else storage.join(folder, VOCABULARY_FILE)


def is_keras_folder(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, KERAS_FILE))


def encoder_files(folder: str) -> list[str]:
    """Return the files of an encoder's folder that are read, beside the vocabulary; not all of them need be there."""
    names = (KERAS_FILE,) if is_keras_folder(folder) else _BERT_FILES
    return [os.path.join(folder, name) for name in names]


def read_vocabulary(path: str) -> tuple[str, ...]:
    """Read the tokens of a file, one a line.

    Raises DataError when it is missing, empty, not UTF-8, or has a token twice.
    """
    with storage.open_for_read(path) as file:
        content = file.read()
    try:
        lines = [line.removesuffix("\r") for line in content.decode("utf-8-sig").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(f"vocabulary {path}: not UTF-8 ({error}); save it as UTF-8, one token a line") from None
    if lines == [""]:
        raise DataError(f"vocabulary {path} is empty; it must hold one token a line")
    first_line: dict[str, int] = {}
    for number, token in enumerate(lines, 1):
        if not token:
            raise DataError(f"vocabulary {path}: line {number} is empty; take it out")
        if first_line.setdefault(token, number) != number:
            raise DataError(f"vocabulary {path}: {token!r} stands in lines {first_line[token]} and {number}; keep one")
    return tuple(lines)


def check_word_pieces(tokens: tuple[str, ...]) -> None:
    """Raise DataError when a vocabulary of word pieces lacks a special token, or does not start with [PAD]."""
    if not tokens or tokens[0] != "[PAD]":
        raise DataError("the vocabulary of word pieces must have [PAD] in its first line: padding has the id 0")
    for special in ("[UNK]", "[CLS]", "[SEP]"):
        if special not in tokens:
            raise DataError(f"the vocabulary of word pieces lacks {special}; give the vocab.txt of a BERT model")


def check_reads_word_pieces(folder: str, vocabulary: Vocabulary) -> None:
    """Raise ConfigError where a BERT model would be given words."""
    if vocabulary.tokenizer == "words":
        raise ConfigError(f"{folder} is a BERT model, which reads word pieces: set vocabulary.tokenizer: wordpiece")


def faults_of_text_files(settings: TextModel) -> Iterator[tuple[str, str]]:
    """Yield (key below fixed_effect, what is wrong with what it names), as it shows without loading a model."""
    folder = encoder_folder(settings)
    own = settings.vocabulary.file is not None
    if folder is not None and not os.path.isdir(folder):
        yield "encoder.path", f"{folder}: no such folder; put the encoder there, on every machine that trains"
        folder = None
        if not own:
            return
    tokens: tuple[str, ...] = ()
    try:
        tokens = read_vocabulary(str(vocabulary_path(settings))) if own or folder else ()
        if tokens and settings.vocabulary.tokenizer == "wordpiece":
            check_word_pieces(tokens)
    except (GdmixError, PermissionError) as error:
        advice = "put it there, on every machine that trains" if own else "put it there, or name one in vocabulary.file"
        absent = not storage.exists(str(vocabulary_path(settings)))
        yield "vocabulary.file" if own else "encoder.path", f"{error}; {advice}" if absent else str(error)
    if folder is None or is_keras_folder(folder):
        return
    lacking = [path for path in encoder_files(folder)[:2] if not os.path.exists(path)]
    if lacking:
        names = " and ".join(map(os.path.basename, lacking))
        yield (
            "encoder.path",
            f"{folder}: no {names}; an encoder's folder holds config.json and model.safetensors (Hugging Face's "
            f"save_pretrained), or {KERAS_FILE}, and {VOCABULARY_FILE}",
        )
        return
    try:
        check_reads_word_pieces(folder, settings.vocabulary)
        read_bert_shape(folder, len(tokens), settings.max_tokens, settings.vocabulary.lowercase)
    except GdmixError as error:
        yield "encoder.path", str(error)
