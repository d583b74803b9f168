"""How many threads to use: the least of what the container, the mask and the user allow."""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torsh_dialect.errors import InvalidArgumentError

_ROOT = Path("/")


@dataclass(frozen=True)
class ThreadLimit:
    """A number of threads, and why.

    Attributes:
        count: Threads to use, at least 1.
        reasons: Every limit that was found: what says so, and its number.
    """

    count: int
    reasons: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        found = ", ".join(f"{source} {number}" for source, number in self.reasons)
        return f"{self.count} (least of: {found})"


def thread_limit(
    requested: int | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    root: Path = _ROOT,
    affinity: int | None = None,
) -> ThreadLimit:
    """The least of cgroup quota, affinity mask, environment and `requested`.

    Args:
        requested: The `threads=` argument; None asks for as many as allowed.
        environ: Where `OMP_NUM_THREADS` and `TORSH_NUM_THREADS` are read; None reads neither.
        root: Directory that holds `proc` and `sys`, for tests.
        affinity: Cores in the affinity mask; None asks the system.

    Raises:
        InvalidArgumentError: `requested` or `TORSH_NUM_THREADS` is no positive integer.
    """
    cores = len(os.sched_getaffinity(0)) if affinity is None else affinity
    reasons = [("affinity mask", cores)]
    quota = cgroup_quota(root)
    if quota is not None:
        reasons.append(("cgroup CPU quota", max(1, int(quota))))
    reasons += _from_environment(environ or {})
    if requested is not None:
        reasons.append(("threads argument", _positive("threads", requested)))
    return ThreadLimit(min(number for _, number in reasons), tuple(reasons))


def _positive(name: str, value: int | str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InvalidArgumentError(f"{name} is {value!r}; it must be a positive integer")
    return number


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    if ours := environ.get("TORSH_NUM_THREADS"):
        yield "TORSH_NUM_THREADS", _positive("TORSH_NUM_THREADS", ours)
    # A list such as "4,2" gives one number for each nesting level (OpenMP 5.2, 21.2.1).
    if theirs := environ.get("OMP_NUM_THREADS", "").split(",")[0].strip():
        if theirs.isdecimal() and int(theirs) > 0:
            yield "OMP_NUM_THREADS", int(theirs)
        else:
            warnings.warn(f"OMP_NUM_THREADS is {theirs!r}, not a number: ignored", stacklevel=4)


def cgroup_quota(root: Path = _ROOT) -> float | None:
    """Cores that the CPU bandwidth controller grants this process; None for no limit.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`), of the process's group and of every
    group above it; the least counts. Files that are missing or odd set no limit.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for directory in _directories(root, controllers, path):
            quota = _read_v1(directory) if controllers else _read_v2(directory)
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _directories(root: Path, controllers: str, path: str) -> Iterator[Path]:
    """The group's directory and those above it, under each usual mount point.

    In a container the path may be the host's, and what is mounted the group itself: the mount
    point is always among the results.
    """
    mounts = root / "sys/fs/cgroup"
    if not controllers:
        names = ["", "unified"]
    elif "cpu" in controllers.split(","):
        names = ["cpu", "cpu,cpuacct", "cpuacct,cpu"]
    else:
        return
    parts = PurePosixPath(path.lstrip("/")).parts
    if ".." in parts:  # outside of the cgroup namespace
        parts = ()
    for name in names:
        for depth in range(len(parts), -1, -1):
            yield mounts.joinpath(name, *parts[:depth])


def _read_v2(directory: Path) -> float | None:
    try:
        quota, period = (directory / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
