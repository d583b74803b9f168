"""Hostile archives, numbered as in the hostile-input list: the strict reader refuses each.

`build` is an independent writer of canonical archives with a knob for every field; with no knob
turned its bytes are accepted, so each case is refused for what it turns and nothing else.
"""

import io
import os
import resource
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from torsh_package import ContainerError, LimitError, Package, PackageError, ResourceType
from torsh_package.container.reader import ArchiveReader
from torsh_package.container.relaxed import RelaxedReader
from torsh_package.container.writer import ArchiveWriter
from torsh_package.manifest import LEAVES_PATH, MANIFEST_PATH


@dataclass
class E:
    name: bytes
    data: bytes = b"data"
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    both: dict[str, Any] = field(default_factory=dict)
    after: bytes = b""


LOCAL_KEYS = ("sig", "need", "flags", "method", "time", "date", "crc", "csize", "size")
CENTRAL_KEYS = ("sig", "made", *LOCAL_KEYS[1:])


def build(entries: list[E], *, prefix: bytes = b"", suffix: bytes = b"", **end: Any) -> bytes:
    out = bytearray(prefix)
    records = []
    for e in entries:
        at = len(out)
        utf8 = 0 if e.name.isascii() else 0x800
        common = {
            "need": 20, "flags": utf8, "method": 0, "time": 0, "date": 0x21,
            "crc": zlib.crc32(e.data), "csize": len(e.data), "size": len(e.data), **e.both,
        }  # fmt: skip
        v = {"sig": b"PK\3\4", "name": e.name, **common, **e.local}
        if "extra" not in v:
            room = -(at + 30 + len(e.name) + 26) % 64 + 26
            v["extra"] = struct.pack("<HHH", 0xD935, room - 4, 64) + bytes(room - 6)
        head = struct.pack("<4sHHHHHIII", *(v[k] for k in LOCAL_KEYS))
        out += head + struct.pack("<HH", len(v["name"]), len(v["extra"])) + v["name"] + v["extra"]
        out += e.data + e.after
        c = {"sig": b"PK\1\2", "name": e.name, "made": 0x314, "extra": b"", "comment": b"",
             "disk": 0, "internal": 0, "attrs": 0o100644 << 16, "offset": at, **common,
             **e.central}  # fmt: skip
        head = struct.pack("<4sHHHHHHIII", *(c[k] for k in CENTRAL_KEYS))
        head += struct.pack(
            "<HHHHHII", len(c["name"]), len(c["extra"]), len(c["comment"]), c["disk"],
            c["internal"], c["attrs"], c["offset"],
        )  # fmt: skip
        records.append(head + c["name"] + c["extra"] + c["comment"])
    directory = b"".join(records)
    n = len(records)
    v = {"disk": 0, "cd_disk": 0, "here": n, "count": n, "size": len(directory),
         "offset": len(out), "comment": b"", "between": b"", **end}  # fmt: skip
    out += directory + v["between"]
    out += struct.pack(
        "<4sHHHHIIH", b"PK\5\6", v["disk"], v["cd_disk"], v["here"], v["count"], v["size"],
        v["offset"], len(v["comment"]),
    )  # fmt: skip
    return bytes(out + v["comment"] + suffix)


def two(**knobs: Any) -> bytes:
    return build([E(b"resources/a"), E(b"resources/b", b"more", **knobs)])


def names(*found: str | bytes) -> bytes:
    return build([E(n if isinstance(n, bytes) else n.encode()) for n in found])


def flagless(name: str) -> bytes:
    return build([E(name.encode(), both={"flags": 0})])


def zip64(values: bytes, **central: Any) -> dict[str, Any]:
    return {"extra": struct.pack("<HH", 1, len(values)) + values, **central}


GOOD = two()
BIG = 0xFFFF_FFFF


def end64(count: int, size: int, offset: int, *, where: int | None = None) -> bytes:
    """GOOD with Zip64 end records that claim these numbers."""
    base = GOOD[:-22]
    at = len(base) if where is None else where
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0x314, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    return (
        base
        + record
        + locator
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, BIG, BIG, 0)
    )


def overlap() -> bytes:
    return build([E(b"resources/a"), E(b"resources/b", central={"offset": 0}), E(b"resources/c")])


def end64_many() -> bytes:
    return end64(70_000, len(GOOD), 0)


CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "01 parent folder": (lambda: names("resources/../../x"), r"component '\.\.'"),
    "02 absolute": (lambda: names("/etc/x"), "absolute"),
    "03 backslash": (lambda: names("..\\x"), r"holds '\\\\'"),
    "03 drive": (lambda: names("C:x"), "holds ':'"),
    "04 symlink": (lambda: two(central={"attrs": 0o120777 << 16}), "regular file"),
    "05 device": (lambda: two(central={"attrs": 0o020644 << 16}), "regular file"),
    "05 fifo": (lambda: two(central={"attrs": 0o010644 << 16}), "regular file"),
    "05 directory": (lambda: two(central={"attrs": 0o040755 << 16}), "regular file"),
    "06 duplicate name": (lambda: names("a", "a"), "one name"),
    "07 case collision": (lambda: names("Weights", "weights"), "one name"),
    "08 NFD name": (lambda: names("e\u0301"), "normal form"),
    "08 NFC and NFD": (lambda: names("\u00e9", "e\u0301"), "normal form"),
    "09 compatibility fold": (lambda: names("file", "\ufb01le"), "one name"),
    "09 full-width": (lambda: names("a", "\uff41"), "one name"),
    "10 NUL": (lambda: names(b"a\0b"), r"U\+0000"),
    "11 right-to-left override": (lambda: names("a\u202eb"), r"U\+202E"),
    "11 zero-width space": (lambda: names("a\u200bb"), r"U\+200B"),
    "11 newline": (lambda: names("a\nb"), r"U\+000A"),
    "11 variation selector": (lambda: names("a\ufe0fb"), r"U\+FE0F"),
    "12 windows device": (lambda: names("x/con"), "device"),
    "12 windows device with extension": (lambda: names("NUL.txt"), "device"),
    "12 trailing dot": (lambda: names("a."), "dot"),
    "12 trailing space": (lambda: names("a /b"), "space"),
    "13 file and folder": (lambda: names("a", "a/b"), "folder"),
    "13 file and folder, by case": (lambda: names("A", "a/b"), "folder"),
    "14 empty name": (lambda: names(""), "empty"),
    "14 dot": (lambda: names("./a"), r"component '\.'"),
    "14 double slash": (lambda: names("a//b"), "component ''"),
    "14 directory entry": (lambda: names("a/"), "component ''"),
    "15 not UTF-8": (lambda: build([E(b"\xff", both={"flags": 0x800})]), "not UTF-8"),
    "15 UTF-8 without its flag": (lambda: flagless("\u00e9"), "not marked"),
    "15 ASCII with UTF-8 flag": (lambda: two(both={"flags": 0x800}), "canonical"),
    "16 Unicode path extra": (
        lambda: two(central={"extra": struct.pack("<HHBI", 0x7075, 9, 1, 0) + b"evil"}),
        "extra fields",
    ),
    "17 local name differs": (lambda: two(local={"name": b"resources/X"}), "differs"),
    "18 local CRC differs": (lambda: two(local={"crc": 1}), "differs"),
    "18 local size differs": (lambda: two(local={"size": 1}), "differs"),
    "18 local method differs": (lambda: two(local={"method": 8}), "differs"),
    "18 local flags differ": (lambda: two(local={"flags": 0x800}), "differs"),
    "18 local time differs": (lambda: two(local={"time": 1}), "differs"),
    "18 local version differs": (lambda: two(local={"need": 10}), "differs"),
    "18 local padding not zero": (
        lambda: two(local={"extra": struct.pack("<HHH", 0xD935, 78, 64) + b"\1" * 76}),
        "gap|differs|directory",
    ),
    "19 overlapping entries": (overlap, "gap, overlap"),
    "19 data into the next": (
        lambda: build([E(b"a", both={"size": 9, "csize": 9}), E(b"b")]),
        "gap",
    ),
    "21 prefix": (lambda: build([E(b"a")], prefix=b"#!/bin/sh\n"), "gap, overlap or prefix"),
    "21 prefix outside of offsets": (lambda: b"#!/bin/sh\n" + GOOD, "does not end"),
    "22 suffix": (lambda: GOOD + b"x", "end record"),
    "22 comment": (lambda: build([E(b"a")], comment=b"hello"), "end record"),
    "22 comment in the length only": (lambda: GOOD[:-2] + b"\1\0", "comments"),
    "23 concatenated": (lambda: names("x") + GOOD, "does not end"),
    "23 two end records": (lambda: GOOD + GOOD[-22:], "does not end"),
    "25 zip64 count": (lambda: end64(1 << 60, 98, 0), "limit"),
    "25 zip64 offset beyond the file": (lambda: end64(2, 100, 1 << 62), "does not end"),
    "25 zip64 all ones": (lambda: end64((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1), "limit"),
    "25 zip64 where not needed": (
        lambda: end64(2, struct.unpack_from("<I", GOOD, len(GOOD) - 10)[0],
                      struct.unpack_from("<I", GOOD, len(GOOD) - 6)[0]),
        "canonical",
    ),
    "25 zip64 locator elsewhere": (lambda: end64(2, 100, 0, where=3), "locator"),
    "25 zip64 size of an entry": (
        lambda: two(central=zip64(struct.pack("<QQ", 1 << 63, 1 << 63), size=BIG, csize=BIG)),
        "runs into|alignment|gap",
    ),
    "26 zip64 extra too short": (
        lambda: two(central=zip64(struct.pack("<Q", 4), size=BIG, csize=BIG)), "extra fields",
    ),
    "26 zip64 extra not needed": (lambda: two(central=zip64(struct.pack("<Q", 4))), "extra fields"),
    "26 zip64 extra missing": (lambda: two(central={"size": BIG, "csize": BIG}), "extra fields"),
    "27 70 000 entries": (end64_many, "limit"),
    "28 directory of 2 GB": (lambda: build([E(b"a")], size=2 << 30), "does not end"),
    "28 directory too large for its count": (
        lambda: build([E(b"a", b"x" * 9000)], offset=0, size=9000 + 64 + 47), "for 1 entries",
    ),
    "29 encrypted": (lambda: two(both={"flags": 1}), "encryption"),
    "29 strong encryption": (lambda: two(both={"flags": 0x41}), "encryption"),
    "29 masked headers": (lambda: two(both={"flags": 0x2000}), "encryption"),
    "30 unknown method": (lambda: two(both={"method": 99}), "method 99"),
    "30 deflate": (lambda: two(both={"method": 8}), "method 8"),
    "31 data descriptor": (lambda: two(both={"flags": 8}), "descriptor"),
    "32 split archive": (lambda: build([E(b"a")], disk=1), "split"),
    "32 split entry": (lambda: two(central={"disk": 1}), "directory record"),
    "33 hidden bytes between entries": (lambda: build([E(b"a", after=b"x"), E(b"b")]), "gap"),
    "33 hidden bytes before the directory": (lambda: build([E(b"a", after=b"x")]), "no entry"),
    "33 bytes behind the directory": (lambda: build([E(b"a")], between=b"x"), "does not end"),
    "33 hidden local entry": (
        lambda: build([E(b"a", after=names("evil")[:100]), E(b"b")]), "gap",
    ),
    "entry comment": (lambda: two(central={"comment": b"x"}), "directory record"),
    "date": (lambda: two(both={"date": 0}), "differs|canonical"),
    "version made by": (lambda: two(central={"made": 0x014}), "canonical"),
    "permissions": (lambda: two(central={"attrs": 0o100755 << 16}), "canonical"),
    "internal attributes": (lambda: two(central={"internal": 1}), "canonical"),
    "alignment 3": (
        lambda: build([E(b"a", local={"extra": struct.pack("<HHH", 0xD935, 29, 3) + bytes(27)})]),
        "alignment",
    ),
    "no entries": (lambda: build([]), "empty"),
    "no archive": (lambda: b"hello world" * 10, "not an archive"),
    "almost nothing": (lambda: b"P", "not an archive"),
}  # fmt: skip


