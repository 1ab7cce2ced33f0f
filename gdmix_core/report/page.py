"""A run's report: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

import hashlib
import json
import logging
from importlib import resources
from typing import Any

from gdmix_core import __version__, storage
from gdmix_core.errors import ConfigError
from gdmix_core.extras import require
from gdmix_core.metrics.registry import parse_metric, shown_value
from gdmix_core.pipeline.run import Run
from gdmix_core.report.contents import Report, read_report

log = logging.getLogger(__name__)

# Larger matrices are drawn without numbers in their cells, and beyond these not at all.
_NUMBERED_CLASSES, _SHOWN_CLASSES = 12, 100


def write_report(run: Run) -> str:
    """Write <run>/report.html of what is there of the run; return its path. Raises StepError before validate.

    A report that would be the same stays untouched, as every result does that is done already.
    """
    path = run.path("report.html")
    made_of = _made_of(run)
    if made_of and storage.exists(path) and made_of.encode() in _content(path)[:2000]:
        return path
    page = render(read_report(run)).replace("<head>", f"<head>\n{made_of}", 1).encode()
    if not storage.exists(path) or _content(path) != page:
        with storage.open_for_write(path) as file:
            file.write(page)
    log.info("report: %s", path)
    return path


def _made_of(run: Run) -> str:
    """Make a mark of all that a finished run's report is made of, so that it is not drawn again; else an empty one."""
    if not run.is_done(run.plan["validate"]) or not run.is_done(run.plan["select"]):
        return ""
    content = json.dumps([__version__, run.keys, run.config.model_dump(mode="json")], sort_keys=True)
    return f'<meta name="made-of" content="{hashlib.sha256(content.encode()).hexdigest()[:24]}">'


def _content(path: str) -> bytes:
    with storage.open_for_read(path) as file:
        return file.read()


def try_to_write_report(run: Run) -> str | None:
    """Write the report at the end of a run: one that cannot be written is a warning, as the model is what counts."""
    try:
        return write_report(run)
    except ConfigError as error:
        log.warning("%s: no report was written: %s", run.root, error)
        return None
    except Exception as error:
        log.warning("%s: the report could not be written: %s: %s", run.root, type(error).__name__, error)
        return None


def render(report: Report) -> str:
    """Make the page. Everything that comes from users (names, descriptions, ids) is escaped."""
    require("matplotlib", "report", "a report")
    # Both are needed here only, and take time to import.
    import jinja2
    from markupsafe import Markup

    from gdmix_core.report import plots

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters |= {"value": shown_value, "svg": Markup, "arrow": _arrow, "weight": _weight}
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    config = report.run.config
    metrics = config.numeric_metrics
    colour = plots.colours(list(config.coordinates))
    return template.render(
        report=report,
        config=config,
        metrics=metrics,
        colour=colour,
        metric_plots=[
            plots.metric_plot(name, report.evaluations, report.split, colour, _arrow(name))
            for name in metrics
            if len(report.evaluations) > 1
        ],
        curves=[(one, plots.learning_curve(one, report.split)) for one in report.learning_curves],
        trial_plots=plots.trial_plots(config.primary_metric, report.trials) if len(report.trials) > 1 else [],
        matrices=_matrices(report),
        numbered_classes=_NUMBERED_CLASSES,
    )


def _matrices(report: Report) -> list[dict[str, Any]]:
    """Gather the matrices of the best pass, or of the last where none is chosen, those of the deciding split first."""
    ends = [one for one in report.evaluations if one.ends_pass]
    chosen = next((one for one in ends if one.best), ends[-1] if ends else None)
    found = []
    for split, matrices in (chosen.matrices if chosen else {}).items():
        for name, rows in matrices.items():
            names = report.class_names if len(report.class_names) == len(rows) else list(map(str, range(len(rows))))
            large = len(rows) > _SHOWN_CLASSES
            found.append({"name": name, "split": split, "rows": rows, "names": names, "large": large})
    return sorted(found, key=lambda one: one["split"] != report.split)


def _arrow(metric: str) -> str:
    return parse_metric(metric).arrow


def _weight(value: float) -> str:
    """Format a cell's sum of weights; counts stay whole."""
    return f"{value:,.0f}" if value == round(value) or value >= 1000 else f"{value:,.4g}"
