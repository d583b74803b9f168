"""What a compilation carries along: xDSL's context, the weights, the target, the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.ir import Attribute, Dialect

from torsh_dialect import dtypes, encodings, types
from torsh_dialect.attributes import LiteralAttr
from torsh_dialect.declare import OPS
from torsh_dialect.settings import Settings
from torsh_dialect.target import TARGETS, TargetInfo
from torsh_dialect.weights import WeightStore


def torsh_dialect() -> Dialect:
    """The `torsh` dialect with every declared op."""
    import torsh_dialect.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]

    attributes: list[type[Attribute]] = [
        encodings.DimsAttr,
        encodings.TensorAttr,
        types.SequenceType,
        types.OptionalType,
        types.MapType,
        LiteralAttr,
        dtypes.Float8E4M3FNType,
        dtypes.Float8E4M3FNUZType,
        dtypes.Float8E5M2Type,
        dtypes.Float8E5M2FNUZType,
        dtypes.Float8E8M0FNUType,
        dtypes.Float4E2M1FNType,
        dtypes.Float6E2M3FNType,
        dtypes.Float6E3M2FNType,
        dtypes.AnyElementType,
        dtypes.StringType,
    ]
    return Dialect("torsh", OPS, attributes)


@dataclass
class Context(XdslContext):
    """xDSL's context with our dialects loaded, and what passes need beside the module."""

    weights: WeightStore = field(default_factory=WeightStore)
    target: TargetInfo = TARGETS["x86-64-v3"]
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        for dialect in (Builtin, Func, torsh_dialect()):
            self.load_dialect(dialect)
