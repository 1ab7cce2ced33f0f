"""One look of all log lines: the command's, its steps' and their workers'."""

from __future__ import annotations

import logging
import re
import sys
import textwrap
from pathlib import Path

import pytest

from gdmix_core.workers import log_lines, processes

TRAIN = "pass_01.global.train"


def line(name: str, level: int, message: str, **source: str) -> str:
    record = logging.LogRecord(name, level, __file__, 1, message, (), None)
    return log_lines.LineFormatter(**source).format(record)


@pytest.mark.parametrize(
    ("name", "message", "source", "expected"),
    [
        ("gdmix_core.text", f"{TRAIN}: step 5 of 10", {}, f"INFO {TRAIN}: step 5 of 10"),
        ("gdmix_core.text", f"{TRAIN}: step 5", {"step": TRAIN, "worker": "ps 1"}, f"INFO {TRAIN}, ps 1: step 5"),
        ("gdmix_core.text", f"{TRAIN} goes", {"step": TRAIN, "worker": "chief 0"}, f"INFO {TRAIN}, chief 0: goes"),
        ("gdmix_core.checkpoint", "a.npz: damaged", {"step": TRAIN}, f"INFO {TRAIN}: a.npz: damaged"),
        ("py4j.java_gateway", "bye", {}, "INFO bye (py4j.java_gateway)"),
    ],
)  # fmt: skip
def test_a_line_says_time_level_step_and_worker(name: str, message: str, source: dict[str, str], expected: str):
    written = line(name, logging.INFO, message, **source)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", written[:8])
    assert written[9:] == expected


def test_lines_of_workers_keep_their_level_in_another_log(caplog: pytest.LogCaptureFixture):
    """Airflow takes all that a task's processes write to standard error for errors."""
    log = logging.getLogger("gdmix_core.worker")
    written = [line("gdmix_core.text", logging.INFO, "step 5\nof 10"), line("gdmix_core.text", logging.WARNING, "slow")]
    caplog.set_level(logging.DEBUG)
    take = log_lines.into(log)
    for each in ["Found a GPU", *"\n".join(written).splitlines(), "", "Traceback (most recent call last):", "  File"]:
        take(each)
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("INFO", "Found a GPU"),
        ("INFO", "step 5"),
        ("INFO", "of 10"),
        ("WARNING", "slow"),
        ("ERROR", "Traceback (most recent call last):"),
        ("ERROR", "  File"),
    ]


def test_steps_and_workers_look_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real worker, whose lines whoever draws a progress bar is handed."""
    (tmp_path / "a_worker_that_logs.py").write_text(
        textwrap.dedent("""
            import logging, os
            from gdmix_core.workers import process as worker_process
            log = logging.getLogger("gdmix_core.text")
            os.write(2, b"no text: \\xff\\n")
            worker_process.main("A test.", lambda root, step, threads: log.info("%s: 100%% [of] it", step))
        """)
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    shown: list[str] = []
    processes.show_lines(shown.append)
    try:
        environment = {"TF_CONFIG": '{"task": {"type": "worker", "index": 3}}'}
        worker = processes.start("a_worker_that_logs", ["--run", "r", "--step", TRAIN], environment)
        assert processes.wait_all([worker], lambda number, event: None) == [0]
    finally:
        processes.show_lines(None)
    (written,) = [text for text in shown if TRAIN in text]
    assert written[9:] == f"INFO {TRAIN}, worker 3: 100% [of] it"
    assert log_lines.step_line(TRAIN)[9:] == f"INFO {TRAIN}"
