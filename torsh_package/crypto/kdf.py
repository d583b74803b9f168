"""Password-based key derivation with costs that are bounded before any work is done.

The parameters of a stored package come from its header, which an attacker may have written: a
cost over `Limits` is refused at once, not tried.
"""

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from torsh_package.errors import InvalidArgumentError, LimitError
from torsh_package.limits import Limits

SALT_BYTES = 16
DERIVED_BYTES = 32


def password_bytes(password: str | bytes) -> bytes:
    """UTF-8 of the NFC form, so that one password typed on two systems is one password."""
    if isinstance(password, str):
        password = unicodedata.normalize("NFC", password).encode()
    if not password:
        raise InvalidArgumentError("the password is empty; give at least one character")
    return password


def _bounded(name: str, value: int, low: int, high: int, unit: str = "") -> None:
    if not low <= value <= high:
        raise LimitError(
            f"{name} is {value}{unit}, outside {low}..{high}{unit}; the derivation was not started"
        )


def _derived(kdf: Argon2id | Scrypt, password: bytes, name: str, memory: int) -> bytes:
    try:
        return kdf.derive(password)
    except MemoryError:
        raise LimitError(
            f"{name} needs {memory} bytes of memory, more than this process may have"
        ) from None


@dataclass(frozen=True)
class Argon2idParams:
    """Argon2id (RFC 9106): the default, memory-hard.

    Args:
        memory_kib: Memory in KiB.
        iterations: Passes over the memory.
        lanes: Degree of parallelism.
    """

    memory_kib: int = 256 * 1024
    iterations: int = 3
    lanes: int = 4

    name: ClassVar[str] = "argon2id"

    def check(self, limits: Limits) -> None:
        """Raise `LimitError` when a cost is out of bounds."""
        _bounded("argon2id lanes", self.lanes, 1, limits.argon2_lanes)
        _bounded("argon2id iterations", self.iterations, 1, limits.argon2_iterations)
        high = limits.kdf_memory_bytes // 1024
        _bounded("argon2id memory", self.memory_kib, 8 * self.lanes, high, " KiB")

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """32 bytes from the password; `check` first."""
        kdf = Argon2id(
            salt=salt,
            length=DERIVED_BYTES,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return _derived(kdf, password, self.name, self.memory_kib * 1024)


@dataclass(frozen=True)
class ScryptParams:
    """scrypt (RFC 7914).

    Args:
        n: Cost, a power of two; memory is 128 * n * r bytes.
        r: Block size.
        p: Parallelisation.
    """

    n: int = 1 << 17
    r: int = 8
    p: int = 1

    name: ClassVar[str] = "scrypt"

    def check(self, limits: Limits) -> None:
        """Raise `LimitError` when a cost is out of bounds."""
        _bounded("scrypt n", self.n, 2, limits.scrypt_n)
        if self.n & (self.n - 1):
            raise LimitError(f"scrypt n is {self.n}, not a power of two")
        _bounded("scrypt r", self.r, 1, 32)
        _bounded("scrypt p", self.p, 1, 16)
        _bounded("scrypt memory", 128 * self.n * self.r, 0, limits.kdf_memory_bytes, " bytes")

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """32 bytes from the password; `check` first."""
        kdf = Scrypt(salt=salt, length=DERIVED_BYTES, n=self.n, r=self.r, p=self.p)
        return _derived(kdf, password, self.name, 128 * self.n * self.r)


KdfParams = Argon2idParams | ScryptParams
