"""The package as its users see it: names and signatures of guide B, and what they promise."""

import io
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torsh_package
from torsh_package import (
    DependencyError,
    DependencySpec,
    EntryPoint,
    GoldenCase,
    IntegrityError,
    InvalidArgumentError,
    Package,
    PackageError,
    ResourceNotFoundError,
    ResourceType,
    TensorSignature,
    serialize_package,
)
from torsh_package.container.source import open_bytes


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "fc.weight": rng.standard_normal((10, 784)).astype(np.float32),
        "fc.bias": rng.standard_normal(10).astype(np.float32),
        "steps": np.array(7),
        "mask": np.array([True, False]),
        "z": np.array([1 + 2j], np.complex64),
        "none": np.zeros((0, 3), np.int8),
    }


def test_basic_migration_example(tmp_path: Path) -> None:
    """Guide B, "Basic Migration"."""
    model_data, config_json = b"\0\1\2" * 1000, '{"layers": 2}'
    package = Package("model", "1.0.0")
    package.add_resource("model_weights", model_data, ResourceType.ModelWeights)
    package.add_resource("config", config_json.encode(), ResourceType.Config)
    path = tmp_path / "model.torshpkg"
    package.save(path)
    loaded = Package.load(path)
    assert loaded.get_resource("model_weights").data == model_data
    assert bytes(loaded.get_resource("config")) == config_json.encode()
    assert loaded.get_resource("config").json() == {"layers": 2}
    assert loaded.list_resources() == package.list_resources() == ["config", "model_weights"]


