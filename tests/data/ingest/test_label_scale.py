"""Labels that float32 scores cannot resolve, and those that they can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data.ingest.label_scale import LabelScale

DAY = 86_400_000.0
RNG = np.random.default_rng(0)


def warned(label: np.ndarray, offset: np.ndarray | float = 0.0) -> str | None:
    return LabelScale.of(label, np.broadcast_to(offset, label.shape)).warning("time")


@pytest.mark.parametrize(
    ("label", "coarse"),
    [
        (1.7e12 + RNG.random(500) * DAY, True),  # milliseconds since 1970, within a day
        (1.7e9 + RNG.random(500) * 3600, True),  # seconds, within an hour: steps of 128 s
        (1.7e12 + RNG.random(500) * 3000 * DAY, False),  # eight years: steps of 131 s
        (1e30 + np.zeros(500), False),  # all the same: there is nothing to resolve
        (RNG.normal(size=500), False),
        (RNG.normal(size=500) * 1e-30, False),
        (RNG.normal(size=500) * 1e30, False),
        (2020.0 + RNG.integers(0, 5, 500), False),
        (np.array([0.0, 1e39]), True),  # beyond float32
        (np.empty(0), False),
    ],
)
def test_where_it_matters(label: np.ndarray, coarse: bool):
    assert (warned(label) is not None) == coarse


def test_it_says_what_to_do():
    text = warned(1.7e12 + RNG.random(500) * DAY)
    assert "column time goes up to 1.7" in text
    assert "steps of 1.311e+05" in text
    assert "Subtract the mean (17000" in text


def test_an_offset_takes_the_size_away():
    label = 1.7e12 + RNG.random(500) * DAY
    assert warned(label, 1.7e12) is None
    assert warned(label - 1.7e12) is None
    assert warned(label - 1.7e12, -1.7e12) is not None


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=6), max_size=6))
def test_blocks_add_up(blocks: list):
    whole = LabelScale.of(np.concatenate([np.empty(0), *map(np.array, blocks)]), np.float64(0))
    parts = LabelScale.together(
        LabelScale(**LabelScale.of(np.array(b, float), np.float64(0)).as_json()) for b in blocks
    )
    assert parts.count == whole.count
    assert parts.largest == whole.largest
    assert parts.mean == pytest.approx(whole.mean, abs=1e-9)
    assert parts.spread == pytest.approx(whole.spread, rel=1e-6, abs=1e-6)


def test_the_step_is_that_of_float32():
    """Halfway to the next number rounds to one of the two, a little more to the next."""
    scale = LabelScale(2, 0.0, 1.0, 1.7e12)
    at = np.float32(1.7e12)
    assert np.float32(float(at) + 0.51 * scale.step) > at
    assert np.float32(float(at) + 0.49 * scale.step) == at
