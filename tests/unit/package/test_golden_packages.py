"""Packages of every format version, kept for ever: today's reader must read them all.

`python tests/unit/package/test_golden_packages.py` adds the files of the current version where
they are missing; files that are there are never written again.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from torsh_package import (
    CompressionAlgorithm,
    CompressionLevel,
    DependencySpec,
    EntryPoint,
    GoldenCase,
    Package,
    ResourceType,
    TensorSignature,
)
from torsh_package.digest import DigestSpec
from torsh_package.manifest import SCHEMA

FOLDER = Path(__file__).parent / "golden"
VERSION = "{}.{}".format(*SCHEMA)


def weights() -> dict[str, np.ndarray]:
    w = np.arange(60, dtype=np.float32).reshape(5, 12) / 8
    return {"fc.weight": w, "fc.tied": w, "fc.t": w.T, "steps": np.array(3, np.int64)}


def plain() -> Package:
    package = Package("acme/golden", "1.2.3-rc.1", digest=DigestSpec(leaf_bytes=1 << 16))
    package.set_author("Ada")
    package.set_description("golden file \u2013 ü")
    package.set_license("Apache-2.0")
    package.metadata["accuracy"] = "0.93"
    package.extensions["x-acme"] = {"list": [1, None, True, "ü"]}
    package.add_resource("weights", weights(), ResourceType.ModelWeights)
    package.add_resource("config", '{"layers": 2}', ResourceType.Config)
    package.add_source_file("model", "x = 1\n")
    package.add_resource("zeros", bytes(200_000), ResourceType.Data)
    package.add_program("program", "module {}\n", "text/x-torsh")
    package.add_resource("in", {"x": np.ones((1, 12), np.float32)}, ResourceType.Data)
    package.add_resource("out", {"y": np.ones((1, 5), np.float32)}, ResourceType.Data)
    code = package.add_object("a.o", b"\x7fELF", triple="x86_64-linux-gnu", cpu="znver3")
    package.add_entrypoint(
        EntryPoint(
            "forward",
            "program",
            ("weights",),
            (TensorSignature("x", "f32", ("N", 12)),),
            (TensorSignature("y", "f32", ("N", 5)),),
            (code,),
            (GoldenCase("in", "out", "1e-5", "0"),),
        )
    )
    package.add_dependency(DependencySpec("torsh-nn", "^0.1.0", features=["a"]))
    package.add_dependency(DependencySpec("numpy", ">=1.26,<3", kind="pip", optional=True))
    package.set_document("lock.json", "{}")
    return package


def compressed(algorithm: CompressionAlgorithm) -> Package:
    package = plain()
    package.set_compression(algorithm, CompressionLevel.Default)
    return package


MAKERS = {
    "plain": plain,
    "gzip": lambda: compressed(CompressionAlgorithm.Gzip),
    "zstd": lambda: compressed(CompressionAlgorithm.Zstd),
    "xz": lambda: compressed(CompressionAlgorithm.Lzma),
}
FILES = sorted(FOLDER.glob("*.torshpkg"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_golden_file_is_read(path: Path) -> None:
    digests = dict(line.split()[::-1] for line in (FOLDER / "SHA256").read_text().splitlines())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digests[path.name]
    package = Package.load(path)
    expected = plain()
    assert (package.name, package.version) == ("acme/golden", "1.2.3-rc.1")
    assert package.description == "golden file \u2013 ü"
    assert package.authors == ["Ada"]
    assert package.metadata == {"accuracy": "0.93"}
    assert package.extensions == expected.extensions
    assert package.entrypoints == expected.entrypoints
    assert package.dependencies == expected.dependencies
    assert package.list_resources() == expected.list_resources()
    for resource in expected.resources():
        assert package.get_resource(resource.name).data == resource.data
    for name, array in weights().items():
        assert np.array_equal(package.get_resource("weights").tensor(name), array)
    assert package.to_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", MAKERS)
def test_current_version_has_golden_files(kind: str) -> None:
    assert FOLDER / f"{VERSION}-{kind}.torshpkg" in FILES


def test_writing_the_same_content_gives_the_golden_bytes() -> None:
    """Without a codec, bytes depend on nothing but content and format version."""
    assert plain().to_bytes() == (FOLDER / f"{VERSION}-plain.torshpkg").read_bytes()


if __name__ == "__main__":
    for kind, make in MAKERS.items():
        target = FOLDER / f"{VERSION}-{kind}.torshpkg"
        if not target.exists():
            make().save(target)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(FOLDER.glob("*.torshpkg"))
    ]
    (FOLDER / "SHA256").write_text("".join(lines))
