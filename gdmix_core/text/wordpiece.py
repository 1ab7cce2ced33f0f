"""Word pieces: not written yet."""

from __future__ import annotations

from typing import Any


class WordPieceTokenizer:
    def __init__(self, tokens: tuple[str, ...], max_tokens: int, lowercase: bool) -> None:
        raise NotImplementedError

    @property
    def table(self) -> Any:
        raise NotImplementedError

    def __call__(self, texts: Any) -> Any:
        raise NotImplementedError
