"""The ops of `kern`: scalar code in structured loops, vectorised when it is emitted.

Code is written for one element. `kern.lanes` says that the iterations of its body are
independent and may run side by side: the CPU emitter gives them vector lanes with masked tails,
the GPU emitter threads. `kern.reduce` folds with a fixed tree that no target changes
(`lanes` virtual lanes, blocks of `block` elements; DESIGN: numerics contract).

    kern.func @relu(%x : !kern.buf<f32>, %y : !kern.buf<f32>, %n : index) parallel

Index arithmetic uses the type `index` (64 bits). Element types are those of the tensors, with
signedness; `i1` is a bool that takes one byte in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    IndexType,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    UnitAttr,
)
from xdsl.ir import Attribute, Data, Dialect, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_region_def,
    var_result_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, Pure, SymbolOpInterface

from torsh_dialect.syntax import UniformSyntax

INDEX = IndexType()


@irdl_attr_definition
class BufferType(ParametrizedAttribute, TypeAttribute):
    """A pointer to elements of one type: `!kern.buf<f32>`."""

    name = "kern.buf"
    element: Attribute


@irdl_attr_definition
class TemplateAttr(Data[Any]):
    """The frozen parameters of a template; printed by their `repr`, for reading only."""

    name = "kern.params"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Any:
        """Templates are made by passes only, so their text is not read back."""
        parser.raise_error("kern.params cannot be parsed; run the pass that makes it")

    def print_parameter(self, printer: Printer) -> None:
        """Write `<Name(field=value, ...)>`."""
        printer.print_string(f"<{self.data!r}>")


@irdl_op_definition
class FuncOp(UniformSyntax):
    """A kernel or host function. Kernels get their part of the parallel range as two indices.

    `kind` is `kernel` (arguments from words, then `lo`, `hi`, `worker`) or `host`.
    """

    name = "kern.func"
    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface())


@irdl_op_definition
class YieldOp(UniformSyntax):
    """Ends a region with the values it gives."""

    name = "kern.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator())


@irdl_op_definition
class ConstOp(UniformSyntax):
    """A constant: `value` is an integer or a float attribute of any width."""

    name = "kern.const"
    value = prop_def(Attribute)
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class ComplexOp(UniformSyntax):
    """A complex number from its parts; only while a function is built, never in a finished one."""

    name = "kern.complex"
    real = operand_def()
    imaginary = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class BinaryOp(UniformSyntax):
    """`add sub mul div rem min max and or xor shl shr` as the Scalar protocol defines them.

    Of indices also `floordiv`, `mod`, and `add_sat`, `sub_sat`, `mul_sat`, which saturate.
    """

    name = "kern.binary"
    kind = prop_def(StringAttr)
    a = operand_def()
    b = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class UnaryOp(UniformSyntax):
    """`neg abs not floor ceil trunc round sqrt`."""

    name = "kern.unary"
    kind = prop_def(StringAttr)
    x = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class FmaOp(UniformSyntax):
    """a * b + c, fused where the target can."""

    name = "kern.fma"
    a = operand_def()
    b = operand_def()
    c = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class CompareOp(UniformSyntax):
    """`eq ne lt le gt ge`; ordered but for `ne`, so NaN is unequal to everything."""

    name = "kern.compare"
    kind = prop_def(StringAttr)
    a = operand_def()
    b = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class SelectOp(UniformSyntax):
    """a where the condition holds, else b."""

    name = "kern.select"
    condition = operand_def()
    a = operand_def()
    b = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class CastOp(UniformSyntax):
    """Converts between element types as `Scalar.cast` does."""

    name = "kern.cast"
    x = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class BitcastOp(UniformSyntax):
    """The same bits as another type."""

    name = "kern.bitcast"
    x = operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class MathOp(UniformSyntax):
    """A function of the maths library: `exp`, `erf`, `pow`, ..."""

    name = "kern.math"
    function = prop_def(StringAttr)
    operands_ = var_operand_def()
    y = result_def()
    traits = traits_def(Pure())


@irdl_op_definition
class LoadOp(UniformSyntax):
    """Element `index` of a buffer; 0 where a mask is given and does not hold.

    `roomy` says that lanes which take no part may be read as well: all of a whole vector of the
    widest kind lies in the buffer.
    """

    name = "kern.load"
    buffer = operand_def(BufferType)
    index = operand_def(IndexType)
    mask = opt_operand_def()
    roomy = opt_prop_def(UnitAttr)
    y = result_def()


@irdl_op_definition
class StoreOp(UniformSyntax):
    """Sets element `index` of a buffer, where the mask holds if there is one."""

    name = "kern.store"
    value = operand_def()
    buffer = operand_def(BufferType)
    index = operand_def(IndexType)
    mask = opt_operand_def()


@irdl_op_definition
class ForOp(UniformSyntax):
    """`for i in range(lower, upper, step)` with carried values; `nonempty` where a turn is sure."""

    name = "kern.for"
    lower = operand_def(IndexType)
    upper = operand_def(IndexType)
    init = var_operand_def()
    step = prop_def(IntegerAttr[I64])
    nonempty = opt_prop_def(UnitAttr)
    body = region_def("single_block")
    values = var_result_def()


@irdl_op_definition
class WhileOp(UniformSyntax):
    """Repeats `body` while `condition` yields true; both get the carried values.

    `condition` yields one bool. `body` yields the next values.
    """

    name = "kern.while"
    init = var_operand_def()
    condition = region_def("single_block")
    body = region_def("single_block")
    values = var_result_def()


@irdl_op_definition
class IfOp(UniformSyntax):
    """Runs one of two regions."""

    name = "kern.if"
    condition = operand_def()
    then = region_def("single_block")
    otherwise = region_def("single_block")
    values = var_result_def()


@irdl_op_definition
class LanesOp(UniformSyntax):
    """Independent iterations, run side by side: vector lanes on a CPU, threads on a GPU.

    `most` says that there are no more iterations than that.
    """

    name = "kern.lanes"
    lower = operand_def(IndexType)
    upper = operand_def(IndexType)
    most = opt_prop_def(IntegerAttr[I64])
    body = region_def("single_block")
    traits = traits_def(NoTerminator())


@irdl_op_definition
class ReduceOp(UniformSyntax):
    """Folds `range(lower, upper)` with a fixed tree.

    `element` maps an index to an accumulator. `combine` gets two accumulators, the earlier one
    first. The elements go to `lanes` virtual lanes in turn, in blocks of `block`; a block's
    lanes are combined as a balanced tree, and blocks in order. `init` is the identity.
    """

    name = "kern.reduce"
    lower = operand_def(IndexType)
    upper = operand_def(IndexType)
    init = var_operand_def()
    lanes = prop_def(IntegerAttr[I64])
    block = prop_def(IntegerAttr[I64])
    element = region_def("single_block")
    combine = region_def("single_block")
    values = var_result_def()


@irdl_op_definition
class ScratchOp(UniformSyntax):
    """Memory of this invocation, aligned to 64 bytes; `bytes` is a constant up to 64 KiB."""

    name = "kern.scratch"
    bytes = prop_def(IntegerAttr[I64])
    y = result_def(BufferType)


@irdl_op_definition
class CheckOp(UniformSyntax):
    """Records a failed run-time check: when the condition is false, `code` is stored.

    The first operand is the error record (`i64[4]`); `extra` values are stored after the code.
    """

    name = "kern.check"
    record = operand_def(BufferType)
    condition = operand_def()
    value = operand_def()
    limit = operand_def()
    code = prop_def(IntegerAttr[I64])


@irdl_op_definition
class GuardOp(UniformSyntax):
    """Ends a host function with status `code` when the condition is false; recorded as a check.

    Operands are those of `kern.check`; all are uniform.
    """

    name = "kern.guard"
    record = operand_def(BufferType)
    condition = operand_def()
    value = operand_def()
    limit = operand_def()
    code = prop_def(IntegerAttr[I64])


@irdl_op_definition
class TemplateOp(UniformSyntax):
    """A kernel body that a template emits: GEMM, convolution, attention, ...

    `params` is the template's frozen dataclass. Optional regions are its epilogue, code for one
    element of the result with the arguments (value, row, column), and its prologue, the same
    for an element of the first operand.
    """

    name = "kern.template"
    template = prop_def(StringAttr)
    params = prop_def(TemplateAttr)
    arguments = var_operand_def()
    hooks = var_region_def("single_block")


@irdl_op_definition
class LaunchOp(UniformSyntax):
    """Runs a kernel over range(extent), in parallel when that is worth it.

    `grain` is the least number of units that one thread should get.
    """

    name = "kern.launch"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    kernel = prop_def(FlatSymbolRefAttrConstr)
    host = operand_def()
    extent = operand_def(IndexType)
    grain = operand_def(IndexType)
    arguments = var_operand_def()
    scratch = var_operand_def()
    offsets = opt_prop_def(DenseArrayBase[I64])


@irdl_op_definition
class CallOp(UniformSyntax):
    """Calls a host function of this program: control-flow bodies and native helpers."""

    name = "kern.call"
    callee = prop_def(FlatSymbolRefAttrConstr)
    arguments = var_operand_def()
    values = var_result_def()


@irdl_op_definition
class PointerOp(UniformSyntax):
    """The buffer whose address is word `index` of a table of words."""

    name = "kern.pointer"
    table = operand_def(BufferType)
    index = operand_def(IndexType)
    y = result_def(BufferType)


@irdl_op_definition
class OffsetOp(UniformSyntax):
    """The buffer `bytes` bytes further on."""

    name = "kern.offset"
    base = operand_def(BufferType)
    bytes = operand_def(IndexType)
    y = result_def(BufferType)


@irdl_op_definition
class CopyOp(UniformSyntax):
    """Copies `bytes` bytes between buffers, which may overlap or be the same."""

    name = "kern.copy"
    target = operand_def(BufferType)
    source = operand_def(BufferType)
    bytes = operand_def(IndexType)


@irdl_op_definition
class AllocateOp(UniformSyntax):
    """The address of new memory: the host's `alloc(index, rank, dims, bytes)`; 0 if it refuses.

    `output` is the number of a data-dependent output, or -1 for memory of this call.
    """

    name = "kern.allocate"
    host = operand_def()
    bytes = operand_def(IndexType)
    dims = var_operand_def()
    output = prop_def(IntegerAttr[I64])
    y = result_def(IndexType)


@irdl_op_definition
class ReturnOp(UniformSyntax):
    """Ends a function; a host function returns a status code."""

    name = "kern.return"
    values = var_operand_def()
    traits = traits_def(IsTerminator())


OPS: Sequence[type[UniformSyntax]] = (
    FuncOp,
    YieldOp,
    ConstOp,
    ComplexOp,
    BinaryOp,
    UnaryOp,
    FmaOp,
    CompareOp,
    SelectOp,
    CastOp,
    BitcastOp,
    MathOp,
    LoadOp,
    StoreOp,
    ForOp,
    WhileOp,
    IfOp,
    LanesOp,
    ReduceOp,
    ScratchOp,
    CheckOp,
    GuardOp,
    TemplateOp,
    LaunchOp,
    CallOp,
    PointerOp,
    OffsetOp,
    CopyOp,
    AllocateOp,
    ReturnOp,
)

KERN = Dialect("kern", list(OPS), [BufferType, TemplateAttr])
"""The dialect, for a context."""

Symbol = SymbolRefAttr
