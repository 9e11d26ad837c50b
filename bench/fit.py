"""How fast the method is on one device, part by part, in one command.

    python bench/fit.py --out fit.json [--device cuda] [--sizes 256,512] [--groups 1,8,64] [--set fit.steps=100]

Made colour images of each working size are fitted, reconstructed blind and scored, and their findings for the verdict
are collected, on one thread of a processor or on a GPU, alone and in groups. The parts are put together as an
inspection does, and do not overlap. The fit's speed (its operations are counted by torch) is compared with that of a
large matrix product of the same type, measured before and after it on the same device: their ratio says how much there
is to gain.

Seconds are CPU seconds on a processor and wall seconds on a GPU; the best of the repeats counts.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from about import about, markdown_table, mistakes_told
from compared import whole_number
from torch.utils.flop_counter import FlopCounterMode

from flows.settings import settings_from
from ssdnet_core import evidence
from ssdnet_core.config import Config
from ssdnet_core.devices import resolve_device, resolve_precision
from ssdnet_core.errors import InvalidConfigError
from ssdnet_core.fitting import fit
from ssdnet_core.localization import judged
from ssdnet_core.preparation import WorkingImage, prepare
from ssdnet_core.reconstruction import BlindNetwork
from ssdnet_core.scoring import Predicted, anomaly_map
from ssdnet_core.synthetic import sample

COUNTED_STEPS = 2
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Timing:
    """What each image of a group took.

    Attributes
    ----------
    side, group
        Working size and images in the group.
    prepare_s, judge_s
        CPU seconds an image; beside a GPU threads prepare the next group and judge the last one meanwhile.
    fit_s, blind_s, score_s, find_s, whole_s
        Seconds an image: ``blind_s`` for the blind reconstruction and what a border costs it, ``score_s`` for the
        anomaly map, ``find_s`` for smoothing and sharpening it, restlessness and homogeneity; ``whole_s`` for all
        together, on a processor with preparation and verdict.
    images_per_s
        1 / ``whole_s``.
    peak_bytes
        Memory in bytes, for each image, that torch reserved on a GPU for the whole; 0 on a processor.
    step_flop
        Floating point operations of one step for one image.
    fit_flop_per_s, matmul_flop_per_s, share
        Speed of the fit, of a large matrix product of the same type, and their ratio.
    """

    side: int
    group: int
    prepare_s: float
    judge_s: float
    fit_s: float
    blind_s: float
    score_s: float
    find_s: float
    whole_s: float
    images_per_s: float
    peak_bytes: float
    step_flop: float
    fit_flop_per_s: float
    matmul_flop_per_s: float
    share: float


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the speed of fit, blind reconstruction and score.")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--sizes", type=_numbers, default=(256, 512), help="working sizes, as 256,512")
    parser.add_argument("--groups", type=_numbers, help="images fitted together; on a GPU 1,4,16,64,128,256, else 1")
    parser.add_argument("--repeats", type=whole_number, default=3, help="of which the best counts")
    parser.add_argument("--preset", default="default", help="settings to start from")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a single setting; repeatable")
    options = parser.parse_args()
    for name, option in (("working_size", "--sizes"), ("device", "--device")):
        if any(change.partition("=")[0] == name for change in options.set):
            parser.error(f"--set {name}=...: give {option} instead")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(whole_number(number) for number in text.split(","))


@mistakes_told()
def main() -> None:
    """Run the benchmark; a mistake of the caller's ends it with a message."""
    options = _options()
    torch.set_num_threads(1)
    config = settings_from(options.preset, None, changes=[*options.set, f"device={options.device}"])
    if config.fit.steps == 0:
        raise InvalidConfigError("fit.steps is 0, which leaves no fit to measure: set it to 1 or more")
    device = resolve_device(config.device)
    groups = options.groups or ((1, 4, 16, 64, 128, 256) if device.type == "cuda" else (1,))
    timings: list[Timing] = []
    failed: dict[str, str] = {}
    for side in options.sizes:
        for group in groups:
            try:
                timings.append(
                    _timed(side, group, config=config.updated({"working_size": side}), repeats=options.repeats)
                )
            except torch.OutOfMemoryError as error:
                failed[f"{group} images of {side}"] = str(error).splitlines()[0]
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread of the processor"
    report = {
        **about(),
        "settings": config.model_dump(mode="json"),
        "device": device_name,
        "precision": str(resolve_precision(config.precision, device)),
        "timings": [asdict(timing) for timing in timings],
        "too_large": failed,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(_table(timings))


def _timed(side: int, group: int, *, config: Config, repeats: int) -> Timing:
    device = resolve_device(config.device)
    dtype = resolve_precision(config.precision, device)
    images = [sample("weave", "hole", size=(side, side), seed=seed).pixels for seed in range(min(group, 8))]
    working = _prepared(images, config)
    working = [working[index % len(working)] for index in range(group)]
    pixels, valid = (
        torch.stack([getattr(image, name) for image in working]).to(device) for name in ("pixels", "valid")
    )
    alike = evidence.images_together(working, pixels)
    with FlopCounterMode(display=False) as counter:
        # On the processor: recorded steps of a GPU are not counted.
        few = config.updated({"fit.steps": COUNTED_STEPS})
        fit(pixels[:1].cpu(), valid[:1].cpu(), config=few, dtype=dtype)
    step_flop = counter.get_total_flops() / COUNTED_STEPS
    networks = fit(pixels[:1], valid[:1], config=config, dtype=dtype)
    background = prediction = scores = pixels
    predicted = Predicted(alike, prediction)

    def fitted() -> None:
        nonlocal networks
        networks = fit(pixels, valid, config=config, dtype=dtype)

    def reconstructed() -> None:
        nonlocal background, prediction
        blind = BlindNetwork.of(networks, config.network)
        background, prediction = evidence.blindly_predicted(blind, pixels, valid=valid, config=config.reconstruction)

    def scored() -> None:
        nonlocal predicted, scores
        predicted = Predicted(alike, prediction)
        scores = anomaly_map(predicted, config=config.score)

    def found() -> None:
        shown = evidence.in_original_units(background, working)
        evidence.findings(predicted, scores=scores, background=shown, config=config).apart()

    matmul = _matmul_rate(device, dtype)
    fit_s, blind_s, score_s, find_s = (
        _best(part, device, repeats=repeats) / group for part in (fitted, reconstructed, scored, found)
    )
    matmul = max(matmul, _matmul_rate(device, dtype))
    prepare_s = _best(lambda: _prepared(images, config), torch.device("cpu"), repeats=repeats) / len(images)
    known = evidence.gather_evidence(working, config)
    judge_s = _best(lambda: [judged(one, config) for one in known], torch.device("cpu"), repeats=repeats) / group
    whole_s = _best(lambda: evidence.gather_evidence(working, config), device, repeats=repeats) / group
    if device.type == "cpu":
        whole_s += prepare_s + judge_s
    rate = config.fit.steps * step_flop / fit_s
    return Timing(
        side=side,
        group=group,
        prepare_s=prepare_s,
        judge_s=judge_s,
        fit_s=fit_s,
        blind_s=blind_s,
        score_s=score_s,
        find_s=find_s,
        whole_s=whole_s,
        images_per_s=1 / whole_s,
        peak_bytes=_peak(lambda: evidence.gather_evidence(working, config), device) / group,
        step_flop=step_flop,
        fit_flop_per_s=rate,
        matmul_flop_per_s=matmul,
        share=rate / matmul,
    )


def _prepared(images: Sequence[np.ndarray], config: Config) -> list[WorkingImage]:
    return [prepare(image, None, config=config) for image in images]


def _peak(work: Callable[[], object], device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    # What a recorded step needs is reserved for it, and counts as allocated only while it is recorded.
    return torch.cuda.max_memory_reserved(device)


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = MATRIX_SIDE[device.type]
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: one @ other, device, repeats=5)


def _best(work: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    work()
    return min(_once(work, device) for _ in range(repeats))


def _once(work: Callable[[], object], device: torch.device) -> float:
    # A processor is shared: its own seconds count. A GPU works on when the call is back: wait for it.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def _table(timings: Sequence[Timing]) -> str:
    header = (
        "size,group,prepare s,judge s,fit s,blind s,score s,find s,whole s,images/s,MB,GFLOP a step,GFLOP/s,"
        "of a matmul's"
    )
    rows = [
        [
            str(timing.side),
            str(timing.group),
            *(
                f"{seconds:.4f}"
                for seconds in (
                    timing.prepare_s,
                    timing.judge_s,
                    timing.fit_s,
                    timing.blind_s,
                    timing.score_s,
                    timing.find_s,
                    timing.whole_s,
                )
            ),
            f"{timing.images_per_s:.2f}",
            f"{timing.peak_bytes / 1e6:.0f}",
            f"{timing.step_flop / 1e9:.2f}",
            f"{timing.fit_flop_per_s / 1e9:.0f}",
            f"{100 * timing.share:.0f} %",
        ]
        for timing in timings
    ]
    return markdown_table(header.split(","), rows)


if __name__ == "__main__":
    main()
