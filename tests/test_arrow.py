"""Arrow without pandas, where pandas is installed: it is not imported, and whoever wants it still has it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("pandas")


def output_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pandas_is_not_imported() -> None:
    code = """
import sys
from gdmix_core.arrow import look_for_no_pandas
look_for_no_pandas()
import numpy as np, pyarrow as pa
column = pa.chunked_array([pa.array(np.arange(3)), pa.array([1, None])])
print(column.to_numpy().tolist(), pa.scalar(np.int64(3)).as_py(), "pandas" in sys.modules)
import pandas
print(pandas.DataFrame({"a": [1]}).shape, pa.table({"a": [1, 2]}).to_pandas().a.tolist())
"""
    assert output_of(code).splitlines() == ["[0.0, 1.0, 2.0, 1.0, nan] 3 False", "(1, 1) [1, 2]"]


def test_where_it_is_loaded_arrow_knows_it() -> None:
    code = """
import pandas
from gdmix_core.arrow import look_for_no_pandas
look_for_no_pandas()
import pyarrow
print(pyarrow.array(pandas.Series(["x"], dtype="category")).type)
"""
    assert output_of(code).startswith("dictionary<")
