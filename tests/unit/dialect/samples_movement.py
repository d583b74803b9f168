"""Sample calls of ops that move elements, and of shapes."""

from __future__ import annotations

import numpy as np
from sample_data import INTS, one, real

from torsh_dialect.attributes import dims_attribute as dims
from torsh_dialect.attributes import literal
from torsh_dialect.dtypes import f32, i64

X = real(2, 3, 4)
FILL = np.float32(-1).reshape(())


def _axes():
    return [
        one("reshape", X, target=dims([6, 4])),
        one("reshape", real(1), target=dims([])),
        one("reshape", real(0, 3), target=dims([3, 0])),
        one("squeeze", real(1, 3, 1), axes=[0, -1]),
        one("squeeze", real(1, 3), axes=[0]),
        one("unsqueeze", X, axes=[0, 2]),
        one("unsqueeze", real(), axes=[0]),
        one("transpose", X, perm=[2, 0, 1]),
        one("transpose", real(), perm=[]),
        one("to_layout", X, layout=[0, 2, 1]),
        one("to_layout", INTS[1], layout=[1, 0]),
        one("to_layout", real(0, 3), layout=[1, 0]),
        one("to_layout", real(3), layout=[0]),
        one("to_device", X, device="cpu"),
        one("to_device", real(), device="cpu"),
        one("broadcast_to", real(3, 1), target=dims([2, 3, 4])),
        one("broadcast_to", real(), target=dims([2])),
    ]


def _parts():
    return [
        one("flip", X, axes=[0, -1]),
        one("slice", X, starts=dims([0, 1, 3]), sizes=dims([2, 2, 2]), steps=[1, 1, -2]),
        one("slice", X, starts=dims([1, 0, 0]), sizes=dims([1, 0, 2]), steps=[1, 1, 3]),
        one("tile", real(2, 3), repeats=dims([2, 3])),
        one("tile", real(2, 3), repeats=dims([0, 1])),
        one("roll", X, shifts=[1, -5], axes=[0, 2]),
        one("roll", real(0, 2), shifts=[3], axes=[1]),
        one("concat", [real(2, 3), real(2, 1), real(2, 0)], axis=1),
        one("concat", [X], axis=-1),
        one("split", X, axis=-1, sizes=dims([1, 3])),
        one("split", X, axis=0, sizes=dims([0, 2])),
    ]


def _padding():
    return [
        *[
            one("pad", real(3, 4), low=dims(a), high=dims(b), mode=m)
            for m in ("constant", "edge", "reflect", "symmetric", "wrap")
            for a, b in (([1, 2], [2, 0]), ([-1, 3], [1, -2]), ([0, 9], [5, 7]))
        ],
        one("pad", real(3), low=dims([1]), high=dims([1]), mode="constant", value=2.5),
        one("pad", INTS[1], low=dims([1, 0]), high=dims([0, 1]), mode="constant", value=7),
        one("pad", real(3), FILL, low=dims([1]), high=dims([2]), mode="constant"),
    ]


def _diagonals():
    return [
        *[
            one("diagonal", real(3, 5, 2), offset=k, axis1=a, axis2=b)
            for k in (0, 2, -1, 9)
            for a, b in ((0, 1), (2, 1))
        ],
        *[
            one("diag_embed", real(2, 3), offset=k, axis1=a, axis2=b)
            for k in (0, 2, -1)
            for a, b in ((0, 1), (-1, 0))
        ],
        *[
            one("triangle", real(2, 3, 5), upper=u, k=dims([k]))
            for u in (True, False)
            for k in (0, -1, 3)
        ],
    ]


def _windows():
    return [
        one("windows", real(2, 7), axis=1, size=3, step=2),
        one("windows", real(), axis=0, size=2, step=1),
        one("windows", real(7, 2), axis=0, size=7, step=1),
        one("as_strided", real(12), target=dims([2, 3]), strides=[5, 2], offset=dims([1])),
        one("depth_to_space", real(1, 8, 2, 3), block=2),
        one("space_to_depth", real(1, 2, 4, 6), block=2),
        one("depth_to_space", real(1, 8, 2, 3), block=2, channels_first=True),
        one("space_to_depth", real(2, 4, 6), block=2, channels_first=True),
        one("im2col", real(2, 3, 5, 6), kernel=[2, 3], stride=[2, 1], dilation=[1, 2],
            padding=[1, 0]),
        one("col2im", real(2, 6, 12), image=dims([4, 5]), kernel=[2, 3], stride=[1, 1],
            dilation=[1, 1], low=[1, 0], high=[0, 0]),
        one("col2im", real(1, 4, 6), image=dims([5, 7]), kernel=[2, 2], stride=[2, 3],
            dilation=[1, 2], low=[0, 1], high=[0, 1]),
    ]  # fmt: skip


def _shape():
    scalars = [np.asarray(v, np.int64) for v in (1, 9, 3)]
    return [
        one("shape_of", real(2, 3)),
        one("shape_of", real()),
        one("dim", real(2, 3), axis=1),
        one("size", real(2, 0, 3)),
        one("size", real()),
        one("extents", values=dims([2, 5])),
        one("extents", values=dims([4]), scalar=True),
        one("full", real(), target=dims([2, 3])),
        one("full", real(), target=dims([])),
        one("full", np.asarray(7), target=dims([0, 2])),
        one("iota", target=dims([2, 3]), axis=1, element=i64),
        one("iota", target=dims([4]), axis=0, element=f32),
        one("ramp", np.arange(5), np.float32(0.1).reshape(()), np.float32(0.3).reshape(())),
        one("ramp", np.arange(3), np.int32(4).reshape(()), np.int32(-2).reshape(())),
        one("range", *scalars, length="count"),
        one("range", *[np.float32(v).reshape(()) for v in (1, 0, -0.3)], length="count"),
        one("bind", np.asarray([3, 4]), names=["a", "b"]),
        one("bind", np.asarray(3), names=["a"], low=1, high=4),
        one("bind", np.asarray(1), names=["a"], low=1, high=1, condition="a is so"),
        one("assume", real(2), left=dims([3]), relation="le", right=dims([4])),
        one("constant", value=literal(np.array([1.5, -2.0], np.float32))),
    ]


SAMPLES = [
    *_axes(),
    *_parts(),
    *_padding(),
    *_diagonals(),
    *_windows(),
    *_shape(),
]
