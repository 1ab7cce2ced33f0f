"""Every kind of effect has the same doors, and nobody but its own folder asks which kind it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdmix_core.config.coordinate import KINDS
from gdmix_core.effects.effect import Effect, effect_of

ROOT = Path(__file__).resolve().parents[2]
# Who may know a kind: its own rooms, the union of the configuration, the translations of other systems' configurations,
# and the names of the operators.
KNOWING = re.compile(
    r"gdmix_core/(effects/(linear|random|text|external|python)/|text/|config/|migration/|samples/|data/ingest/external_scores)|"
    r"plugins/gdmix_operators/(factory|__init__)\.py"
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_its_doors(kind: str):
    effect = effect_of(kind)
    settings = KINDS[kind]
    made = {name for name in vars(Effect) if getattr(type(effect), name) is not getattr(Effect, name, None)}
    assert {"train", "export", "outcome"} <= made
    assert made & {"scorer", "_scorer"}
    assert ("use_initial" in made) == (settings.has_coefficients or settings.is_network)
    assert ("initial_scores" in made) == settings.has_coefficients
    assert ("files" in made) == settings.reads_files


def test_nobody_else_asks_for_the_kind():
    asks = re.compile(
        r"\.kind (==|in|!=) |isinstance\([^)]*\b(TextModel|ExternalModel|PythonModel|FixedEffect)\b|train_(fixed|text|"
        r"external|python|random)\b"
    )
    steps = re.compile(
        r"\b(step|earlier|entry|field|piece|e|f|tensor|self|feature)\.kind|dtype\.kind|\]\.kind == \"trials\""
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("gdmix_core", "plugins", "spark_jobs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not KNOWING.match(str(path.relative_to(ROOT)))
        for line in path.read_text().splitlines()
        if asks.search(line) and not steps.search(line)
    ]
    assert found == []
