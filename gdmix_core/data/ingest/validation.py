"""The decisions of validate once every block is written: the report, and whether the frame may be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import read_feature_list, write_feature_list
from gdmix_core.data.ingest.blocks import FIRST_OFFENDERS, SPLITS, block_name
from gdmix_core.data.ingest.label_scale import LabelScale
from gdmix_core.data.ingest.presence import absent_checks, absent_scalar, merge_seen
from gdmix_core.data.ingest.record_checks import UID_CHECKS, checks_of, score_checks
from gdmix_core.data.ingest.source import Layout
from gdmix_core.errors import DataError
from gdmix_core.metrics.registry import Metric, parse_metric
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.run import Run


def merge_report(statistics: Sequence[dict[str, Any]], layout: Layout, config: Config) -> dict[str, Any]:
    """validate/report.json: rows by split, and every check with its count and the first offenders.

    external_scores: by coordinate, the scores its files hold, how many of them are of uids that the data do not have,
    and how many rows got 0 in place of one. warnings: what breaks no rule and is worth a look.
    """
    statistics = list(statistics)
    rules = {check.name: check for check in UID_CHECKS}
    for source in layout.sources:
        prefix = f"{source.path.rsplit('/', 1)[-1]}: " if len(layout.sources) > 1 else ""
        rules |= {prefix + check.name: check for check in checks_of(source, config)}
    rules |= {check.name: check for files in layout.scores for check in score_checks(files).values()}
    checks: dict[str, dict[str, Any]] = {
        name: {"rule": check.rule, "broken": 0, "first": []} for name, check in rules.items()
    }
    splits: dict[str, dict[str, Any]] = {name: {"records": 0, "rows": 0, "label_mean": None} for name in SPLITS}
    labels = dict.fromkeys(SPLITS, 0.0)
    ranges: dict[str, list[float]] = {name: [] for name in SPLITS}
    duplicates: dict[str, int] = {}
    external = {files.coordinate: {"scores": 0, "unused": 0, "zeros": 0} for files in layout.scores}
    for block in sorted(statistics, key=lambda item: item["number"]):
        for name, counts in block["splits"].items():
            splits[name]["records"] += counts["records"]
            splits[name]["rows"] += counts["rows"]
            labels[name] += counts["labels"]
            ranges[name] += counts["label_range"]
        for name, violation in block["violations"].items():
            checks[name]["broken"] += violation["count"]
            checks[name]["first"] = (checks[name]["first"] + violation["first"])[:FIRST_OFFENDERS]
            checks[name]["advice"] = rules[name].advice
        for key, count in block["duplicates"].items():
            duplicates[key] = duplicates.get(key, 0) + count
        for name, counts in block["external_scores"].items():
            external[name] = {what: total + counts[what] for what, total in external[name].items()}
    for name in SPLITS:
        splits[name]["dropped"] = splits[name]["records"] - splits[name]["rows"] * len(layout.sources)
        splits[name]["label_mean"] = labels[name] / splits[name]["rows"] if splits[name]["rows"] else None
        splits[name]["label_range"] = [min(ranges[name]), max(ranges[name])] if ranges[name] else None
    _name_absent_columns(checks, layout)
    checks |= absent_checks(merge_seen((block["seen"] for block in statistics), layout), layout)
    report = {"splits": splits, "checks": checks, "duplicate_indices_summed": duplicates, "files": len(layout.files)}
    if layout.ignored:
        report["partition_columns_not_read"] = list(layout.ignored)
    ordered = sorted(statistics, key=lambda item: item["number"])
    scale = LabelScale.together(LabelScale(**block["label_scale"]) for block in ordered if "label_scale" in block)
    report["warnings"] = [text for text in [scale.warning(config.columns.label)] if text is not None]
    return report | ({"external_scores": external} if external else {})


def _name_absent_columns(checks: dict[str, dict[str, Any]], layout: Layout) -> None:
    """Add to the advice which columns the first record's file has in place of the one that its records lack."""
    for source in layout.sources:
        prefix = f"{source.path.rsplit('/', 1)[-1]}: " if len(layout.sources) > 1 else ""
        for wanted in source.wanted:
            check = checks.get(f"{prefix}{wanted.tensor.name}.present")
            if check is not None and check["broken"]:
                check["advice"] += absent_scalar(wanted, check["first"][0]["file"], source.tensors)


