"""Airflow operators and the DAG factory for mixed-effect model training."""
