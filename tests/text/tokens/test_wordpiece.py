"""Word pieces in TensorFlow against BERT's algorithm in plain Python."""

from __future__ import annotations

import functools

import pytest
import tensorflow as tf
from bert_reference import basic_tokens, bert_ids
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdmix_core.errors import DataError
from gdmix_core.text.tokens.wordpiece import WordPieceTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = tuple("abcdeinostuABé.,!?-'$中ßςσ")
TOKENS = (
    *SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS if c not in "be"), "ab", "##bc", "##cab", "abc", "token",
    "##ization", "##ize", "un", "##token", "São", "sao", "한", "ᄒ", "##ᅡ", "##ᆫ",
)  # fmt: skip
MAX_TOKENS = 9

words = st.lists(st.sampled_from([*LETTERS, *"  ", "ab", "abc", "un", "token", "ization", "ÀÉ", "한"]), max_size=8)
texts = st.one_of(words.map("".join), st.text(max_size=12))


@functools.cache
def tokenizer(lowercase: bool) -> WordPieceTokenizer:
    return WordPieceTokenizer(TOKENS, MAX_TOKENS, lowercase)


def known_alike(text: str) -> bool:
    """Python and TensorFlow have different versions of Unicode; and in lower case ICU keeps the dot of İ apart."""
    return all(len(c.lower()) == 1 and 0 < ord(c) < 0x1E900 and c.isprintable() | c.isspace() for c in text)


@settings(max_examples=60)
@given(st.lists(texts.filter(known_alike), min_size=1, max_size=6), st.booleans())
@example(["untokenization unTokenXize", "", "   ", "São Tomé!? l'été", "中ab中", "a" * 101, "tab\tnew\nline"], True)
@example(["한국 Σας", "ab\u0301c \u0301 a\u200bb \ufffd", "[SEP] [CLS]"], True)
@example(["São SAO abcabcab"], False)
def test_pieces_are_those_of_bert(batch: list[str], lowercase: bool) -> None:
    found = tokenizer(lowercase)(tf.constant(batch)).numpy().tolist()
    for text, ids in zip(batch, found, strict=True):
        expected = bert_ids(text, TOKENS, MAX_TOKENS, lowercase)
        assert ids == expected + [0] * (len(ids) - len(expected)), text


def test_the_longest_piece_wins_and_an_unmatched_word_is_unknown() -> None:
    ids = tokenizer(True)(tf.constant(["abca", "tokenization", "abcab"])).numpy()
    assert [[TOKENS[i] for i in row if i] for row in ids] == [
        ["[CLS]", "abc", "##a", "[SEP]"],
        ["[CLS]", "token", "##ization", "[SEP]"],
        ["[CLS]", "[UNK]", "[SEP]"],  # abc comes first, though ab and ##cab would do
    ]


def test_no_text_at_all() -> None:
    assert tokenizer(True)(tf.constant([], tf.string)).shape[0] == 0


def test_what_is_not_utf8_is_left_out() -> None:
    assert tokenizer(False)(tf.constant([b"a\xff"])).numpy().tolist() == [[2, TOKENS.index("a"), 3]]


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]"])
def test_a_special_token_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(DataError, match=rf"lacks \[{missing[1:-1]}\]"):
        WordPieceTokenizer(tuple(token for token in TOKENS if token != missing), 9, True)


def test_padding_must_have_the_id_zero() -> None:
    with pytest.raises(DataError, match="first line"):
        WordPieceTokenizer(TOKENS[1:], 9, True)


def test_the_oracle_splits_as_bert_is_documented_to() -> None:
    assert basic_tokens("John Johanson's, Café中", True) == ["john", "johanson", "'", "s", ",", "cafe", "中"]
