"""Saving is all or nothing: killed writers, full disks, other writers, readers beside them."""

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import torsh_package
from torsh_package import Package, PackageError, ResourceType, StorageError
from torsh_package.container.atomic import AtomicFile, file_tag
from torsh_package.storage import LocalStorage

ENV = {**os.environ, "PYTHONPATH": str(Path(torsh_package.__file__).parents[1])}


def package(fill: bytes, size: int = 300_000) -> Package:
    made = Package("m", "1.0.0")
    for i in range(3):
        made.add_resource(f"r{i}", fill * size, ResourceType.Data)
    return made


def content(path: Path) -> bytes:
    """The fill byte of a whole package (`Package.load` verifies it)."""
    loaded = Package.load(path)
    fills = {bytes(resource.data[:1]) for resource in loaded.resources()}
    assert len(fills) == 1
    return fills.pop()


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


SAVER = """
import sys
from torsh_package import Package, ResourceType
path = sys.argv[1]
made = Package("m", "1.0.0")
for i in range(3):
    made.add_resource(f"r{i}", b"N" * 3_000_000, ResourceType.Data)
made.to_bytes()
print("ready", flush=True)
while True:
    made.save(path)
    print("saved", flush=True)
"""


def test_96_killed_at_any_time_leaves_a_whole_package(tmp_path: Path) -> None:
    path = tmp_path / "m.torshpkg"
    package(b"O").save(path)
    rng = random.Random(0)
    seen = set()
    for turn in range(8):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, path], stdout=subprocess.PIPE, env=ENV
        )
        assert saver.stdout is not None
        assert saver.stdout.readline() == b"ready\n"
        if turn == 7:  # However slow the disk is: at least one save gets through.
            assert saver.stdout.readline() == b"saved\n"
        time.sleep(rng.random() * 0.06)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        seen.add(content(path))
        assert len(leftovers(tmp_path)) <= 1
    assert b"N" in seen
    package(b"L").save(path)
    assert content(path) == b"L"
    assert leftovers(tmp_path) == []


def test_temporary_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with AtomicFile(path) as first:
        first.write(b"first")
        [mine] = leftovers(tmp_path)
        with AtomicFile(path) as second:
            assert mine in leftovers(tmp_path)
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert leftovers(tmp_path) == []


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    """A rename would put a file where a device, a pipe or a folder was."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(StorageError, match="is no regular file") as error:
            package(b"x").save(path)
        assert path.name in str(error.value)
    assert pipe.is_fifo()
    assert leftovers(tmp_path) == []
    link = tmp_path / "link"
    link.symlink_to(pipe)
    package(b"x").save(link)  # The link is replaced, not what it names.
    assert content(link) == b"x"
    assert pipe.is_fifo()


def test_temporary_file_taken_for_left_over_before_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer may reap the file between its creation and its lock: it is made again."""
    from torsh_package.container import atomic

    original, taken = atomic._lock, []

    def late(fd: int, *, required: bool) -> None:
        if not taken:
            taken.extend(leftovers(tmp_path))
            (tmp_path / taken[0]).unlink()
        original(fd, required=required)

    monkeypatch.setattr(atomic, "_lock", late)
    path = tmp_path / "m"
    package(b"A", 1).save(path)
    assert len(taken) == 1
    assert content(path) == b"A"
    assert leftovers(tmp_path) == []


