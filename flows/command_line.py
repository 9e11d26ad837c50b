"""The command line: ``ssdnet`` with a command for each thing that it does, from ``inspect`` to ``down``.

Nothing heavy is imported before a command needs it: ``ssdnet --help`` answers at once.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows import options
from flows.exit_status import ExitCode, exit_on_error
from flows.interruption import raise_when_interrupted
from flows.one_input import OneInputCommand
from flows.output import ended_by_lost_output, watch_output

if TYPE_CHECKING:
    from flows.backfill import NightOutcome
    from flows.batch_command import BatchParameters
    from ssdnet_core.config import Config

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def ssdnet(version: options.Version = False) -> None:
    """Find defects in textures without training data: every image is explained by its own structure."""


@app.command(cls=OneInputCommand)
def inspect(
    input: options.Input,
    results: options.Results,
    batch: options.Batch = None,
    masks: options.Masks = None,
    preset: options.Preset = None,
    config_file: options.ConfigFile = None,
    changes: options.Changes = None,
    scheduler: options.Scheduler = None,
    workers: options.WorkerCount = None,
    group: options.GroupSize = None,
    retry_failed: options.RetryFailed = False,
    as_json: options.AsJson = False,
) -> None:
    """Inspect a batch of images; run again to go on where an interrupted run stopped.

    Exit status: 0 sealed, 3 sealed with images that could not be inspected, 2 wrong usage, 1 anything else.
    """
    parameters: BatchParameters = {
        "input": input,
        "results": results,
        "batch": batch,
        "masks": masks,
        "config": read_config(preset, config_file, changes or []),
        "scheduler": scheduler,
        "workers": workers,
        "group": group,
        "retry_failed": retry_failed,
    }
    from flows.batch_command import inspect_batch

    outcome = exit_on_error(lambda: inspect_batch(parameters, as_json=as_json))
    raise typer.Exit(ExitCode.SEALED_WITH_FAILURES if outcome.results.summary.failed else ExitCode.SEALED)


@app.command(cls=OneInputCommand)
def evaluate(
    input: options.Labelled,
    results: options.Results,
    batch: options.Batch = None,
    masks: options.Masks = None,
    preset: options.Preset = None,
    config_file: options.ConfigFile = None,
    changes: options.Changes = None,
    scheduler: options.Scheduler = None,
    workers: options.WorkerCount = None,
    group: options.GroupSize = None,
    retry_failed: options.RetryFailed = False,
    as_json: options.AsJson = False,
) -> None:
    """Inspect labelled images and measure: AUROC, AUPRC, AUPRO, F1, hits and false alarms.

    Exit status as for inspect; 3 as well if images could not be measured.
    """
    parameters: BatchParameters = {
        "input": input,
        "results": results,
        "batch": batch,
        "masks": masks,
        "config": read_config(preset, config_file, changes or []),
        "scheduler": scheduler,
        "workers": workers,
        "group": group,
        "retry_failed": retry_failed,
    }
    from flows.batch_command import evaluate_batch

    measured = exit_on_error(lambda: evaluate_batch(parameters, as_json=as_json))
    lacking = measured.outcome.results.summary.failed or measured.evaluation.unmeasured
    raise typer.Exit(ExitCode.SEALED_WITH_FAILURES if lacking else ExitCode.SEALED)


@app.command()
def backfill(
    start: options.FirstDay = None,
    end: options.LastDay = None,
    last: options.LastNights = None,
    lines: options.Lines = None,
    deployments: options.Deployments = None,
    at_most: options.AtMost = 2,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    preset: options.NightPreset = None,
    config_file: options.ConfigFile = None,
    changes: options.Changes = None,
    as_json: options.AsJson = False,
) -> None:
    """Inspect the nights of a range of days that are not sealed yet, through the deployments of their lines.

    Give --start and --end, or --last. Needs a Prefect server. Stopped or killed, it is simply run again: nights that
    were started go on by themselves. Exit status: 0 all sealed, without images or left to a run that is planned, 3 some
    with images that could not be inspected, 2 wrong usage, 1 a night failed or anything else.
    """
    own = preset is None and config_file is None
    config = None if own else read_config(preset, config_file, [])

    def run() -> "tuple[NightOutcome, ...]":
        from flows.backfill_command import backfill_nights
        from flows.settings import changes_from

        return backfill_nights(
            *(day.date() if day else None for day in (start, end)),
            last=last,
            lines=lines,
            deployments=deployments,
            at_most=at_most,
            force=force,
            dry_run=dry_run,
            config=config,
            changes=changes_from(changes or []),
            as_json=as_json,
        )

    outcomes = exit_on_error(run)
    from flows.backfill_plan import NightState

    if any(outcome.state == NightState.FAILED for outcome in outcomes):
        raise typer.Exit(ExitCode.ERROR)
    incomplete = any(outcome.seal and outcome.seal.failed for outcome in outcomes)
    raise typer.Exit(ExitCode.SEALED_WITH_FAILURES if incomplete else ExitCode.SEALED)


@app.command()
def report(batch_folder: options.BatchFolder, most_pictures: options.MostPictures = 200) -> None:
    """Draw the gallery of a sealed batch again."""

    def draw() -> str:
        from tasks.report import draw_again

        raise_when_interrupted()
        return draw_again(batch_folder, most_pictures=most_pictures)

    typer.echo(exit_on_error(draw))


@app.command()
def trends(results: options.Batches, lines: options.DrawnLines = None, anew: options.Anew = False) -> None:
    """Draw the trends of the nights of each line: defect rate, scores, failures; a table and a page."""

    def draw() -> list[str]:
        from tasks.storage import Storage
        from tasks.trend_page import write_all_trends

        raise_when_interrupted()
        return [trends.page for trends in write_all_trends(Storage(results), lines or [], anew=anew)]

    for page in exit_on_error(draw):
        typer.echo(page)


@app.command()
def sample(
    folder: options.MadeFolder,
    photographs: options.MadeFrom = None,
    images: options.MadeImages = None,
    seed: options.MadeSeed = 0,
) -> None:
    """Make images with known defects, to try things on: of made textures, or of your own good photographs."""

    def write() -> tuple[int, int]:
        from flows.sample_command import make_images
        from tasks.storage import Storage

        raise_when_interrupted()
        return make_images(Storage(folder), photographs, images=images, seed=seed)

    written, defective = exit_on_error(write)
    if written == 1:
        typer.echo(f"1 image, a good one, in {folder}: with --images 2 or more, some have a defect")
    else:
        typer.echo(f"{written} images, {defective} of them with a defect, in {folder}")


@app.command()
def settings(
    preset: options.Preset = None, config_file: options.ConfigFile = None, changes: options.Changes = None
) -> None:
    """Print all settings as YAML, each with its meaning."""
    from flows.settings import settings_as_yaml

    typer.echo(settings_as_yaml(read_config(preset, config_file, changes or [])))


@app.command()
def up(
    home: options.Home = Path("ssdnet-home"),
    host: options.Host = "127.0.0.1",
    prefect_port: options.PrefectPort = 4200,
    scheduler_port: options.SchedulerPort = 8786,
    dashboard_port: options.DashboardPort = 8787,
    s3_port: options.S3Port = 9000,
    gallery_port: options.GalleryPort = 8790,
    images: options.StackImages = "s3://images",
    results: options.StackResults = "s3://results",
    workers: options.WorkerCount = None,
    s3: options.TrialStorage = True,
) -> None:
    """Start the whole system on this machine, and stay until Ctrl-C stops it."""

    def start() -> None:
        from infra.local.endpoints import Endpoints
        from infra.local.parts import StackSettings
        from infra.local.stack import up as start_stack

        endpoints = Endpoints(
            host=host,
            prefect=prefect_port,
            scheduler=scheduler_port,
            dashboard=dashboard_port,
            s3=s3_port,
            gallery=gallery_port,
        )
        start_stack(
            StackSettings(
                home=home, endpoints=endpoints, images=images, results=results, workers=workers, trial_storage=s3
            )
        )

    exit_on_error(start)


@app.command()
def down(home: options.Home = Path("ssdnet-home")) -> None:
    """Stop what `ssdnet up` started, and what a killed one left behind."""

    def stop() -> bool:
        from infra.local.home import stop as stop_stack

        raise_when_interrupted()
        return stop_stack(home.resolve())

    typer.echo("stopped" if exit_on_error(stop) else f"nothing was up in {home}")


def read_config(preset: str | None, config_file: Path | None, changes: list[str]) -> "Config":
    """Put the settings together: the preset or the file, then single changes. A wrong one ends the command."""

    def read() -> "Config":
        from flows.settings import settings_from

        return settings_from(preset, config_file, changes=changes)

    return exit_on_error(read)


def main() -> None:
    """Run the command line."""
    watch_output()
    try:
        with ended_by_lost_output():
            app(prog_name="ssdnet")
    except SystemExit as end:
        _end_without_server(end)
        raise


def _end_without_server(end: SystemExit) -> None:
    """End at once if the command's own server has ended: Prefect would try for a minute to tell it the last events."""
    if "flows.embedded" not in sys.modules:
        return  # It takes a moment to be imported.
    from flows.embedded import has_lost_server

    if has_lost_server():
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else ExitCode.ERROR)
