"""Fitting the network to crops of the one image."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ssdnet_core.config import Config, CorruptionConfig
from ssdnet_core.corruption import corrupt
from ssdnet_core.losses import reconstruction_loss
from ssdnet_core.network import ReconstructionNetwork, stride
from ssdnet_core.preparation import WorkingImage


def fit(
    image: WorkingImage, config: Config, *, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[int, ReconstructionNetwork]]:
    """Fit a fresh network to an image, and hand it out at each of the moments of reconstruction.

    Parameters
    ----------
    image
        The working image, on the processor.
    config
        Its ``seed`` decides the weights, the crops and every corruption.
    device, dtype
        Where and with which arithmetic the network runs; float32 stays the type of its weights.

    Yields
    ------
    steps done, the network
        The same network each time; it goes on learning when the iteration goes on.
    """
    generator = torch.Generator(device).manual_seed(config.seed)
    pixels, valid = image.pixels[None].to(device), image.valid[None].to(device)
    network = _fresh_network(pixels.shape[1], config, device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.fit.learning_rate, weight_decay=config.fit.weight_decay, fused=True
    )
    schedule = _one_cycle(optimizer, config)
    crop = crop_size(pixels.shape[-2:], config)
    blocks = block_sizes(crop, config.corruption)
    moments = {max(1, round(share * config.fit.steps)) for share in config.reconstruction.moments}
    for step in range(1, config.fit.steps + 1):
        target, counted = random_crops(pixels, valid, crop=crop, count=config.fit.batch, generator=generator)
        corrupted = corrupt(
            target, counted, block=blocks[step % len(blocks)], config=config.corruption, generator=generator
        )
        with arithmetic(device, dtype):
            prediction = network(torch.cat([corrupted.pixels, corrupted.hidden], dim=1))
        loss = reconstruction_loss(
            prediction.float(), target, hidden=corrupted.hidden, valid=counted, config=config.loss
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step in moments:
            yield step, network


def crop_size(shape: torch.Size | tuple[int, ...], config: Config) -> tuple[int, int]:
    """Return the crop's height and width: ``fit.crop``, or the largest fitting multiple of the network's stride."""
    multiple = stride(config.network)
    height, width = (min(config.fit.crop, side) // multiple * multiple for side in shape)
    return height, width


def block_sizes(crop: tuple[int, int], config: CorruptionConfig) -> tuple[int, ...]:
    """Return the block sizes that leave a context: at most half of the crop's short side."""
    limit = min(crop) // 2
    return tuple(block for block in config.block_sizes if block <= limit) or (max(1, limit // 2),)


def random_crops(
    pixels: Tensor, valid: Tensor, *, crop: tuple[int, int], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut ``count`` crops at random places out of (1, C, H, W) and its (1, 1, H, W)."""
    (height, width), (rows, columns) = crop, pixels.shape[-2:]
    tops = torch.randint(rows - height + 1, (count,), generator=generator, device=generator.device).tolist()
    lefts = torch.randint(columns - width + 1, (count,), generator=generator, device=generator.device).tolist()
    places = [(..., slice(top, top + height), slice(left, left + width)) for top, left in zip(tops, lefts, strict=True)]
    return torch.cat([pixels[place] for place in places]), torch.cat([valid[place] for place in places])


def arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return the context in which the network computes with ``dtype``."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _one_cycle(optimizer: torch.optim.Optimizer, config: Config) -> torch.optim.lr_scheduler.OneCycleLR:
    # torch divides by the length of each phase: both get a step at least, also in the shortest fits.
    total = max(config.fit.steps + 1, 4)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.fit.learning_rate,
        total_steps=total,
        pct_start=min(max(config.fit.warmup, 2 / total), 1 - 2 / total),
    )


def _fresh_network(channels: int, config: Config, device: torch.device) -> ReconstructionNetwork:
    # Built without values and filled from a generator of its own: torch's global one belongs to the caller.
    with torch.device("meta"):
        network = ReconstructionNetwork(channels, config.network)
    network = network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(config.seed))
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
