"""The package as its users see it: names and signatures of guide B, and what they promise."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from package_help import arrays

import torsh_package
from torsh_package import (
    DependencyError,
    DependencySpec,
    EntryPoint,
    GoldenCase,
    InvalidArgumentError,
    Package,
    ResourceNotFoundError,
    ResourceType,
    TensorSignature,
    serialize_package,
)


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


def test_importing_the_package_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, torsh_package; print(sorted(m for m in sys.modules if '.' not in m))"
    env = {**os.environ, "PYTHONPATH": str(Path(torsh_package.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert not {"numpy", "zstandard", "cryptography", "zipfile"} & set(eval(found.stdout))
