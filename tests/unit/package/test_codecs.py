"""Codecs: round trips against the standard tools, sizes, levels; hostile streams (rows 39-46)."""

import gzip
import io
import lzma
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import (
    CodecError,
    CompressionAlgorithm,
    CompressionLevel,
    LimitError,
    Package,
    PackageError,
    ResourceType,
)
from torsh_package.codecs import CodecSpec, CompressionSetting, compress, decompress, worthwhile
from torsh_package.container.reader import ArchiveReader
from torsh_package.limits import Limits

CODECS = ["gzip", "zstd", "xz"]
TEXT = b"the quick brown fox jumps over the lazy dog. " * 4000
ORACLES: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "xz": lzma.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
}


def packed(codec: str, data: bytes, filter: str | None = None) -> bytes:
    level = 0 if codec == "xz" else 1
    return b"".join(compress(CodecSpec(codec, level, filter), [data], len(data)))


def opened(codec: str, data: bytes, size: int, filter: str | None = None, **limits: Any) -> bytes:
    spec = CodecSpec(codec, 1, filter)
    return b"".join(decompress(spec, [data], size, entry="x", limits=Limits(**limits)))


@pytest.mark.parametrize("codec", CODECS)
def test_standard_tools_read_what_we_write(codec: str) -> None:
    assert ORACLES[codec](packed(codec, TEXT)) == TEXT


@pytest.mark.parametrize(("codec", "tool"), [("gzip", "gzip"), ("xz", "xz"), ("zstd", "zstd")])
def test_unzip_and_command_line_tools_read_a_package(codec: str, tool: str, tmp_path: Any) -> None:
    import shutil

    if not (shutil.which("unzip") and shutil.which(tool)):
        pytest.skip(f"needs unzip and {tool}")
    package = Package("m", "1.0.0")
    package.set_compression(CompressionAlgorithm(codec), CompressionLevel.Fast)
    package.add_resource("text", TEXT, ResourceType.Text)
    package.save(tmp_path / "m.torshpkg")
    subprocess.run(["unzip", "-q", "m.torshpkg"], cwd=tmp_path, check=True)
    [path] = (tmp_path / "resources").iterdir()
    with path.open("rb") as file:
        found = subprocess.run([tool, "-dc"], stdin=file, capture_output=True, check=True)
    assert found.stdout == TEXT


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=25, deadline=None)
@given(
    data=st.binary(max_size=300),
    repeat=st.integers(1, 9000),
    width=st.sampled_from([None, 2, 4, 8, 16]),
    step=st.integers(1, 3_000_000),
)
def test_round_trip_in_any_pieces(
    codec: str, data: bytes, repeat: int, width: int | None, step: int
) -> None:
    plain = data * repeat
    if width and len(plain) % width:
        width = None
    spec = CodecSpec(codec, 0 if codec == "xz" else 1, width and f"shuffle{width}")
    pieces = [plain[i : i + step] for i in range(0, len(plain), step)]
    stored = b"".join(compress(spec, pieces, len(plain)))
    assert stored == b"".join(compress(spec, [plain], len(plain)))
    cut = [stored[i : i + step] for i in range(0, len(stored), step)]
    out = list(decompress(spec, cut, len(plain), entry="x"))
    assert b"".join(out) == plain
    assert all(len(piece) <= 1 << 20 for piece in out)


def test_shuffle_groups_bytes_by_place() -> None:
    data = np.arange(1000, dtype="<u4").tobytes()
    plain = zlib.decompress(packed("gzip", data, "shuffle4"), 31)
    assert plain == np.frombuffer(data, np.uint8).reshape(-1, 4).T.tobytes()


