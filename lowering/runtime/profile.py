"""Where the time of one call went, by kernel and by the source ops that each kernel computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lowering.runtime.signature import Array
from lowering.runtime.spec import KernelSpec

MAX_EVENTS = 1 << 16
"""Kernel runs that a profile can hold; a loop of more counts the rest as dropped."""


@dataclass(frozen=True)
class KernelTime:
    """One run of a kernel: nanoseconds since the first kernel began, and units of its range."""

    kernel: KernelSpec
    start_ns: int
    duration_ns: int
    units: int


@dataclass(frozen=True)
class Profile:
    """The kernels of one call, in order.

    Attributes:
        runs: Every run of a kernel.
        total_ns: Wall time of the whole native call.
        dropped: Runs that did not fit `MAX_EVENTS`.
    """

    runs: tuple[KernelTime, ...]
    total_ns: int
    dropped: int = 0

    def table(self) -> str:
        """Kernels by falling share of the time, with the source ops of each."""
        totals: dict[KernelSpec, tuple[int, int]] = {}
        for run in self.runs:
            count, spent = totals.get(run.kernel, (0, 0))
            totals[run.kernel] = (count + 1, spent + run.duration_ns)
        whole = max(1, self.total_ns)
        lines = [f"{'share':>6} {'us':>10} {'runs':>6}  kernel"]
        for kernel, (count, spent) in sorted(totals.items(), key=lambda item: -item[1][1]):
            lines.append(
                f"{spent / whole:6.1%} {spent / 1e3:10.1f} {count:6}  {kernel.name}"
                f"{_sources_text(kernel.sources)}"
            )
        rest = self.total_ns - sum(run.duration_ns for run in self.runs)
        lines.append(f"{rest / whole:6.1%} {rest / 1e3:10.1f} {'':6}  (outside of kernels)")
        if self.dropped:
            lines.append(f"{self.dropped} later runs of kernels were not recorded")
        return "\n".join(lines)

    def trace(self) -> dict[str, object]:
        """The profile in the JSON form of Chrome's trace event format; Perfetto reads it."""
        return {
            "displayTimeUnit": "ns",
            "traceEvents": [
                {
                    "name": run.kernel.name,
                    "ph": "X",
                    "pid": 0,
                    "tid": 0,
                    "ts": run.start_ns / 1e3,
                    "dur": run.duration_ns / 1e3,
                    "args": {"units": run.units, "sources": list(run.kernel.sources)},
                }
                for run in self.runs
            ],
        }


def _sources_text(sources: Sequence[str], most: int = 3) -> str:
    """The first source ops, and how many there are beside them."""
    known = list(dict.fromkeys(sources))
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"  <- {', '.join(known[:most])}{more}" if known else ""


def read_profile(
    events: Array, count: int, kernels: Mapping[int, KernelSpec], total_ns: int
) -> Profile:
    """Make a profile of the events that the host wrote.

    Args:
        events: Rows of kernel address, units, start and end in nanoseconds.
        count: How many kernels ran; rows beyond the capacity were dropped.
        kernels: Kernels by address; one that is not there is called by its address.
        total_ns: Wall time of the call.
    """
    kept = min(count, len(events))
    rows: list[list[int]] = events[:kept].tolist()
    first = rows[0][2] if rows else 0
    runs = [
        KernelTime(
            kernels.get(address, KernelSpec(f"kernel at {address:#x}")),
            start - first,
            end - start,
            units,
        )
        for address, units, start, end in rows
    ]
    return Profile(tuple(runs), total_ns, count - kept)