def test_base_of_all_cases_is_accepted() -> None:
    reader = ArchiveReader.open(GOOD)
    assert reader.names == ("resources/a", "resources/b")
    assert bytes(reader.read_checked("resources/b")) == b"more"
    assert ArchiveReader.open(names("é/ü")).names == ("é/ü",)
    blob = io.BytesIO()
    with ArchiveWriter(blob) as writer:
        writer.add("resources/a", [b"data"])
        writer.add("resources/b", [b"more"])
        writer.finish()
    assert blob.getvalue() == GOOD


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    make, message = CASES[case]
    data = make()
    begin = time.process_time()
    with pytest.raises((ContainerError, LimitError), match=message):
        ArchiveReader.open(data)
    with pytest.raises(PackageError):
        Package.load(data)
    assert time.process_time() - begin < 1


def test_24_end_signature_inside_data_is_only_data() -> None:
    package = Package("m", "1.0.0")
    package.add_resource("a", GOOD[-22:] * 3 + GOOD, ResourceType.Data)
    assert Package.load(package.to_bytes()).get_resource("a").data == GOOD[-22:] * 3 + GOOD


def test_20_nested_archive_is_never_opened() -> None:
    package = Package("m", "1.0.0")
    package.add_resource("inner.zip", names("../evil"), ResourceType.Binary)
    loaded = Package.load(package.to_bytes())
    assert loaded.list_resources() == ["inner.zip"]


