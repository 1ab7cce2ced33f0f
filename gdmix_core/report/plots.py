"""Plots of a report as inline SVG: the same run gives the same bytes, and text takes the page's own font."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gdmix_core.report.contents import Evaluation, Trial

# Okabe and Ito's colours, which the colour-blind tell apart.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_INK, _FAINT, _GRID = "#37414b", "#9aa5b1", "#e4e8ec"
_STYLE: Any = {  # of rc settings, whose names matplotlib's types spell out
    "svg.fonttype": "none",
    "text.parse_math": False,  # a column's name may hold dollar signs
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}
# Inches; a phone shows a plot at nearly its own size, so that its text stays readable.
_SIZE, _SMALL = (4.6, 2.7), (3.5, 2.4)


def colours(coordinates: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each coordinate, the same in all plots."""
    return dict(zip(coordinates, cycle(PALETTE), strict=False))


def metric_plot(
    metric: str, evaluations: Sequence[Evaluation], split: str, colour: Mapping[str, str], arrow: str
) -> str:
    """Plot a metric after every coordinate of every pass: solid in the split that decides, dashed in training."""
    with _plot(f"{metric} {arrow}") as (figure, axes):
        for shown in dict.fromkeys(("training", split)):
            values = [_number(one.metrics.get(shown, {}).get(metric)) for one in evaluations]
            decides = shown == split
            axes.plot(
                range(len(values)), values, color=_FAINT, linestyle="-" if decides else (0, (3, 2)), linewidth=1.2,
                zorder=1,
            )  # fmt: skip
            for at, (one, value) in enumerate(zip(evaluations, values, strict=True)):
                face = colour[one.coordinate] if decides else "white"
                axes.plot(
                    at, value, "o", markersize=6 if decides else 4.5, color=colour[one.coordinate],
                    markerfacecolor=face, zorder=2,
                )  # fmt: skip
                if decides and one.best:
                    _star(axes, at, value)
        _pass_ticks(axes, evaluations)
        return _svg(figure, f"metric {metric}", f"{metric} after every coordinate of every pass")


def learning_curve(evaluation: Evaluation, split: str) -> list[str]:
    """Plot a network's training loss and metric by step, with the step whose weights were kept, and its rates."""
    marker = evaluation.training
    curve: list[dict[str, Any]] = marker["curve"]
    steps = [point["step"] for point in curve]
    name = f"{evaluation.coordinate}, pass {evaluation.pass_number}"
    panels = (
        ("training loss", "loss", PALETTE[1]),
        (f"{split} {marker['metric']}", "metric", PALETTE[0]),
        ("learning rate", "learning_rate", PALETTE[2]),
        ("rows per second", "rows_per_second", PALETTE[3]),
    )
    plots = []
    for title, key, colour in panels:
        values = [_number(point.get(key)) for point in curve]
        with _plot(title, _SMALL) as (figure, axes):
            axes.plot(steps, values, "o-", color=colour, markersize=3.5)
            if key in ("loss", "metric") and marker.get("best_step") in steps:
                best = steps.index(marker["best_step"])
                axes.axvline(steps[best], color=_FAINT, linestyle=(0, (3, 2)), linewidth=1, zorder=1)
                _star(axes, steps[best], values[best], 14)
            if key == "rows_per_second":
                axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlabel("step")
            plots.append(_svg(figure, f"curve {name} {key}", f"{title} of {name} by step"))
    return plots


def trial_plots(metric: str, trials: Sequence[Trial]) -> list[str]:
    """Plot the primary metric by trial, and against each searched parameter."""
    values = [_number(trial.value) for trial in trials]
    by_trial: dict[str, list[float]] = {"trial": [float(trial.number) for trial in trials]}
    by_parameter = {name: [trial.parameters[name] for trial in trials] for name in trials[0].parameters}
    plots = []
    for name, at in (by_trial | by_parameter).items():
        with _plot(f"{metric} by {name}") as (figure, axes):
            axes.plot(at, values, "o", color=PALETTE[0], markersize=5.5)
            for x, value, trial in zip(at, values, trials, strict=True):
                if trial.best:
                    _star(axes, x, value)
            if name == "trial":
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            elif min(at) > 0 and max(at) / min(at) >= 20:
                axes.set_xscale("log")
            plots.append(_svg(figure, f"trials {name}", f"{metric} of the trials by {name}"))
    return plots


@contextmanager
def _plot(title: str, size: tuple[float, float] = _SIZE) -> Iterator[tuple[Figure, Axes]]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=10, color=_INK)
        yield figure, axes


def _star(axes: Axes, x: float, y: float, size: float = 15) -> None:
    """Mark what was chosen."""
    axes.plot(x, y, "*", markersize=size, color=_INK, zorder=3)


def _pass_ticks(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    """Put a number below the middle of each pass, a line between passes."""
    passes = [one.pass_number for one in evaluations]
    middles = {number: fmean(at for at, one in enumerate(passes) if one == number) for number in dict.fromkeys(passes)}
    every = -(-len(middles) // 12)
    shown = list(middles.items())[::every]
    axes.set_xticks([at for _, at in shown], [str(number) for number, _ in shown])
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    for at in range(1, len(passes)):
        if passes[at] != passes[at - 1]:
            axes.axvline(at - 0.5, color=_GRID, linewidth=1, zorder=0)
    axes.set_xlim(-0.5, len(passes) - 0.5)
    axes.set_xlabel("pass")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _svg(figure: Figure, salt: str, description: str) -> str:
    """Draw the figure as SVG, without what would differ between runs, or clash with another figure in the same page."""
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Names of groups repeat in every figure, and nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    # The page gives the size; the view box keeps the proportions.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
