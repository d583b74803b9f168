"""The number of threads under made-up cgroup trees, masks and environments, and real ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lowering.runtime.threads import cgroup_quota, thread_limit
from torsh_dialect.errors import InvalidArgumentError

V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/x\n4:cpuacct,cpu:/a/b\n3:cpuset:/\n"}
HYBRID = {"proc/self/cgroup": "1:cpu:/a\n0::/a\n"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    base = f"sys/fs/cgroup/{folder}"
    return {f"{base}/cpu.cfs_quota_us": f"{quota}\n", f"{base}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        (V2, None),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        (V2 | {"sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2),
        (
            V2
            | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}
            | {"sys/fs/cgroup/a/cpu.max": "50000 100000\n"},
            0.5,
        ),
        # In a container the group is mounted at the top, under a path of the host's.
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "rubbish\n"}, None),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "1000 0\n"}, None),
        (V1, None),
        (V1 | v1("cpu,cpuacct/a/b", 250_000), 2.5),
        (V1 | v1("cpu/a", 100_000), 1),
        (V1 | v1("cpu", -1), None),
        (V1 | v1("cpu", 300_000) | v1("cpu/a/b", 200_000, 50_000), 3),
        (HYBRID | v1("cpu/a", 700_000), 7),
        (HYBRID | {"sys/fs/cgroup/unified/a/cpu.max": "600000 100000"}, 6),
        ({"proc/self/cgroup": "nonsense\n::\n0::\n"}, None),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cgroup_quota(tree(tmp_path, files)) == quota


def limit(root: Path, requested: int | None = None, cores: int = 16, **environ: str) -> int:
    return thread_limit(requested, environ=environ, root=root, affinity=cores).count


def test_the_least_counts(tmp_path: Path) -> None:
    free = tree(tmp_path / "free", V2)
    five = tree(tmp_path / "five", V2 | {"sys/fs/cgroup/a/b/cpu.max": "550000 100000"})
    small = tree(tmp_path / "small", V2 | {"sys/fs/cgroup/a/b/cpu.max": "20000 100000"})
    assert limit(free) == 16
    assert limit(five) == 5
    assert limit(small) == 1
    assert limit(five, cores=2) == 2
    assert limit(five, 3) == 3
    assert limit(five, 9) == 5
    assert limit(free, OMP_NUM_THREADS="4,2") == 4
    assert limit(free, OMP_NUM_THREADS="") == 16
    assert limit(free, OMP_NUM_THREADS="4", TORSH_NUM_THREADS="3") == 3
    assert limit(five, 4, OMP_NUM_THREADS="8", TORSH_NUM_THREADS="2", cores=3) == 2


def test_reasons_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, V2 | {"sys/fs/cgroup/a/b/cpu.max": "550000 100000"})
    told = str(thread_limit(7, environ={"OMP_NUM_THREADS": "6"}, root=root, affinity=8))
    assert told == (
        "5 (least of: affinity mask 8, cgroup CPU quota 5, OMP_NUM_THREADS 6, threads argument 7)"
    )


@pytest.mark.parametrize("value", [0, -1])
def test_bad_arguments(value: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=f"threads is {value}"):
        limit(tmp_path, value)
    with pytest.raises(InvalidArgumentError, match="TORSH_NUM_THREADS is 'many'"):
        limit(tmp_path, TORSH_NUM_THREADS="many")
    with pytest.warns(UserWarning, match="OMP_NUM_THREADS is 'all'"):
        assert limit(tmp_path, OMP_NUM_THREADS="all") == 16


def test_the_real_affinity_mask_counts() -> None:
    script = (
        "import os; from lowering.runtime.threads import thread_limit;"
        "cpu = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {cpu});"
        "print(thread_limit(environ=os.environ).count)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60
    )
    assert run.stdout == b"1\n"
    assert thread_limit().count <= len(os.sched_getaffinity(0))
