"""Compression inside an entry: gzip, zstd or xz, with an optional byte-shuffle before it.

Compressed data is one frame (member, stream) that ends exactly where the entry ends. Decoding is
bounded before it starts: by the manifest's plain size, by the ratio of sizes, by window and
dictionary memory. Nothing here is called before the stored bytes have been verified.
"""

import enum
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import CodecError, InvalidArgumentError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, MIB, Limits
from torsh_package.schema import Fields
from torsh_package.zstd_frame import FrameWalker

Buffer = bytes | bytearray | memoryview

PIECE = MIB
SHUFFLE_BLOCK = MIB
# Expansion below this many bytes is harmless whatever the ratio.
FREE_EXPANSION = 64 * MIB
# A codec must save at least 1/20 of the plain size, or the resource is stored.
MIN_SAVING = 20
_XZ_DICTIONARY = 16 * MIB


class CompressionAlgorithm(enum.Enum):
    """How resources are compressed."""

    Store = "store"
    Gzip = "gzip"
    Zstd = "zstd"
    Lzma = "xz"


class CompressionLevel(enum.Enum):
    """How hard a codec tries."""

    Fast = "fast"
    Default = "default"
    Maximum = "maximum"


_LEVELS = {
    CompressionAlgorithm.Gzip: {"fast": 1, "default": 6, "maximum": 9},
    CompressionAlgorithm.Zstd: {"fast": 1, "default": 3, "maximum": 19},
    CompressionAlgorithm.Lzma: {"fast": 0, "default": 6, "maximum": 9},
}
# On shuffled weights level 3 takes twice the time of level 1 and saves less.
_SHUFFLED_ZSTD_DEFAULT = 1
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "xz": ".xz"}
_FILTERS = {"shuffle2": 2, "shuffle4": 4, "shuffle8": 8, "shuffle16": 16}


@dataclass(frozen=True)
class CompressionSetting:
    """What a package compresses new resources with."""

    algorithm: CompressionAlgorithm
    level: CompressionLevel = CompressionLevel.Default

    def codec(self, plain_size: int, width: int | None) -> "CodecSpec | None":
        """The codec for a resource of `plain_size` bytes whose elements have `width` bytes."""
        if self.algorithm is CompressionAlgorithm.Store or plain_size == 0:
            return None
        name = f"shuffle{width}"
        shuffle = name if name in _FILTERS and plain_size % (width or 1) == 0 else None
        level = _LEVELS[self.algorithm][self.level.value]
        zstd = self.algorithm is CompressionAlgorithm.Zstd
        if shuffle and zstd and self.level is CompressionLevel.Default:
            level = _SHUFFLED_ZSTD_DEFAULT
        return CodecSpec(self.algorithm.value, level, shuffle)

    @classmethod
    def of(cls, codec: "CodecSpec | None") -> "CompressionSetting | None":
        """The setting that a codec came from, or the nearest."""
        if codec is None:
            return None
        algorithm = CompressionAlgorithm(codec.id)
        levels = _LEVELS[algorithm]
        nearest = min(levels, key=lambda name: abs(levels[name] - codec.level))
        return cls(algorithm, CompressionLevel(nearest))

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"algorithm": self.algorithm.value, "level": self.level.value}

    @classmethod
    def from_json(cls, fields: Fields) -> "CompressionSetting":
        """Reads the JSON form."""
        algorithm = fields.choice("algorithm", frozenset(a.value for a in CompressionAlgorithm))
        level = fields.choice("level", frozenset(item.value for item in CompressionLevel))
        fields.end()
        return cls(CompressionAlgorithm(algorithm), CompressionLevel(level))


