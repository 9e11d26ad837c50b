"""Random values, what counts of them, and how many of them a test looks at."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32)
sides = st.integers(3, 25)
few_examples = settings(max_examples=30)


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def precise(*shape, seed=0):
    return drawn(*shape, seed=seed, dtype=torch.float64)


def punched(height, width, *, seed, share=0.3):
    weight = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) > share).double()
    weight[0, 0, 0] = 1
    return weight


def oddly_punched(height, width, *, seed):
    """Return flags of an odd number of pixels, of which the median is one of them."""
    weight = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) > 0.3).float()
    weight[0, 0, 0] = 1
    if int(weight.sum()) % 2 == 0:
        weight.view(-1)[torch.nonzero(weight.view(-1))[-1]] = 0
    return weight


def counted(height, width, *, seed, everything):
    return torch.ones(1, height, width).double() if everything else punched(height, width, seed=seed)
