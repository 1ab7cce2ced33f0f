"""The step validate as a Spark application: `spark-submit spark_jobs/validate.py --run ROOT`."""

from gdmix_core.data.ingest.validate import validate
from spark_jobs import application

if __name__ == "__main__":
    application.main("validate", validate)
