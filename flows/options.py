"""The command line's arguments and options, each described once."""

from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ssdnet_core.config import MAX_GROUP, METHOD_VERSION


def print_version(asked: bool) -> None:
    """Print the version of the program, and of the method, and end the command."""
    if asked:
        typer.echo(f"ssdnet {version('ssdnet-inspect')}, version {METHOD_VERSION} of the method")
        raise typer.Exit


def parse_day(text: str) -> datetime:
    """Return the day that is written as YYYY-MM-DD; another form ends the command."""
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no day: give it as YYYY-MM-DD") from error


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")
]
Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="Folder, file, quoted glob or s3://bucket/prefix of images.")
]
Labelled = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Folder or s3://bucket/prefix in MVTec-AD layout: one category, or several."),
]
Results = Annotated[
    str, typer.Option("--results", "-r", help="Folder or s3://bucket/prefix; a batch gets its own below.")
]
Batch = Annotated[str | None, typer.Option(help="Name of the batch. [default: after the input]")]
Masks = Annotated[
    str | None, typer.Option(help="Folder or s3:// prefix of masks named as their images; black does not count.")
]
Preset = Annotated[str | None, typer.Option(help="Settings to start from: default, fast, paper or preview.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings, as `ssdnet settings` prints.")
]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A single setting, as fit.steps=50. Repeatable.")]
FirstDay = Annotated[
    datetime | None, typer.Option("--start", parser=parse_day, metavar="YYYY-MM-DD", help="The first day.")
]
LastDay = Annotated[
    datetime | None, typer.Option("--end", parser=parse_day, metavar="YYYY-MM-DD", help="The last day.")
]
LastNights = Annotated[
    int | None, typer.Option("--last", min=1, help="The last so many nights instead, last night included.")
]
Lines = Annotated[list[str] | None, typer.Option("--line", help="A line. Repeatable. [default: all deployed]")]
Deployments = Annotated[
    list[str] | None, typer.Option("--deployment", help="A deployment, as nightly/line-1. Repeatable.")
]
AtMost = Annotated[int, typer.Option(min=1, help="Most nights at once; each line also keeps its deployment's limit.")]
Force = Annotated[bool, typer.Option("--force", help="Inspect every image again, of sealed nights as well.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and start nothing.")]
NightPreset = Annotated[
    str | None,
    typer.Option("--preset", help="Settings instead of the deployment's own: default, fast, paper or preview."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask scheduler: tcp:// or tls://host:8786. [default: $SSDNET_SCHEDULER, or workers here]"),
]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers here. [default: three a GPU, else one a core]")
]
GroupSize = Annotated[
    int | None,
    typer.Option(
        "--group", min=1, max=MAX_GROUP, help="Images fitted together. [default: 128 on a GPU, 1 on a processor]"
    ),
]
RetryFailed = Annotated[bool, typer.Option(help="Try images again that failed for a reason of their own, too.")]
BatchFolder = Annotated[str, typer.Argument(metavar="RESULTS/BATCH", help="Folder of one sealed batch.")]
MostPictures = Annotated[int, typer.Option("--pictures", min=0, help="Most images shown, highest scores first.")]
Batches = Annotated[str, typer.Argument(metavar="RESULTS", help="Folder or s3://bucket/prefix of the batches.")]
DrawnLines = Annotated[list[str] | None, typer.Option("--line", help="A line. Repeatable. [default: all lines]")]
Anew = Annotated[bool, typer.Option(help="Read all nights again, as after measuring some of them.")]
MadeFolder = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder to write to, in MVTec-AD layout.")]
MadeFrom = Annotated[
    str | None,
    typer.Option("--photographs", help="Plant the defects into these good photographs, instead of made textures."),
]
MadeImages = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of images, a single one without defect; by default 24, or four of each photograph."
    ),
]
MadeSeed = Annotated[int, typer.Option(min=0, help="The same seed makes the same images.")]
Home = Annotated[Path, typer.Option(help="Folder of all state of the local stack.")]
Host = Annotated[str, typer.Option(help="Address to listen on. There is no authentication.")]
PrefectPort = Annotated[int, typer.Option(help="Prefect's UI and API; 0 takes a free port, here and below.")]
SchedulerPort = Annotated[int, typer.Option(help="Dask's scheduler.")]
DashboardPort = Annotated[int, typer.Option(help="Dask's UI.")]
S3Port = Annotated[int, typer.Option(help="The S3 server for trying things.")]
GalleryPort = Annotated[int, typer.Option(help="The galleries.")]
StackImages = Annotated[str, typer.Option(envvar="SSDNET_IMAGES", help="Images: IMAGES/LINE/YYYY-MM-DD.")]
StackResults = Annotated[str, typer.Option(envvar="SSDNET_RESULTS", help="Results, whose galleries are served.")]
TrialStorage = Annotated[bool, typer.Option(help="Start an S3 server with a night to try, or use the one of AWS_*.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON, for machines; no progress bar.")]
