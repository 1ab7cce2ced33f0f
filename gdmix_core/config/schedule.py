"""Whether a DAG can be built of a pipeline's schedule. Airflow itself is not asked: it need not be there."""

from __future__ import annotations

from gdmix_core.config.execution import Airflow
from gdmix_core.errors import ConfigError

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")


def check_schedule(airflow: Airflow, output: str, where: str) -> None:
    """Raises ConfigError for a schedule that is neither a cron expression nor a preset, and for an output that all its
    runs would share.

    output: as the file has it, its templates not rendered
    """
    schedule = airflow.schedule
    if schedule is None or schedule == "@once":
        return
    if "{{" not in output:
        raise ConfigError(
            f"{where}: output: {output!r} is the same for every run of the schedule {schedule!r}, "
            "so each would write over the last; put a date into it, for example {{ ds }}"
        )
    if schedule == "@continuous" or schedule in PRESETS:
        return
    from croniter import croniter

    try:
        if len(croniter(schedule).expanded) > 6:
            raise ValueError("more than six fields")
    except (ValueError, KeyError, AttributeError) as error:  # all of croniter's own are ValueErrors
        raise ConfigError(
            f"{where}: airflow.schedule: {schedule!r} is neither a cron expression nor a preset "
            f"such as @daily ({error})"
        ) from None
