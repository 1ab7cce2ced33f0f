"""A translated configuration as text: the notes as comments, then the YAML."""

from __future__ import annotations

import textwrap

import yaml

from gdmix_core.migration.notes import HEADINGS, Translation

_WIDTH = 118


def render_yaml(result: Translation, source: str) -> str:
    """Valid YAML; source: what it was translated from."""
    lines = [*_comment(f"Translated from {source} by `gdmix config import`.", "# ", "# "), "#"]
    for kind, heading in HEADINGS.items():
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
    """The text on lines of one width; whatever line breaks it has are gone."""
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
