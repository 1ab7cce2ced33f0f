"""The report of real, tiny runs: what stands in it, and that it is whole, the same each time, and safe."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run_directory import Rows, make_run, walk

from gdmix_core import storage
from gdmix_core.cli.command import main
from gdmix_core.errors import StepError
from gdmix_core.evaluation.evaluate import evaluate
from gdmix_core.pipeline.run import Run
from gdmix_core.report.contents import read_report
from gdmix_core.report.page import render, try_to_write_report, write_report

HOSTILE = "<script>alert('x')</script> & $a$ \"b\""


def rows(count: int, seed: int, **more: Any) -> Rows:
    random = np.random.default_rng(seed)
    user, X = random.integers(0, 8, count), random.normal(size=(count, 2)).astype(np.float32)
    label = (X[:, 0] + np.where(user % 2, 1, -1) + random.logistic(size=count) > 0).astype(float)
    return Rows(label, uid=np.arange(1000 * seed, 1000 * seed + count), ids={"user": user, **more}, bags={"x": X})


def config(**changes: Any) -> dict[str, Any]:
    return {
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "x"},
            "per_user": {"random_effect": {"entity": "user", "shards": 2}, "l2": "auto"},
        },
        "passes": {"max": 2, "min_delta": -1},
        "metrics": ["auc", "logloss", "confusion_matrix"],
        **changes,
    }


def finished(run: Run, upto: str = "export") -> Run:
    walk(run, upto)
    return run


def page_of(run: Run) -> str:
    return Path(write_report(run)).read_text()


def cells(page: str) -> list[list[str]]:
    """The text of every table row."""
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    return [[_text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in found]


def _text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup)).strip()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = make_run(tmp_path_factory.mktemp("report"), config(), rows(120, 1), rows(80, 2))
    counts = {"records": 5, "rows": 4, "dropped": 1, "label_mean": 0.5}
    report = {
        "splits": {"training": counts, "validation": counts},
        "checks": {
            "label": {"rule": "is 0 or 1", "broken": 7, "first": [{"uid": "u<1>", "file": "part-0"}], "advice": ""},
            "weight": {"rule": "above 0", "broken": 0, "first": []},
        },
        "duplicate_indices_summed": {"x": 3},
        "files": 1,
    }  # fmt: skip
    storage.write_json(made.path("validate", "report.json"), report)
    return finished(made)


def test_metrics_stand_in_it_pass_by_pass(run: Run) -> None:
    table = cells(page_of(run))
    best = run.result("select")["pass"]
    for number in (1, 2):
        for name in ("global", "per_user"):
            star = " ★" if (number, name) == (best, "per_user") else ""
            found = run.result(f"pass_{number:02d}.{name}.evaluate")
            moved = f"{found['moved']['share']:.1g}" if number > 1 else ""
            for split in ("validation", "training"):
                values = [f"{found['metrics'][split][metric]:.5f}" for metric in ("auc", "logloss")]
                assert [str(number), name + star, *values, moved] in table
    assert f"Best by auc: pass {best}, with {run.result('select')['value']:.5f}." in page_of(run)


def test_counts_and_lambda_stand_in_it(run: Run) -> None:
    table = cells(page_of(run))
    marker = run.result("pass_01.per_user.train")
    iterations = f"at most {marker['iterations']} iterations"
    assert ["1", "per_user", "random effect", "8", str(marker["coefficients"]), "8 of 8", iterations] in table
    l2 = run.result("pass_02.per_user.evaluate")["l2"]
    (name,) = l2["used"]
    assert ["2", "per_user", name, f"{l2['used'][name]:.4g}", f"{l2['next'][name]:.4g}"] in table
    matrix = run.result(f"pass_{run.result('select')['pass']:02d}.per_user.evaluate")["matrices"]["validation"]
    for label, row in enumerate(matrix["confusion_matrix"]):
        assert [str(label), *(f"{value:.0f}" for value in row)] in table
    assert ["label", "is 0 or 1", "7", "uid u<1> in part-0"] in table
    assert ["training", "4", "5", "1", "0.50000"] in table


def test_models_that_did_not_converge_stand_out(tmp_path: Path) -> None:
    few = config(passes={"max": 1})
    few["coordinates"]["global"] = {"fixed_effect": {"max_iterations": 1, "tolerance": 1e-12}, "bag": "x"}
    page = page_of(finished(make_run(tmp_path, few, rows(120, 1))))
    row = re.search(r'<tr class="bad">(.*?)</tr>', page, re.DOTALL)
    assert row is not None
    assert "fixed effect" in row[1]
    assert ">no<" in row[1]


def test_it_needs_nothing_else_and_is_the_same_each_time(run: Run) -> None:
    page = page_of(run)
    assert page == page_of(Run.open(run.root))
    assert page.count("<svg") == 2  # auc and logloss; no plot of a matrix
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "://" not in without_namespaces
    assert not re.search(r"<script|<link|<img|@import|src=", without_namespaces)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(re.findall(r' id="([^"]+)"', page))


def test_a_report_that_is_the_same_stays_untouched(run: Run) -> None:
    path = Path(write_report(run))
    before = path.stat().st_mtime_ns
    write_report(run)
    assert path.stat().st_mtime_ns == before
    path.write_text("older")
    write_report(run)
    assert path.read_text() != "older"


def test_what_users_write_is_escaped(tmp_path: Path) -> None:
    column = "c<b>&$x$"
    hostile = config(description=HOSTILE, metrics=["auc", f"auc@{column}"], passes={"max": 1})
    run = finished(make_run(tmp_path, hostile, rows(120, 1, **{column: np.arange(120) % 5})))
    page = page_of(run)
    assert "<script" not in page
    assert "c<b>" not in page
    assert HOSTILE in html.unescape(page)
    svg = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert any(f"auc@{column}" in html.unescape(one) for one in svg)


def test_an_unfinished_run_has_a_report_of_what_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path, config(), rows(120, 1), rows(80, 2))
    assert "No model is selected yet." in page_of(run)
    finished(run, upto="pass_01.per_user.evaluate")
    page = page_of(run)
    assert "No model is selected yet." in page
    assert sum(row[:2] == ["1", "per_user"] for row in cells(page)) == 4  # both splits, λ, training


def test_before_validate_there_is_nothing_to_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, config(), rows(120, 1))
    storage.remove(run.frame("manifest.json"))
    with pytest.raises(StepError, match="validate has not been run"):
        write_report(Run.open(run.root))


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path, config(), rows(120, 1))
    Path(run.root, "report.html").mkdir()
    with caplog.at_level(logging.WARNING):
        assert try_to_write_report(run) is None
    assert "the report could not be written: DataError" in caplog.text


def test_a_search_has_its_trials_in_it(tmp_path: Path) -> None:
    searched = config(metrics=["logloss", "auc"], passes={"max": 1})
    searched["coordinates"]["global"]["l2"] = [0.1, 1.0, 100.0]
    run = finished(make_run(tmp_path, searched, rows(120, 1), rows(80, 2)))
    page, best = page_of(run), run.result("select")
    table = cells(page)
    for trial in best["trials"]:
        star = "★ " if trial["trial"] == best["trial"] else ""
        number, l2 = str(trial["trial"]), f"{trial['parameters']['coordinates.global.l2']:.6g}"
        assert any(row[:4] == [star + number, l2, "1", f"{trial['value']:.5f}"] for row in table)
    assert page.count("<svg") == 4  # by trial, by l2; the best trial's two metrics
    assert f"trial {best['trial']} (global.l2=" in page


def test_learning_curves_of_a_network(tmp_path: Path) -> None:
    """From what its training leaves in the marker, scores of three classes with it."""
    text = {
        "task": "multiclass_classification",
        "classes": 3,
        "metrics": ["accuracy", "confusion_matrix"],
        "coordinates": {"global": {"fixed_effect": {"model": "text", "document": ["title"]}}},
    }
    run = make_run(tmp_path, text, Rows(np.arange(30) % 3, ids={"title": ["a"] * 30}))
    step = run.plan["pass_01.global.train"]
    storage.write_array(run.score_part(1, "global", "training", 0), np.eye(3, dtype=np.float32)[np.arange(30) % 3])
    point = {"epoch": 1.0, "loss": 0.5, "metric": 0.9, "learning_rate": 0.1, "rows_per_second": 100.0}
    curve = [point | {"step": 10, "rows_per_second": None}, point | {"step": 20, "metric": None}]
    ended = {"steps": 20, "epochs": 2.0, "stopped_early": True, "best_step": 10, "best_value": 0.9, "weights": 1234}
    run.commit(step, {"curve": curve, "metric": "accuracy", **ended})
    evaluate(run, run.plan["pass_01.global.evaluate"])
    page = page_of(run)
    assert ["1", "global", "text network", "1", "1,234", "stopped early"] in [row[:6] for row in cells(page)]
    titles = [re.search(r'aria-label="([^"]*)"', svg)[1] for svg in re.findall("<svg[^>]*>", page)]  # type: ignore[index]
    assert titles == [
        f"{what} of global, pass 1 by step"
        for what in ("training loss", "training accuracy", "learning rate", "rows per second")
    ]
    assert ["1", "0", "10", "0"] in cells(page)
    assert "★ marks the weights that were kept; training stopped early." in page
    run.commit(step, {"curve": curve, "metric": "accuracy", **ended, "best_step": 0})
    assert "None was better than the weights of the pass before, which were kept; training" in page_of(run)


@pytest.mark.parametrize(("classes", "shown"), [(12, "numbers"), (40, "colours"), (101, "nothing")])
def test_large_confusion_matrices_are_shown_without_numbers_or_not_at_all(run: Run, classes: int, shown: str) -> None:
    report = read_report(run)
    matrix = (np.eye(classes) * 123456).tolist()
    for one in report.evaluations:
        one.matrices["validation"]["confusion_matrix"] = matrix  # type: ignore[index]
    page = render(report)
    assert (f"{classes} classes are too many" in page) is (shown == "nothing")
    assert (">123,456</td>" in page) is (shown == "numbers")
    assert ("123,456" in page) is (shown != "nothing")


def test_the_command_writes_it(run: Run) -> None:
    Path(run.root, "report.html").unlink(missing_ok=True)
    result = CliRunner().invoke(main, ["report", run.root], catch_exceptions=False)
    assert result.output.strip() == f"{run.root}/report.html"
    assert Path(run.root, "report.html").read_text().startswith("<!doctype html>")
