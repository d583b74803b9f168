"""Compiling models with a cache that cannot be written, is full, damaged, or shared at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from robust_models import HERE, ROOT, in_process, succeed

COMPILE = """
import hashlib, sys
import numpy as np
from robust_models import convnet, normal
from torsh_fx.compiler import compile, generator
f = compile(convnet())
y = f.run([normal(1, 3, 16, 16)])[0]
stats = generator(False, True).cache.stats
print(hashlib.sha256(y.tobytes()).hexdigest(), stats.hits, stats.failures)
print(stats.last_problem, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that holds the model, and the digest of the model's result."""
    folder = tmp_path_factory.mktemp("cache") / "c"
    digest, hits, failures = succeed(COMPILE, TORSH_CACHE_DIR=str(folder)).split()
    assert (hits, failures) == ("0", "0")
    return folder, digest


def test_a_filled_cache_is_used_and_gives_the_same_bytes(filled: tuple[Path, str]):
    folder, digest = filled
    entries = len(list(folder.glob("*.obj")))
    assert entries > 1
    again = succeed(COMPILE, TORSH_CACHE_DIR=str(folder)).split()
    assert again == [digest, str(entries), "0"]


def test_a_cache_that_cannot_be_written_is_done_without(filled: tuple[Path, str]):
    # /proc refuses new folders to every user, root included.
    digest, hits, failures = succeed(COMPILE, TORSH_CACHE_DIR="/proc/torsh-cache").split()
    assert (digest, hits) == (filled[1], "0")
    assert int(failures) > 1


def test_a_cache_path_that_is_a_file_is_done_without(tmp_path: Path, filled: tuple[Path, str]):
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    digest, _, failures = succeed(COMPILE, TORSH_CACHE_DIR=str(path)).split()
    assert digest == filled[1]
    assert int(failures) > 1
    assert path.read_bytes() == b"mine"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, filled: tuple[Path, str]):
    # A limit on the size of files stands for the full disk: writes stop in the middle.
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
    )
    folder = tmp_path / "full"
    digest, hits, failures = succeed(limit + COMPILE, TORSH_CACHE_DIR=str(folder)).split()
    assert (digest, hits) == (filled[1], "0")
    assert int(failures) > 1
    assert list(folder.iterdir()) == []
    assert succeed(COMPILE, TORSH_CACHE_DIR=str(folder)).split()[0] == digest


def test_damaged_entries_are_compiled_again(tmp_path: Path, filled: tuple[Path, str]):
    folder = tmp_path / "damaged"
    shutil.copytree(filled[0], folder)
    os.chmod(folder, 0o700)
    entries = sorted(folder.glob("*.obj"))
    entries[0].write_bytes(entries[0].read_bytes()[:-7])
    data = bytearray(entries[1].read_bytes())
    data[len(data) // 2] ^= 1
    entries[1].write_bytes(bytes(data))
    digest, hits, _ = succeed(COMPILE, TORSH_CACHE_DIR=str(folder)).split()
    assert digest == filled[1]
    assert int(hits) == len(entries) - 2
    assert [p.read_bytes() for p in entries] == [(filled[0] / p.name).read_bytes() for p in entries]


def test_two_processes_fill_one_cache_at_once(tmp_path: Path, filled: tuple[Path, str]):
    folder = tmp_path / "shared"
    path = os.pathsep.join([str(ROOT), str(HERE)])
    environ = {**os.environ, "PYTHONPATH": path, "TORSH_CACHE_DIR": str(folder)}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", COMPILE],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split()[0] == filled[1]
        assert out.split()[2] == "0", err
    names = {p.name for p in folder.iterdir()}
    assert names == {p.name for p in filled[0].iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (filled[0] / name).read_bytes()


def test_a_process_killed_while_it_compiles_leaves_a_usable_cache(
    tmp_path: Path, filled: tuple[Path, str]
):
    folder = tmp_path / "killed"
    kill = (
        "import os, signal\n"
        "from lowering.cache import ObjectCache\n"
        "put = ObjectCache.put\n"
        "def once(self, key, product):\n"
        "    put(self, key, product)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "ObjectCache.put = once\n"
    )
    done = in_process(kill + COMPILE, TORSH_CACHE_DIR=str(folder))
    assert done.returncode == -9
    assert len(list(folder.glob("*.obj"))) == 1
    digest, hits, _ = succeed(COMPILE, TORSH_CACHE_DIR=str(folder)).split()
    assert (digest, hits) == (filled[1], "1")
