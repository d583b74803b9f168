"""Hostile manifests (numbers of the hostile-input list): one typed error each, in bounded time."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from torsh_package import LimitError, ManifestError, Package, PackageError, ResourceType
from torsh_package.canonical_json import dumps
from torsh_package.errors import UnsupportedVersionError
from torsh_package.limits import Limits
from torsh_package.manifest import Manifest

np = pytest.importorskip("numpy")


def base() -> dict[str, Any]:
    package = Package("m", "1.0.0")
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float64)}
    package.add_resource("w", arrays, ResourceType.ModelWeights)
    package.add_dependency_spec("torsh-nn", "^0.1.0")
    return json.loads(package.manifest().to_bytes())


def parse(value: Any) -> Manifest:
    return Manifest.from_bytes(dumps(value))


def test_base_of_all_cases_is_accepted() -> None:
    assert parse(base()).resources[0].name == "w"


TEXTS: dict[str, tuple[bytes, str]] = {
    "47 duplicate key": (b'{"a":1,"a":2}', "duplicate key 'a'"),
    "47 duplicate key, nested": (b'{"a":{"b":1,"b":1}}', "duplicate key 'b'"),
    "48 NaN": (b'{"a":NaN}', "integer"),
    "48 Infinity": (b'{"a":-Infinity}', "integer"),
    "48 1e999": (b'{"a":1e999}', "integer"),
    "48 float": (b'{"a":1.5}', "integer"),
    "48 minus zero": (b'{"a":-0}', "canonical"),
    "49 nesting": (b"[" * 100_000 + b"]" * 100_000, "deep"),
    "50 5000 digits": (b'{"a":' + b"9" * 5000 + b"}", "JSON|digits"),
    "51 BOM": (b"\xef\xbb\xbf{}", "JSON"),
    "51 UTF-16": ("{}".encode("utf-16"), "UTF-8"),
    "51 UTF-16 without BOM": ("{}".encode("utf-16-le"), "JSON"),
    "51 lone surrogate": (rb'{"a":"\ud800"}', "surrogate"),
    "51 not UTF-8": (b'{"a":"\xff"}', "UTF-8"),
    "52 white space": (b'{"a": 1}', "canonical"),
    "52 key order": (b'{"b":1,"a":2}', "canonical"),
    "52 needless escape": (rb'{"a":"\u0041"}', "canonical"),
    "52 trailing newline": (b"{}\n", "canonical"),
    "52 slash escape": (rb'{"a":"\/"}', "canonical"),
    "no object": (b"[]", "expected an object"),
    "empty": (b"", "JSON"),
    "two texts": (b"{}{}", "JSON"),
    "not a package": (b"{}", "format"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_refused(case: str) -> None:
    raw, message = TEXTS[case]
    begin = time.process_time()
    with pytest.raises(ManifestError, match=message):
        Manifest.from_bytes(raw)
    assert time.process_time() - begin < 1


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets the field at a dotted path."""

    def change(manifest: dict[str, Any]) -> None:
        *parents, last = (int(p) if p.isdigit() else p for p in path.split("."))
        target: Any = manifest
        for parent in parents:
            target = target[parent]
        target[last] = value

    return change


