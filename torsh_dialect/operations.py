"""The operations that mean more than one torsh op of their name does: the default vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.ir import SSAValue

from torsh_dialect.attributes import bool_of, dims_attribute
from torsh_dialect.dims import Dim, Expr, floordiv, product
from torsh_dialect.dtypes import dtype_named
from torsh_dialect.errors import InvalidArgumentError, ShapeError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.activation import EluOp, GeluOp, LeakyReluOp
from torsh_dialect.ops.compare import (
    EqualOp,
    GreaterEqualOp,
    GreaterOp,
    LessEqualOp,
    LessOp,
    NotEqualOp,
)
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.join import ConcatOp, SplitOp
from torsh_dialect.ops.movement import ReshapeOp, TransposeOp
from torsh_dialect.ops.norm import BatchNormOp, LayerNormOp
from torsh_dialect.ops.pool import AvgPoolOp, MaxPoolOp
from torsh_dialect.ops.reduce import MaxOp, MeanOp, MinOp, ProdOp, SumOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.plain import Value
from torsh_dialect.types import dims_of, is_typed, rank_of
from torsh_dialect.vocabulary import Call, Meaning, Operation, Vocabulary, build_op, rank

Results = SSAValue | Sequence[SSAValue]


def _same(cls: type[TensorOp], **defaults: Value) -> Operation:
    return Operation(lambda call: build_op(call, cls, **defaults))


def _has_bias(call: Call) -> bool:
    return bool(call.option("bias", default=True))


def _weighted(call: Call) -> tuple[SSAValue, SSAValue, SSAValue | None]:
    """Data, weight and bias of `linear` and `conv`: arguments, or parameters of the node."""
    x, *given = call.arguments
    has_bias = _has_bias(call)
    if len(given) > 2:
        raise InvalidArgumentError(f"{call.operation} takes 1 to 3 arguments, got {len(given) + 1}")
    if given:
        return x, given[0], given[1] if len(given) > 1 else None
    weight, *bias = call.parameters("weight", *(["bias"] if has_bias else []))
    return x, weight, bias[0] if bias else None


def _linear(call: Call) -> Results:
    return call.c.linear(*_weighted(call))


def _conv(spatial: int) -> Meaning:
    def build(call: Call) -> Results:
        x, w, bias = _weighted(call)
        if rank_of(x) != spatial + 2:
            raise ShapeError(f"x has rank {rank_of(x)}, {call.operation} needs {spatial + 2}")
        padding = call.option("padding", "pads", default=0)
        properties = _sliding(call, spatial, padding)
        return call.b(ConvOp, x, w, bias, groups=call.integer("groups", default=1), **properties)

    return build


def _sliding(call: Call, spatial: int, padding: Value | None) -> dict[str, list[int] | str]:
    properties: dict[str, list[int] | str] = {
        "strides": call.integers("stride", "strides", count=spatial, default=1),
        "dilations": call.integers("dilation", "dilations", count=spatial, default=1),
    }
    match padding:
        case "same":
            properties["auto_pad"] = "same_upper"
        case "valid":
            properties["pads"] = [0] * 2 * spatial
        case list() if len(padding) == 2 * spatial:
            properties["pads"] = call.integers("padding", "pads", count=2 * spatial)
        case _:
            properties["pads"] = call.integers("padding", "pads", count=spatial, default=0) * 2
    return properties


def _pool(cls: type[TensorOp], spatial: int) -> Meaning:
    def build(call: Call) -> Results:
        x = call.argument(0)
        if rank_of(x) != spatial + 2:
            raise ShapeError(f"x has rank {rank_of(x)}, {call.operation} needs {spatial + 2}")
        kernel = call.integers("kernel_size", "kernel", count=spatial, default=2)
        padding = call.option("padding", "pads", default=0)
        properties = _sliding(call, spatial, padding)
        if call.option("stride", "strides") is None:
            properties["strides"] = kernel
        ceil = bool(call.option("ceil_mode", default=False))
        if cls is AvgPoolOp:
            include = bool(call.option("count_include_pad", "include_pad", default=True))
            return call.b(cls, x, kernel=kernel, ceil_mode=ceil, include_pad=include, **properties)
        return call.b(cls, x, kernel=kernel, ceil_mode=ceil, **properties)

    return build


def _global_average(call: Call) -> Results:
    axes = list(range(2, rank(call)))
    if not axes:
        raise ShapeError(f"x has rank {rank(call)}, but spatial axes begin at 2")
    return call.b(MeanOp, call.argument(0), axes=axes, keepdims=True)


def _batch_norm(call: Call) -> Results:
    x, *given = call.arguments
    statistics = given or call.parameters("weight", "bias", "running_mean", "running_var")
    if len(statistics) != 4:
        raise InvalidArgumentError(f"batch_norm takes 1 or 5 arguments, got {len(given) + 1}")
    return call.b(BatchNormOp, x, *statistics, epsilon=call.real("eps", "epsilon", default=1e-5))


def _layer_norm(call: Call) -> Results:
    x, *given = call.arguments
    epsilon = call.real("eps", "epsilon", default=1e-5)
    axis = call.integer("axis", "dim", default=-1)
    affine, bias = call.option("affine", default=True), _has_bias(call)
    if not given and affine:
        given = call.parameters("weight", *(["bias"] if bias else []))
    scale, shift = (*given, None, None)[:2]
    return call.b(LayerNormOp, x, scale, shift, axis=axis, epsilon=epsilon)


def _embedding(call: Call) -> Results:
    if len(call.arguments) == 2:
        indices, table = call.arguments
    else:
        indices, table = call.argument(0), call.parameter("weight")
    return call.b(GatherOp, table, indices, axis=0)


def _along(cls: type[TensorOp]) -> Operation:
    def build(call: Call) -> Results:
        return call.b(cls, call.argument(0), axis=call.integer("axis", "dim", default=-1))

    return Operation(build)


def _reduce(cls: type[TensorOp]) -> Operation:
    def build(call: Call) -> Results:
        axes = call.option("axes", "axis", "dim", default=list(range(rank(call))))
        keep = bool(call.option("keepdims", "keepdim", default=False))
        listed = [axes] if isinstance(axes, int) else axes
        return call.b(cls, call.argument(0), axes=listed, keepdims=keep)  # pyright: ignore[reportArgumentType]

    return Operation(build)


def _reshape(call: Call) -> Results:
    x, wanted = call.argument(0), call.option("shape", "target")
    if not isinstance(wanted, list) or not all(isinstance(d, int | Expr) for d in wanted):
        raise InvalidArgumentError(f"reshape needs `shape`, a list of extents; got {wanted!r}")
    target: list[Dim] = [d for d in wanted if isinstance(d, int | Expr)]
    if target.count(-1) > 1:
        raise InvalidArgumentError(f"only one extent may be -1: {wanted}")
    if -1 in target:
        known: Dim = product([d for d in target if d != -1])
        whole: Dim = product(dims_of(x))
        if isinstance(whole, int) and isinstance(known, int) and (not known or whole % known):
            raise ShapeError(f"{list(dims_of(x))} has {whole} elements: no multiple of {known}")
        target[target.index(-1)] = floordiv(whole, known)
    return call.b(ReshapeOp, x, target=dims_attribute(target))


def _flatten(call: Call) -> Results:
    dims, start = dims_of(call.argument(0)), call.integer("start_dim", "axis", default=1)
    target = [*dims[:start], product(dims[start:])]
    return call.b(ReshapeOp, call.argument(0), target=dims_attribute(target))


def _transpose(call: Call) -> Results:
    count = rank(call)
    if call.option("dim0") is not None or call.option("dim1") is not None:
        a, b = (call.integer(name, default=0) % count for name in ("dim0", "dim1"))
        perm = list(range(count))
        perm[a], perm[b] = perm[b], perm[a]
    else:
        default = list(reversed(range(count)))
        given = call.option("perm", "dims", default=default)
        perm = given if isinstance(given, list) else default
    return call.b(TransposeOp, call.argument(0), perm=perm)  # pyright: ignore[reportArgumentType]


def _concat(call: Call) -> Results:
    call.argument(0)
    return call.b(ConcatOp, call.arguments, axis=call.integer("axis", "dim", default=0))


def _split(call: Call) -> Results:
    x, axis = call.argument(0), call.integer("axis", "dim", default=0)
    sizes = call.option("sizes")
    sections = call.option("sections", "num")
    if isinstance(sizes, list):
        return call.b.all(SplitOp, x, axis=axis, sizes=dims_attribute(sizes))  # pyright: ignore[reportArgumentType]
    extent = dims_of(x)[axis]
    if not isinstance(sections, int) or not isinstance(extent, int):
        raise InvalidArgumentError("split needs `sizes`, or `sections` and a known extent")
    if extent % sections:
        raise ShapeError(f"axis {axis} has {extent} elements: not {sections} equal pieces")
    equal = dims_attribute([extent // sections] * sections)
    return call.b.all(SplitOp, x, axis=axis, sizes=equal)


def _pieces(options: Mapping[str, Value]) -> int:
    sizes = options.get("sizes")
    count = options.get("sections", options.get("num"))
    if isinstance(sizes, list):
        return len(sizes)
    if isinstance(count, int) and count > 0:
        return count
    raise InvalidArgumentError(
        "split needs `sizes` (a list) or `sections` (a number) as attributes"
    )


def _cast(call: Call) -> Results:
    to = call.option("to", "dtype")
    element = dtype_named(to).element if isinstance(to, str) else to
    return call.b(CastOp, call.argument(0), to=element)  # pyright: ignore[reportArgumentType]


def _identity(call: Call) -> Results:
    return call.argument(0)


def _dropout(call: Call) -> Results:
    call.option("p")
    return call.argument(0)


def _merge(call: Call) -> Results:
    first = call.argument(0)
    if any(value is not first for value in call.arguments):
        raise InvalidArgumentError(
            f"{call.node} merges {len(call.arguments)} different values; a merge joins what the "
            "branches of one conditional yield"
        )
    return first


LINEAR = ("weight", "bias")
STATISTICS = ("weight", "bias", "running_mean", "running_var")

OPERATIONS: dict[str, Operation] = {
    "linear": Operation(_linear, LINEAR),
    "conv1d": Operation(_conv(1), LINEAR),
    "conv2d": Operation(_conv(2), LINEAR),
    "conv3d": Operation(_conv(3), LINEAR),
    "max_pool1d": Operation(_pool(MaxPoolOp, 1)),
    "max_pool2d": Operation(_pool(MaxPoolOp, 2)),
    "avg_pool1d": Operation(_pool(AvgPoolOp, 1)),
    "avg_pool2d": Operation(_pool(AvgPoolOp, 2)),
    "global_avg_pool2d": Operation(_global_average),
    "batch_norm": Operation(_batch_norm, STATISTICS),
    "layer_norm": Operation(_layer_norm, LINEAR),
    "embedding": Operation(_embedding, ("weight",)),
    "gelu": _same(GeluOp, approximate="none"),
    "leaky_relu": _same(LeakyReluOp, alpha=0.01),
    "elu": _same(EluOp, alpha=1.0),
    "softmax": _along(SoftmaxOp),
    "log_softmax": _along(LogSoftmaxOp),
    "sum": _reduce(SumOp),
    "mean": _reduce(MeanOp),
    "max": _reduce(MaxOp),
    "min": _reduce(MinOp),
    "prod": _reduce(ProdOp),
    "equal": _same(EqualOp),
    "not_equal": _same(NotEqualOp),
    "greater": _same(GreaterOp),
    "greater_equal": _same(GreaterEqualOp),
    "less": _same(LessOp),
    "less_equal": _same(LessEqualOp),
    "reshape": Operation(_reshape),
    "flatten": Operation(_flatten),
    "transpose": Operation(_transpose),
    "concat": Operation(_concat),
    "split": Operation(_split, results=_pieces),
    "cast": Operation(_cast),
    "identity": Operation(_identity),
    "dropout": Operation(_dropout),
    "merge": Operation(_merge),
}
"""Operations by name, beside the ops themselves by their mnemonics."""

VOCABULARY = Vocabulary(OPERATIONS)
"""What every graph understands."""

SPELLINGS: dict[type[TensorOp], str] = {
    EqualOp: "equal",
    NotEqualOp: "not_equal",
    GreaterOp: "greater",
    GreaterEqualOp: "greater_equal",
    LessOp: "less",
    LessEqualOp: "less_equal",
}
"""Names of ops in a graph, where they are not the mnemonic."""


def spelled(op: TensorOp) -> str:
    """The name of an op in a graph, e.g. `conv2d` for a `torsh.conv` with two spatial axes."""
    match op:
        case ConvOp() if _is_first(op) and rank_of(op.x) in (3, 4, 5):
            return f"conv{rank_of(op.x) - 2}d"
        case MaxPoolOp() | AvgPoolOp() if _is_first(op) and rank_of(op.x) in (3, 4):
            return f"{op.name.removeprefix('torsh.')}{rank_of(op.x) - 2}d"
        case MeanOp() if is_global_average(op):
            return "global_avg_pool2d"
        case _:
            return SPELLINGS.get(type(op), op.name.removeprefix("torsh."))


def is_global_average(op: TensorOp) -> bool:
    """Whether the op is the mean over the spatial axes of an image, which stay with extent 1."""
    if not isinstance(op, MeanOp) or not is_typed(op.x) or rank_of(op.x) != 4:
        return False
    return bool_of(op.keepdims) and op.axis_list() == (2, 3)


def _is_first(op: ConvOp | MaxPoolOp | AvgPoolOp) -> bool:
    return not op.channels_last() and "auto_pad" not in op.properties
