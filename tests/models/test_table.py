"""The coefficient table refuses parts that do not fit together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gdmix_core.models.table import CoefficientTable


def table(offsets: list[int], features: int = 2, means: int = 2, variances: int | None = None) -> CoefficientTable:
    return CoefficientTable(
        pa.array(["a", "b"]),
        np.array(offsets, dtype=np.int64),
        np.arange(features, dtype=np.int32),
        np.zeros(means),
        None if variances is None else np.zeros(variances),
    )


def test_length_is_the_number_of_entities() -> None:
    assert len(table([0, 0, 2], variances=2)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": [0, 2]}, "2 entities need one more offset, not 2"),
        ({"offsets": [1, 1, 2]}, "offsets span 1 to 2, not 0 to 2 entries"),
        ({"offsets": [0, 1, 3]}, "offsets span 0 to 3, not 0 to 2 entries"),
        ({"offsets": [0, 1, 2], "means": 3}, "differ in length"),
        ({"offsets": [0, 1, 2], "variances": 1}, "differ in length"),
    ],
)
def test_misfits_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(**arguments)
