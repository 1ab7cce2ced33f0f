"""A translated configuration with its notes: which settings mean something else here, and which have no counterpart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from gdmix_core.migration.names import number

NoteKind = Literal["changed", "ignored", "check"]

_HEADINGS: dict[NoteKind, str] = {
    "check": "To be looked at before the first run",
    "changed": "What means something else here",
    "ignored": "What has no counterpart here",
}
_WIDTH = 118


@dataclass
class Translation:
    """A pipeline's YAML as plain data, and the notes on it: (kind, key of the original, text)."""

    content: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[NoteKind, str, str]] = field(default_factory=list)

    def note(self, kind: NoteKind, key: str, text: str) -> None:
        """Note this once, however many coordinates give rise to it."""
        if (kind, key, text) not in self.notes:
            self.notes.append((kind, key, text))

    def check(self, key: str, text: str) -> None:
        self.note("check", key, text)

    def changed(self, key: str, text: str) -> None:
        self.note("changed", key, text)

    def ignored(self, key: str, text: str) -> None:
        self.note("ignored", key, text)

    def renamed(self, names: Mapping[str, str]) -> None:
        """Note the coordinates that have another name here."""
        for old, new in names.items():
            if old != new:
                self.changed(old, f"the coordinate is called {new}: names have letters, digits and underscores")


@dataclass(frozen=True)
class Section:
    """A part of the original with settings of its own, whose notes name its keys."""

    name: str
    settings: Mapping[str, Any]
    result: Translation

    def get(self, key: str, default: Any = None) -> Any:
        return self.settings.get(key, default)

    def number(self, key: str, default: float | None = None) -> float:
        return number(self.get(key, default), f"{self.name}.{key}")

    def check(self, key: str, text: str) -> None:
        self.result.check(f"{self.name}.{key}", text)

    def changed(self, key: str, text: str) -> None:
        self.result.changed(f"{self.name}.{key}", text)


def render_yaml(result: Translation, source: str) -> str:
    """Write the notes as comments, then valid YAML; source: what it was translated from."""
    lines = [*_comment(f"Translated from {source} by `gdmix config import`.", "# ", "# "), "#"]
    for kind, heading in _HEADINGS.items():
        found = [(key, text) for noted, key, text in result.notes if noted == kind]
        if not found:
            continue
        lines.append(f"# {heading}:")
        for key, text in found:
            lines += _comment(f"{key}: {text}", "# - ", "#   ")
        lines.append("#")
    body = yaml.safe_dump(result.content, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return "\n".join(lines) + "\n" + body


def _comment(text: str, first: str, further: str) -> list[str]:
    """Break the text into lines of one width; whatever line breaks it has are gone."""
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
