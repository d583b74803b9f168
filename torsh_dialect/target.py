"""Target descriptions: frozen facts about a machine that code generation may depend on."""

from dataclasses import dataclass, replace

from torsh_dialect.errors import InvalidArgumentError


@dataclass(frozen=True)
class TargetInfo:
    """What the code generator knows of a target. Two equal values generate equal code.

    Attributes:
        name: The name users give, e.g. `x86-64-v3`.
        triple: LLVM target triple.
        cpu: LLVM `-mcpu` name.
        features: LLVM feature string, e.g. `+avx2,+fma`.
        vector_bytes: Width of the widest vector register that code should use, in bytes.
        vector_registers: Number of architectural vector registers.
        fma: Whether a fused multiply-add instruction exists.
        l1_bytes: Level 1 data cache per core, in bytes.
        l2_bytes: Level 2 cache per core, in bytes.
        int8_dot: Integer dot product style: `none`, `maddubs`, `vnni` or `sdot`.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    fma: bool
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    int8_dot: str = "none"

    def lanes(self, element_bytes: int) -> int:
        """Elements of `element_bytes` bytes that fit one vector register."""
        return max(1, self.vector_bytes // element_bytes)


_LINUX_X86 = "x86_64-unknown-linux-gnu"
_V3 = TargetInfo(
    name="x86-64-v3",
    triple=_LINUX_X86,
    cpu="x86-64-v3",
    features="",
    vector_bytes=32,
    vector_registers=16,
    fma=True,
    int8_dot="maddubs",
)

_V4 = replace(
    _V3,
    name="x86-64-v4",
    cpu="x86-64-v4",
    vector_bytes=64,
    vector_registers=32,
    l2_bytes=1024 * 1024,
)

TARGETS: dict[str, TargetInfo] = {
    t.name: t
    for t in (
        TargetInfo("x86-64-v2", _LINUX_X86, "x86-64-v2", "", 16, 16, False),
        _V3,
        replace(_V3, name="znver3", cpu="znver3"),
        replace(_V3, name="x86-64-v3-vnni", features="+avxvnni", int8_dot="vnni"),
        _V4,
        replace(_V4, name="x86-64-v4-vnni", features="+avx512vnni", int8_dot="vnni"),
        TargetInfo(
            "aarch64",
            "aarch64-unknown-linux-gnu",
            "generic",
            "+neon",
            16,
            32,
            True,
            int8_dot="sdot",
        ),
    )
}
"""Every target by name. `host_target` of `lowering.cpu.host` picks one for this machine."""


def target_named(name: str) -> TargetInfo:
    """The target called `name`.

    Raises:
        InvalidArgumentError: There is no such target; the message lists those there are.
    """
    try:
        return TARGETS[name]
    except KeyError:
        raise InvalidArgumentError(
            f"unknown target {name!r}; known targets: {', '.join(sorted(TARGETS))}"
        ) from None