@dataclass(frozen=True)
class CodecSpec:
    """How one resource was compressed.

    Attributes:
        id: `gzip`, `zstd` or `xz`.
        level: Level that it was compressed with; decoding does not need it.
        filter: `shuffleN`: the bytes of N-byte elements were regrouped by place, in blocks of
            1 MiB; or None.
    """

    id: str
    level: int
    filter: str | None = None

    @property
    def suffix(self) -> str:
        """What the codec adds to an archive path."""
        return _SUFFIXES[self.id]

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"id": self.id, "level": self.level, "filter": self.filter}

    @classmethod
    def from_json(cls, fields: Fields) -> "CodecSpec":
        """Reads the JSON form."""
        found = cls(
            fields.choice("id", frozenset(_SUFFIXES)),
            fields.integer("level", 0, 22),
            fields.optional_string("filter"),
        )
        fields.end()
        if found.filter is not None and found.filter not in _FILTERS:
            known = ", ".join(_FILTERS)
            raise fields.error("filter", f"{found.filter[:40]!r} is unknown; known: {known}")
        return found

    def check_sizes(self, size: int, plain_size: int, what: str, limits: Limits) -> None:
        """Refuses sizes that a decoder must not even try.

        Raises:
            LimitError: The expansion is over the ratio limit.
            CodecError: The filter's width does not divide the plain size.
        """
        if plain_size > max(FREE_EXPANSION, size * limits.expansion_ratio):
            raise LimitError(
                f"{what}: {size} stored bytes would expand to {plain_size}, over the ratio limit "
                f"of {limits.expansion_ratio}"
            )
        if self.filter is not None and plain_size % _FILTERS[self.filter]:
            raise CodecError(f"{what}: filter {self.filter} does not divide {plain_size} bytes")


