"""Against R's lme4 on real data: the same optimum at its variances, and its variances by l2: auto."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdmix_core.models.native import read_model
from gdmix_core.pipeline.plan import train_id
from tests.effects.lme4_reference import estimates, rows_of, train

pytestmark = pytest.mark.slow


# Fixed and random effects of verbagg's items explain the same rows, and trade them pass by pass.
@pytest.mark.parametrize(("model", "passes"), [("contraception", 8), ("verbagg", 14)])
def test_lme4s_variances_give_its_coefficients(shared_data: Path, tmp_path: Path, model: str, passes: int) -> None:
    expected = estimates(shared_data / "glmm", model, "agq0")
    l2 = {name: 1 / variance for name, variance in expected.variance.items()}
    run = train(tmp_path, rows_of(shared_data / "glmm", model), l2, passes)
    fixed = read_model(run.model(passes, "global", 0))
    np.testing.assert_allclose(fixed.means, expected.fixed, atol=1e-4, rtol=0)
    for name, known in expected.entities.items():
        found = read_model(run.model(passes, name, 0))
        assert set(found.entities.to_pylist()) == set(known)
        wanted = [known[entity] for entity in found.entities.to_pylist()]
        np.testing.assert_allclose(found.means, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", ["contraception", "verbagg"])
def test_automatic_l2_comes_near_lme4s_variances(shared_data: Path, tmp_path: Path, model: str) -> None:
    """agq1 is lme4's Laplace fit, of the same likelihood; what is left is said in docs/statistics.md."""
    passes = 12
    expected = estimates(shared_data / "glmm", model, "agq1")
    run = train(tmp_path, rows_of(shared_data / "glmm", model), dict.fromkeys(expected.variance, "auto"), passes)
    for name, variance in expected.variance.items():
        found = 1 / run.result(train_id(passes, name))["l2"]["next"]["intercept"]
        assert found == pytest.approx(variance, rel=0.05), name
