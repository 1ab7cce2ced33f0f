"""The DAG of a pipeline that scales features has a task for their statistics."""

from __future__ import annotations

from typing import Any

from gdmix_operators.factory import build_dag
from gdmix_operators.operators.steps import SummarizeOperator


def test_task_before_the_first_training(pipeline: dict[str, Any]) -> None:
    coordinates = {**pipeline["coordinates"]}
    coordinates["global"] = {**coordinates["global"], "bag": "global", "normalization": "standard_deviation"}
    dag = build_dag({**pipeline, "coordinates": coordinates})
    assert isinstance(dag.get_task("summarize"), SummarizeOperator)
    assert dag.get_task("summarize").upstream_task_ids == {"partition"}
    assert dag.get_task("pass_01.global.train").upstream_task_ids == {"summarize"}
