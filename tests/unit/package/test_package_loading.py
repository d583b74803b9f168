"""Loading: from where, mapped or copied, eager or lazy, from many threads and processes."""

import io
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from package_help import arrays

import torsh_package
from torsh_package import (
    IntegrityError,
    InvalidArgumentError,
    Package,
    PackageError,
    ResourceType,
    serialize_package,
)
from torsh_package.container.source import open_bytes


def test_mapped_data_outlives_package_and_file(tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    path = tmp_path / "m"
    package.save(path)
    with Package.load(path) as loaded:
        tensor = loaded.get_resource("w").tensor("fc.weight")
    del loaded
    path.unlink()
    assert np.array_equal(tensor, arrays()["fc.weight"])


def test_sources_of_load(tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    data = package.to_bytes()
    path = tmp_path / "m"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        assert Package.load(source).get_resource("a").data == b"data"
    with path.open("rb") as file:
        file.seek(10)
        assert Package.load(file).get_resource("a").data == b"data"
        assert Package.load(file.fileno()).get_resource("a").data == b"data"
        assert file.tell() == 10
    changing = bytearray(data)
    loaded = Package.load(changing)
    changing[:] = bytes(len(changing))
    assert loaded.get_resource("a").data == b"data"


def test_large_file_is_streamed(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(9 << 20))
    package = Package("m", "1.0.0")
    package.add_file("big", source, ResourceType.Data)
    seen: list[tuple[str, int, int]] = []
    package.save(tmp_path / "m", progress=lambda *call: seen.append(call))
    assert seen[-1] == ("big", 9 << 20, 9 << 20)
    assert len(seen) > 1
    assert Package.load(tmp_path / "m").get_resource("big").data == source.read_bytes()


def test_file_that_changes_size_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(b"x" * 100)
    package = Package("m", "1.0.0")
    package.add_file("big", source, ResourceType.Data)
    source.write_bytes(b"x" * 50)
    with pytest.raises(PackageError, match="changed while"):
        package.save(tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big"]


def test_mapping_policy(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    package.save(path)
    mapped = open_bytes(path)
    path.chmod(0o666)
    copied = open_bytes(path)
    with path.open("r+b") as file:
        file.seek(0)
        file.write(b"XX")
    assert bytes(mapped[:2]) == b"XX"
    assert bytes(copied[:2]) == b"PK"
    assert bytes(open_bytes(path, "mmap")[:2]) == b"XX"
    with pytest.raises(InvalidArgumentError, match="stable"):
        Package.load(path, stable="maybe")  # type: ignore[arg-type]


def test_relaxed_mode_accepts_an_archive_zipped_again(tmp_path: Path) -> None:
    import shutil
    import subprocess
    import zipfile

    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    package.add_resource("big", bytes(9 << 20), ResourceType.Data)
    package.set_compression(torsh_package.CompressionAlgorithm.Gzip)
    package.save(tmp_path / "m.torshpkg")
    again = tmp_path / "again.zip"
    with (
        zipfile.ZipFile(tmp_path / "m.torshpkg") as old,
        zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        new.writestr("resources/", b"")
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    with pytest.raises(PackageError, match="relaxed"):
        Package.load(again)
    loaded = Package.load(again, mode="relaxed")
    assert not loaded.canonical
    assert Package.load(tmp_path / "m.torshpkg", mode="relaxed").canonical
    assert np.array_equal(loaded.get_resource("w").tensor("fc.bias"), arrays()["fc.bias"])
    assert serialize_package(loaded) == serialize_package(package)
    assert loaded.to_bytes() == (tmp_path / "m.torshpkg").read_bytes()
    if shutil.which("zip") and shutil.which("unzip"):
        folder = tmp_path / "x"
        subprocess.run(["unzip", "-q", "m.torshpkg", "-d", "x"], cwd=tmp_path, check=True)
        subprocess.run(["zip", "-qr", "../y.zip", "."], cwd=folder, check=True)
        assert Package.load(tmp_path / "y.zip", mode="relaxed").list_resources() == ["big", "w"]


def test_relaxed_mode_still_verifies(tmp_path: Path) -> None:
    import zipfile

    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    blob = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(package.to_bytes())) as old,
        zipfile.ZipFile(blob, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, b"evil" if name == "resources/a" else old.read(name))
    with pytest.raises(IntegrityError):
        Package.load(blob.getvalue(), mode="relaxed")


def test_104_sixteen_threads_read_one_lazy_package(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = {f"t{i}": rng.standard_normal(100_000).astype(np.float32) for i in range(40)}
    package = Package("m", "1.0.0")
    package.add_resource("w", expected, ResourceType.ModelWeights)
    package.add_resource("z", expected, ResourceType.ModelWeights)
    package.get_resource("z").compression = torsh_package.codecs.CompressionSetting(
        torsh_package.CompressionAlgorithm.Zstd
    )
    package.save(tmp_path / "m")
    loaded = Package.load(tmp_path / "m", lazy=True)
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            order = np.random.default_rng(seed).permutation(40)
            for i in order:
                for name in ("w", "z"):
                    found = loaded.get_resource(name).tensor(f"t{i}")
                    assert np.array_equal(found, expected[f"t{i}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_104_forked_child_reads_on(tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("a", os.urandom(20 << 20), ResourceType.Data)
    package.save(tmp_path / "m")
    loaded = Package.load(tmp_path / "m", lazy=True)
    _ = loaded.get_resource("a").content.view(0, 10)
    child = os.fork()
    if child == 0:
        ok = loaded.get_resource("a").data == package.get_resource("a").data
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_104_forked_child_does_not_wait_for_threads_that_it_does_not_have() -> None:
    package = Package("m", "1.0.0")
    package.set_compression(torsh_package.CompressionAlgorithm.Gzip)
    package.add_resource("a", b"A" * 100_000, ResourceType.Data)
    loaded = Package.load(package.to_bytes())
    kept = loaded.get_resource("a").kept
    assert kept is not None
    with kept.lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(0 if loaded.get_resource("a").data == b"A" * 100_000 else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_lazy_touches_only_what_is_asked_for(tmp_path: Path) -> None:
    a = np.arange(3 << 20, dtype=np.uint8)
    package = Package("m", "1.0.0")
    many = {f"t{i}": np.full(5 << 20, i, np.uint8) for i in range(4)} | {"x": a}
    package.add_resource("w", many, ResourceType.ModelWeights)
    data = bytearray(package.to_bytes())
    position = data.index(bytes([2]) * 1000)
    data[position + 500] ^= 1
    with pytest.raises(IntegrityError, match="leaf"):
        Package.load(bytes(data))
    loaded = Package.load(bytes(data), lazy=True).get_resource("w")
    assert np.array_equal(loaded.tensor("t0"), many["t0"])
    with pytest.raises(IntegrityError, match="leaf"):
        loaded.tensor("t2")


def test_blake3_digests() -> None:
    from torsh_package.digest import DigestSpec

    pytest.importorskip("blake3")
    package = Package("m", "1.0.0", digest=DigestSpec("blake3"))
    package.add_resource("a", bytes(9 << 20), ResourceType.Data)
    data = package.to_bytes()
    assert Package.load(data).get_resource("a").size == 9 << 20
    broken = bytearray(data)
    broken[1 << 20] ^= 1
    with pytest.raises(IntegrityError):
        Package.load(bytes(broken))
