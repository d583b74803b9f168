"""What a simulated launch did to memory, and whether a GPU defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from torsh_dialect.errors import CodegenError

Array = np.ndarray[Any, np.dtype[Any]]

ACCESS = np.dtype(
    [("address", np.int64), ("bytes", np.int64), ("write", np.int64), ("thread", np.int64),
     ("block", np.int64), ("epoch", np.int64)]
)  # fmt: skip
"""One logged access."""

MOST_ACCESSES = 1 << 22
"""Accesses of one launch that the log holds."""


class SimulationError(CodegenError):
    """A kernel did something that a GPU does not define."""


def check_bounds(name: str, log: Array, allowed: Mapping[int, int]) -> None:
    """Check that each access is inside a range `start: bytes`.

    Raises:
        SimulationError: One is not; the first is named.
    """
    starts = np.array(sorted(allowed), np.int64)
    ends = starts + np.array([allowed[start] for start in sorted(allowed)], np.int64)
    place = np.searchsorted(starts, log["address"], "right") - 1
    inside = (place >= 0) & (log["address"] + log["bytes"] <= ends[place])
    if not inside.all():
        row = log[np.argmin(inside)]
        beyond = int(row["address"]) - int(starts[np.argmin(abs(starts - row["address"]))])
        raise SimulationError(f"{name}: {_who(row)} byte {beyond} of a buffer, out of bounds")


def check_races(name: str, log: Array, shared: Mapping[int, int]) -> None:
    """Check that no two threads access one address without a barrier, one of them storing.

    Raises:
        SimulationError: Two do; the address' first store is named.
    """
    in_shared = np.zeros(len(log), bool)
    for start, size in shared.items():
        in_shared |= (log["address"] >= start) & (log["address"] < start + size)
    for rows, keys, actor in (
        (log, ("address", "block", "epoch"), "thread"),
        (log[~in_shared], ("address",), "block"),
    ):
        order = np.lexsort([rows[key] for key in keys])
        rows = rows[order]
        if not len(rows):
            continue
        new = np.ones(len(rows), bool)
        new[1:] = np.any([rows[key][1:] != rows[key][:-1] for key in keys], axis=0)
        first = np.flatnonzero(new)
        several = np.minimum.reduceat(rows[actor], first) != np.maximum.reduceat(rows[actor], first)
        racing = several & (np.maximum.reduceat(rows["write"], first) == 1)
        if racing.any():
            row = rows[first[np.argmax(racing)]]
            raise SimulationError(f"{name}: {_who(row)} memory that another {actor} accesses: race")


def _who(row: Any) -> str:
    verb = "stores to" if row["write"] else "loads from"
    return f"thread {row['thread']} of block {row['block']} {verb}"
