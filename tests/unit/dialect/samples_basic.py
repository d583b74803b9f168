"""Sample calls of the basic ops: operands as arrays, properties as plain values."""

from __future__ import annotations

import samples_elementwise
import samples_indexed
import samples_linalg
import samples_movement
import samples_reduce

SAMPLES = [
    *samples_elementwise.SAMPLES,
    *samples_movement.SAMPLES,
    *samples_reduce.SAMPLES,
    *samples_indexed.SAMPLES,
    *samples_linalg.SAMPLES,
]
