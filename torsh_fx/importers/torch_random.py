"""Torch's generator on the CPU as the state of a stream, and back.

`torch.get_rng_state` gives the bytes of CPUGeneratorImplState (aten/src/ATen/CPUGeneratorImpl.cpp
of torch 2.13): the twister, and the f64 number that normal distributions keep for the next draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torsh_fx.random import MT_STATE, MT_WORDS

LAYOUT = np.dtype(
    [
        ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"),
        ("words", "<u8", MT_WORDS), ("x", "<f8"), ("kept", "<f8"), ("rho", "<f8"),
        ("has_kept", "<i4"), ("gap", "V4"), ("kept_f32", "<f4"), ("has_kept_f32", "u1"),
        ("end", "V3"),
    ]
)  # fmt: skip


def torch_state() -> NDArray[Any]:
    """The state of torch's default generator as an `mt19937` stream has it."""
    row = torch.get_rng_state().numpy().view(LAYOUT)[0]
    state = np.zeros(MT_STATE, np.uint32)
    state[:MT_WORDS] = row["words"]
    state[MT_WORDS] = MT_WORDS if row["left"] == 1 else row["next"]
    if row["has_kept"]:
        bits = int(np.float64(row["kept"]).view(np.uint64))
        state[MT_WORDS + 1 :] = 1, bits >> 32, bits & 0xFFFFFFFF
    return state


def set_torch_state(state: NDArray[Any]) -> None:
    """Make torch's default generator go on from the state of an `mt19937` stream."""
    given = torch.get_rng_state()
    row = given.numpy().view(LAYOUT)[0]
    used, has_kept, upper, lower = (int(word) for word in state[MT_WORDS:])
    row["words"] = state[:MT_WORDS]
    row["left"], row["next"] = MT_WORDS + 1 - used, used
    row["has_kept"] = has_kept
    row["kept"] = np.uint64(upper << 32 | lower).view(np.float64)
    torch.set_rng_state(given)
