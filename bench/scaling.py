"""What a second worker brings, and what a run costs beside its fits: the real command, nothing replaced.

    python bench/scaling.py --out OUT [--images 64] [--workers 1,2] [--copies 1] [--group 1]

Inspects a made night with one worker and with two. Target on two idle cores: once they work, two workers do at least
1.8 times what one does, and the wall time is at most 1.08 times each worker's share of the fits plus 12 s. With a GPU,
``--workers 1 --copies 16 --group 128`` keeps it busy for a while: each image lies there 16 times. OUT gets
scaling.json.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from about import about, markdown_table
from measured_run import Run, run_measured

from tasks.finished_batch import read_sealed
from tasks.sample_night import write_sample_night
from tasks.storage import Storage

SLACK, START_UP = 1.08, 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--copies", type=int, default=1, help="of each image")
    parser.add_argument("--workers", type=lambda text: [int(number) for number in text.split(",")], default=[1, 2])
    parser.add_argument("--group", type=int, default=1, help="images fitted together")
    options = parser.parse_args()
    images, most = options.images * options.copies, max(options.workers) * (options.group + 1)
    if images <= most:
        parser.error(f"{images} images are too few for a rate: more than {most}, or fewer workers or a smaller group")
    options.out.mkdir(parents=True, exist_ok=True)
    head = about()
    night = options.out / f"night-{options.images}x{options.copies}"
    if not night.exists():
        write_sample_night(Storage(str(night)), images=options.images)
        for image in sorted(night.rglob("*.png")):
            for copy in range(1, options.copies):
                shutil.copyfile(image, image.with_stem(f"{image.stem}-{copy}"))
    runs = {
        workers: inspected(night, options.out / "results", workers=workers, group=options.group)
        for workers in options.workers
    }
    rates, rows = {}, []
    for workers, (run, fits, rate) in runs.items():
        wanted = SLACK * fits / workers + START_UP
        rates[workers] = rate
        rows.append([str(workers), *(f"{value:.1f}" for value in (run.wall, wanted, fits)), f"{rate:.2f}"])
    results = {
        str(workers): {**asdict(run), "fit_seconds": fits, "images_per_second": rate}
        for workers, (run, fits, rate) in runs.items()
    }
    tree = {**head, "images": options.images * options.copies, "workers": results}
    (options.out / "scaling.json").write_text(json.dumps(tree, indent=1) + "\n")
    header = ["workers", "wall, s", f"{SLACK} x fits / workers + 12 s", "fits, CPU-s", "images / s once they work"]
    print(markdown_table(header, rows))
    if {1, 2} <= set(rates):
        print(f"\ntwo workers: {rates[2] / rates[1]:.2f} times one")
    last = options.workers[-1]
    print(f"\nstages of the run with {last} workers, from s:")
    print("\n".join(f"- {at:7.1f}  {name}" for name, at in runs[last][0].stages))


def inspected(night: Path, results: Path, *, workers: int, group: int) -> tuple[Run, float, float]:
    """Inspect the night anew; return the run, the CPU seconds of its fits, and the images a second once all work."""
    shutil.rmtree(results, ignore_errors=True)
    arguments = ["inspect", str(night), "--results", str(results), "--batch", "n", "--workers", str(workers)]
    arguments += ["--group", str(group)]
    run = run_measured(["-m", "flows", *arguments], home=results.parent / "prefect")
    _, done, _ = read_sealed(f"{results}/n")
    written = sorted(path.stat().st_mtime for path in (results / "n" / "records").iterdir())
    # Each worker's first group waits for its imports, and at the end a worker may be idle: neither is counted. The time
    # begins with the last record of the first groups: the records of the next group come together, and beginning with
    # them would leave out that group's time.
    begun, ended = workers * group - 1, len(written) - workers
    rate = (ended - begun) / (written[ended] - written[begun])
    return run, done.summary.fit_seconds, rate


if __name__ == "__main__":
    main()
