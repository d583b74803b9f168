"""CRC-32 of long contents from the CRCs of their parts, so that parts can be done in parallel."""

from functools import lru_cache
from typing import Protocol, cast

from isal import isal_zlib


class Crc32(Protocol):
    """CRC-32 of a buffer behind bytes whose CRC is `start`."""

    def __call__(self, data: bytes | bytearray | memoryview, start: int = 0, /) -> int:
        """The CRC."""
        ...


# Several times zlib's speed; the numbers are the same.
crc32 = cast("Crc32", vars(isal_zlib)["crc32"])

_POLYNOMIAL = 0xEDB8_8320  # reflected, IEEE 802.3
_Matrix = tuple[int, ...]


def combine(first: int, second: int, second_size: int) -> int:
    """CRC-32 of two contents in a row from their CRCs and the size of the second.

    Appending n zero bytes is a linear map on CRCs over GF(2); its matrix is found by repeated
    squaring (zlib's crc32_combine).
    """
    if not first:  # Also where nothing comes before: no need of a matrix.
        return second
    return _apply(_zeros(second_size), first) ^ second if second_size else first


@lru_cache(maxsize=64)
def _zeros(count: int) -> _Matrix:
    """The matrix of appending `count` zero bytes: column i is the image of bit i."""
    one_bit = (_POLYNOMIAL, *(1 << i for i in range(31)))
    power = one_bit
    for _ in range(3):
        power = _multiply(power, power)
    result = tuple(1 << i for i in range(32))
    while count:
        if count & 1:
            result = _multiply(power, result)
        power = _multiply(power, power)
        count >>= 1
    return result


def _multiply(left: _Matrix, right: _Matrix) -> _Matrix:
    return tuple(_apply(left, column) for column in right)


def _apply(matrix: _Matrix, vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result
