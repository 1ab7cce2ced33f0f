"""l2: auto of a linear model, whose noise has a variance of its own: against the closed form of a balanced layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdmix_core.execution import dispatch
from gdmix_core.pipeline.plan import train_id
from tests.run_directory import Rows, make_run

ENTITIES, ROWS = 80, 6
PASSES = 15


@pytest.mark.parametrize("noise", [0.05, 3.0])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_maximum_likelihood_of_a_balanced_one_way_layout(tmp_path: Path, noise: float, scale: float) -> None:
    """ML: σ_e² = SSW / (E (k − 1)),  σ_a² = (SSB / E − σ_e²) / k; λ is their ratio, whatever the label's unit."""
    rng = np.random.default_rng(3)
    entity = np.repeat(np.arange(ENTITIES), ROWS)
    y = scale * (5.0 + rng.normal(0, 2.0, ENTITIES)[entity] + rng.normal(0, noise, ENTITIES * ROWS))
    config = {
        "task": "linear_regression",
        "coordinates": {
            "global": {"fixed_effect": {"tolerance": 1e-12}, "l2": 0.0},
            "per_entity": {"random_effect": {"entity": "e"}, "l2": "auto"},
        },
        "passes": {"max": PASSES},
    }
    run = make_run(tmp_path, config, Rows(label=y, ids={"e": entity}))
    for step in run.plan.steps:
        if step.kind in ("train_fixed", "train_random", "evaluate", "accelerate"):
            dispatch.execute(run, step)

    means = y.reshape(ENTITIES, ROWS).mean(axis=1)
    within = np.sum((y - means[entity]) ** 2) / (ENTITIES * (ROWS - 1))
    between = (ROWS * np.sum((means - means.mean()) ** 2) / ENTITIES - within) / ROWS
    found = run.result(train_id(PASSES, "per_entity"))["l2"]["next"]["intercept"]
    # The mean of all entities is known to 1/E of their variance, which maximum likelihood leaves out too.
    assert found == pytest.approx(within / between, rel=0.01)
