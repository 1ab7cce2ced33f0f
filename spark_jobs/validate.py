"""The step validate as a Spark application: `spark-submit spark_jobs/validate.py --run ROOT`."""

from spark_jobs import application

if __name__ == "__main__":
    application.main("validate")
