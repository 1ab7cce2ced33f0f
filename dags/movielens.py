"""Airflow DAG `movielens`: the pipeline that movielens.yaml, beside this file, describes."""

from pathlib import Path

from gdmix_operators import build_dag

dag = build_dag(Path(__file__).with_name("movielens.yaml"))
