"""Arrow without pandas, in processes that work with Arrow alone.

Where pandas is installed, Arrow imports it at the first value that it makes or hands to NumPy, to know a Series if it
is given one: a quarter of a second, in every task of Airflow and every worker process.
"""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any


def look_for_no_pandas() -> None:
    """Have Arrow look for pandas now, and not find it: it looks once.

    For a process of our own, whose code hands Arrow no Series. What asks Arrow for pandas by name, such as `to_pandas`,
    still gets it. Nothing happens where pandas is loaded already.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _FindsNoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(finder)


class _FindsNoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("Arrow does without pandas here", name=fullname)