def test_layout_of_guide_b(tmp_path: Path) -> None:
    import zipfile

    package = Package("my-model", "1.0.0")
    package.add_resource("model_weights", b"w", ResourceType.ModelWeights)
    package.add_resource("config", "{}", ResourceType.Config)
    package.add_source_file("model", "import torch\n")
    package.add_source_file("my.pkg", "x = 1\n")
    package.add_source_file("kernel", "int x;", language="c")
    package.set_document("lock.json", "{}")
    with zipfile.ZipFile(io.BytesIO(package.to_bytes())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "resources/code/kernel.c",
            "resources/code/model.py",
            "resources/code/my/pkg.py",
            "resources/config.json",
            "resources/model_weights",
            "dependencies/lock.json",
            "manifest.json",
        ]
        assert archive.read("resources/code/model.py") == b"import torch\n"
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_facts_survive(tmp_path: Path) -> None:
    import datetime as dt

    package = Package("acme/model", "1.2.3-rc.1+build.5")
    package.set_author("Migration Tool")
    package.set_description("Migrated from PyTorch 2.0 — ünï")
    package.set_license("Apache-2.0")
    package.set_created(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    package.metadata["accuracy"] = "0.93"
    package.extensions["x-acme"] = {"a": [1, None, True]}
    package.migrated_from = {"format": "pytorch"}
    loaded = Package.load(package.to_bytes())
    assert (loaded.name, loaded.version) == ("acme/model", "1.2.3-rc.1+build.5")
    assert loaded.authors == ["Migration Tool"]
    assert loaded.description == "Migrated from PyTorch 2.0 — ünï"
    assert loaded.license == "Apache-2.0"
    assert loaded.metadata == {"accuracy": "0.93"}
    assert loaded.extensions == {"x-acme": {"a": [1, None, True]}}
    assert loaded.migrated_from == {"format": "pytorch"}
    assert loaded.manifest().created == "2026-01-02T03:04:05Z"
    assert loaded.trust is None
    assert loaded.canonical


def test_tensors_round_trip_without_a_copy(tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    path = tmp_path / "m"
    package.save(path)
    tensors = Package.load(path).get_resource("w").tensors
    assert set(tensors) == set(arrays())
    for name, expected in arrays().items():
        found = tensors[name]
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert found.shape == expected.shape
        assert not found.flags.writeable
        assert found.ctypes.data % 64 == 0 or not found.size
    with pytest.raises(ValueError, match="read-only"):
        tensors["fc.bias"][0] = 1


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


def test_tied_weights_are_stored_once() -> None:
    w = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    tied = {"emb": w, "head": w, "t": w.T, "row": w[3], "column": w[:, 5], "copy": w.copy()}
    package = Package("m", "1.0.0")
    package.add_resource("w", tied, ResourceType.ModelWeights)
    data = package.to_bytes()
    assert len(data) < 2 * w.nbytes + 10_000
    loaded = Package.load(data).get_resource("w")
    for name, expected in tied.items():
        assert np.array_equal(loaded.tensor(name), expected)
    rows = {row.name: row for row in loaded.table or ()}
    assert rows["copy"].alias_of is None
    assert rows["t"].strides == (1, 1000)
    owners = {row.alias_of for row in rows.values()} - {None}
    assert len(owners) == 1
    assert loaded.tensor("emb").ctypes.data == loaded.tensor("head").ctypes.data


def test_arrays_that_cannot_alias_are_copied() -> None:
    w = np.arange(12, dtype=np.float32)
    cases = {
        "reversed": w[::-1],
        "broadcast": np.broadcast_to(w[:1], (5,)),
        "windows": np.lib.stride_tricks.sliding_window_view(w, 3),
        "big": w.astype(">f4"),
        "other dtype": w.view(np.int32),
        "w": w,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    package = Package("m", "1.0.0")
    package.add_resource("w", cases, ResourceType.ModelWeights)
    loaded = Package.load(package.to_bytes()).get_resource("w")
    for name, expected in cases.items():
        assert np.array_equal(loaded.tensor(name), expected), name


def test_bfloat16_needs_ml_dtypes_only_to_be_seen() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w = np.arange(10).astype(ml_dtypes.bfloat16)
    f8 = np.arange(10).astype(ml_dtypes.float8_e4m3fn)
    package = Package("m", "1.0.0")
    package.add_resource("w", {"w": w, "f8": f8}, ResourceType.ModelWeights)
    loaded = Package.load(package.to_bytes()).get_resource("w")
    assert loaded.tensor("w").dtype == w.dtype
    assert np.array_equal(loaded.tensor("w").view(np.uint16), w.view(np.uint16))
    assert np.array_equal(loaded.tensor("f8").view(np.uint8), f8.view(np.uint8))


@pytest.mark.parametrize(
    "bad",
    [
        np.array([object()]),
        np.array(["text"]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, np.longdouble),
    ],
)
def test_arrays_that_cannot_be_stored(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be stored"):
        Package("m", "1.0.0").add_resource("w", {"w": bad}, ResourceType.ModelWeights)


def test_all_kinds_of_data() -> None:
    package = Package("m", "1.0.0")
    for name, data in {
        "bytes": b"abc", "bytearray": bytearray(b"abc"), "view": memoryview(b"abc"), "str": "abc",
        "array": np.frombuffer(b"abc", np.uint8), "slice": memoryview(b"xabcx")[1:4],
    }.items():  # fmt: skip
        package.add_resource(name, data, ResourceType.Data)
    loaded = Package.load(package.to_bytes())
    assert all(resource.data == b"abc" for resource in loaded.resources())
    with pytest.raises(InvalidArgumentError, match="contiguous"):
        package.add_resource("x", memoryview(b"abcd")[::2], ResourceType.Data)
    with pytest.raises(InvalidArgumentError, match="not an array"):
        package.add_resource("x", {"w": object()}, ResourceType.Data)  # type: ignore[dict-item]
    with pytest.raises(InvalidArgumentError, match="not a ResourceType"):
        package.add_resource("x", b"", "Config")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"), ("/a", "absolute"), ("../a", "component"), ("a", "taken"), ("A", "taken"),
        ("a/b", "below a file"), ("dir", "folder"), ("con", "device"), ("x\0y", "control"),
        ("x" * 300, "255"), ("cafe\u0301", "normal form"), ("\ud800", "surrogate"),
    ],
)  # fmt: skip
def test_names_are_checked_when_added(name: str, problem: str) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("a", b"", ResourceType.Data)
    package.add_resource("dir/x", b"", ResourceType.Data)
    with pytest.raises(InvalidArgumentError, match=problem):
        package.add_resource(name, b"", ResourceType.Data)
    package.remove_resource("dir/x")
    package.add_resource("dir", b"", ResourceType.Data)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "a" * 200, "ä", "a//b", "a/"])
