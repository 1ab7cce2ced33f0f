"""The `gdmix` command."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from typing import Any

import click

from gdmix_core import __version__
from gdmix_core.errors import ConfigError


class _Group(click.Group):
    """The entry of the command: an error that a user or the system causes is one message, without a traceback."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run as a program, which ends within seconds of a signal, with all processes below it."""
        from signal import SIGHUP, SIGINT, SIGTERM

        from gdmix_core.workers.processes import end_on_signals

        command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
        resumes = command in ("run", "validate")
        kept = "what is done is kept: the same command goes on from there" if resumes else "give the command again"
        end_on_signals(f"ended by {{name}}; {kept}", (SIGTERM, SIGHUP, SIGINT))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows less, and no error
        return super().__call__(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # such as of `gdmix show RUN | head`
            _show_no_more()
            sys.exit(128 + 13)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from gdmix_core.system_errors import as_user_error

            found = as_user_error(error)
            if found is None:
                raise
            logging.getLogger(__name__).debug("where it was raised:", exc_info=error)
            click.secho(f"error: {found}", fg="red", err=True)
            sys.exit(1)


def _show_no_more() -> None:
    """Send what is still to be written nowhere: nobody reads the output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Path(click.ParamType):
    """A path or URL, as in the configuration: ~ is the home folder, environment variables are refused."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from gdmix_core.paths import expanded

        try:
            return expanded(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


_PATH = _Path()


def _variables(assignments: tuple[str, ...]) -> dict[str, str]:
    from gdmix_core.pipeline.loading import parse_variable

    return dict(map(parse_variable, assignments))


_var = click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of a template variable.")
_set = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Override, such as passes.max=2.")


def _load(config: str, variables: tuple[str, ...], changes: tuple[str, ...]) -> Any:
    from gdmix_core.pipeline.loading import load_config, parse_assignment

    return load_config(config, _variables(variables), dict(map(parse_assignment, changes)))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gdmix")
@click.option("-v", "--verbose", count=True, help="Log what every step does; twice: also where an error was raised.")
def main(verbose: int) -> None:
    """Mixed-effect (GLMix) model training: one global model plus one small model per entity."""
    from gdmix_core.workers.log_lines import to_standard_error

    to_standard_error((logging.DEBUG if verbose > 1 else logging.INFO) if verbose else logging.WARNING)


def _console() -> Any:
    """Make a console as wide as the terminal; in a file or a pipe wide enough for a table of several metrics."""
    from rich.console import Console

    class Unwatched(Console):
        """A console whose reader may go, as `head` does: the work continues, and nothing more is shown."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            _show_no_more()

    console = Unwatched()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 140
    return console


@main.command()
@click.argument("config", type=click.Path(dir_okay=False))
@_var
@_set
def run(config: str, variables: tuple[str, ...], changes: tuple[str, ...]) -> None:
    """Run a pipeline on this machine; resume it if it was begun."""
    from gdmix_core.execution.local_run import run_pipeline

    run_pipeline(_load(config, variables, changes), _console())


@main.command()
@click.argument("config", type=click.Path(dir_okay=False))
@_var
@_set
def validate(config: str, variables: tuple[str, ...], changes: tuple[str, ...]) -> None:
    """Check the input and write the frame and its report, nothing more."""
    from gdmix_core.data.ingest.report_table import report_table
    from gdmix_core.data.ingest.validation import report_path
    from gdmix_core.execution.local_run import begun, carry_out_data_step
    from gdmix_core.storage import exists, read_json

    with begun(_load(config, variables, changes)) as started:
        path = report_path(started)
        try:
            carry_out_data_step(started, started.plan["validate"])
        finally:
            if exists(path):
                _console().print(report_table(read_json(path)))
    click.echo(f"report: {path}")


@main.command()
def compile() -> None:
    """Compile all kernels now, so that no run waits for it: after installation, or in an image's build."""
    from gdmix_core.cli.compile import compile_kernels

    began = time.monotonic()
    compile_kernels()
    click.echo(f"all kernels are compiled ({time.monotonic() - began:.0f} s)")


@main.command()
@click.option("--model", required=True, type=_PATH, help="A run directory, or its export.")
@click.option(
    "--input", "source", required=True, type=_PATH, help="New data in the input layout (its trainingData directories)."
)
@click.option(
    "--output", required=True, type=_PATH,
    help="File to write, *.parquet or *.csv: uid, score, and a score for each coordinate. A score file is replaced.",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["native", "avro"]), default="native", show_default=True,
    help="Which of the export's model files to read.",
)  # fmt: skip
@click.option("--split", type=click.Choice(["training", "validation"]), default="training", show_default=True)
@click.option(
    "--scores", type=click.Choice(["parquet", "csv", "gdmix", "photon"]),
    help="Format of the output: by its name Parquet or CSV; or a score file as GDMix or Photon ML write it (Avro).",
)  # fmt: skip
@click.option(
    "--external", "external", multiple=True, metavar="NAME=FILES",
    help="Scores of a coordinate whose model is external or python: a file or folder; repeatable.",
)  # fmt: skip
def score(model: str, source: str, output: str, kind: Any, split: Any, scores: Any, external: tuple[str, ...]) -> None:
    """Score new data with an exported model."""
    from gdmix_core.scoring.score_input import score_input

    given: dict[str, list[str]] = {}
    for assignment in external:
        name, equals, path = assignment.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--external {assignment}: expected NAME=FILES, such as global=scores.parquet")
        given.setdefault(name, []).append(_PATH.convert(path, None, None))
    rows, unknown = score_input(model, source, output, kind=kind, split=split, scores=scores, external=given)
    click.echo(f"{rows} rows scored: {output}")
    for coordinate, count in unknown.items():
        click.echo(f"{coordinate}: {count} rows of entities without a model, scored 0")


@main.command()
@click.argument("run_directory", type=_PATH)
def show(run_directory: str) -> None:
    """Show the metrics of a run, pass by pass."""
    from gdmix_core.execution.local_run import metrics_table
    from gdmix_core.pipeline.run import Run

    found = Run.open(run_directory)
    console = _console()
    console.print(metrics_table(found))
    console.print(f"run directory: [bold]{found.root}[/bold]", soft_wrap=True)


@main.command()
@click.argument("run_directory", type=_PATH)
def report(run_directory: str) -> None:
    """Write RUN_DIRECTORY/report.html: metrics, plots and counts of a run, finished or not, in one file."""
    from gdmix_core.pipeline.run import Run
    from gdmix_core.report.page import write_report

    click.echo(write_report(Run.open(run_directory)))


@main.group()
def sample() -> None:
    """Write sample input."""


_output = click.option("--output", required=True, type=_PATH, help="Input directory to write.")
_format = click.option(
    "--format", "kind", type=click.Choice(["tfrecord", "parquet"]), default="tfrecord", show_default=True
)


@sample.command("movielens")
@click.option("--data", type=_PATH, help="Folder of ml-latest-small, ml-100k or ml-1m as GroupLens publishes them.")
@click.option("--download", is_flag=True, help="Fetch ml-latest-small from GroupLens.")
@_output
@_format
def sample_movielens(data: str | None, download: bool, output: str, kind: Any) -> None:
    """Convert published MovieLens files."""
    import tempfile

    from gdmix_core.samples.download import download_movielens
    from gdmix_core.samples.movielens import write_movielens

    if (data is None) != download:
        raise click.UsageError("give either --data FOLDER or --download")
    with tempfile.TemporaryDirectory() as folder:
        source = data if data is not None else download_movielens(folder)
        click.echo(write_movielens(source, output, format=kind))


@sample.command("nemig")
@click.option("--data", required=True, type=_PATH, help="Folder with NeMig's news.tsv and rows.tsv.")
@_output
@click.option(
    "--negatives",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the training rows without a click to keep; they are weighted up by its inverse.",
)
@_format
def sample_nemig(data: str, output: str, negatives: float, kind: Any) -> None:
    """Convert NeMig news impressions, with their text."""
    from gdmix_core.samples.nemig import write_nemig

    click.echo(write_nemig(data, output, negatives=negatives, format=kind))


@sample.command("generated")
@click.option("--output", required=True, type=_PATH, help="Input directory to write; the truth is in its folder truth.")
@click.option("--users", default=500, show_default=True)
@click.option("--movies", default=800, show_default=True)
@click.option("--ratings", default=50_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@_format
def sample_generated(output: str, users: int, movies: int, ratings: int, seed: int, kind: Any) -> None:
    """Generate a MovieLens-shaped sample with known true coefficients.

    Of all pairs of a user and a movie at most three in ten are rated.
    """
    from gdmix_core.samples.generated import generate_sample, most_ratings, write_generated

    if 0 < (most := most_ratings(users, movies)) < ratings:
        click.echo(
            f"{ratings} ratings are more than three in ten of all user-movie pairs: {most} are written", err=True
        )
        ratings = most
    found = generate_sample(users=users, movies=movies, ratings=ratings, seed=seed)
    click.echo(write_generated(output, found, format=kind))


@main.group("config")
def config_group() -> None:
    """Look at configurations."""


@config_group.command("check")
@click.argument("file", type=click.Path(dir_okay=False))
@_var
@_set
def config_check(file: str, variables: tuple[str, ...], changes: tuple[str, ...]) -> None:
    """Check a configuration; templates whose variables are not given stay as they are."""
    from gdmix_core.pipeline.loading import check_file, parse_assignment
    from gdmix_core.pipeline.plan import build_plan

    found = check_file(file, _variables(variables), dict(map(parse_assignment, changes)))
    click.echo(f"{file} is valid: {len(found.coordinates)} coordinates, {len(build_plan(found).steps)} steps")


@config_group.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--input", "source", help="Directory of the input, in place of the one that the file names.")
@click.option("--output", help="Directory of the run, in place of the one that the file names.")
def config_import(file: str, source: str | None, output: str | None) -> None:
    """Translate a GDMix workflow's YAML, or a text file with a Photon ML GAME training command; prints YAML."""
    from gdmix_core.migration.importing import import_config
    from gdmix_core.migration.translation import render_yaml

    result = import_config(file, source, output)
    click.echo(render_yaml(result, file), nl=False)
    click.echo(f"{file}: {len(result.notes)} notes on the translation stand at its top", err=True)


@config_group.command("schema")
def config_schema() -> None:
    """Print the configuration's JSON schema, for editors."""
    from gdmix_core.config.pipeline import Config

    click.echo(json.dumps(Config.model_json_schema(), indent=2))
