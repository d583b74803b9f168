"""Probabilities of classes from the scores of their pairs.

Platt's sigmoid makes a probability of each score; pairwise coupling finds those of the classes
that agree best with them: T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability Estimates for Multi-class
Classification by Pairwise Coupling", JMLR 5 (2004), second method. libsvm and onnxruntime solve it
by its algorithm 2, for at most 100 rounds (libsvm: as many as there are classes, if more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.types import dims_of, element_type

ROUNDS = 100
LEAST = 1e-7
"""Probabilities of pairs stay this far from 0 and 1."""


def pair_probabilities(c: Compose, scores: SSAValue, a: Any, b: Any) -> SSAValue:
    """1 / (1 + exp(a s + b)) of scores s [rows, pairs]: the probability of a pair's first class."""
    element = element_type(scores)
    fitted = c.add(c.mul(scores, c.constant(a, element)), c.constant(b, element))
    bounded = c.maximum(c.sigmoid(c.neg(fitted)), LEAST)
    return c.minimum(bounded, 1 - LEAST)


def coupled(c: Compose, first: SSAValue, classes: int) -> SSAValue:
    """The probability of each class [rows, classes].

    `first` [rows, pairs] are those of class i against class j, pairs (i, j > i) in order.
    """
    rows = dims_of(first)[0]
    coupling = _Coupling.of(c, first, classes)
    start = c.broadcast(c.constant(1 / classes, element_type(first)), (rows, classes))
    going = c.constant(True, i1)
    limit = c.dim(max(ROUNDS, classes))
    region = c.region([limit.type, start.type], coupling.round)
    return c.loop(LoopOp, limit, going, [start], region, extent=None, scans=0)[0]


@dataclass(frozen=True)
class _Coupling:
    """Minimises p' Q p over probabilities p, each row for itself.

    Attributes:
        classes: How many.
        q: Q [rows, classes, classes]: -r_ji r_ij, and sums over j of r_ji squared where i = j.
        diagonal: Its diagonal [rows, classes].
    """

    classes: int
    q: SSAValue
    diagonal: SSAValue

    @staticmethod
    def of(c: Compose, first: SSAValue, classes: int) -> _Coupling:
        """From the pairs' probabilities of their first class."""
        rows, pairs = dims_of(first)[0], classes * (classes - 1) // 2
        table = np.full((classes, classes), 2 * pairs)
        table[np.triu_indices(classes, 1)] = np.arange(pairs)
        table.T[np.triu_indices(classes, 1)] = np.arange(pairs, 2 * pairs)
        second = c.sub(c.like(1.0, first), first)
        zero = c.broadcast(c.like(0.0, first), (rows, 1))
        each = c.concat([first, second, zero], 1)
        r = c.take(each, c.constant(table, i64), 1)
        diagonal = c.sum(c.mul(r, r), [1])
        q = c.neg(c.mul(r, c.transpose(r, [0, 2, 1])))
        unit = c.constant(np.eye(classes, dtype=bool), i1)
        spread = c.reshape(diagonal, (rows, classes, 1))
        return _Coupling(classes, c.where(unit, spread, q), diagonal)

    def round(self, builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """One round: rows that are not yet solved are improved class by class.

        A row is solved where Q p is p' Q p everywhere, to within 0.005 / classes.
        """
        c, p = Compose(builder), arguments[1]
        rows = dims_of(p)[0]
        qp = c.sum(c.mul(self.q, c.reshape(p, (rows, 1, self.classes))), [2])
        pqp = c.sum(c.mul(p, qp), [1], keep=True)
        error = c.max(c.abs(c.sub(qp, pqp)), [1], keep=True)
        open_rows = c.ge(error, 0.005 / self.classes)
        count = c.dim(self.classes)
        state = [p, qp, pqp]
        region = c.region([count.type, *(v.type for v in state)], self.improved)
        better, *_ = c.loop(
            LoopOp, count, c.constant(True, i1), state, region, extent=None, scans=0
        )
        again = builder(AnyOp, open_rows, axes=[0, 1])
        return [again, c.where(open_rows, better, p)]

    def improved(self, builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """P, Q p and p' Q p with the probability of one class changed, and p of sum 1 again."""
        c = Compose(builder)
        place, p, qp, pqp = arguments
        rows, classes = dims_of(p)
        own = c.reshape(c.take(self.diagonal, place, 1), (rows, 1))
        slope = c.reshape(c.take(qp, place, 1), (rows, 1))
        step = c.div(c.sub(pqp, slope), own)
        total = c.add(step, 1.0)
        mine = c.eq(c.iota(classes), place)
        p = c.div(c.where(mine, c.add(p, step), p), total)
        moved = c.mul(step, c.add(c.mul(step, own), c.mul(slope, 2.0)))
        pqp = c.div(c.add(pqp, moved), c.mul(total, total))
        qp = c.div(c.add(qp, c.mul(step, c.take(self.q, place, 1))), total)
        return [c.constant(True, i1), p, qp, pqp]
