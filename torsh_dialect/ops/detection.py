"""Choosing among overlapping boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import BoolAttr, StringAttr
from xdsl.irdl import operand_def, opt_operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, bool_of, str_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import symbol
from torsh_dialect.dtypes import i64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import DataDependent
from torsh_dialect.ops.reference import require_equal
from torsh_dialect.types import AnyTensor, dims_of, rank_of, tensor


@op
class NonMaxSuppressionOp(DataDependent):
    """The boxes of each batch entry and class that overlap no better one, best first.

    boxes are [B, N, 4]: corners (y1, x1, y2, x2) in any order, or (x, y, width, height) of centres
    with `centred`; scores are [B, C, N]. Of boxes with a score above `least` (if given), in
    descending order (the lower index first among equals), one is taken if its intersection over
    union with none taken before exceeds `overlap`, until `most` are. Rows of the result are (batch,
    class, box); their number is the symbol `count`.

    C1: boxes and scores have rank 3 and agree in B and N.
    C2: most (i64), overlap and least (f32) are scalars.

    %r = torsh.non_max_suppression %b, %s, %m, %o {count = "n"} : (tensor<1x6x4xf32>, tensor<1x1x6xf32>, tensor<i64>, tensor<f32>) -> tensor<?x3xi64, #torsh.dims<[n, 3]>>
    """  # noqa: E501

    name = "torsh.non_max_suppression"
    boxes = operand_def()
    scores = operand_def()
    most = operand_def()
    overlap = operand_def()
    least = opt_operand_def()
    centred = opt_prop_def(BoolAttr)
    count = prop_def(StringAttr)
    y = result_def()
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        boxes, scores = dims_of(self.boxes), dims_of(self.scores)
        if len(boxes) != 3 or len(scores) != 3 or boxes[2] != 4:
            raise ShapeError(f"boxes are {list(boxes)}, scores {list(scores)} (C1)")
        require_equal("batches (C1)", boxes[0], scores[0])
        require_equal("boxes (C1)", boxes[1], scores[2])
        if any(rank_of(v) for v in self._operands[2:]):
            raise ShapeError("limits are scalars (C2)")
        return (tensor(i64, (symbol(str_of(self.count)), 3)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        inputs: list[Any] = list(args)
        boxes, scores, most, overlap, *least = inputs
        rows: list[tuple[int, int, int]] = []
        for batch, group in enumerate(scores):
            low, high = self._corners(boxes[batch])
            for kind, score in enumerate(group):
                order = np.argsort(-score, kind="stable")
                if least:
                    order = order[score[order] > least[0]]
                taken: list[int] = []
                for box in map(int, order):
                    if len(taken) >= most:
                        break
                    if all(_overlap(low, high, box, t) <= overlap for t in taken):
                        taken.append(box)
                rows.extend((batch, kind, box) for box in taken)
        return (np.asarray(rows, np.int64).reshape(-1, 3),)

    def _corners(self, boxes: Any) -> tuple[Any, Any]:
        if bool_of(self.centred):
            half = boxes[:, 2:] / 2
            return boxes[:, :2] - half, boxes[:, :2] + half
        return np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])


def _overlap(low: Any, high: Any, a: int, b: int) -> float:
    """Intersection over union of two boxes; 0 for empty ones."""
    sides = np.minimum(high[a], high[b]) - np.maximum(low[a], low[b])
    if (sides <= 0).any():
        return 0.0
    shared = sides[0] * sides[1]
    areas = [(high[n] - low[n]).prod() for n in (a, b)]
    whole = areas[0] + areas[1] - shared
    return float(shared / whole) if min(*areas, whole) > 0 else 0.0
