"""BERT's tokenisation in plain Python, by its published description; the oracle for the one in TensorFlow."""

from __future__ import annotations

import unicodedata

CHINESE = [
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip


def basic_tokens(text: str, lowercase: bool) -> list[str]:
    spaced = ""
    for c in text:
        if c in "\t\n\r" or unicodedata.category(c) == "Zs":
            spaced += " "
        elif unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs") or c == "\ufffd":
            continue
        elif any(first <= ord(c) <= last for first, last in CHINESE):
            spaced += f" {c} "
        else:
            spaced += c
    tokens: list[str] = []
    for word in spaced.split(" "):
        if lowercase:
            word = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")
        piece = ""
        for c in word:
            mark = unicodedata.category(c).startswith("P") or (c.isascii() and not c.isalnum())
            if mark:
                tokens += [piece, c]
                piece = ""
            else:
                piece += c
        tokens.append(piece)
    return [token for token in tokens if token]


def word_pieces(word: str, vocabulary: set[str]) -> list[str]:
    if len(word) > 100:
        return ["[UNK]"]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def bert_ids(text: str, tokens: tuple[str, ...], max_tokens: int, lowercase: bool) -> list[int]:
    pieces = [piece for word in basic_tokens(text, lowercase) for piece in word_pieces(word, set(tokens))]
    return [tokens.index(token) for token in ["[CLS]", *pieces[: max_tokens - 2], "[SEP]"]]
