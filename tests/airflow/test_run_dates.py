"""`ds` and its relatives in every kind of run."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest

from gdmix_core.errors import ConfigError
from gdmix_operators.templates import run_dates


def moment(day: int, hour: int = 0) -> datetime.datetime:
    return datetime.datetime(2026, 11, day, hour, tzinfo=datetime.UTC)


def dag_run(**given: datetime.datetime) -> SimpleNamespace:
    absent = dict.fromkeys(["logical_date", "data_interval_start", "data_interval_end"])
    return SimpleNamespace(**(absent | {"run_after": moment(9, 5)} | given))


SCHEDULED = dag_run(logical_date=moment(3), data_interval_start=moment(3), data_interval_end=moment(4))
WITHOUT_LOGICAL_DATE = dag_run()


@pytest.mark.parametrize(
    ("run", "date", "ds", "start", "end"),
    [
        (SCHEDULED, None, "2026-11-03", moment(3), moment(4)),
        (WITHOUT_LOGICAL_DATE, None, "2026-11-09", moment(9, 5), moment(9, 5)),
        (dag_run(logical_date=moment(7, 13)), None, "2026-11-07", moment(7, 13), moment(7, 13)),
        (SCHEDULED, "2026-11-20", "2026-11-20", moment(20), moment(21)),
        (WITHOUT_LOGICAL_DATE, "2026-11-20", "2026-11-20", moment(20), moment(21)),
    ],
)
def test_dates(
    run: SimpleNamespace, date: str | None, ds: str, start: datetime.datetime, end: datetime.datetime
) -> None:
    dates = run_dates(run, date)
    assert dates["ds"] == ds
    assert dates["ds_nodash"] == ds.replace("-", "")
    assert dates["logical_date"] == start
    assert dates["ts"] == start.isoformat()
    assert (dates["data_interval_start"], dates["data_interval_end"]) == (start, end)
    assert dates["logical_date"].subtract(days=1) == start - datetime.timedelta(days=1)


def test_no_date() -> None:
    with pytest.raises(ConfigError, match=r"'3\.11\.2026' of the trigger: expected YYYY-MM-DD"):
        run_dates(SCHEDULED, "3.11.2026")
