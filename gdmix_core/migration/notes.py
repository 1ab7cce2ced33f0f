"""What a translated configuration has to tell: which settings mean something else here, and which went nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

NoteKind = Literal["changed", "ignored", "check"]

HEADINGS: dict[NoteKind, str] = {
    "check": "To be looked at before the first run",
    "changed": "What means something else here",
    "ignored": "What has no counterpart here",
}


@dataclass
class Translation:
    """A pipeline's YAML as plain data, and the notes on it: (kind, key of the original, text)."""

    content: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[NoteKind, str, str]] = field(default_factory=list)

    def note(self, kind: NoteKind, key: str, text: str) -> None:
        """Each note stands once, however many coordinates give rise to it."""
        if (kind, key, text) not in self.notes:
            self.notes.append((kind, key, text))

    def check(self, key: str, text: str) -> None:
        self.note("check", key, text)

    def changed(self, key: str, text: str) -> None:
        self.note("changed", key, text)

    def ignored(self, key: str, text: str) -> None:
        self.note("ignored", key, text)