def check_report(report: dict[str, Any], config: Config, report_path: str) -> None:
    """Raise DataError when the configuration does not allow what the report says."""
    broken = {name: check for name, check in report["checks"].items() if check["broken"]}
    if absent := [_fault(name, check) for name, check in broken.items() if check.get("fatal")]:
        others = [_fault(name, check) for name, check in broken.items() if not check.get("fatal")]
        raise DataError(
            "the input lacks what the pipeline reads, whatever checks.on_error says:\n  "
            + "\n  ".join([*absent, *others])
            + f"\n  whole report: {report_path}"
        )
    if broken and config.checks.on_error == "fail":
        lines = [_fault(name, check) for name, check in broken.items()]
        raise DataError(
            "the input breaks rules:\n  "
            + "\n  ".join(lines)
            + f"\n  whole report: {report_path}. Correct the input, or set checks.on_error: drop to train without "
            "the records named"
        )
    records = sum(split["records"] for split in report["splits"].values())
    dropped = sum(split["dropped"] for split in report["splits"].values())
    if dropped > config.checks.max_dropped * records:
        lines = [_fault(name, check) for name, check in broken.items()]
        raise DataError(
            f"{dropped} of {records} records would be dropped, more than checks.max_dropped allows "
            f"({config.checks.max_dropped:.2%}):\n  " + "\n  ".join(lines) + f"\n  whole report: {report_path}"
        )
    if report["splits"]["training"]["rows"] == 0:
        raise DataError("the training split is empty: no record is left to train on")
    if report["splits"]["validation"]["records"] and not report["splits"]["validation"]["rows"]:
        raise DataError("the validation split is empty: every record of it was dropped")
    if config.checks.uninformative == "fail":
        _check_labels(report, config)


def _is_defined(metric: Metric, label: float, config: Config) -> bool:
    """Check whether the metric has a value on rows that all have this label."""
    margin = np.zeros((2, config.classes)) if config.classes is not None else np.array([0.0, 1.0])
    groups = {} if metric.column is None else {metric.column: np.zeros(2, np.int64)}
    return metric.evaluate(np.full(2, label), margin, None, groups).value is not None


def _check_labels(report: dict[str, Any], config: Config) -> None:
    """Raise DataError where all labels are the same: nothing is to be learned from them, or to be measured by them."""
    otherwise = "correct the input (a join may have lost the others), or set checks.uninformative: allow"
    lowest, highest = report["splits"]["training"]["label_range"]
    rows, label = report["splits"]["training"]["rows"], config.columns.label
    if lowest == highest and rows > 1 and config.task != "multilabel_classification":
        classes = config.task not in ("linear_regression", "poisson_regression")
        what = f"one class: {label} is {lowest:g}" if classes else f"one value: {label} is {lowest:g}"
        raise DataError(f"the training labels have {what} in all {rows} rows, so nothing can be learned; {otherwise}")
    validation = report["splits"]["validation"]
    if not validation["rows"] or config.task == "multilabel_classification":
        return
    metric = parse_metric(config.primary_metric)
    lowest, highest = validation["label_range"]
    if lowest == highest and not _is_defined(metric, lowest, config):
        raise DataError(
            f"{metric.name}, which chooses among the passes, is undefined: {label} is {lowest:g} in all "
            f"{validation['rows']} validation rows; {otherwise}, or name another metric first"
        )


def _fault(name: str, check: dict[str, Any]) -> str:
    first = check["first"][0]
    where = f"uid {first['uid']} in {first['file']}" if "unit" not in check else first["file"]
    return (
        f"{name}: {check['broken']} {check.get('unit', 'records')} break '{check['rule']}', first {where}; "
        f"{check['advice']}"
    )


def frame_manifest(statistics: Iterable[dict[str, Any]], layout: Layout, config: Config) -> dict[str, Any]:
    """Return the facts that a reader of the frame needs: blocks' rows, columns, bags, which coordinate uses which."""
    splits: dict[str, Any] = {name: {"rows": 0, "blocks": []} for name in SPLITS}
    for block in sorted(statistics, key=lambda item: item["number"]):
        for name, counts in block["splits"].items():
            if counts["rows"]:
                splits[name]["blocks"].append(
                    {
                        "file": block_name(block["number"]),
                        "start": splits[name]["rows"],
                        "rows": counts["rows"],
                        "entries": counts["entries"],
                    }
                )
                splits[name]["rows"] += counts["rows"]
    return {
        "input_fingerprint": layout.fingerprint,
        "splits": splits,
        "uid_type": layout.uid_type,
        "ids": layout.id_types(),
        "bags": {key: {"features": bag.features, "dtype": bag.dtype} for key, bag in layout.bags.items()},
        "coordinates": {
            name: {
                "bags": layout.coordinate_bags[name],
                "entity": c.random_effect.entity if c.random_effect else None,
            }
            for name, c in config.coordinates.items()
        },
        "label_bag": next((key for key, bag in layout.bags.items() if bag.label), None),
        "scores": {files.coordinate: files.column for files in layout.scores},  # coordinate → column, float32
    }


def copy_feature_lists(run: Run, layout: Layout) -> None:
    """Keep the names of the features beside the frame, so that a model can be exported when the input is gone."""
    for key, path in layout.feature_lists.items():
        write_feature_list(run.frame("features", f"{key}.csv"), read_feature_list(path))


def report_path(run: Run) -> str:
    return run.path("validate", "report.json")


def remove_frame(run: Run) -> None:
    """Remove the old frame and report; the marker goes first, so that a mixture is never taken for whole."""
    run_directory.clear(run.frame())
    storage.remove(report_path(run))
