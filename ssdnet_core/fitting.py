"""Fitting a network to crops of the one image, or one to each image of a group."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ssdnet_core.config import Config, CorruptionConfig, LossConfig
from ssdnet_core.corruption import corrupt
from ssdnet_core.folding import channels_of, folded, places_of
from ssdnet_core.losses import reconstruction_loss
from ssdnet_core.network import ReconstructionNetwork, stride
from ssdnet_core.optimisation import FlatAdamW
from ssdnet_core.replay import Replayed


# The caller may have switched gradients off.
@torch.inference_mode(False)
@torch.enable_grad()
def fit(pixels: Tensor, valid: Tensor, *, config: Config, dtype: torch.dtype) -> ReconstructionNetwork:
    """Fit a fresh network to each image of a group, and return the networks side by side.

    All images start from the same weights, and the same blocks of the same crops are masked, as for each image alone:
    what a network learns does not depend on its group.

    Parameters
    ----------
    pixels
        (G, C, H, W), standardised working images, 0 where not valid; on the device that fits.
    valid
        (G, 1, H, W), 1.0 where a pixel counts.
    config
        Its ``seed`` decides the weights, the crops and every corruption, whatever the device; ``fit.steps`` of at
        least 1.
    dtype
        Arithmetic of the network; a float32 copy of its weights is kept beside while it is fitted.
    """
    generator = torch.Generator().manual_seed(config.seed)
    side = config.network.unshuffle
    network = _fresh_network(pixels, config)
    optimizer = FlatAdamW(network, config.fit, dtype=dtype)
    crop = crop_size(pixels.shape[-2:], config)
    blocks = block_sizes(crop, config.corruption)
    noise = _NoiseField(pixels, crop, config=config, generator=generator)
    find_gradient = _gradient_of(network, optimizer, config=config.loss)
    if pixels.device.type == "cuda":
        find_gradient = Replayed(find_gradient)
    for step in range(1, config.fit.steps + 1):
        crops = random_crops(pixels, valid, crop=crop, count=config.fit.batch, generator=generator)
        target, counted = (folded(values, side=side) for values in crops)
        corrupted = corrupt(
            target,
            counted,
            noise=noise.cut(config.fit.batch, generator=generator),
            block=blocks[step % len(blocks)] // side,
            config=config.corruption,
            generator=generator,
        )
        seen = torch.cat([corrupted.pixels, corrupted.hidden], dim=4).to(dtype)
        find_gradient(seen, target, corrupted.hidden, counted)
        optimizer.step()
    return network


def _gradient_of(
    network: ReconstructionNetwork, optimizer: FlatAdamW, *, config: LossConfig
) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    # Arguments by place, since `Replayed` passes them so.
    def find_gradient(seen: Tensor, target: Tensor, hidden: Tensor, counted: Tensor) -> None:  # noqa: PLR0917
        prediction = places_of(network(channels_of(seen)).float(), like=target)
        losses = reconstruction_loss(prediction, target, hidden=hidden, valid=counted, config=config)
        optimizer.differentiate(losses.sum())

    return find_gradient


class _NoiseField:
    """White noise, drawn once and cut at random places in each step: fresh noise would take a twentieth of the fit."""

    def __init__(self, pixels: Tensor, crop: tuple[int, int], *, config: Config, generator: torch.Generator) -> None:
        side = config.network.unshuffle
        self._crop = height, width = crop[0] // side, crop[1] // side
        shape = (2 * height, 2 * width, 1, pixels.shape[1], side**2)
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
        self._values = (config.corruption.noise * values).to(pixels)

    def cut(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Return (count, h, w, 1, C, S), folded like the crops."""
        height, width = self._crop
        tops = torch.randint(height + 1, (count,), generator=generator).tolist()
        lefts = torch.randint(width + 1, (count,), generator=generator).tolist()
        return torch.stack(
            [self._values[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
        )


def crop_size(shape: torch.Size | tuple[int, ...], config: Config) -> tuple[int, int]:
    """Return the crop's height and width: ``fit.crop``, or the largest fitting multiple of the network's stride."""
    multiple = stride(config.network)
    height, width = (min(config.fit.crop, side) // multiple * multiple for side in shape)
    return height, width


def block_sizes(crop: tuple[int, int], config: CorruptionConfig) -> tuple[int, ...]:
    """Return the block sizes that leave a context: at most half of the crop's short side."""
    limit = min(crop) // 2
    # Blocks are whole places: all settings are multiples of 4, and a crop's quarter is rounded down to one.
    return tuple(block for block in config.block_sizes if block <= limit) or (max(4, limit // 2 // 4 * 4),)


def random_crops(*images: Tensor, crop: tuple[int, int], count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Cut ``count`` crops at random places out of each (..., H, W), at the same places of all: (count, ..., h, w)."""
    (height, width), (rows, columns) = crop, images[0].shape[-2:]
    tops = torch.randint(rows - height + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(columns - width + 1, (count,), generator=generator).tolist()
    places = [(..., slice(top, top + height), slice(left, left + width)) for top, left in zip(tops, lefts, strict=True)]
    return (torch.stack([values[place] for place in places]) for values in images)


def _fresh_network(pixels: Tensor, config: Config) -> ReconstructionNetwork:
    # Built without values and filled from a generator of its own: torch's global one belongs to the caller.
    with torch.device("meta"):
        network = ReconstructionNetwork(pixels.shape[1], config.network, images=len(pixels))
    # Not by to_empty(): for tensors without values it makes torch import an algebra system.
    places = {name: pixels.new_empty(values.shape) for name, values in network.state_dict().items()}
    network.load_state_dict(places, assign=True)
    network.initialise(torch.Generator().manual_seed(config.seed))
    return network
