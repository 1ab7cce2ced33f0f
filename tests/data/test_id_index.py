"""Positions of ids against a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data import id_index
from gdmix_core.data.id_index import IdIndex

INTEGERS = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(max_size=5)


@pytest.mark.parametrize(("values", "kind"), [(INTEGERS, pa.int64()), (WORDS, pa.string())])
def test_positions_are_those_of_a_dictionary(values: Any, kind: pa.DataType) -> None:
    @given(st.lists(values, unique=True, max_size=30), st.lists(st.none() | values, max_size=30))
    def check(ids: list[Any], others: list[Any]) -> None:
        wanted = [*others, *ids[::-1]]
        expected = [ids.index(w) if w in ids else -1 for w in wanted]
        found = IdIndex(pa.array(ids, kind)).positions(pa.array(wanted, kind))
        assert found.tolist() == expected

    check()


def test_two_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_index, "hash_ids", lambda ids: np.zeros(len(ids), np.uint64))
    index = IdIndex(pa.array(["a", "b", "c"]))
    assert index.positions(pa.array(["c", None, "d", "a"])).tolist() == [2, -1, -1, 0]