def test_bad_package_names(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="package name"):
        Package(name, "1.0.0")


@pytest.mark.parametrize(
    "version", ["", "1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0", "1.0.0 "]
)
def test_bad_versions(version: str) -> None:
    with pytest.raises(InvalidArgumentError, match="semantic version"):
        Package("m", version)


def test_arguments_of_other_types() -> None:
    package = Package("m", "1.0.0")
    for call in (
        lambda: Package(1, "1.0.0"),  # type: ignore[arg-type]
        lambda: Package("m", 1),  # type: ignore[arg-type]
        lambda: package.add_resource(1, b"", ResourceType.Data),  # type: ignore[arg-type]
        lambda: package.add_resource("a", 1, ResourceType.Data),  # type: ignore[arg-type]
        lambda: package.add_source_file("a", "", language="cobol"),
        lambda: Package.load(None),  # type: ignore[arg-type]
        lambda: Package.load(io.BytesIO(b"")),
        lambda: Package.load(b"", mode="loose"),  # type: ignore[arg-type]
        lambda: Package.load(b"", verify="never"),  # type: ignore[arg-type]
        lambda: package.set_compression("zstd"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgumentError):
            call()


def test_missing_resource_is_a_key_error() -> None:
    package = Package("m", "1.0.0")
    with pytest.raises(ResourceNotFoundError, match="no resource 'x'"):
        package.get_resource("x")
    with pytest.raises(KeyError):
        package.get_resource("x")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    with pytest.raises(ResourceNotFoundError, match="no tensor 'y'"):
        package.get_resource("w").tensor("y")
    assert package.get_resource("w").tensors.get("y") is None


def test_dependencies_of_guide_b() -> None:
    package = Package("my-model", "1.0.0")
    package.add_dependency(DependencySpec(name="torsh-nn", version_req="^0.1.0"))
    package.add_dependency(
        DependencySpec(
            name="torsh-vision",
            version_req="^0.1.0",
            optional=True,
            features=["image-processing"],
        )
    )
    package.add_optional_dependency("alternative-crate", "1.0.0")
    loaded = Package.load(package.to_bytes())
    assert [spec.name for spec in loaded.dependencies] == [
        "alternative-crate", "torsh-nn", "torsh-vision",
    ]  # fmt: skip
    assert loaded.dependencies == package.dependencies
    assert loaded.dependencies[2].features == ("image-processing",)
    assert loaded.dependencies[0].optional
    with pytest.raises(DependencyError, match=r"malformed|requirement"):
        package.add_dependency_spec("x", "^^1")
    with pytest.raises(DependencyError, match="itself"):
        package.add_dependency_spec("my-model", "1.0.0")


def test_same_content_same_bytes_in_any_order() -> None:
    def make(names: list[str]) -> bytes:
        package = Package("m", "1.0.0")
        for name in names:
            package.add_resource(name, name * 10, ResourceType.Text)
        package.add_resource("w", {n: arrays()[n] for n in sorted(arrays())}, ResourceType.Data)
        for name in names:
            package.metadata[name] = "x"
            package.add_dependency_spec(name, "*")
        return package.to_bytes()

    assert make(["a", "b", "c"]) == make(["c", "a", "b"])


def test_serialize_package_is_the_manifest_before_and_after(tmp_path: Path) -> None:
    from torsh_package.container.reader import ArchiveReader

    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    package.set_compression(torsh_package.CompressionAlgorithm.Zstd)
    package.set_document("lock.json", "{}")
    before = serialize_package(package)
    package.save(tmp_path / "m")
    assert bytes(ArchiveReader.open(tmp_path / "m").read("manifest.json")) == before
    assert serialize_package(Package.load(tmp_path / "m")) == before
    package.get_resource("w").extensions["x-a"] = 1
    assert serialize_package(package) != before


def test_loaded_package_can_be_changed_and_saved_over_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    package = Package("m", "1.0.0")
    package.add_resource("a", b"A" * 5_000_000, ResourceType.Data)
    package.add_resource("b", b"B", ResourceType.Data)
    package.save(path)
    loaded = Package.load(path, lazy=True)
    loaded.remove_resource("b")
    loaded.add_resource("c", b"C", ResourceType.Data)
    loaded.save(path)
    assert Package.load(path).list_resources() == ["a", "c"]
    assert loaded.get_resource("a").data == b"A" * 5_000_000


def test_entrypoints_share_weights() -> None:
    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    package.add_program("model.torsh", "module {}", "text/x-torsh")
    objects = tuple(
        package.add_object(f"objects/{cpu}.o", b"\x7fELF", triple="x86_64-linux-gnu", cpu=cpu,
                           features=["fma", "avx2"])
        for cpu in ("x86-64-v3", "znver3")
    )  # fmt: skip
    package.add_resource("in", {"x": np.zeros((1, 784), np.float32)}, ResourceType.Data)
    package.add_resource("out", {"y": np.zeros((1, 10), np.float32)}, ResourceType.Data)
    x = TensorSignature("x", "f32", ("N", 784))
    for name in ("forward", "encode"):
        package.add_entrypoint(
            EntryPoint(
                name,
                "model.torsh",
                ("w",),
                (x,),
                (TensorSignature("y", "f32", ("N", 10)),),
                objects,
                (GoldenCase("in", "out", "1e-5", "1e-6"),),
                (("k", "v"),),
            )
        )
    loaded = Package.load(package.to_bytes())
    assert loaded.entrypoints == package.entrypoints
    assert list(loaded.entrypoints) == ["encode", "forward"]
    assert loaded.entrypoints["forward"].objects[0].features == ("avx2", "fma")
    assert loaded.get_resource("objects/znver3.o").data == b"\x7fELF"
    with pytest.raises(InvalidArgumentError, match="add it first"):
        package.add_entrypoint(EntryPoint("g", "other"))
    with pytest.raises(InvalidArgumentError, match="already"):
        package.add_entrypoint(EntryPoint("forward"))


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


def test_sixteen_threads_read_one_lazy_package(tmp_path: Path) -> None:
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
def test_forked_child_reads_on(tmp_path: Path) -> None:
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
def test_forked_child_does_not_wait_for_threads_that_it_does_not_have() -> None:
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


def test_alignment() -> None:
    from torsh_package.container.reader import ArchiveReader

    package = Package("m", "1.0.0", alignment=4096)
    package.add_resource("a", b"x", ResourceType.Data)
    package.add_resource("b", b"x", ResourceType.Data)
    data = package.to_bytes()
    assert all(entry.offset % 4096 == 0 for entry in ArchiveReader.open(data).entries)
    assert Package.load(data).to_bytes() == data
    with pytest.raises(InvalidArgumentError, match="alignment"):
        Package("m", "1.0.0", alignment=100)


def test_importing_the_package_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, torsh_package; print(sorted(m for m in sys.modules if '.' not in m))"
    env = {**os.environ, "PYTHONPATH": str(Path(torsh_package.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert not {"numpy", "zstandard", "cryptography", "zipfile"} & set(eval(found.stdout))


def test_many_tensors_are_laid_out_in_time() -> None:
    import time

    store = np.arange(200_000, dtype=np.float32)
    many = {f"t{i:05d}": store[i * 10 : i * 10 + 10] for i in range(20_000)} | {"all": store}
    begin = time.process_time()
    package = Package("m", "1.0.0")
    package.add_resource("w", many, ResourceType.ModelWeights)
    assert time.process_time() - begin < 5
    resource = package.get_resource("w")
    assert resource.size == store.nbytes
    assert {row.alias_of for row in resource.table or ()} == {None, "all"}
    assert np.array_equal(resource.tensor("t00123"), store[1230:1240])
