"""The step partition as a Spark application: `spark-submit spark_jobs/partition.py --run ROOT`."""

from spark_jobs import application

if __name__ == "__main__":
    application.main("partition")