def rebuilt(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """A canonical archive of the changed entries of a package."""
    reader = ArchiveReader.open(data)
    entries = {name: bytes(reader.read(name)) for name in reader.names}
    change(entries)
    blob = io.BytesIO()
    with ArchiveWriter(blob) as writer:
        for name, content in entries.items():
            writer.add(name, [content])
        writer.finish()
    return blob.getvalue()


def sample() -> bytes:
    package = Package("m", "1.0.0")
    package.add_resource("a", b"A" * 100, ResourceType.Data)
    package.add_resource("b", b"B" * 100, ResourceType.Data)
    package.add_resource("long", bytes(5 << 20), ResourceType.Data)
    return package.to_bytes()


def put(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.update({name: content})


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.__delitem__(name)


def swap(first: str, second: str) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries[first], entries[second] = entries[second], entries[first]

    return change


def longer_leaves(entries: dict[str, bytes]) -> None:
    entries[LEAVES_PATH] += bytes(32)


def reorder(entries: dict[str, bytes]) -> None:
    items = list(entries.items())
    entries.clear()
    entries.update(reversed(items))


CONTENT_CASES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "34 entry not in the manifest": (put("resources/evil", b"x"), "not in the manifest"),
    "34 unknown META entry": (put("META/other", b"x"), "not in the manifest"),
    "34 manifest entry missing": (drop("resources/a"), "missing"),
    "34 manifest missing": (drop(MANIFEST_PATH), "missing"),
    "34 leaves missing": (drop(LEAVES_PATH), "missing"),
    "37 two resources of one size swapped": (swap("resources/a", "resources/b"), "CRC"),
    "resource changed": (put("resources/a", b"Z" * 100), "CRC"),
    "resource shorter": (put("resources/a", b"A" * 99), "manifest 100"),
    "leaves changed": (put(LEAVES_PATH, bytes(64)), "leaf digests"),
    "leaves too long": (put(LEAVES_PATH, bytes(96)), "leaf digests|belong to no"),
    "leaves right but followed by more": (longer_leaves, "belong to no entry"),
    "leaves not in whole digests": (put(LEAVES_PATH, bytes(63)), "leaf digests"),
    "other order": (reorder, "order"),
    "encryption header without encryption": (put("META/encryption.json", b"{}"), "nothing is enc"),
}


@pytest.mark.parametrize("case", CONTENT_CASES)
@pytest.mark.parametrize("verify", ["eager", "lazy"])
def test_archive_and_manifest_must_agree(case: str, verify: Any) -> None:
    change, message = CONTENT_CASES[case]
    data = rebuilt(sample(), change)
    ArchiveReader.open(data)
    with pytest.raises(PackageError, match=message):
        Package.load(data, verify=verify)


def test_unchanged_rebuild_is_the_same_package() -> None:
    assert rebuilt(sample(), lambda _: None) == sample()


def test_37_same_crc_other_bytes_is_caught_by_the_digest() -> None:
    """CRC-32 is no protection: forge 100 bytes with the CRC of resource a."""
    forged = bytearray(b"F" * 96)
    target = zlib.crc32(b"A" * 100)
    forged += _crc_suffix(zlib.crc32(forged), target)
    assert zlib.crc32(forged) == target
    data = rebuilt(sample(), put("resources/a", bytes(forged)))
    with pytest.raises(PackageError, match="digest"):
        Package.load(data)
    lazy = Package.load(data, lazy=True)
    assert lazy.get_resource("b").data == b"B" * 100
    with pytest.raises(PackageError, match="digest"):
        _ = lazy.get_resource("a").data


def _crc_suffix(state: int, target: int) -> bytes:
    """Four bytes that take the CRC from `state` to `target` (tables run backwards)."""
    table = []
    for i in range(256):
        c = i
        for _ in range(8):
            c = c >> 1 ^ (0xEDB88320 if c & 1 else 0)
        table.append(c)
    reverse = {value >> 24: i for i, value in enumerate(table)}
    register = target ^ BIG
    picks = []
    for _ in range(4):
        i = reverse[register >> 24]
        picks.append(i)
        register = (register ^ table[i]) << 8 & BIG
    out, register = bytearray(), state ^ BIG
    for i in reversed(picks):
        out.append((register ^ i) & 255)
        register = register >> 8 ^ table[i]
    return bytes(out)


def test_38_sources_that_are_no_package(tmp_path: Any) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    one = tmp_path / "one"
    one.write_bytes(b"x")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    begin = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, message in [
        (empty, "empty"), (one, "not an archive"), (fifo, "regular file"),
        (tmp_path, "regular file|directory"), ("/dev/zero", "regular file"),
        (sparse, "not an archive"), (tmp_path / "none", "no such file"),
    ]:  # fmt: skip
        with pytest.raises(PackageError, match=message):
            Package.load(path)
    assert time.monotonic() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


RELAXED_REFUSED = [
    case for case in CASES
    if case[:2] in ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13",
                    "14", "29", "30") and "directory" not in case and "deflate" not in case
]  # fmt: skip


@pytest.mark.parametrize("case", RELAXED_REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_relaxed_mode_refuses_unsafe_names_and_kinds_too(case: str) -> None:
    assert RelaxedReader.open(GOOD).names == ("resources/a", "resources/b")
    message = CASES[case][1].replace("component ''", "component|empty")
    with pytest.raises((ContainerError, LimitError), match=message):
        RelaxedReader.open(CASES[case][0]())
