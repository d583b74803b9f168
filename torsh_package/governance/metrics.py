"""`MetricsCollector`: how often, how long and how much, in the Prometheus text format."""

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass

from torsh_package.observing import Operation

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Upper ends of the duration buckets, in seconds."""


@dataclass(frozen=True)
class OperationMetrics:
    """Totals of one operation with one outcome.

    Args:
        count: How often.
        seconds: Sum of durations.
        size: Sum of bytes.
        buckets: How often it took at most `BUCKETS[i]` seconds.
    """

    count: int
    seconds: float
    size: int
    buckets: tuple[int, ...]


class MetricsCollector:
    """Counts operations (`torsh_package.observing.Observer`). Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._size: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[tuple[str, str, float]] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()

    def observe(self, operation: Operation, /) -> None:
        """Count an operation."""
        key = operation.name, operation.outcome
        with self._lock:
            self._count[key] += 1
            self._seconds[key] += operation.seconds
            self._size[key] += operation.size
            for end in BUCKETS:
                if operation.seconds <= end:
                    self._buckets[*key, end] += 1
            if operation.code:
                self._errors[operation.name, operation.code] += 1

    def snapshot(self) -> dict[tuple[str, str], OperationMetrics]:
        """Totals by operation and outcome."""
        with self._lock:
            return {
                key: OperationMetrics(
                    count,
                    self._seconds[key],
                    self._size[key],
                    tuple(self._buckets[*key, end] for end in BUCKETS),
                )
                for key, count in sorted(self._count.items())
            }

    def to_prometheus(self) -> str:
        """All metrics in the text exposition format, version 0.0.4."""
        lines = ["# TYPE torshpkg_operation_seconds histogram"]
        totals = self.snapshot()
        for (name, outcome), total in totals.items():
            labels = f'operation="{name}",outcome="{outcome}"'
            ends = [*map(str, BUCKETS), "+Inf"]
            for end, count in zip(ends, (*total.buckets, total.count), strict=True):
                lines.append(f'torshpkg_operation_seconds_bucket{{{labels},le="{end}"}} {count}')
            lines.append(f"torshpkg_operation_seconds_sum{{{labels}}} {total.seconds!r}")
            lines.append(f"torshpkg_operation_seconds_count{{{labels}}} {total.count}")
        lines.append("# TYPE torshpkg_operation_bytes_total counter")
        for (name, outcome), total in totals.items():
            labels = f'operation="{name}",outcome="{outcome}"'
            lines.append(f"torshpkg_operation_bytes_total{{{labels}}} {total.size}")
        lines.append("# TYPE torshpkg_errors_total counter")
        with self._lock:
            errors = sorted(self._errors.items())
        for (name, code), count in errors:
            lines.append(f'torshpkg_errors_total{{operation="{name}",code="{code}"}} {count}')
        return "\n".join([*lines, ""])
