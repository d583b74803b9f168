"""What a compilation carries along: xDSL's context, the weights, the target, the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.ir import Attribute, Dialect

from torsh_dialect import dtypes, types
from torsh_dialect.attributes import LiteralAttr
from torsh_dialect.declare import OPS
from torsh_dialect.target import TARGETS, TargetInfo
from torsh_dialect.weights import WeightStore

Numerics = Literal["default", "strict", "fast"]


def torsh_dialect() -> Dialect:
    """The `torsh` dialect with every declared op."""
    import torsh_dialect.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]

    attributes: list[type[Attribute]] = [
        types.DimsAttr,
        types.SequenceType,
        types.OptionalType,
        LiteralAttr,
        dtypes.Float8E4M3FNType,
        dtypes.Float8E4M3FNUZType,
        dtypes.Float8E5M2Type,
        dtypes.Float8E5M2FNUZType,
        dtypes.Float8E8M0FNUType,
        dtypes.Float4E2M1FNType,
        dtypes.AnyElementType,
        dtypes.StringType,
    ]
    return Dialect("torsh", OPS, attributes)


@dataclass(frozen=True)
class Settings:
    """Options of a compilation; every field changes behaviour.

    Attributes:
        numerics: `default`, `strict` (no value-changing rewrites) or `fast`.
        disabled_rewrites: Names of value-changing rewrites that are switched off.
        verify_each: Verify the module after every pass.
        dump_dir: Write the IR of every stage into this folder.
        in_process: Generate code in this process instead of workers, for debugging.
    """

    numerics: Numerics = "default"
    disabled_rewrites: frozenset[str] = frozenset()
    verify_each: bool = False
    dump_dir: str | None = None
    in_process: bool = False

    def allows(self, rewrite: str) -> bool:
        """Whether the value-changing rewrite of that name may be applied."""
        return self.numerics != "strict" and rewrite not in self.disabled_rewrites


@dataclass
class Context(XdslContext):
    """xDSL's context with our dialects loaded, and what passes need beside the module."""

    weights: WeightStore = field(default_factory=WeightStore)
    target: TargetInfo = TARGETS["x86-64-v3"]
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        for dialect in (Builtin, Func, torsh_dialect()):
            self.load_dialect(dialect)
