"""Hard limits that the readers of `torsh_package` check before they allocate anything."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Largest sizes and counts that a package may have. All byte counts are in bytes.

    Pass a changed copy (`dataclasses.replace`) to `Package.load(limits=...)` to allow more.
    """

    manifest_bytes: int = 64 * MIB
    json_depth: int = 32
    json_objects: int = 400_000
    resources: int = 65_536
    tensors: int = 262_144
    string_bytes: int = 64 * 1024
    name_bytes: int = 1_024
    entry_bytes: int = 1 << 46
    plain_bytes: int = 1 << 46
    expansion_ratio: int = 1_100
    relaxed_ratio: int = 64
    zstd_window_bytes: int = 128 * MIB
    lzma_memory_bytes: int = 256 * MIB
    signatures: int = 64
    recipients: int = 256
    kdf_memory_bytes: int = 1 << 30
    argon2_iterations: int = 16
    argon2_lanes: int = 16
    scrypt_n: int = 1 << 20
    pickle_opcodes: int = 10_000_000
    pickle_depth: int = 256


DEFAULT_LIMITS = Limits()
