"""Vocabularies from data and files; words are split as the tokenizer splits them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.config.text import Vocabulary
from gdmix_core.errors import DataError
from gdmix_core.text.tokens.tokenizer import id_tokenizer, split_words, standardized, word_tokenizer
from gdmix_core.text.tokens.vocabulary import TokenCounter, given_tokens, read_vocabulary
from tests.text.text_model import text_model

texts = st.lists(st.text(st.sampled_from("aAbBäÄß1 \t\u00a0-’'.,$中"), max_size=12), max_size=6)


def tokens_of(lists: list[list[str]], settings: Vocabulary | None = None, ids: bool = False) -> tuple[str, ...]:
    counter = TokenCounter(settings or Vocabulary(), ids)
    for texts in lists:
        counter.add(texts, np.ones(len(texts), np.int64))
    return counter.tokens()


def test_the_most_frequent_come_first_and_equals_by_their_text() -> None:
    counter = TokenCounter(Vocabulary())
    counter.add(["The cat", "a dog", "the Ärger"], np.array([1, 3, 1]))
    counter.add(pa.array(["cat’s ärger", ""]), np.array([2, 9]))
    assert counter.tokens() == ("a", "dog", "ärger", "cats", "the", "cat")
    assert tokens_of([]) == ()


def test_size_and_least_count_hold_for_words_and_not_for_ids() -> None:
    settings = Vocabulary(size=2, min_count=2)
    lists = [["a b c", "a b c d", "a-b a"]]
    assert tokens_of(lists, settings) == ("a", "b")
    assert tokens_of(lists, settings, ids=True) == ("a", "b", "c", "a-b", "d")


def test_ids_are_split_at_blanks_alone_and_keep_their_case() -> None:
    assert tokens_of([["U-1 u-1", "U-1\tx.Y"]], ids=True) == ("U-1", "u-1", "x.Y")
    ids = id_tokenizer(("U-1", "x.Y"), 3)(tf.constant(["x.Y U-1", "u-1", "", "U-1 U-1 U-1 x.Y"]))
    assert ids.numpy().tolist() == [[3, 2, 0], [1, 0, 0], [0, 0, 0], [2, 2, 2]]


@given(texts, st.integers(0, 3), st.booleans())
def test_blocks_do_not_matter_and_counts_are_those_of_python(texts: list[str], cut: int, lowercase: bool) -> None:
    settings = Vocabulary(lowercase=lowercase)
    together = tokens_of([texts], settings)
    assert tokens_of([texts[:cut], texts[cut:]], settings) == together
    counts: Counter[str] = Counter()
    for text in texts:
        for mark in "’'":
            text = text.replace(mark, "")
        for mark in "-.,$\u00a0":
            text = text.replace(mark, " ")
        counts.update((text.lower() if lowercase else text).split())
    assert together == tuple(sorted(counts, key=lambda word: (-counts[word], word.encode())))


@given(texts.filter(bool), st.booleans())
def test_the_tokenizer_knows_every_word_that_was_counted(texts: list[str], lowercase: bool) -> None:
    tokens = tokens_of([texts], Vocabulary(lowercase=lowercase))
    found = word_tokenizer(tokens, 20, lowercase)(tf.constant(texts)).numpy()
    words = split_words(tf.constant(texts), lowercase).to_list()
    for row, of_text in zip(found.tolist(), words, strict=True):
        assert [tokens[i - 2] for i in row if i] == [word.decode() for word in of_text]
        assert 1 not in row


@given(texts.filter(bool), st.booleans())
def test_ids_are_those_of_keras_text_vectorization(texts: list[str], lowercase: bool) -> None:
    layer = keras.layers.TextVectorization(
        standardize=lambda strings: standardized(strings, lowercase), output_sequence_length=3, vocabulary=["a", "ba"]
    )
    found = word_tokenizer(("a", "ba"), 3, lowercase)(tf.constant(texts)).numpy()
    np.testing.assert_array_equal(found, layer(tf.constant(texts)).numpy())


def test_words_are_numbered_after_padding_and_unknown_and_cut_off() -> None:
    tokenizer = word_tokenizer(("star", "wars"), 3, lowercase=True)
    found = tokenizer(tf.constant(["WARS: star!", "", "star trek star wars"]))
    assert found.dtype == tf.int32
    assert found.numpy().tolist() == [[3, 2, 0], [0, 0, 0], [2, 1, 2]]
    assert word_tokenizer((), 2, lowercase=True)(tf.constant(["star"])).numpy().tolist() == [[1, 0]]


def test_without_lowercase_case_counts() -> None:
    tokenizer = word_tokenizer(("Star", "star"), 2, lowercase=False)
    assert tokenizer(tf.constant(["star Star"])).numpy().tolist() == [[3, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "'a' stands in lines 1 and 3"),
        (b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_vocabulary(str(path))


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("b\r\n##ä\r\n \r\nC".encode())
    assert read_vocabulary(str(path)) == ("b", "##ä", " ", "C")
    assert given_tokens(text_model(vocabulary={"file": str(path)})) == ("b", "##ä", " ", "C")
    assert given_tokens(text_model(encoder={"type": "transformer", "path": str(tmp_path)})) == ("b", "##ä", " ", "C")
    assert given_tokens(text_model()) is None
    with pytest.raises(DataError, match="no such file"):
        read_vocabulary(str(tmp_path / "none.txt"))
