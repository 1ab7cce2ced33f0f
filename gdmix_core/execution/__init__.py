"""The execution of steps: dispatch, the checks before a run, spark-submit, export, and the local run."""