def test_97_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a full disk where tmpfs cannot be mounted: EFBIG, then clean-up."""
    path = tmp_path / "m"
    package(b"O", 100).save(path)
    code = (
        "import resource, signal, sys\n"
        "from torsh_package import Package, ResourceType, StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "made = Package('m', '1.0.0')\n"
        "made.add_resource('r', b'N' * 1_000_000, ResourceType.Data)\n"
        "try:\n    made.save(sys.argv[1])\n"
        "except StorageError as error:\n    print(error); sys.exit(7)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, env=ENV
    )
    assert found.returncode == 7, found.stderr
    assert "cannot be written" in found.stdout
    assert content(path) == b"O"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "ftruncate"])
def test_97_any_failing_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    path = tmp_path / "m"
    package(b"O", 100).save(path)
    made = package(b"N", 100)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(f"torsh_package.container.atomic.os.{call}", fail)
        with pytest.raises(StorageError, match="cannot be written") as caught:
            made.save(path)
    assert caught.value.entry == str(path)
    assert content(path) == b"O"
    assert leftovers(tmp_path) == []


def test_97_small_tmpfs_in_a_private_namespace(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom torsh_package import Package, ResourceType, StorageError\n"
        "made = Package('m', '1.0.0')\n"
        "made.add_resource('r', b'O' * 1_000_000, ResourceType.Data)\n"
        "made.save(sys.argv[1] + '/m')\n"
        "made.remove_resource('r')\n"
        "made.add_resource('r', b'N' * 9_000_000, ResourceType.Data)\n"
        "try:\n    made.save(sys.argv[1] + '/m')\n"
        "except StorageError as error:\n    assert 'No space' in str(error), error\n"
        "import os\nassert os.listdir(sys.argv[1]) == ['m']\n"
        "assert Package.load(sys.argv[1] + '/m').get_resource('r').data[:1] == b'O'\n"
    )
    mount = 'mount -t tmpfs -o size=5m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", tmp_path, sys.executable, code]
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path]
    try:
        supported = subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        supported = False
    if not supported:
        pytest.skip("private mount namespaces are not allowed here")
    found = subprocess.run(command, capture_output=True, text=True, env=ENV)
    assert found.returncode == 0, found.stderr


def test_98_no_permission_is_told_before_long_work(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="make the folder"):
        package(b"N", 1).save(tmp_path / "none" / "m")
    code = (
        "import os, sys\nfrom torsh_package import Package, ResourceType, StorageError\n"
        "import torsh_package.content as c\n"
        "made = Package('m', '1.0.0')\n"
        "made.add_file('r', sys.executable, ResourceType.Data)\n"
        "c.FileContent.pieces = lambda self: sys.exit('content was read')\n"
        "if os.geteuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        "try:\n    made.save(sys.argv[1] + '/m')\n"
        "except StorageError as error:\n    assert 'ermission' in str(error); sys.exit(7)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        command = [sys.executable, "-c", code, folder]
        found = subprocess.run(command, capture_output=True, text=True, env=ENV)
        assert found.returncode == 7, found.stderr
        assert os.listdir(folder) == []


def test_99_two_savers_and_readers(tmp_path: Path) -> None:
    path = tmp_path / "m"
    packages = {b"A": package(b"A"), b"B": package(b"B")}
    packages[b"A"].save(path)
    start = time.monotonic()
    failures: list[BaseException] = []
    seen: set[bytes] = set()

    def running() -> bool:
        """For 0.7 s, and on a slow disk until readers have seen both packages."""
        elapsed = time.monotonic() - start
        return not failures and (elapsed < 0.7 or (len(seen) < 2 and elapsed < 60))

    def save(made: Package) -> None:
        try:
            while running():
                made.save(path)
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            while running():
                seen.add(content(path))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(made,)) for made in packages.values()]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == {b"A", b"B"}
    assert leftovers(tmp_path) == []


def test_100_replaced_between_verify_and_use(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package(b"A").save(path)
    loaded = Package.load(path)
    package(b"B").save(path)
    assert loaded.get_resource("r1").data == b"A" * 300_000


def test_101_copied_package_survives_truncation(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package(b"A").save(path)
    loaded = Package.load(path, stable="copy")
    os.truncate(path, 10)
    assert loaded.get_resource("r1").data == b"A" * 300_000


def test_102_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "m"
    link.symlink_to(victim)
    package(b"A").save(link)
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert content(link) == b"A"


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "m"
    old = os.umask(0o027)
    try:
        package(b"A", 1).save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        package(b"B", 1).save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_compare_and_swap(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package(b"A", 1).save(path, if_match="")
    with pytest.raises(StorageError, match="another writer"):
        package(b"B", 1).save(path, if_match="")
    tag = file_tag(path)
    package(b"B", 1).save(path, if_match=tag)
    with pytest.raises(StorageError, match="another writer"):
        package(b"C", 1).save(path, if_match=tag)
    assert content(path) == b"B"
    assert leftovers(tmp_path) == []


def test_compare_and_swap_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package(b"A", 1).save(path)
    for _ in range(10):
        tag = file_tag(path)
        won: list[bytes] = []

        def save(fill: bytes, tag: str = tag, won: list[bytes] = won) -> None:
            try:
                package(fill, 1).save(path, if_match=tag)
                won.append(fill)
            except StorageError:
                return

        threads = [threading.Thread(target=save, args=(f,)) for f in (b"X", b"Y", b"Z")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert content(path) == won[0]


def test_long_file_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    package(b"A", 1).save(path)
    assert content(path) == b"A"


def test_failed_content_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    made = Package("m", "1.0.0")
    made.add_file("r", source, ResourceType.Data)
    source.unlink()
    with pytest.raises(PackageError):
        made.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_local_storage(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert storage.tag("a") == ""
    with storage.create("a", if_match="") as blob:
        blob.write(b"hello world")
        blob.seek(0)
        blob.write(b"J")
        blob.truncate(5)
    tag = storage.tag("a")
    with storage.open("a") as reader:
        assert reader.size == 5
        assert reader.read_at(0, 100) == b"Jello"
        assert reader.read_at(1, 2) == b"el"
        with storage.create("a") as blob:
            blob.write(b"other")
        assert reader.read_at(0, 5) == b"Jello"
    assert storage.tag("a") != tag
    (tmp_path / "sub").mkdir()
    package(b"A", 1).save("sub/m", storage=storage)
    assert list(storage.list()) == ["a", "sub/m"]
    assert list(storage.list("sub/")) == ["sub/m"]
    storage.delete("a")
    storage.delete("a")
    assert list(storage.list()) == ["sub/m"]
    with pytest.raises(StorageError, match="No such file"), storage.open("a"):
        pass
    with pytest.raises(PackageError, match="component"):
        storage.tag("../x")