def weights(dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(1 << 16).astype(dtype)


def test_shuffle_helps_weights() -> None:
    data = weights(np.float32).tobytes()
    assert len(packed("zstd", data, "shuffle4")) < 0.95 * len(packed("zstd", data))


@pytest.mark.parametrize("algorithm", list(CompressionAlgorithm))
@pytest.mark.parametrize("level", list(CompressionLevel))
def test_package_setting_changes_bytes_and_survives(
    algorithm: CompressionAlgorithm, level: CompressionLevel
) -> None:
    package = Package("m", "1.0.0")
    package.set_compression(algorithm, level)
    package.add_resource("w", {"w": weights(np.float16)}, ResourceType.ModelWeights)
    package.add_resource("t", TEXT, ResourceType.Text)
    loaded = Package.load(package.to_bytes())
    assert loaded.get_resource("t").data == TEXT
    assert np.array_equal(loaded.get_resource("w").tensor("w"), weights(np.float16))
    entry = loaded.get_resource("t").entry
    assert entry is not None
    if algorithm is CompressionAlgorithm.Store:
        assert entry.codec is None
        assert loaded.compression is None
    else:
        assert entry.codec is not None
        assert entry.codec.id == algorithm.value
        assert entry.size < len(TEXT) / 10
        assert entry.path == f"resources/t{entry.codec.suffix}"
        assert loaded.compression == CompressionSetting(algorithm, level)


def test_levels_really_differ() -> None:
    data = b"".join(str(i * i).encode() for i in range(60_000))
    for algorithm in (
        CompressionAlgorithm.Gzip,
        CompressionAlgorithm.Zstd,
        CompressionAlgorithm.Lzma,
    ):
        sizes = []
        for level in (CompressionLevel.Fast, CompressionLevel.Maximum):
            codec = CompressionSetting(algorithm, level).codec(len(data), None)
            assert codec is not None
            sizes.append(sum(map(len, compress(codec, [data], len(data)))))
        assert sizes[1] < sizes[0]


def test_incompressible_data_is_stored() -> None:
    noise = np.random.default_rng(1).bytes(100_000)
    package = Package("m", "1.0.0")
    package.set_compression(CompressionAlgorithm.Zstd, CompressionLevel.Maximum)
    package.add_resource("noise", noise, ResourceType.Data)
    entry = Package.load(package.to_bytes()).get_resource("noise").entry
    assert entry is not None
    assert entry.codec is None
    assert entry.path == "resources/noise"


@pytest.mark.parametrize(
    ("size", "kept"), [(950, True), (951, False), (1000, False), (1100, False)]
)
def test_five_percent_rule(size: int, kept: bool) -> None:
    assert worthwhile(size, 1000) is kept


def test_expansion_that_readers_refuse_is_not_written() -> None:
    """128 MiB of zeros would be a few KiB of zstd: stored instead, so that it can be loaded."""
    assert not worthwhile(10_000, 128 << 20)
    assert worthwhile(10_000, 32 << 20)


def test_saving_a_loaded_package_does_not_compress_again(monkeypatch: Any) -> None:
    package = Package("m", "1.0.0")
    package.set_compression(CompressionAlgorithm.Gzip, CompressionLevel.Maximum)
    package.add_resource("t", TEXT, ResourceType.Text)
    data = package.to_bytes()
    loaded = Package.load(data)
    monkeypatch.setattr("torsh_package.writing.compress", None)
    assert loaded.to_bytes() == data


def bomb(codec: str, size: int) -> bytes:
    def zeros() -> Iterator[bytes]:
        for _ in range(size >> 20):
            yield bytes(1 << 20)

    return b"".join(compress(CodecSpec(codec, 1), zeros(), size))


@pytest.mark.parametrize("codec", CODECS)
def test_39_bomb_stops_at_the_announced_size(codec: str) -> None:
    """256 MiB of zeros announced as 4 MiB: refused after 5 MiB at most, in bounded memory."""
    data = bomb(codec, 256 << 20)
    tracemalloc.start()
    with pytest.raises(CodecError, match=r"expands to more|announces"):
        opened(codec, data, 4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


@pytest.mark.parametrize("codec", CODECS)
def test_39_honest_bomb_is_refused_by_ratio(codec: str) -> None:
    size = 256 << 20
    with pytest.raises(LimitError, match="ratio"):
        CodecSpec(codec, 1).check_sizes(10_000, size, "x", Limits())


STREAMS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "40 zstd window of 2^30": (
        "zstd", lambda: b"\x28\xb5\x2f\xfd\x80" + bytes([(30 - 10) << 3])
        + len(TEXT).to_bytes(4, "little") + b"\1\0\0", "window",
    ),
    "40 zstd announces another size": ("zstd", lambda: packed("zstd", TEXT + b"x"), "announces"),
    "40 zstd without content size": (
        "zstd", lambda: zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
        "content size",
    ),
    "41 xz memory": ("xz", lambda: lzma.compress(TEXT, preset=9), "[Mm]emory"),
    "42 two gzip members": ("gzip", lambda: packed("gzip", TEXT) * 2, "follow"),
    "42 two zstd frames": ("zstd", lambda: packed("zstd", TEXT) * 2, "follow"),
    "42 two xz streams": ("xz", lambda: packed("xz", TEXT) * 2, "follow"),
    "42 gzip and garbage": ("gzip", lambda: packed("gzip", TEXT) + b"\0", "follow"),
    "42 zstd and garbage": ("zstd", lambda: packed("zstd", TEXT) + b"\0", "follow"),
    "42 xz and padding": ("xz", lambda: packed("xz", TEXT) + b"\0" * 4, "follow"),
    "42 zstd skippable frame": (
        "zstd", lambda: packed("zstd", TEXT) + b"\x50\x2a\x4d\x18\4\0\0\0evil", "follow",
    ),
    "42 zstd skippable frame first": (
        "zstd", lambda: b"\x50\x2a\x4d\x18\4\0\0\0evil" + packed("zstd", TEXT), "magic",
    ),
    "44 gzip called zstd": ("zstd", lambda: packed("gzip", TEXT), "magic"),
    "44 zstd called gzip": ("gzip", lambda: packed("zstd", TEXT), "damaged"),
    "44 zstd called xz": ("xz", lambda: packed("zstd", TEXT), "damaged"),
    "44 legacy lzma called xz": ("xz", lambda: lzma.compress(TEXT, lzma.FORMAT_ALONE), "damaged"),
    "44 zlib called gzip": ("gzip", lambda: zlib.compress(TEXT), "damaged"),
    "46 zstd dictionary": (
        "zstd", lambda: zstandard.ZstdCompressor(
            dict_data=zstandard.train_dictionary(
                2048, [b"the quick %d brown fox" % i for i in range(1000)]),
        ).compress(TEXT), "dictionary",
    ),
    "empty": ("gzip", lambda: b"", "truncated"),
    "empty zstd": ("zstd", lambda: b"", "truncated|expands"),
    "empty xz": ("xz", lambda: b"", "truncated"),
    "shorter than announced": ("gzip", lambda: packed("gzip", TEXT[:-1]), "not the"),
    "xz shorter than announced": ("xz", lambda: packed("xz", TEXT[:-1]), "not the"),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
def test_hostile_stream(case: str) -> None:
    codec, make, message = STREAMS[case]
    limits = {"lzma_memory_bytes": 8 << 20} if case.startswith("41") else {}
    with pytest.raises(CodecError, match=message):
        opened(codec, make(), len(TEXT), **limits)


@pytest.mark.parametrize("codec", CODECS)
def test_43_every_truncation_is_refused(codec: str) -> None:
    plain = TEXT[:3000]
    data = packed(codec, plain)
    for cut in range(len(data)):
        with pytest.raises(CodecError):
            opened(codec, data[:cut], len(plain))


def test_43_truncated_zstd_frame_that_already_gave_all_its_content() -> None:
    """Without its checksum, or its empty last block, a frame is not complete."""
    summed = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)
    state = zstandard.ZstdCompressor().compressobj(size=len(TEXT))
    blocks = state.compress(TEXT) + state.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    blocks += state.flush()
    for data, most in ((summed, 4), (blocks, 3)):
        assert opened("zstd", data, len(TEXT)) == TEXT
        for cut in range(1, most + 1):
            with pytest.raises(CodecError, match="truncated"):
                opened("zstd", data[:-cut], len(TEXT))


@pytest.mark.parametrize("codec", CODECS)
def test_flipped_bits_never_crash(codec: str) -> None:
    """Digests stop damage before a decoder; a decoder that meets it anyway says so or is right."""
    plain = TEXT[:300]
    data = packed(codec, plain)
    refused = 0
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            assert len(opened(codec, bytes(broken), len(plain))) == len(plain)
        except CodecError:
            refused += 1
    assert refused > len(data)


def test_damaged_frame_with_right_digests_is_a_codec_error() -> None:
    """A hostile producer signs garbage: the decoder's error is a PackageError too."""
    import json

    from torsh_package.canonical_json import dumps
    from torsh_package.container.writer import ArchiveWriter
    from torsh_package.digest import DigestSpec

    package = Package("m", "1.0.0")
    package.set_compression(CompressionAlgorithm.Zstd)
    package.add_resource("t", TEXT, ResourceType.Text)
    reader = ArchiveReader.open(package.to_bytes())
    value = json.loads(bytes(reader.read("manifest.json")))
    broken = bytearray(reader.read("resources/t.zst"))
    broken[20] ^= 0xFF
    value["resources"][0]["root"] = DigestSpec().of(bytes(broken)).hex()
    value["resources"][0]["crc32"] = zlib.crc32(broken)
    blob = io.BytesIO()
    with ArchiveWriter(blob) as writer:
        writer.add("resources/t.zst", [bytes(broken)])
        writer.add("manifest.json", [dumps(value)])
        writer.finish()
    loaded = Package.load(blob.getvalue())
    with pytest.raises(PackageError):
        _ = loaded.get_resource("t").data