def worthwhile(size: int, plain_size: int, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a compressed form is kept: it saves 5 % and a reader will accept its ratio."""
    saves = (plain_size - size) * MIN_SAVING >= plain_size
    return saves and plain_size <= max(FREE_EXPANSION, size * limits.expansion_ratio)


def compress(spec: CodecSpec, plain: Iterable[Buffer], plain_size: int) -> Iterator[bytes]:
    """Yields the compressed form of `plain_size` bytes that come in pieces, in constant memory."""
    if spec.filter is not None:
        plain = _shuffle(plain, _FILTERS[spec.filter])
    feed, finish = _encoder(spec, plain_size)
    for piece in plain:
        view = memoryview(piece)
        for begin in range(0, len(view), PIECE):
            yield feed(view[begin : begin + PIECE])
    yield finish()


def _encoder(
    spec: CodecSpec, plain_size: int
) -> tuple[Callable[[Buffer], bytes], Callable[[], bytes]]:
    if spec.id == "gzip":
        deflate = zlib.compressobj(spec.level, zlib.DEFLATED, 31)
        return deflate.compress, deflate.flush
    if spec.id == "xz":
        preset = spec.level | (lzma.PRESET_EXTREME if spec.level == 9 else 0)
        options: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": preset}]
        if spec.level == 9:
            options[0]["dict_size"] = _XZ_DICTIONARY
        xz = lzma.LZMACompressor(lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=options)
        return xz.compress, xz.flush
    import zstandard

    zstd = zstandard.ZstdCompressor(level=spec.level).compressobj(size=plain_size)
    return zstd.compress, zstd.flush


def decompress(
    spec: CodecSpec,
    stored: Iterable[Buffer],
    plain_size: int,
    *,
    entry: str,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Buffer]:
    """Yields the plain bytes in pieces of at most 1 MiB.

    Args:
        spec: Codec and filter.
        stored: Verified compressed bytes, in pieces.
        plain_size: Bytes that must come out, no more and no fewer.
        entry: Archive path, for messages.
        limits: Bounds on window and dictionary memory.

    Raises:
        CodecError: The data is damaged, truncated, followed by more, of another codec, or its
            plain size differs. Pieces that were yielded before must not be used.
    """
    decode = {"gzip": _gunzip, "zstd": _unzstd, "xz": _unxz}[spec.id]
    pieces = _bounded(decode(stored, plain_size, entry, limits), plain_size, entry)
    return pieces if spec.filter is None else _unshuffle(pieces, _FILTERS[spec.filter])


def _bounded(pieces: Iterator[bytes], plain_size: int, entry: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > plain_size:
            raise CodecError(f"expands to more than the {plain_size} bytes announced", entry=entry)
        yield piece
    if total != plain_size:
        raise CodecError(f"expands to {total} bytes, not the {plain_size} announced", entry=entry)


def _gunzip(stored: Iterable[Buffer], size: int, entry: str, limits: Limits) -> Iterator[bytes]:
    state = zlib.decompressobj(31)
    for piece in stored:
        rest: Buffer = piece
        while rest and not state.eof:
            try:
                plain = state.decompress(rest, PIECE)
            except zlib.error as error:
                raise CodecError(f"damaged gzip data: {error}", entry=entry) from None
            if plain:
                yield plain
            rest = state.unconsumed_tail
        if state.eof and (state.unused_data or rest):
            raise CodecError("bytes follow the gzip member", entry=entry)
    while not state.eof and (plain := state.decompress(state.unconsumed_tail, PIECE)):
        yield plain
    if not state.eof:
        raise CodecError("gzip data is truncated", entry=entry)


def _unxz(stored: Iterable[Buffer], size: int, entry: str, limits: Limits) -> Iterator[bytes]:
    state = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.lzma_memory_bytes)
    for piece in stored:
        rest: Buffer = piece
        while not state.eof and (rest or not state.needs_input):
            try:
                plain = state.decompress(rest, PIECE)
            except lzma.LZMAError as error:
                raise CodecError(f"damaged xz data: {error}", entry=entry) from None
            rest = b""
            if plain:
                yield plain
            elif state.needs_input:
                break
        if state.eof and (state.unused_data or rest):
            raise CodecError("bytes follow the xz stream", entry=entry)
    if not state.eof:
        raise CodecError("xz data is truncated", entry=entry)


class _Source:
    """Pieces as a file for zstandard; a walker sees every byte that passes."""

    def __init__(self, pieces: Iterable[Buffer], walker: FrameWalker):
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._walker = walker

    def read(self, size: int = -1) -> bytes:
        """Some bytes, none only at the end."""
        while not len(self._piece):
            following = next(self._pieces, None)
            if following is None:
                return b""
            self._piece = memoryview(following)
        part = bytes(self._piece[:size] if size >= 0 else self._piece)
        self._piece = self._piece[len(part) :]
        self._walker.feed(part)
        return part


def _unzstd(stored: Iterable[Buffer], size: int, entry: str, limits: Limits) -> Iterator[bytes]:
    import zstandard

    walker = FrameWalker(size, limits.zstd_window_bytes, entry)
    source = _Source(stored, walker)
    engine = zstandard.ZstdDecompressor(max_window_size=limits.zstd_window_bytes)
    try:
        with engine.stream_reader(source, read_size=PIECE) as reader:  # type: ignore[arg-type]
            while plain := reader.read(PIECE):
                yield plain
    except zstandard.ZstdError as error:
        raise CodecError(f"damaged zstd data: {error}", entry=entry) from None
    while source.read(PIECE):
        pass
    walker.finish()


def _blocks(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    pending = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        if pending:
            need = SHUFFLE_BLOCK - len(pending)
            pending += view[:need]
            view = view[need:]
            if len(pending) < SHUFFLE_BLOCK:
                continue
            yield memoryview(pending)
            pending = bytearray()
        whole = len(view) - len(view) % SHUFFLE_BLOCK
        for begin in range(0, whole, SHUFFLE_BLOCK):
            yield view[begin : begin + SHUFFLE_BLOCK]
        pending += view[whole:]
    if pending:
        yield memoryview(pending)


def _shuffle(pieces: Iterable[Buffer], width: int) -> Iterator[bytes]:
    import numpy

    for block in _blocks(pieces):
        yield numpy.frombuffer(block, numpy.uint8).reshape(-1, width).T.tobytes()


def _unshuffle(pieces: Iterable[Buffer], width: int) -> Iterator[bytes]:
    import numpy

    for block in _blocks(pieces):
        yield numpy.frombuffer(block, numpy.uint8).reshape(width, -1).T.tobytes()


def setting(
    algorithm: CompressionAlgorithm, level: CompressionLevel = CompressionLevel.Default
) -> CompressionSetting | None:
    """The setting for enum members, None for `Store`.

    Raises:
        InvalidArgumentError: An argument is no member of its enumeration.
    """
    if not isinstance(algorithm, CompressionAlgorithm):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{algorithm!r} is not a CompressionAlgorithm")
    if not isinstance(level, CompressionLevel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{level!r} is not a CompressionLevel")
    return None if algorithm is CompressionAlgorithm.Store else CompressionSetting(algorithm, level)
