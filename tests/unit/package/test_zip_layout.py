"""Archives against other readers: `zipfile` and `unzip` must see what we wrote, Zip64 included."""

import io
import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import PackageError
from torsh_package.container import layout
from torsh_package.container.crc32 import combine
from torsh_package.container.layout import ArchiveEntry
from torsh_package.container.reader import ArchiveReader
from torsh_package.container.relaxed import RelaxedReader
from torsh_package.container.writer import ArchiveWriter
from torsh_package.names import find_collision, path_problem

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: path_problem(name) is None
)


def written(entries: dict[str, bytes], alignment: int = 64) -> bytes:
    blob = io.BytesIO()
    with ArchiveWriter(blob, alignment=alignment) as writer:
        for name, data in entries.items():
            writer.add(name, [data[:5], b"", data[5:]])
        assert writer.finish() == len(blob.getvalue())
    return blob.getvalue()


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=8),
    st.sampled_from([64, 128, 4096]),
)
def test_other_readers_agree(entries: dict[str, bytes], alignment: int) -> None:
    if find_collision(entries):
        with pytest.raises(PackageError):
            written(entries, alignment)
        return
    raw = written(entries, alignment)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.testzip() is None
        assert {i.filename: archive.read(i) for i in archive.infolist()} == entries
    for reader in (ArchiveReader.open(raw), RelaxedReader.open(raw)):
        assert {name: bytes(reader.read_checked(name)) for name in reader.names} == entries
    assert all(e.offset % alignment == 0 for e in ArchiveReader.open(raw).entries)


def test_unzip_tests_it(tmp_path: Path) -> None:
    if not shutil.which("unzip"):
        pytest.skip("needs unzip")
    path = tmp_path / "x.zip"
    path.write_bytes(written({"a/b": b"hello" * 1000, "é": b"", "c": bytes(100_000)}))
    found = subprocess.run(["unzip", "-t", path], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert "No errors" in found.stdout


def zeros_crc(size: int) -> int:
    """CRC-32 of `size` zero bytes, by doubling."""
    crc, done, unit, unit_size = 0, 0, zlib.crc32(b"\0"), 1
    while size:
        if size & 1:
            crc, done = (combine(crc, unit, unit_size) if done else unit), done + unit_size
        unit, unit_size = combine(unit, unit, unit_size), 2 * unit_size
        size >>= 1
    return crc


def sparse(path: Path, sizes: list[int]) -> list[ArchiveEntry]:
    """An archive of zeros that takes no space on disk."""
    entries: list[ArchiveEntry] = []
    end = 0
    with path.open("wb") as file:
        for i, size in enumerate(sizes):
            name = f"entry{i}"
            offset = layout.data_offset(end, name.encode(), 64)
            crc = zeros_crc(size) if size else 0
            entries.append(ArchiveEntry(name, end, offset, size, crc))
            file.seek(end)
            file.write(layout.local_header(entries[-1], 64))
            end = offset + size
        file.seek(end)
        file.write(layout.directory(entries, end))
    return entries


@pytest.mark.parametrize(
    "sizes",
    [
        [0xFFFF_FFFE, 5],
        [0xFFFF_FFFF, 5],
        [0x1_0000_0000, 5, 0],
        [5, 0x1_8000_0000, 7],
        [0x8000_0000, 0x8000_0000, 9],
    ],
)
def test_zip64_around_its_borders(sizes: list[int], tmp_path: Path) -> None:
    path = tmp_path / "big.zip"
    entries = sparse(path, sizes)
    reader = ArchiveReader.open(path)
    assert list(reader.entries) == entries
    small = [e for e in entries if e.size < 100]
    assert all(bytes(reader.read_checked(e.name)) == bytes(e.size) for e in small)
    with zipfile.ZipFile(path) as archive:
        found = [(i.filename, i.header_offset, i.file_size, i.CRC) for i in archive.infolist()]
        assert found == [(e.name, e.header_offset, e.size, e.crc32) for e in entries]
        assert all(archive.read(e.name) == bytes(e.size) for e in small)
    # Info-ZIP 6.0 takes the value 2^32-1 in a Zip64 field for "look there" once more.
    if shutil.which("zipinfo") and 0xFFFF_FFFF not in sizes:
        text = subprocess.run(["zipinfo", path], capture_output=True, text=True)
        assert text.returncode == 0
        assert all(f" {size} " in text.stdout for size in sizes)


def test_zip64_flips_in_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.zip"
    entries = sparse(path, [0x1_0000_0000, 3])
    size = path.stat().st_size
    header = range(entries[0].offset)
    tail = range(entries[1].header_offset, size)
    with path.open("r+b") as file:
        for at in [*header, *tail]:
            if entries[1].offset <= at < entries[1].offset + 3:
                continue
            file.seek(at)
            byte = file.read(1)
            for flip in (1, 0x80):
                file.seek(at)
                file.write(bytes([byte[0] ^ flip]))
                file.flush()
                with pytest.raises(PackageError):
                    ArchiveReader.open(path)
            file.seek(at)
            file.write(byte)
        file.flush()
    assert list(ArchiveReader.open(path).entries) == entries


@pytest.mark.parametrize("count", [65_534, 65_535])
def test_many_entries(count: int) -> None:
    end, parts, entries = 0, [], []
    for i in range(count):
        name = f"{i:x}"
        offset = layout.data_offset(end, name.encode(), 64)
        entries.append(ArchiveEntry(name, end, offset, 0, 0))
        parts.append(layout.local_header(entries[-1], 64))
        end = offset
    raw = b"".join(parts) + layout.directory(entries, end)
    assert (b"PK\6\6" in raw) == (count >= 65_535)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert len(archive.infolist()) == count
    assert len(ArchiveReader.open(raw).entries) == count


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=64), st.data())
def test_whatever_is_accepted_means_the_same_to_zipfile(patch: bytes, data: Any) -> None:
    raw = bytearray(written({"a": b"alpha", "b": b"beta"}))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + len(patch)] = patch
    try:
        reader = ArchiveReader.open(bytes(raw))
    except PackageError:
        return
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.namelist() == list(reader.names)
        for info in archive.infolist():
            assert reader.entry(info.filename).crc32 == info.CRC
