"""Each loss and its derivatives against their definitions, against difference quotients, and at delicate margins."""

from __future__ import annotations

import loss_formulas
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_formulas import LOSS_NAMES, LOSSES

from gdmix_core.solvers.losses import LOSS_OF_TASK, POISSON, SMOOTHED_HINGE, loss_terms, third_derivative

margins = st.floats(-30, 30)


def label_of(loss: str, number: float) -> float:
    """A label that the loss takes, from a number in [0, 1]."""
    return {"logistic": number, "linear": 20 * number - 10, "poisson": float(round(9 * number))}.get(
        loss, float(number > 0.5)
    )


@pytest.mark.parametrize("loss", LOSS_NAMES)
@given(z=st.one_of(margins, st.floats(-600, 250)), number=st.floats(0, 1))
def test_value_and_derivatives_are_those_of_the_definition(loss: str, z: float, number: float):
    y = label_of(loss, number)
    at, labels = np.array([z]), np.array([y])
    value, first, second = loss_terms(LOSSES[loss], z, y)
    # The terms of a difference may cancel: the error is relative to them.
    size = abs(y * z) + abs(y) + 1e-300
    assert value == pytest.approx(loss_formulas.value(loss, at, labels)[0], rel=1e-13, abs=1e-15 * size + 3e-16)
    assert first == pytest.approx(loss_formulas.first(loss, at, labels)[0], rel=1e-13, abs=1e-15 * size + 3e-16)
    assert second == pytest.approx(loss_formulas.second(loss, at, labels)[0], rel=1e-13, abs=1e-300)
    assert third_derivative(LOSSES[loss], z) == pytest.approx(loss_formulas.third(loss, at)[0], rel=1e-11, abs=1e-16)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@given(z=st.floats(-6, 6), number=st.floats(0, 1))
def test_each_derivative_is_the_slope_of_the_one_before(loss: str, z: float, number: float):
    y, step = label_of(loss, number), 1e-5
    if loss == "smoothed_hinge" and min(abs(z), abs(abs(z) - 1.0)) <= 2 * step:
        return  # the second derivative jumps there
    below, here, above = (loss_terms(LOSSES[loss], at, y) for at in (z - step, z, z + step))
    scale = 1.0 + np.exp(z) if loss == "poisson" else 10.0
    assert (above[0] - below[0]) / (2 * step) == pytest.approx(here[1], abs=2e-9 * scale * 10)
    assert (above[1] - below[1]) / (2 * step) == pytest.approx(here[2], abs=2e-9 * scale)
    assert (above[2] - below[2]) / (2 * step) == pytest.approx(third_derivative(LOSSES[loss], z), abs=2e-9 * scale)


@pytest.mark.parametrize("z", [299.0, 300.0, 301.0, 710.0, 1e6, 1e15])
@pytest.mark.parametrize("y", [0.0, 3.0, 1e6])
def test_poisson_does_not_overflow(z: float, y: float):
    value, first, second = loss_terms(POISSON, z, y)
    assert np.isfinite([value, first, second, third_derivative(POISSON, z)]).all()
    # Still so steep that a line search comes back, and no sum of a billion such rows overflows.
    assert first >= np.exp(298)
    assert second >= np.exp(298)
    assert max(abs(value), second) * 1e9 < np.inf


def test_poisson_vanishes_far_to_the_left():
    assert loss_terms(POISSON, -800.0, 0.0) == (0.0, 0.0, 0.0)
    assert loss_terms(POISSON, -800.0, 2.0) == (1600.0, -2.0, 0.0)


@pytest.mark.parametrize("z", [-1e300, -745.0, -40.0, 40.0, 745.0, 1e300])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_logistic_at_any_margin(z: float, y: float):
    value, first, second = loss_terms(LOSSES["logistic"], z, y)
    assert value == pytest.approx(abs(z) if (z > 0) != (y == 1) else 0.0, rel=1e-15, abs=1e-15)
    assert first == pytest.approx((z > 0) - y, abs=1e-15)
    assert 0.0 <= second <= np.exp(-39)
    assert abs(third_derivative(LOSSES["logistic"], z)) <= np.exp(-39)


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize(("t", "value", "slope"), [(0.0, 0.5, -1.0), (1.0, 0.0, 0.0)])
def test_the_hinges_pieces_meet_with_equal_slopes(y: float, t: float, value: float, slope: float):
    sign = 2 * y - 1
    for gap in (0.0, -1e-12, 1e-12):
        found = loss_terms(SMOOTHED_HINGE, sign * (t + gap), y)
        assert found[0] == pytest.approx(value, abs=2e-12)
        assert found[1] == pytest.approx(sign * slope, abs=2e-12)
        assert found[2] in (0.0, 1.0)
    inside = 1e-12 if t == 0.0 else -1e-12
    assert loss_terms(SMOOTHED_HINGE, sign * (t + inside), y)[2] == 1.0
    assert loss_terms(SMOOTHED_HINGE, sign * (t - inside), y)[2] == 0.0


def test_every_task_has_its_own_loss():
    from typing import get_args

    from gdmix_core.config.pipeline import TASKS_OF_CLASSES, Task

    assert set(LOSS_OF_TASK) == set(get_args(Task)) - set(TASKS_OF_CLASSES)
    assert sorted(LOSS_OF_TASK.values()) == sorted(LOSSES.values())