def gone(path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = (int(p) if p.isdigit() else p for p in path.split("."))
        target: Any = manifest
        for parent in parents:
            target = target[parent]
        del target[last]

    return change


def both(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for one in changes:
            one(manifest)

    return change


R, T = "resources.0", "resources.0.tensors.0"
DEEP: Any = 0
for _ in range(40):
    DEEP = [DEEP]
DEPENDENCY = {
    "name": "m", "req": "*", "kind": "torsh", "optional": False, "features": [], "platform": None,
}  # fmt: skip
POINT = {
    "name": "f", "program": None, "weights": [], "inputs": [], "outputs": [], "objects": [],
    "golden": [], "metadata": {},
}  # fmt: skip

VALUES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "50 integer over 2^53": (at("x-a", 1 << 53), "2\\^53"),
    "50 size over 2^53": (at(f"{R}.size", 1 << 60), "outside"),
    "50 negative size": (at(f"{R}.size", -1), "outside"),
    "50 size is true": (at(f"{R}.size", True), "expected an integer"),
    "49 nesting in an extension": (at("x-a", DEEP), "nested"),
    "53 schema major 2": (at("schema", [2, 0]), "format 2.0"),
    "53 schema major 0": (at("schema", [0, 9]), "format 0.9"),
    "53 schema of text": (at("schema", ["1", 0]), "two integers"),
    "54 unknown critical": (at("critical", ["quantum"]), "quantum"),
    "54 encryption without sealed entries": (at("critical", ["encryption"]), "sealed"),
    "unknown field": (at("extra", 1), "unknown field 'extra'"),
    "unknown field of a resource": (at(f"{R}.extra", 1), "unknown field"),
    "missing field": (gone("name"), "missing"),
    "missing field of a resource": (gone(f"{R}.root"), "missing"),
    "other format": (at("format", "zip"), "another kind"),
    "55 product overflow": (at(f"{T}.shape", [1 << 40, 1 << 40]), "elements"),
    "55 negative dim": (at(f"{T}.shape", [-2, 3]), "outside"),
    "55 nbytes too small": (at(f"{T}.nbytes", 4), "need 24"),
    "55 nbytes too large": (at(f"{T}.nbytes", 28), "need 24"),
    "55 float dim": (at(f"{T}.shape", ["2", 3]), "expected an integer"),
    "55 rank 65": (at(f"{T}.shape", [1] * 65), "limit 64"),
    "56 overlap without alias": (at(f"{T}.offset", 0), "overlaps"),
    "56 outside of the resource": (at(f"{T}.offset", 64 * 100), "ends at byte"),
    "56 misaligned": (
        both(at(f"{T}.offset", 4), at("resources.0.tensors.1.offset", 32)),
        "not aligned",
    ),
    "57 strides leave the tensor": (at(f"{T}.strides", [100, 1]), "need"),
    "57 strides of another rank": (at(f"{T}.strides", [1]), "2 axes and 1"),
    "57 stride zero": (
        both(at(f"{T}.strides", [0, 1]), at(f"{T}.nbytes", 12)), "overlap",
    ),
    "57 elements overlap": (
        both(at(f"{T}.strides", [1, 1]), at(f"{T}.nbytes", 16)), "overlap",
    ),
    "57 dense strides spelled out": (at(f"{T}.strides", [3, 1]), "leave them out"),
    "58 alias of itself": (at(f"{T}.alias_of", "a"), "alias of an alias"),
    "58 alias cycle": (
        both(at(f"{T}.alias_of", "b"), at("resources.0.tensors.1.alias_of", "a")), "alias of an",
    ),
    "58 alias of the unknown": (at(f"{T}.alias_of", "z"), "unknown tensor"),
    "58 alias outside of its owner": (at(f"{T}.alias_of", "b"), "does not lie inside"),
    "59 unknown dtype": (at(f"{T}.dtype", "f33"), "'f33' is unknown"),
    "59 numpy dtype": (at(f"{T}.dtype", "<f4"), "unknown"),
    "tensor names not sorted": (at(f"{T}.name", "c"), "sorted"),
    "tensor name empty": (at(f"{T}.name", ""), "empty"),
    "tensor name twice": (at(f"{T}.name", "b"), "two tensors"),
    "61 version": (at("version", "1.0"), "semantic version"),
    "61 version with leading zero": (at("version", "01.0.0"), "semantic version"),
    "61 version of digits": (at("version", "9" * 300 + ".0.0"), "semantic version"),
    "61 requirement": (at("dependencies.0.req", "lots"), "malformed"),
    "61 requirement as a regex bomb": (at("dependencies.0.req", "1" * 500 + "!"), "malformed"),
    "61 requirement of blanks": (at("dependencies.0.req", " " * 511 + "!"), "malformed"),
    "61 requirement too long": (at("dependencies.0.req", "1," * 5000 + "1"), "malformed"),
    "62 depends on itself": (at("dependencies", [DEPENDENCY]), "itself"),
    "dependency twice": (at("dependencies", [{**DEPENDENCY, "name": "x"}] * 2), "sorted"),
    "dependency kind": (at("dependencies.0.kind", "cargo"), "kind"),
    "package name": (at("name", "../x"), "name"),
    "resource path elsewhere": (at(f"{R}.path", "other/w"), "not below"),
    "resource path with parent": (at(f"{R}.path", "resources/../w"), r"\.\."),
    "resource path of another name": (at(f"{R}.path", "resources/v"), "not made from"),
    "resource of unknown type": (at(f"{R}.type", "Virus"), "unknown"),
    "root not hexadecimal": (at(f"{R}.root", "Z" * 64), "hexadecimal"),
    "root in capitals": (at(f"{R}.root", "A" * 64), "hexadecimal"),
    "plain size without codec": (at(f"{R}.plain_size", 1), "differs from size"),
    "plain root without codec": (at(f"{R}.plain_root", "0" * 64), "compressed"),
    "unknown codec": (
        at(f"{R}.codec", {"id": "rar", "level": 1, "filter": None}), "'rar' is unknown",
    ),
    "45 shuffle width 0": (
        at(f"{R}.codec", {"id": "zstd", "level": 1, "filter": "shuffle0"}), "unknown",
    ),
    "45 shuffle does not divide": (
        both(
            at(f"{R}.codec", {"id": "zstd", "level": 1, "filter": "shuffle16"}),
            at(f"{R}.path", "resources/w.zst"), at(f"{R}.plain_root", "0" * 64),
            at(f"{R}.plain_size", 97),
        ), "does not divide",
    ),
    "39 ratio": (
        both(
            at(f"{R}.codec", {"id": "zstd", "level": 1, "filter": None}),
            at(f"{R}.path", "resources/w.zst"), at(f"{R}.plain_root", "0" * 64),
            at(f"{R}.size", 100), at(f"{R}.plain_size", 1 << 40),
        ), "ratio",
    ),
    "encryption without critical": (
        both(at(f"{R}.encryption", {}), at(f"{R}.path", "resources/w.tenc")), "critical",
    ),
    "encrypted, and larger than what is stored": (
        both(
            at(f"{R}.encryption", {}), at(f"{R}.path", "resources/w.tenc"),
            at("critical", ["encryption"]), at(f"{R}.plain_size", 1 << 40),
        ), "over the stored size",
    ),
    "digest algorithm": (at("digest.algorithm", "md5"), "unknown"),
    "digest leaf of 1 byte": (at("digest.leaf_bytes", 1), "power of two"),
    "digest leaf of 2^50": (at("digest.leaf_bytes", 1 << 50), "power of two"),
    "alignment 3": (at("alignment", 100), "2\\^6"),
    "entry point without its resource": (
        at("entrypoints", [{**POINT, "program": "none"}]), "no such resource",
    ),
    "entry point twice": (at("entrypoints", [POINT, POINT]), "sorted"),
    "golden tolerance": (
        at("entrypoints", [{**POINT, "golden": [
            {"inputs": "w", "outputs": "w", "rtol": "nan", "atol": "0"}]}]), "not a finite",
    ),
    "lineage without document": (at("lineage", "x"), "not a document"),
    "string over the limit": (at("description", "x" * 70_000), "limit 65536"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_value_refused(case: str) -> None:
    change, message = VALUES[case]
    value = base()
    change(value)
    begin = time.process_time()
    with pytest.raises((ManifestError, LimitError), match=message):
        parse(value)
    assert time.process_time() - begin < 1


def test_60_a_million_tensors_are_refused_in_time() -> None:
    row = b'{"dtype":"f32","name":"a","nbytes":4,"offset":0,"shape":[1]}'
    value = base()
    value["resources"][0]["tensors"] = "@"
    raw = dumps(value).replace(b'"@"', b"[" + b",".join([row] * 1_000_000) + b"]")
    begin = time.process_time()
    with pytest.raises(PackageError, match="limit"):
        Manifest.from_bytes(raw)
    assert time.process_time() - begin < 2


def test_60_a_hundred_thousand_tensors_are_read() -> None:
    rows = [
        {"name": f"{i:06d}", "dtype": "f32", "shape": [1], "offset": 64 * i, "nbytes": 4}
        for i in range(100_000)
    ]
    value = base()
    value["resources"][0].update(tensors=rows, size=6_400_000, plain_size=6_400_000)
    assert len(parse(value).resources[0].tensors or ()) == 100_000


def test_newer_minor_version_is_read_leniently_and_not_saved() -> None:
    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    value = json.loads(package.manifest().to_bytes())
    value["schema"] = [1, 7]
    value["new"] = {"a": 1}
    value["resources"][0]["new"] = "x"
    manifest = Manifest.from_json(value)
    assert manifest.schema == (1, 7)
    assert manifest.resources[0].name == "a"


def test_newer_minor_version_cannot_be_saved(tmp_path: Any) -> None:
    import io

    from torsh_package.container.reader import ArchiveReader
    from torsh_package.container.writer import ArchiveWriter

    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    reader = ArchiveReader.open(package.to_bytes())
    value = json.loads(bytes(reader.read("manifest.json")))
    value["schema"], value["new"] = [1, 7], 1
    blob = io.BytesIO()
    with ArchiveWriter(blob) as writer:
        writer.add("resources/a", [reader.read("resources/a")])
        writer.add("manifest.json", [dumps(value)])
        writer.finish()
    loaded = Package.load(blob.getvalue())
    assert loaded.get_resource("a").data == b"data"
    with pytest.raises(UnsupportedVersionError, match=r"1\.7"):
        loaded.save(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_limits_can_be_changed() -> None:
    value = base()
    with pytest.raises(LimitError, match="limit 10"):
        Manifest.from_bytes(dumps(value), Limits(manifest_bytes=10))
    with pytest.raises(LimitError, match="limit 1"):
        Manifest.from_bytes(dumps(value), Limits(tensors=1))
