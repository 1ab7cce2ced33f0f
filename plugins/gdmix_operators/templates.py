"""The dates a run's templates may name, in every kind of run.

Airflow defines `ds` and its relatives only for runs with a logical date: not for a trigger by CLI or REST
without one, nor for a run started by an asset. Here they always exist, and the trigger form's date replaces
them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from gdmix_core.config.schedule import dates_of_run
from gdmix_core.config.templates import environment
from gdmix_core.errors import ConfigError


def run_dates(dag_run: Any, date: str | None = None) -> dict[str, Any]:
    """Return ds, ds_nodash, ts, logical_date, data_interval_start and data_interval_end of a run.

    dag_run: the context's DagRun. date: "YYYY-MM-DD" to process instead of the run's own day, or None.
    A run without a logical date is of the moment it was due (run_after).
    """
    if date is not None:
        start = datetime.datetime.combine(_day(date), datetime.time(), datetime.UTC)
        interval = (start, start + datetime.timedelta(days=1))
    else:
        start = dag_run.logical_date or dag_run.run_after
        interval = (dag_run.data_interval_start or start, dag_run.data_interval_end or start)
    return _dates(start, interval)


def _dates(start: datetime.datetime, interval: tuple[datetime.datetime, datetime.datetime]) -> dict[str, Any]:
    from airflow.sdk.timezone import coerce_datetime

    return dates_of_run(coerce_datetime(start), *map(coerce_datetime, interval))


def render_path(text: str, dates: Mapping[str, Any]) -> str:
    """Render a path that a person typed into the trigger form.

    It is sandboxed, and the dates alone are in reach: a user who may trigger a run need not be allowed to read
    the Variables and Connections that the DAG author's own templates can reach.
    """
    try:
        return str(environment().from_string(text).render(dates))
    except Exception as error:  # A template is a program: what its expressions raise may be anything.
        raise ConfigError(
            f"path {text!r} of the trigger: {type(error).__name__}: {error}; usable here: {', '.join(dates)}"
        ) from None


def is_same_next_to(text: str, dates: Mapping[str, Any]) -> bool:
    """Return whether the run before or after the one with these dates would render a path to the same."""
    start, end = dates["data_interval_start"], dates["data_interval_end"]
    length = datetime.timedelta(seconds=(end - start).total_seconds()) or datetime.timedelta(days=1)
    here = render_path(text, dates)
    beside = [_dates(dates["logical_date"] + by, (start + by, end + by)) for by in (-length, length)]
    return here in [render_path(text, other) for other in beside]


def _day(date: str) -> datetime.date:
    try:
        return datetime.datetime.strptime(date, "%Y-%m-%d").date()
    except (TypeError, ValueError):
        raise ConfigError(f"date {date!r} of the trigger: expected YYYY-MM-DD") from None
