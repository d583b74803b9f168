"""Make the helpers of this folder importable; facts about torch on this machine."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def twister_drops():
    """Torch draws dropout, `bernoulli_(p)` and `exponential_` from its own generator.

    Built with MKL it does not on Intel CPUs, where the numbers are no oracle for ours.
    """
    import torch

    before = torch.get_rng_state()
    torch.manual_seed(0)
    found = torch.empty(64).bernoulli_(0.5).bool()
    torch.manual_seed(0)
    own = torch.rand(64, dtype=torch.float64) < 0.5
    torch.set_rng_state(before)
    if not torch.equal(found, own):
        pytest.skip("on this CPU torch draws dropout from a generator of MKL")


@pytest.fixture
def fresh_dynamo():
    """What Dynamo has compiled is forgotten, before and after; the same random numbers in all."""
    import torch

    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
