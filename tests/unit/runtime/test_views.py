"""Arrays in blocks of bytes: what lies inside is read as numpy reads it, the rest is refused."""

import struct

import numpy as np
import pytest

from lowering.runtime.views import byte_count, view_at
from torsh_dialect.errors import ExecutionError, ImportModelError

BLOCK = np.arange(40, dtype=np.uint8)
F32 = np.dtype(np.float32)


@pytest.mark.parametrize("offset", [0, 1, 3, 4, 16])
def test_a_view_has_the_bytes_at_its_offset_aligned_or_not(offset):
    view = view_at(BLOCK, offset, F32, (2, 3), "w")
    assert view.tobytes() == BLOCK.tobytes()[offset : offset + 24]
    assert view[1, 2] == struct.unpack_from("=f", BLOCK.tobytes(), offset + 20)[0]
    assert np.shares_memory(view, BLOCK)


@pytest.mark.parametrize("dims", [(), (0, 3), (10,), (5, 2)])
def test_extents_of_a_view(dims):
    view = view_at(BLOCK, 0, F32, dims, "w")
    assert (view.shape, view.nbytes) == (dims, byte_count(F32, dims))
    start = BLOCK.size - view.nbytes  # it may end with the block
    assert view_at(BLOCK, start, F32, dims, "w").tobytes() == BLOCK[start:].tobytes()


@pytest.mark.parametrize(
    ("offset", "dims"),
    [(-4, (1,)), (37, (1,)), (41, (0,)), (1 << 62, (1,)), (0, (11,)), (0, (1 << 40, 1 << 40)),
     (0, (-1,)), (0, (-2, -3)), (40, (-1,))],
)  # fmt: skip
@pytest.mark.parametrize("error", [ExecutionError, ImportModelError])
def test_what_lies_outside_is_refused(offset, dims, error):
    end = offset + 4 * int(np.prod(np.array(dims, object)))
    words = rf"^the weight: float32\[.*\] at bytes {offset}\.\.{end} lies outside of the 40 bytes"
    with pytest.raises(error, match=words):
        view_at(BLOCK, offset, F32, dims, "the weight", error)
