"""The settings of where and when a pipeline runs: Spark, the machine, Airflow. None of it changes a result."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gdmix_core.config.model import Model, Path, is_lenient, refuse_without_effect
from gdmix_core.config.secret_settings import has_user_info, holds_secret
from gdmix_core.paths import local_path

# spark-submit is given these as options of its own, which win over conf.
_OPTIONS = {"spark.master": "spark.master", "spark.driver.memory": "spark.driver_memory"}


def is_local_master(master: str) -> bool:
    """Check whether Spark would work on this machine alone: the steps can then do without it."""
    return master.split("[")[0] == "local"


class Spark(Model):
    """The settings of the two Spark jobs."""

    master: str = "local[*]"
    driver_memory: str = Field(default="2g", pattern=r"^\d+[kmgt]$")
    conf: dict[str, str] = Field(default_factory=dict, description="Further Spark settings; no secrets.")

    @field_validator("master")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if has_user_info(value) and not is_lenient():
            raise ValueError("the URL holds a password, which would be written to config.yaml and to logs; take it out")
        return value

    @field_validator("conf")
    @classmethod
    def _effective(cls, value: dict[str, str]) -> dict[str, str]:
        for key in [] if is_lenient() else sorted(_OPTIONS.keys() & value.keys()):
            raise ValueError(f"{key} has no effect in conf; set {_OPTIONS[key]} of this configuration")
        for key in [] if is_lenient() else value:
            if not key.startswith("spark."):
                raise ValueError(
                    f"{key} has no effect: Spark reads settings that begin with spark. alone (Hadoop's as "
                    f"spark.hadoop.{key})"
                )
        return value

    @field_validator("conf", mode="before", json_schema_input_type=dict[str, str | int | float | bool])
    @classmethod
    def _as_spark_writes_it(cls, value: Any) -> Any:
        """Numbers and booleans as the text that Spark takes: 2, 0.5, true."""
        if not isinstance(value, dict):
            return value
        return {
            key: str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int | float) else item
            for key, item in value.items()
        }

    @field_validator("conf")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for key, setting in value.items():
            # The configuration is written into the run directory, and settings stand on a command line.
            if holds_secret(key, setting):
                raise ValueError(
                    f"{key} looks like a secret, which would be written to config.yaml and to the command line of "
                    "spark-submit; set it in spark-defaults.conf or the environment"
                )
        return value


class Local(Model):
    """Everything on one machine."""

    processes: int | Literal["auto"] = Field(default="auto", description="Cores used at once; auto: all of them.")
    memory: str = Field(
        default="auto",
        pattern=r"^(auto|\d+[mgt])$",
        description="Of the embedded data engine, and of a fixed effect's rows, such as 6g; auto: half of the "
        "machine's, or of its container's.",
    )
    spill: Path | None = Field(
        default=None,
        description="Folder for what is beyond that memory. Default: in the run directory, or, where that is not "
        "local, in the system's folder for temporary files.",
    )

    @field_validator("spill")
    @classmethod
    def _on_this_machine(cls, value: str | None) -> str | None:
        if value is not None and local_path(value) is None:
            raise ValueError(f"{value} is not on this machine; name a local folder")
        return value

    @field_validator("processes")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or auto")
        return value


class Engine(Model):
    """Who does the work."""

    data: Literal["auto", "embedded", "spark"] = Field(
        default="auto",
        description="Who carries out validate and partition: this machine's threads, or Spark. auto: Spark where "
        "spark.master or the Airflow connection names another master than local.",
    )
    local: Local = Local()


class Airflow(Model):
    schedule: str | None = Field(
        default=None, description="Cron expression or preset such as @daily; none: by trigger only."
    )
    start_date: datetime.date | None = Field(
        default=None, ge=datetime.date(1970, 1, 1), lt=datetime.date(2200, 1, 1), description="First day of the data."
    )
    catchup: bool = False
    max_active_runs: int = Field(default=1, ge=1)
    retries: int = Field(default=2, ge=0)
    retry_delay_seconds: int = Field(default=60, ge=0, le=7 * 86_400)
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default=["gdmix"])
    spark_connection: str = Field(default="spark_local", description="Airflow connection of spark-submit.")

    @model_validator(mode="after")
    def _scheduled_since(self) -> Airflow:
        if self.schedule is not None and self.start_date is None:
            raise ValueError("a schedule needs a start_date")
        if self.schedule == "@continuous" and self.max_active_runs > 1:
            raise ValueError("runs of the schedule @continuous follow one another: max_active_runs must be 1")
        return self

    @model_validator(mode="after")
    def _effective(self) -> Airflow:
        if self.schedule is None:
            refuse_without_effect(self, ["catchup"], "without a schedule; set one, or leave it out")
        if self.retries == 0:
            refuse_without_effect(self, ["retry_delay_seconds"], "with retries: 0; leave it out")
        return self
