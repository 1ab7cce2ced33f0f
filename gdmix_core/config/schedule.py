"""The check that a DAG can be built of a pipeline's schedule. It does not need Airflow itself."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Any

from gdmix_core.config.execution import Airflow
from gdmix_core.config.templates import environment, is_template
from gdmix_core.errors import ConfigError

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
# croniter knows the others.
_CRON_OF = {"@quarterly": "0 0 1 */3 *"}


def check_schedule(airflow: Airflow, output: str, where: str) -> None:
    """Raise ConfigError for a schedule that is neither a cron expression nor a preset, and for an output that all its
    runs would share.

    output: as the file has it, its templates not rendered
    """
    schedule = airflow.schedule
    if schedule is None or schedule == "@once":
        return
    if schedule != "@continuous" and schedule not in PRESETS:
        _check_cron(schedule, where)
    if _is_shared(output, schedule, airflow.start_date):
        raise ConfigError(
            f"{where}: output: {output!r} is the same for runs of the schedule {schedule!r} that follow each other, "
            "so each would write over the last; put a date into it, for example {{ ds }}, or {{ ts }} within a day"
        )


def dates_of_run(moment: datetime.datetime, start: datetime.datetime, end: datetime.datetime) -> dict[str, Any]:
    """Return the dates that the templates of a run may name; start, end: of its data interval."""
    return {
        "ds": f"{moment:%Y-%m-%d}",
        "ds_nodash": f"{moment:%Y%m%d}",
        "ts": moment.isoformat(),
        "logical_date": moment,
        "data_interval_start": start,
        "data_interval_end": end,
    }


def _is_shared(output: str, schedule: str, start: datetime.date | None) -> bool:
    """Return whether two runs in a row write to one place, as far as the template names nothing but their dates."""
    if not is_template(output):
        return True
    if schedule == "@continuous":
        return False
    from croniter import croniter

    begin = datetime.datetime.combine(start or datetime.date(2026, 1, 1), datetime.time())
    times = croniter(_CRON_OF.get(schedule, schedule), begin)
    moments = [times.get_next(datetime.datetime) for _ in range(3)]
    try:
        template = environment().from_string(output)
        places = [template.render(dates_of_run(moment, moment, following)) for moment, following in pairwise(moments)]
    except Exception:  # It names what only Airflow knows, which may well differ.
        return False
    return places[0] == places[1]


def _check_cron(schedule: str, where: str) -> None:
    from croniter import croniter

    try:
        if len(croniter(schedule).expanded) > 6:
            raise ValueError("more than six fields")
        croniter(schedule, datetime.datetime(2026, 1, 1)).get_next()  # raises for a day that no month has
    except (ValueError, KeyError, AttributeError) as error:  # all of croniter's own are ValueErrors
        raise ConfigError(
            f"{where}: airflow.schedule: {schedule!r} is neither a cron expression nor a preset "
            f"such as @daily ({error})"
        ) from None
