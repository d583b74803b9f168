"""Stable merge sort of positions, in O(n log n) steps and a workspace of 2 n words a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from lowering.kern.builder import Index, KernBuilder

Before = Callable[[SSAValue, SSAValue], SSAValue]
"""Whether the element at one position comes strictly before the one at another."""


def merge_sort(
    b: KernBuilder, words: SSAValue, base: Index, count: Index, before: Before
) -> SSAValue:
    """Sort the positions 0..count-1.

    Args:
        b: Where code goes.
        words: A buffer of `index`; 2 * count words from `base` on are used.
        base: Where the words of this line begin.
        count: How many positions there are.
        before: The order; equal elements keep theirs.

    Returns:
        Where the sorted positions begin.
    """
    b.each(0, count, lambda i: b.store(i, words, b.add_index(base, i)))
    other = b.add_index(base, count)

    def unsorted(width: SSAValue, source: SSAValue, target: SSAValue) -> SSAValue:
        return b.compare_index("lt", width, count)

    def one_pass(width: SSAValue, source: SSAValue, target: SSAValue) -> Sequence[SSAValue]:
        twice = b.mul_index(width, 2)
        runs = b.floordiv(b.add_index(count, b.sub_index(twice, 1)), twice)

        def merge(run: SSAValue) -> None:
            start = b.mul_index(run, twice)
            middle = b.min_index(b.add_index(start, width), count)
            end = b.min_index(b.add_index(start, twice), count)
            _merge(b, words, (source, target), (start, middle, end), before)

        b.each(0, runs, merge)
        return [b.index(twice), target, source]

    init = [b.index(1), b.index(base), b.index(other)]
    return b.while_(init, unsorted, one_pass)[1]


def _merge(
    b: KernBuilder,
    words: SSAValue,
    places: tuple[SSAValue, SSAValue],
    run: tuple[Index, Index, Index],
    before: Before,
) -> None:
    """Merge [start, middle) and [middle, end) of one half of the words into the other."""
    source, target = places
    start, middle, end = run

    def position(at: Index, most: Index) -> SSAValue:
        inside = b.min_index(at, b.sub_index(most, 1))
        return b.load_now(words, b.add_index(source, inside))

    def step(place: SSAValue, *heads: SSAValue) -> Sequence[SSAValue]:
        left, right = heads
        first, second = position(left, middle), position(right, end)
        some = b.compare_index("lt", left, middle)
        none = b.compare_index("ge", right, end)
        takes = b.and_(some, b.or_(none, b.not_(before(second, first))))
        b.store(b.select(takes, first, second), words, b.add_index(target, place))
        one = b.cast(takes, b.index_type)
        return [b.index(b.add_index(left, one)), b.index(b.add_index(right, b.sub_index(1, one)))]

    b.for_(start, end, step, [b.index(start), b.index(middle)])
