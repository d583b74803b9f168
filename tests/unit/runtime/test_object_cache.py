"""The object cache: damage, foreign files, full and read-only disks, many processes, eviction."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowering.cache import ObjectCache, cache_key, default_directory
from lowering.codegen import CodeGenerator, CodegenSettings, CodegenUnit
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TARGETS

KEY = "a" * 64
ROOT = os.geteuid() == 0
ADD = "define float @f(float %x) nounwind {\n %y = fadd float %x, 1.0\n ret float %y\n}\n"


def entry(cache: ObjectCache, key: str = KEY) -> Path:
    return cache.directory / f"{key}.obj"


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "deep" / "cache")


def test_what_is_put_is_got(cache: ObjectCache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, b"object")
    assert cache.get(KEY) == b"object"
    assert ObjectCache(cache.directory).get(KEY) == b"object"
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(cache).stat().st_mode) == 0o600
    assert (cache.stats.hits, cache.stats.misses, cache.stats.refused) == (1, 1, 0)
    assert [path.name for path in cache.directory.iterdir()] == [f"{KEY}.obj"]


@pytest.mark.parametrize("place", [0, 5, 20, 45, 60, -1])
def test_any_flipped_byte_is_noticed(cache: ObjectCache, place: int) -> None:
    cache.put(KEY, b"0123456789" * 3)
    data = bytearray(entry(cache).read_bytes())
    data[place] ^= 1
    entry(cache).write_bytes(data)
    assert cache.get(KEY) is None
    assert cache.stats.refused == 1
    assert not entry(cache).exists()
    cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"


def test_cut_and_swapped_entries_are_noticed(cache: ObjectCache) -> None:
    cache.put(KEY, b"object")
    whole = entry(cache).read_bytes()
    for cut in (0, 3, 51, 52, len(whole) - 1):
        entry(cache).write_bytes(whole[:cut])
        assert cache.get(KEY) is None
    other = "b" * 64
    entry(cache, other).write_bytes(whole)
    assert cache.get(other) is None
    assert "digest" in cache.stats.last_problem


def test_entries_that_others_could_write_are_not_believed(cache: ObjectCache) -> None:
    cache.put(KEY, b"object")
    entry(cache).chmod(0o622)
    assert cache.get(KEY) is None
    assert "written by others (mode 622)" in cache.stats.last_problem
    if ROOT:
        cache.put(KEY, b"object")
        os.chown(entry(cache), 12345, 12345)
        assert cache.get(KEY) is None
        assert "belongs to user 12345" in cache.stats.last_problem


def test_links_pipes_and_folders_are_not_followed(cache: ObjectCache, tmp_path: Path) -> None:
    cache.put(KEY, b"object")
    elsewhere = tmp_path / "elsewhere"
    entry(cache).rename(elsewhere)
    entry(cache).symlink_to(elsewhere)
    assert cache.get(KEY) is None
    assert elsewhere.exists()
    os.mkfifo(entry(cache))
    assert cache.get(KEY) is None
    entry(cache).mkdir()
    assert cache.get(KEY) is None
    cache.put(KEY, b"object")
    assert cache.stats.failures == 1


def test_a_foreign_or_open_folder_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    cache = ObjectCache(folder)
    cache.put(KEY, b"object")
    assert not list(folder.iterdir())
    assert "written by others" in cache.stats.last_problem
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    other = ObjectCache(link)
    other.put(KEY, b"object")
    assert other.stats.failures == 1


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    cache = ObjectCache(tmp_path / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, b"object")
    assert cache.stats.failures == 1


def in_process(script: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=100, check=False)


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from lowering.cache import ObjectCache
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
cache = ObjectCache(Path(sys.argv[1]))
cache.put("a" * 64, b"x" * 1000)
assert cache.stats.failures == 1 and "File too large" in cache.stats.last_problem, cache.stats
assert cache.get("a" * 64) is None
cache.put("b" * 64, b"short")
assert cache.get("b" * 64) == b"short"
"""
    done = in_process(script, tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["b" * 64 + ".obj"]


@pytest.mark.skipif(not ROOT, reason="only root may mount a full and a read-only disk")
def test_full_and_read_only_disks(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    script = """
import ctypes, os, sys
from pathlib import Path
from lowering.cache import ObjectCache
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC_PRIVATE = 0x20000, 1, 32, 0x44000
def call(done):
    if done:
        print("no mount:", os.strerror(ctypes.get_errno())); sys.exit(77)
call(libc.unshare(CLONE_NEWNS))
call(libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
where = sys.argv[1].encode()
call(libc.mount(b"tmpfs", where, b"tmpfs", 0, b"size=64k,mode=700"))
cache = ObjectCache(Path(sys.argv[1]))
cache.put("a" * 64, b"kept")
cache.put("b" * 64, b"x" * 200_000)
assert "No space left" in cache.stats.last_problem, cache.stats
assert [p.name for p in Path(sys.argv[1]).iterdir()] == ["a" * 64 + ".obj"]
call(libc.mount(b"tmpfs", where, b"tmpfs", MS_REMOUNT | MS_RDONLY, b"size=64k"))
assert cache.get("a" * 64) == b"kept"
cache.put("c" * 64, b"more")
assert "Read-only" in cache.stats.last_problem, cache.stats
"""
    done = in_process(script, mounted)
    if done.returncode == 77:
        pytest.skip(done.stdout.decode())
    assert done.returncode == 0, done.stderr


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from lowering.cache import ObjectCache
cache = ObjectCache(Path(sys.argv[1]), 60_000)
for turn in range(400):
    for one in range(8):
        key = f"{one:064x}"
        found = cache.get(key)
        assert found is None or found == bytes([one]) * 20_000, "a torn entry"
        if found is None:
            cache.put(key, bytes([one]) * 20_000)
assert cache.stats.refused == 0, cache.stats
"""
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, complaint = process.communicate(timeout=100)
        assert process.returncode == 0, complaint.decode()


def test_the_oldest_entries_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 10_000)
    for i in range(8):
        cache.put(f"{i:064x}", bytes(1000))
        os.utime(entry(cache, f"{i:064x}"), (i, i))
    assert cache.get(f"{0:064x}") is not None  # now the newest
    assert entry(cache, f"{0:064x}").stat().st_mtime > time.time() - 100
    for i in range(8, 12):
        cache.put(f"{i:064x}", bytes(1000))
    left = {int(path.stem, 16) for path in tmp_path.iterdir()}
    assert 0 in left
    assert not {1, 2} & left
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000 * 9 // 8
    with pytest.raises(InvalidArgumentError, match="max_bytes is 0"):
        ObjectCache(tmp_path, 0)


def test_the_key_tells_everything_apart() -> None:
    base = CodegenUnit("a", ADD, TARGETS["x86-64-v3"])
    same = CodegenUnit("b", ADD, TARGETS["x86-64-v3"])
    others = [
        CodegenUnit("a", ADD + "\n", TARGETS["x86-64-v3"]),
        CodegenUnit("a", ADD, TARGETS["x86-64-v2"]),
        CodegenUnit("a", ADD, TARGETS["x86-64-v3"], passes=2),
        CodegenUnit("a", ADD, TARGETS["x86-64-v3"], codegen=1),
        CodegenUnit("a", ADD, TARGETS["x86-64-v3"], emit="asm"),
    ]
    assert base.key() == same.key()
    assert len({unit.key() for unit in [base, *others]}) == 6
    assert cache_key(b"ab", "c") != cache_key(b"b", "ca") != cache_key(b"bc", "a")


def test_a_second_generator_compiles_nothing(tmp_path: Path) -> None:
    unit = CodegenUnit("a", ADD, TARGETS["x86-64-v3"])
    first = CodeGenerator(CodegenSettings(workers=1), ObjectCache(tmp_path / "cache"))
    product = first.compile([unit])
    cache = ObjectCache(tmp_path / "cache")
    impossible = CodegenSettings(workers=1, timeout_s=0)
    assert CodeGenerator(impossible, cache).compile([unit]) == product
    assert cache.stats.hits == 1


def test_default_directory(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert default_directory({"TORSH_CACHE_DIR": "/x", "HOME": home}) == Path("/x")
    assert default_directory({"XDG_CACHE_HOME": "/y", "HOME": home}) == Path("/y/torsh")
    assert default_directory({"HOME": home}) == tmp_path / ".cache" / "torsh"
    for homeless in ({}, {"HOME": "/nonexistent"}):
        assert default_directory(homeless).name == f"torsh-{os.geteuid()}"
