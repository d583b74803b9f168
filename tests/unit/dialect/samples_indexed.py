"""Sample calls of gathers and scatters."""

from __future__ import annotations

import numpy as np
from sample_data import (
    INTS,
    one,
    real,
)

from torsh_dialect.attributes import dims_attribute as dims


def _gather():
    x, i = real(5, 3), np.array([[4, -1, 0], [2, 2, 1]])
    modes = ("none", "add", "mul", "max", "min")
    unique = np.array([[4, 1, 0], [2, 0, 1]])
    return [
        one("gather", x, i, axis=0),
        one("gather", x, np.array(1), axis=1),
        one("gather", x, i[:0], axis=0),
        one("gather", INTS[1], np.array([[1, -1]], np.int32), axis=1),
        one("gather_elements", x, i, axis=0),
        one("gather_elements", x, i % 3, axis=-1),
        one("gather_elements", real(), np.array(0), axis=0),
        one("gather_nd", x, np.array([[4, 1], [-1, 0]]), batch_dims=0),
        one("gather_nd", x, np.array([[[4]], [[0]]]), batch_dims=0),
        one("gather_nd", real(2, 3, 4), np.array([[1], [2]]), batch_dims=1),
        one("index", x, [np.array([4, 0]), np.array([-1, 1])], axes=[0, 1]),
        one("index", real(3, 4, 5), [np.array([[2], [0]]), np.array([1, 4, 3])], axes=[0, 2]),
        one("index", real(3, 4, 5), [np.array([[2], [0]]), np.array([1, 4, 3])], axes=[1, 2]),
        one("dynamic_slice", x, np.array([2, 7]), sizes=dims([2, 2])),
        one(
            "one_hot",
            i,
            np.float32(0).reshape(()),
            np.float32(3).reshape(()),
            axis=-1,
            depth=dims([4]),
        ),
        one("one_hot", np.array([0, 9, -1]), np.array(1), np.array(5), axis=0, depth=dims([3])),
        *[one("scatter_elements", x, unique, real(2, 3), axis=0, reduction=m) for m in modes],
        *[one("scatter_elements", x, i, real(2, 3), axis=0, reduction=m) for m in modes[1:]],
        one(
            "scatter_elements",
            INTS[1],
            np.array([[0], [2]]),
            INTS[1][:, :1],
            axis=1,
            reduction="add",
        ),
        one(
            "scatter_elements",
            real(3, 2, dtype=np.float16),
            np.zeros((2, 2), np.int64),
            real(2, 2, dtype=np.float16),
            axis=0,
            reduction="add",
        ),
        *[one("scatter_nd", x, np.array([[1], [3]]), real(2, 3), reduction=m) for m in modes],
        one("scatter_nd", x, np.array([[1, 1], [1, 1], [-1, 0]]), real(3), reduction="add"),
        one("index_put", x, [np.array([1, 1])], real(2, 3), axes=[0], reduction="add"),
        one(
            "index_put",
            x,
            [np.array([1, 2]), np.array([0, -1])],
            real(2),
            axes=[0, 1],
            reduction="none",
        ),
        one("dynamic_update_slice", x, np.array([4, 1]), real(2, 2)),
        one("embedding_bag", x, np.array([1, 2, 4, 4, 3]), np.array([0, 2, 2]), None, mode=0),
        *[
            one(
                "embedding_bag",
                x,
                np.array([1, 2, 4, 4, 3]),
                np.array([0, 2, 2]),
                None,
                mode=mode,
                padding=padding,
            )
            for mode, padding in ((1, 4), (2, 3))
        ],
        one("embedding_bag", x, np.array([1, 2, 4, 4, 3]), np.array([0, 3]), real(5), mode=0),
    ]


SAMPLES = [
    *_gather(),
]
