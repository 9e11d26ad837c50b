from torch import Tensor
from torch.nn import functional

from ssdnet_core.config import NetworkConfig
from ssdnet_core.network import ReconstructionNetwork


class NetworkOfWholeImages(ReconstructionNetwork):
    """The network for images that are not folded: (N, G (C + 1), H, W) to (N, G C, H, W)."""

    def __init__(self, channels: int, config: NetworkConfig, *, images: int = 1) -> None:
        super().__init__(channels, config, images=images)
        self.side = config.unshuffle

    def forward(self, corrupted: Tensor) -> Tensor:
        reconstruction = super().forward(functional.pixel_unshuffle(corrupted, self.side))
        return functional.pixel_shuffle(reconstruction, self.side)
