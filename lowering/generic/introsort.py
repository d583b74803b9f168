"""The sorts of the C++ standard library on positions: `torsh_dialect.ops.introsort` as a kernel.

Which of equal elements comes first depends on every move, so the moves are the same ones here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from lowering.kern.builder import Index, KernBuilder
from torsh_dialect.dims import Dim, floordiv, minimum
from torsh_dialect.ops.introsort import SHORT

Before = Callable[[SSAValue, SSAValue], SSAValue]
"""Whether the element at one position comes strictly before the one at another."""

RANGE_WORDS = 3
"""Words of a range that waits: first, last, depth."""

MOST_RANGES = 128
"""Of ranges that wait no two have the same depth, which is at most 2 * 63."""


def words_of(count: Dim) -> Dim:
    """Words of a workspace that `RowPositions` of `count` positions uses."""
    return count + RANGE_WORDS * minimum(MOST_RANGES, floordiv(count, SHORT) + 1)


def _is_going(i: SSAValue, j: SSAValue, going: SSAValue) -> SSAValue:
    return going


class RowPositions:
    """Emits the moves; `words` holds the positions from `base` on, then ranges that wait."""

    def __init__(self, b: KernBuilder, words: SSAValue, base: Index, count: Index, before: Before):
        self.b, self.words, self.base, self.count, self.before = b, words, base, count, before

    def start(self, count: Index) -> None:
        """Put the first `count` positions in order."""
        self.b.each(0, count, lambda i: self.put(i, i))

    def at(self, place: Index) -> SSAValue:
        """The position at a place."""
        return self.b.load_now(self.words, self.b.add_index(self.base, place))

    def put(self, place: Index, position: SSAValue) -> None:
        self.b.store(position, self.words, self.b.add_index(self.base, place))

    def swap(self, i: Index, j: Index) -> None:
        a, b = self.at(i), self.at(j)
        self.put(i, b)
        self.put(j, a)

    def is_before(self, i: Index, j: Index) -> SSAValue:
        """Whether place `i` comes before place `j`."""
        return self.before(self.at(i), self.at(j))

    def _depth(self, count: Index) -> SSAValue:
        """2 floor(log2(count)): how often a range is split before a heap takes over."""
        b = self.b

        def divisible(rest: SSAValue, depth: SSAValue) -> SSAValue:
            return b.compare_index("gt", rest, 1)

        def halved(rest: SSAValue, depth: SSAValue) -> Sequence[SSAValue]:
            return [b.index(b.floordiv(rest, 2)), b.index(b.add_index(depth, 2))]

        return b.while_([b.index(count), b.index(0)], divisible, halved)[1]

    # -- heaps

    def _sift(self, first: Index, hole: Index, count: Index, value: SSAValue) -> None:
        """Put `value` into the heap: the hole sinks to the bottom, then the value rises."""
        b, add = self.b, self.b.add_index

        def right(parent: SSAValue) -> Index:
            return add(b.mul_index(parent, 2), 2)

        def has_both(parent: SSAValue) -> SSAValue:
            return b.compare_index("lt", right(parent), count)

        def sink(parent: SSAValue) -> Sequence[SSAValue]:
            child = add(first, right(parent))
            left = b.sub_index(child, 1)
            chosen = b.select_index(self.is_before(child, left), left, child)
            self.put(add(first, parent), self.at(chosen))
            return [b.index(b.sub_index(chosen, first))]

        bottom = b.while_([b.index(hole)], has_both, sink)[0]

        def only_child() -> Sequence[SSAValue]:
            last = b.sub_index(count, 1)
            self.put(add(first, bottom), self.at(add(first, last)))
            return [b.index(last)]

        lone = b.compare_index("eq", right(bottom), count)
        place = b.if_(lone, only_child, lambda: [bottom])[0]

        def parent(of: SSAValue) -> Index:
            return add(first, b.floordiv(b.sub_index(b.max_index(of, 1), 1), 2))

        def rises(at: SSAValue) -> SSAValue:
            inside = b.compare_index("gt", at, hole)
            return b.and_(inside, self.before(self.at(parent(at)), value))

        def rise(at: SSAValue) -> Sequence[SSAValue]:
            self.put(add(first, at), self.at(parent(at)))
            return [b.index(b.sub_index(parent(at), first))]

        self.put(add(first, b.while_([place], rises, rise)[0]), value)

    def _pop(self, first: Index, last: Index, target: Index) -> None:
        value = self.at(target)
        self.put(target, self.at(first))
        self._sift(first, 0, self.b.sub_index(last, first), value)

    def heap_select(self, first: Index, middle: Index, last: Index, *, fresh: bool = False) -> None:
        """Make [first, middle) a heap of the first elements in order.

        With `fresh`, what is behind `middle` is not in memory yet: each place holds itself.
        """
        b = self.b
        size = b.sub_index(middle, first)
        parents = b.floordiv(size, 2)

        def build(i: SSAValue) -> None:
            hole = b.index(b.sub_index(b.sub_index(parents, 1), i))
            self._sift(first, hole, size, self.at(b.add_index(first, hole)))

        def consider(place: SSAValue) -> None:
            value = place if fresh else self.at(place)

            def take() -> Sequence[SSAValue]:
                if not fresh:
                    self.put(place, self.at(first))
                self._sift(first, 0, size, value)
                return ()

            b.if_(self.before(value, self.at(first)), take)

        b.each(0, parents, build)
        b.each(middle, last, consider)

    def partial_sort(
        self, first: Index, middle: Index, last: Index, *, fresh: bool = False
    ) -> None:
        """Sort the first elements in order into [first, middle), which is not empty."""
        b = self.b
        self.heap_select(first, middle, last, fresh=fresh)

        def pop(i: SSAValue) -> None:
            end = b.sub_index(b.sub_index(middle, 1), i)
            self._pop(first, end, end)

        b.each(0, b.sub_index(b.sub_index(middle, 1), first), pop)

    # -- quicksort

    def _partition(self, first: Index, last: Index) -> SSAValue:
        """Split a range by a median of three; gives where the second part begins."""
        b, choose = self.b, self.b.select_index
        one, end = b.add_index(first, 1), b.sub_index(last, 1)
        mid = b.add_index(first, b.floordiv(b.sub_index(last, first), 2))
        low, high = self.is_before(one, mid), self.is_before(mid, end)
        across = self.is_before(one, end)
        rising = choose(high, mid, choose(across, end, one))
        falling = choose(across, one, choose(high, end, mid))
        self.swap(first, choose(low, rising, falling))
        pivot = self.at(first)

        def scan(low: SSAValue, high: SSAValue, going: SSAValue) -> Sequence[SSAValue]:
            i, j = self._scan_up(low, pivot), self._scan_down(b.sub_index(high, 1), pivot)
            more = b.compare_index("lt", i, j)

            def exchange() -> Sequence[SSAValue]:
                self.swap(i, j)
                return [b.index(b.add_index(i, 1))]

            return [b.if_(more, exchange, lambda: [i])[0], j, more]

        init = [b.index(one), b.index(last), b.compare_index("lt", first, last)]
        return b.while_(init, _is_going, scan)[0]

    def _scan_up(self, place: Index, pivot: SSAValue) -> SSAValue:
        def before(i: SSAValue) -> SSAValue:
            return self.before(self.at(i), pivot)

        def step(i: SSAValue) -> Sequence[SSAValue]:
            return [self.b.index(self.b.add_index(i, 1))]

        return self.b.while_([self.b.index(place)], before, step)[0]

    def _scan_down(self, place: Index, pivot: SSAValue) -> SSAValue:
        def behind(i: SSAValue) -> SSAValue:
            return self.before(pivot, self.at(i))

        def step(i: SSAValue) -> Sequence[SSAValue]:
            return [self.b.index(self.b.sub_index(i, 1))]

        return self.b.while_([self.b.index(place)], behind, step)[0]

    def _insertion(self, first: Index, last: Index) -> None:
        b = self.b

        def insert(end: SSAValue) -> None:
            value = self.at(end)

            def before(place: SSAValue) -> Index:
                return b.max_index(b.sub_index(place, 1), first)

            def later(place: SSAValue) -> SSAValue:
                inside = b.compare_index("gt", place, first)
                return b.and_(inside, self.before(value, self.at(before(place))))

            def shift(place: SSAValue) -> Sequence[SSAValue]:
                self.put(place, self.at(before(place)))
                return [b.index(before(place))]

            self.put(b.while_([end], later, shift)[0], value)

        b.each(b.add_index(first, 1), last, insert)

    def nth_element(self, nth: Index) -> None:
        """Put the element that is at `nth` in order there, and none that comes later before it."""
        b = self.b

        def long(first: SSAValue, last: SSAValue) -> SSAValue:
            return b.compare_index("gt", b.sub_index(last, first), 3)

        def splits(first: SSAValue, last: SSAValue, depth: SSAValue) -> SSAValue:
            return b.and_(long(first, last), b.compare_index("gt", depth, 0))

        def split(first: SSAValue, last: SSAValue, depth: SSAValue) -> Sequence[SSAValue]:
            cut = self._partition(first, last)
            after = b.compare_index("le", cut, nth)
            ends = b.select_index(after, cut, first), b.select_index(after, last, cut)
            return [*map(b.index, ends), b.index(b.sub_index(depth, 1))]

        init = [b.index(0), b.index(self.count), self._depth(self.count)]
        first, last, _ = b.while_(init, splits, split)

        def by_heap() -> Sequence[SSAValue]:
            self.heap_select(first, b.add_index(nth, 1), last)
            self.swap(first, nth)
            return ()

        def by_insertion() -> Sequence[SSAValue]:
            self._insertion(first, last)
            return ()

        b.if_(long(first, last), by_heap, by_insertion)

    def sort(self, count: Index) -> None:
        """Sort the first `count` places."""
        b = self.b

        def is_waiting(top: SSAValue) -> SSAValue:
            return b.compare_index("gt", top, 0)

        def one_range(top: SSAValue) -> Sequence[SSAValue]:
            entry = b.index(b.sub_index(top, 1))
            first, last, depth = self._waiting(entry)

            def long(last: SSAValue, depth: SSAValue, top: SSAValue) -> SSAValue:
                return b.compare_index("gt", b.sub_index(last, first), SHORT)

            def split(last: SSAValue, depth: SSAValue, top: SSAValue) -> Sequence[SSAValue]:
                def by_heap() -> Sequence[SSAValue]:
                    self.partial_sort(first, last, last)
                    return [first, depth, top]

                def in_two() -> Sequence[SSAValue]:
                    cut, less = self._partition(first, last), b.index(b.sub_index(depth, 1))
                    return [cut, less, self._wait(top, (cut, last, less))]

                return b.if_(b.compare_index("eq", depth, 0), by_heap, in_two)

            return [b.while_([last, depth, entry], long, split)[2]]

        whole = (b.index(0), b.index(count), self._depth(count))
        top = self._wait(b.index(0), whole)
        b.while_([top], is_waiting, one_range)
        self._insertion(0, count)

    def _range_word(self, entry: Index, word: int) -> Index:
        """Where a word of a range that waits is, behind the positions."""
        place = self.b.add_index(self.b.mul_index(entry, RANGE_WORDS), word)
        return self.b.add_index(self.base, self.b.add_index(self.count, place))

    def _wait(self, top: SSAValue, given: tuple[SSAValue, SSAValue, SSAValue]) -> SSAValue:
        """Put a range aside if it is long; gives how many there are then."""
        b = self.b

        def push() -> Sequence[SSAValue]:
            for word, value in enumerate(given):
                b.store(value, self.words, self._range_word(top, word))
            return [b.index(b.add_index(top, 1))]

        long = b.compare_index("gt", b.sub_index(given[1], given[0]), SHORT)
        return b.if_(long, push, lambda: [top])[0]

    def _waiting(self, entry: SSAValue) -> Sequence[SSAValue]:
        return [self.b.load_now(self.words, self._range_word(entry, n)) for n in range(RANGE_WORDS)]

    # -- Hoare's selection

    def quickselect(self, nth: Index) -> None:
        """As `nth_element`, as ATen's `kthvalue` does it."""
        b = self.b

        def narrow(low: SSAValue, high: SSAValue) -> Sequence[SSAValue]:
            one = b.add_index(low, 1)
            self.swap(b.add_index(low, b.floordiv(b.sub_index(high, low), 2)), one)
            for i, j in ((one, high), (low, high), (one, low)):
                self._order(i, j)
            pivot = self.at(low)

            def scan(i: SSAValue, j: SSAValue, going: SSAValue) -> Sequence[SSAValue]:
                up = self._scan_up(b.add_index(i, 1), pivot)
                down = self._scan_down(b.sub_index(j, 1), pivot)
                more = b.compare_index("ge", down, up)
                b.if_(more, lambda: self._swapped(up, down))
                return [up, down, more]

            init = [b.index(one), high, b.compare_index("lt", low, high)]
            i, j, _ = b.while_(init, _is_going, scan)
            self.swap(low, j)
            lower = b.select_index(b.compare_index("le", j, nth), i, low)
            upper = b.select_index(b.compare_index("ge", j, nth), b.sub_index(j, 1), high)
            return [b.index(lower), b.index(upper)]

        init = [b.index(0), b.index(b.sub_index(self.count, 1))]

        def wide(low: SSAValue, high: SSAValue) -> SSAValue:
            return b.compare_index("gt", high, b.add_index(low, 1))

        low, high = b.while_(init, wide, narrow)
        two = b.compare_index("eq", high, b.add_index(low, 1))

        def order() -> Sequence[SSAValue]:
            self._order(low, high)
            return ()

        b.if_(two, order)

    def _order(self, i: Index, j: Index) -> None:
        """Swap two places where the second comes before the first."""
        self.b.if_(self.is_before(j, i), lambda: self._swapped(i, j))

    def _swapped(self, i: Index, j: Index) -> Sequence[SSAValue]:
        self.swap(i, j)
        return ()
