"""Sample calls of reductions, scans and sorting."""

from __future__ import annotations

import numpy as np
from sample_data import (
    BY_NAME,
    INF,
    INTS,
    NAN,
    one,
    real,
    unary,
)

from torsh_dialect.attributes import dims_attribute as dims


def _reduce():
    nan = np.array([[1.0, NAN, 3.0], [-0.0, 2.0, 2.0]], np.float32)
    arrays = [real(2, 3, 4), real(2, 0, 4), nan, real(3, 4, dtype=np.float16)]
    ways = ({"axes": [0]}, {"axes": [-1, 0], "keepdims": True}, {"axes": [1]}, {"axes": []})
    sums = "sum mean sum_square l1_norm l2_norm"
    rows = [
        s
        for w in ways
        for s in unary(f"{sums} log_sum prod max min any all count_nonzero", arrays, **w)
    ]
    rows += [s for w in ways for s in unary("xor_sum", [INTS[1]], **w)]
    rows += unary("xor_sum", [INTS[0], INTS[2], INTS[3]], axes=[0])
    rows += [
        s
        for w in ways
        for s in unary("sum prod max min any all count_nonzero", [INTS[1], INTS[1] > 0], **w)
        if not (s.op is BY_NAME["sum"] or s.op is BY_NAME["prod"])
        or s.operands[0].dtype != np.bool_
    ]
    rows += [
        s
        for w in ways[:3]
        for last in (False, True)
        for s in unary(
            "argmax argmin", [arrays[0], nan, INTS[1] // 20, INTS[1] > 0], select_last=last, **w
        )
    ]
    rows += unary(sums, [real()], axes=[])
    rows += unary("lp_norm", [real(2, 3)], axes=[1], p=3.0) + unary(
        "lp_norm", [real(2, 3)], axes=[1], p=0.5
    )
    rows += unary("logsumexp", [*arrays, np.array([[INF, 1], [-INF, -INF]], np.float32)], axes=[0])
    rows += unary("logsumexp", arrays, axes=[0, 1], keepdims=True)
    rows += [
        s
        for c in (0.0, 1.0, 2.0)
        for s in unary("var std", [real(2, 3, 4), arrays[3]], axes=[0, 1], correction=c)
    ]
    rows += unary("var std", [real(3)], axes=[0], correction=1.0, keepdims=True)
    scans = [real(2, 3, 4), INTS[1], nan, real(0, 3)]
    ends = ({"axis": 0}, {"axis": -1, "reverse": True}, {"axis": 1, "exclusive": True})
    rows += [s for w in ends for s in unary("cumsum cumprod", scans, **w)]
    rows += [
        s
        for w in ends[:2]
        for s in unary("cummax cummin argcummax argcummin", [*scans, INTS[1] // 30], **w)
    ]
    rows += [
        s
        for w in ends
        for s in unary("logcumsumexp", [real(2, 3), np.array([[-INF, 1.0, -INF]])], **w)
    ]
    return rows


def _sort():
    few = np.random.default_rng(5).integers(0, 4, (3, 70)).astype(np.float32)
    ties = np.array([[2.0, NAN, 1.0, 2.0, -INF, 2.0], [0.0, -0.0, 3.0, INF, 3.0, 0.0]], np.float32)
    return [
        *[
            one("sort", a, axis=ax, descending=d)
            for a in (ties, INTS[1], real(3, 0))
            for ax in (0, -1)
            for d in (False, True)
        ],
        *[
            one("topk", a, axis=-1, k=dims([2]), smallest=s)
            for a in (ties, INTS[1])
            for s in (False, True)
        ],
        *[
            one("sort", a, axis=-1, descending=d, ties="introsort")
            for a in (ties, few, real(3, 0))
            for d in (False, True)
        ],
        *[
            one("topk", a, axis=-1, k=dims([k]), smallest=s, ties="introselect", unsorted=u)
            for a in (ties, few)
            for k in (1, 4)
            for s in (False, True)
            for u in (None, True)
        ],
        *[one("topk", a, axis=-1, k=dims([4]), ties="quickselect") for a in (ties, few)],
        one("sort", real(), axis=0),
        one("topk", ties, axis=0, k=dims([1])),
        *[
            one(
                "searchsorted",
                np.array([1.0, 2.0, 2.0, 5.0]),
                np.array([[0.0, 2.0], [5.0, 9.0]]),
                right=r,
            )
            for r in (False, True)
        ],
        one("searchsorted", np.sort(real(2, 4), -1), real(2, 3)),
        one("nonzero", ties, count="count"),
        one("nonzero", np.array(3.0), count="count"),
        one("nonzero", np.zeros((2, 2)), count="count"),
        one("masked_select", real(2, 3), np.array([[True], [False]]), count="count"),
        *[
            one("unique", a, count="count", sorted=s)
            for a in (INTS[1] // 20, ties)
            for s in (True, False)
        ],
        one("unique", np.array([[1, 2], [3, 4], [1, 2]]), count="count", axis=0, sorted=True),
        one("unique", np.array([[3, 1, 3]]), count="count", axis=1, sorted=False),
    ]


SAMPLES = [
    *_reduce(),
    *_sort(),
]
