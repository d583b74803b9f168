"""Where a Zstandard frame ends (RFC 8878, section 3.1.1), without decompressing it.

The library's reader does not tell a truncated frame from a finished one, nor a second frame from
none. Walking the block headers does.
"""

from torsh_package.errors import CodecError

_MAGIC = b"\x28\xb5\x2f\xfd"
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_RLE, _RESERVED = 1, 3


class FrameWalker:
    """Sees a compressed content pass in pieces, and checks that it is exactly one frame.

    Args:
        content_size: What the frame header must announce.
        max_window: Largest window that is accepted, in bytes.
        entry: Archive path, for messages.
    """

    def __init__(self, content_size: int, max_window: int, entry: str):
        self._content_size = content_size
        self._max_window = max_window
        self._entry = entry
        self._head = bytearray()
        self._need = 5
        self._skip = 0
        self._state = "descriptor"
        self._checksum = 0

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes.

        Raises:
            CodecError: They cannot be part of one frame.
        """
        at = 0
        while at < len(piece):
            if self._skip:
                step = min(self._skip, len(piece) - at)
                self._skip -= step
                at += step
                continue
            if self._state == "end":
                raise CodecError("bytes follow the zstd frame", entry=self._entry)
            step = min(self._need - len(self._head), len(piece) - at)
            self._head += piece[at : at + step]
            at += step
            if len(self._head) == self._need:
                self._advance()

    def finish(self) -> None:
        """Raises `CodecError` unless the frame is complete."""
        if self._state != "end" or self._skip:
            raise CodecError("zstd data is truncated", entry=self._entry)

    def _advance(self) -> None:
        if self._state == "descriptor":
            self._descriptor()
        elif self._state == "header":
            self._header()
        else:
            self._block()

    def _descriptor(self) -> None:
        if bytes(self._head[:4]) != _MAGIC:
            raise CodecError("not zstd data (wrong magic number)", entry=self._entry)
        flags = self._head[4]
        if flags & 0x03:
            raise CodecError("zstd frame needs a dictionary", entry=self._entry)
        if flags & 0x18:
            raise CodecError("zstd frame header has reserved bits set", entry=self._entry)
        single = bool(flags & 0x20)
        size_bytes = _CONTENT_SIZE_BYTES[flags >> 6] or int(single)
        if not size_bytes:
            raise CodecError("zstd frame does not give its content size", entry=self._entry)
        self._checksum = 4 if flags & 0x04 else 0
        self._need = 5 + (not single) + size_bytes
        self._state = "header"

    def _header(self) -> None:
        single = bool(self._head[4] & 0x20)
        field = self._head[5 if single else 6 :]
        size = int.from_bytes(field, "little") + (256 if len(field) == 2 else 0)
        if size != self._content_size:
            raise CodecError(
                f"zstd frame announces {size} bytes, the manifest {self._content_size}",
                entry=self._entry,
            )
        window = size
        if not single:
            base = 1 << (10 + (self._head[5] >> 3))
            window = base + (base >> 3) * (self._head[5] & 7)
        if window > self._max_window and not single:
            raise CodecError(
                f"zstd window of {window} bytes, limit {self._max_window}", entry=self._entry
            )
        self._next_block()

    def _block(self) -> None:
        value = int.from_bytes(self._head, "little")
        kind, size = value >> 1 & 3, value >> 3
        if kind == _RESERVED:
            raise CodecError("zstd block of a reserved kind", entry=self._entry)
        self._skip = 1 if kind == _RLE else size
        if value & 1:
            self._skip += self._checksum
            self._state = "end"
            self._head.clear()
        else:
            self._next_block()

    def _next_block(self) -> None:
        self._state = "block"
        self._need = 3
        self._head.clear()
