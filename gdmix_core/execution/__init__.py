"""What carries steps out: dispatch, what is looked for beforehand, spark-submit, export, and the local run."""
