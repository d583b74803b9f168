"""Which of equal elements come first in the sorts of the C++ standard library, GCC's.

`std::sort`, `std::nth_element` and `std::partial_sort` leave the order of equal elements open. The
library's algorithms are deterministic, however, so programs that call them (ATen's `topk` and
unstable `sort`) have one order. These are the same comparisons and moves, on positions: introsort
(Musser 1997: quicksort by the median of three, heap sort where it goes too deep, insertion sort at
the end), introselect, and selection by a heap. `quickselect` is ATen's own, of `kthvalue`.
"""

from __future__ import annotations

from collections.abc import Callable

Before = Callable[[int, int], bool]
"""Whether the element at one position comes strictly before the one at another."""

SHORT = 16
"""Ranges that `sort` leaves to the insertion sort at the end."""


class Positions:
    """The positions 0..count-1 of a row, and the moves of the algorithms on ranges of them."""

    def __init__(self, count: int, before: Before):
        self.at = list(range(count))
        self.before = before

    def swap(self, i: int, j: int) -> None:
        self.at[i], self.at[j] = self.at[j], self.at[i]

    def is_before(self, i: int, j: int) -> bool:
        """Whether place `i` comes before place `j`."""
        return self.before(self.at[i], self.at[j])

    # -- heaps: the last element in order is at the top

    def _sift(self, first: int, hole: int, count: int, value: int) -> None:
        """Put `value` into the heap: the hole sinks to the bottom, then the value rises."""
        at, top = self.at, hole
        while 2 * hole + 2 < count:
            child = 2 * hole + 2
            child -= self.is_before(first + child, first + child - 1)
            at[first + hole], hole = at[first + child], child
        if 2 * hole + 2 == count:
            at[first + hole], hole = at[first + count - 1], count - 1
        while hole > top and self.before(at[first + (hole - 1) // 2], value):
            at[first + hole], hole = at[first + (hole - 1) // 2], (hole - 1) // 2
        at[first + hole] = value

    def heap_select(self, first: int, middle: int, last: int) -> None:
        """Make [first, middle) a heap of the first elements in order."""
        for parent in range((middle - first) // 2 - 1, -1, -1):
            self._sift(first, parent, middle - first, self.at[first + parent])
        for place in range(middle, last):
            if self.is_before(place, first):
                self._pop(first, middle, place)

    def _pop(self, first: int, last: int, target: int) -> None:
        value, self.at[target] = self.at[target], self.at[first]
        self._sift(first, 0, last - first, value)

    def partial_sort(self, first: int, middle: int, last: int) -> None:
        """Sort the first elements in order into [first, middle)."""
        if first == middle:
            return
        self.heap_select(first, middle, last)
        for end in range(middle - 1, first, -1):
            self._pop(first, end, end)

    # -- quicksort

    def _partition(self, first: int, last: int) -> int:
        """Split a range by a median of three; gives where the second part begins."""
        a, b, c = first + 1, first + (last - first) // 2, last - 1
        if self.is_before(a, b):
            median = b if self.is_before(b, c) else c if self.is_before(a, c) else a
        else:
            median = a if self.is_before(a, c) else c if self.is_before(b, c) else b
        self.swap(first, median)
        low, high = first + 1, last
        while True:
            while self.is_before(low, first):
                low += 1
            high -= 1
            while self.is_before(first, high):
                high -= 1
            if low >= high:
                return low
            self.swap(low, high)
            low += 1

    def _insertion(self, first: int, last: int) -> None:
        for end in range(first + 1, last):
            place = end
            while place > first and self.is_before(place, place - 1):
                self.swap(place, place - 1)
                place -= 1

    def nth_element(self, nth: int) -> None:
        """Put the element that is at `nth` in order there, and none that comes later before it."""
        first, last = 0, len(self.at)
        for _ in range(2 * (len(self.at).bit_length() - 1)):
            if last - first <= 3:
                break
            cut = self._partition(first, last)
            first, last = (cut, last) if cut <= nth else (first, cut)
        if last - first > 3:
            self.heap_select(first, nth + 1, last)
            self.swap(first, nth)
        else:
            self._insertion(first, last)

    def sort(self, count: int) -> None:
        """Sort the first `count` places."""
        ranges = [(0, count, 2 * (count.bit_length() - 1))]
        while ranges:
            first, last, depth = ranges.pop()
            while last - first > SHORT:
                if depth == 0:
                    self.partial_sort(first, last, last)
                    break
                depth -= 1
                cut = self._partition(first, last)
                ranges.append((cut, last, depth))
                last = cut
        self._insertion(0, count)

    def quickselect(self, nth: int) -> None:
        """As `nth_element`, by Hoare's algorithm as ATen's `kthvalue` has it."""
        low, high = 0, len(self.at) - 1
        while high > low + 1:
            self.swap(low + (high - low) // 2, low + 1)
            for a, b in ((low + 1, high), (low, high), (low + 1, low)):
                if self.is_before(b, a):
                    self.swap(a, b)
            i, j = low + 1, high
            while True:
                i += 1
                while self.is_before(i, low):
                    i += 1
                j -= 1
                while self.is_before(low, j):
                    j -= 1
                if j < i:
                    break
                self.swap(i, j)
            self.swap(low, j)
            low, high = (i if j <= nth else low), (j - 1 if j >= nth else high)
        if high == low + 1 and self.is_before(high, low):
            self.swap(low, high)
