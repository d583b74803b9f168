"""Builds `kern` functions: the scalar language and index arithmetic as ops.

Index values are Python integers or SSA values; integers fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, StringAttr
from xdsl.ir import Attribute, OpResult, SSAValue

from lowering.kern import dialect as kern
from lowering.kern.complex_math import ComplexMath, Pair
from lowering.kern.dialect import INDEX
from lowering.kern.scopes import Index, ScopedBuilder, buffer_of, part_of
from torsh_dialect import dtypes
from torsh_dialect.attributes import str_of, text
from torsh_dialect.dims import Atom, Dim, Expr, bounds_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import UnsupportedError

__all__ = ["Index", "IndexView", "KernBuilder", "buffer_of"]

COMPARE_INTEGERS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


SATURATING = {"add": "add_sat", "sub": "sub_sat", "mul": "mul_sat"}
"""Extents and sizes on the host: what overflows becomes the largest number, which is refused."""


class KernBuilder(ScopedBuilder):
    """Builds one function body. Implements `Scalar[SSAValue]` and `Indices[Index, SSAValue]`."""

    def __init__(self, name: str, kind: str = "kernel"):
        super().__init__(name, kind)
        self._dims: dict[Dim, SSAValue] = {}
        self.dim_arguments: list[Expr] = []
        self._complex = ComplexMath(self)

    @property
    def known_dims(self) -> dict[Dim, SSAValue]:
        """The symbolic extents that have a value here."""
        return self._dims

    # -- Indices[Index, SSAValue]

    def dim(self, dim: Dim) -> Index:
        """An extent: a constant, or a function argument that the caller computes."""
        if isinstance(dim, int):
            return dim
        if self.kind == "host":
            return self._dims[dim] if dim in self._dims else self._expression(dim)
        if dim not in self._dims:
            self._dims[dim] = self.argument(INDEX, "dim")
            self.dim_arguments.append(dim)
        return self._dims[dim]

    def define_dim(self, dim: Expr, value: SSAValue) -> None:
        """Say which value a symbolic extent has in this host function."""
        self._dims[dim] = value

    def _expression(self, dim: Expr) -> Index:
        total: Index = 0
        for monomial, coefficient in dim.terms:
            term: Index = coefficient
            for atom in monomial:
                term = self.mul_index(term, self._atom(atom))
            total = self.add_index(total, term)
        return total

    def _atom(self, atom: Atom) -> Index:
        if not atom.arguments:
            value = self._dims.get(Expr((((atom,), 1),)))
            if value is None:
                raise UnsupportedError(
                    f"the extent {atom.name} has no value here: it is no extent n or c*n of an "
                    "input, and no op before names it; bind it with torsh.bind"
                )
            return value
        a, b = (self.dim(argument) for argument in atom.arguments)
        if atom.name == "bcast":
            return self.select_index(self.compare_index("eq", a, 1), b, a)
        if atom.name == "floordiv" and isinstance(b, SSAValue):
            b = self.select_index(self.compare_index("eq", b, 0), 1, b)  # division by 0 would trap
            low, _ = bounds_of(atom.arguments[1], {})
            if low is None or low < 0:  # divisors are positive
                negative = self.compare_index("lt", b, 0)
                a = self.select_index(negative, self.sub_index(0, a), a)
                b = self.select_index(negative, self.sub_index(0, b), b)
        return self._index_op(atom.name, a, b)

    def _index_op(self, kind: str, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return _fold(kind, a, b)
        if self.kind == "host":
            kind = SATURATING.get(kind, kind)
        return self._op(kern.BinaryOp, [self.index(a), self.index(b)], INDEX, kind=text(kind))

    def add_index(self, a: Index, b: Index) -> Index:
        if a == 0:
            return b
        return a if b == 0 else self._index_op("add", a, b)

    def sub_index(self, a: Index, b: Index) -> Index:
        return a if b == 0 else self._index_op("sub", a, b)

    def mul_index(self, a: Index, b: Index) -> Index:
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        return a if b == 1 else self._index_op("mul", a, b)

    def floordiv(self, a: Index, b: Index) -> Index:
        """`a // b`, rounded down; `b` is positive."""
        return a if b == 1 else self._index_op("floordiv", a, b)

    def mod(self, a: Index, b: Index) -> Index:
        """`a % b` with the sign of `b`; `b` is positive."""
        return 0 if b == 1 else self._index_op("mod", a, b)

    def unravel(self, number: Index, dims: Sequence[Dim]) -> list[Index]:
        """The index of place `number` among extents `dims`, in C order."""
        index = list[Index]()
        for dim in reversed(dims[1:]):
            extent = self.dim(dim)
            index.append(self.mod(number, extent))
            number = self.floordiv(number, extent)
        return [number, *reversed(index)] if dims else []

    def raveled(self, outer: Index, inner: Index, dim: Dim) -> Index | None:
        """The number whose quotient and rest by an extent two indices are; None for others."""
        by, found = self.dim(dim), list[Index]()
        for kind, index in (("floordiv", outer), ("mod", inner)):
            op = index.owner if isinstance(index, OpResult) else None
            if not isinstance(op, kern.BinaryOp) or str_of(op.kind) != kind:
                return None
            if op.operands[1] is not self.index(by):
                return None
            found.append(op.operands[0])
        return found[0] if found[0] is found[1] else None

    def each_place(
        self,
        lower: Index,
        upper: Index,
        dims: Sequence[Dim],
        body: Callable[[SSAValue, Sequence[Index]], None],
    ) -> None:
        """`body(number, index)` for places of extents `dims` in C order, numbered from 0.

        Division by known extents is multiplication. By others it is slow, so then there is a loop
        over the last axis inside of one over the places in the others, which depends on less.
        """
        if all(isinstance(dim, int) for dim in dims[1:]):
            self.each(lower, upper, lambda number: body(number, self.unravel(number, dims)))
            return
        extent = self.max_index(self.dim(dims[-1]), 1)  # of nothing there is no place
        first = self.floordiv(lower, extent)
        end = self.add_index(self.floordiv(self.sub_index(upper, 1), extent), 1)
        end = self.select_index(self.compare_index("lt", lower, upper), end, first)

        def line(before: SSAValue, outer: Sequence[Index]) -> None:
            begin = self.mul_index(before, extent)
            start = self.max_index(self.sub_index(lower, begin), 0)
            stop = self.min_index(self.sub_index(upper, begin), extent)

            def place(i: SSAValue, *_: SSAValue) -> Sequence[SSAValue]:
                body(self.index(self.add_index(begin, i)), [*outer, i])
                return ()

            self.for_(start, stop, place, nonempty=True)

        self.each_place(first, end, dims[:-1], line)

    def min_index(self, a: Index, b: Index) -> Index:
        return self._index_op("min", a, b)

    def max_index(self, a: Index, b: Index) -> Index:
        return self._index_op("max", a, b)

    def compare_index(self, kind: str, a: Index, b: Index) -> SSAValue:
        if isinstance(a, int) and isinstance(b, int):
            return self.const(COMPARE_INTEGERS[kind](a, b), dtypes.i1)
        operands = [self.index(a), self.index(b)]
        return self._op(kern.CompareOp, operands, dtypes.i1, kind=text(kind))

    def select_index(self, condition: SSAValue, a: Index, b: Index) -> Index:
        if isinstance(known := self.known_bool(condition), bool):
            return a if known else b
        return self._op(kern.SelectOp, [condition, self.index(a), self.index(b)], INDEX)

    def known_bool(self, value: SSAValue) -> bool | None:
        """The value of a bool constant; None for anything else."""
        if isinstance(value, OpResult) and isinstance(value.op, kern.ConstOp):
            constant = value.op.properties["value"]
            if isinstance(constant, IntegerAttr):
                return constant.value.data != 0
        return None

    # -- Scalar[SSAValue]

    def dtype(self, a: SSAValue) -> Attribute:
        return a.type

    def const(self, value: complex | bool, dtype: Attribute) -> SSAValue:
        if (part := part_of(dtype)) is not None:
            number = complex(value)
            return self.complex(self.const(number.real, part), self.const(number.imag, part))
        assert not isinstance(value, complex)
        key = (kern.ConstOp, type(value), repr(value), dtype)
        if (found := self._known(key)) is not None:
            return found
        row = dtype_of(dtype)
        if row.kind == "float":
            attribute: Attribute = FloatAttr(float(value), dtypes.f64)
        else:
            attribute = IntegerAttr(int(value), dtypes.i64 if row.bits > 1 else dtypes.i8)
        op = kern.ConstOp.create(result_types=(dtype,), properties={"value": attribute})
        return self._pure(key, (), op)

    index_type = INDEX

    def is_loop_index(self, value: SSAValue) -> bool:
        """Whether an index is a loop's or affine in one, and so inside by construction."""
        work = [value]
        while work:
            current = work.pop()
            if not isinstance(current, OpResult) or isinstance(current.op, kern.ConstOp):
                continue
            if not isinstance(current.op, kern.BinaryOp):
                return False
            work.extend(current.op.operands)
        return True

    def is_float(self, a: SSAValue) -> bool:
        """Whether a value is a real floating-point number."""
        return not isinstance(a.type, IndexType) and dtype_of(a.type).kind == "float"

    def binary(self, kind: str, a: SSAValue, b: SSAValue) -> SSAValue:
        if part_of(a.type) is not None:
            return self.complex(*_arithmetic(self._complex, kind)(self.pair(a), self.pair(b)))
        return self._op(kern.BinaryOp, [a, b], a.type, kind=text(kind))

    def unary(self, kind: str, a: SSAValue) -> SSAValue:
        if part_of(a.type) is not None:
            return self._complex_unary(kind, a)
        return self._op(kern.UnaryOp, [a], a.type, kind=text(kind))

    def _complex_unary(self, kind: str, a: SSAValue) -> SSAValue:
        real, imaginary = self.pair(a)
        if kind == "neg":
            return self.complex(self.neg(real), self.neg(imaginary))
        if kind == "abs":
            size = self._complex.modulus((real, imaginary))
            return self.complex(size, self.const(0.0, size.type))
        return self.complex(*self._complex.call(kind, (real, imaginary)))

    def compare(self, kind: str, a: SSAValue, b: SSAValue) -> SSAValue:
        if part_of(a.type) is not None:
            pairs = zip(self.pair(a), self.pair(b), strict=True)
            first, second = (self.compare(kind, x, y) for x, y in pairs)
            if kind not in ("eq", "ne"):
                raise UnsupportedError(f"complex numbers have no order ({kind}); take parts first")
            return self.and_(first, second) if kind == "eq" else self.or_(first, second)
        return self._op(kern.CompareOp, [a, b], dtypes.i1, kind=text(kind))

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("add", a, b)

    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("sub", a, b)

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("mul", a, b)

    def div(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("div", a, b)

    def rem(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("rem", a, b)

    def fma(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        if part_of(a.type) is not None:
            return self.add(self.mul(a, b), c)
        return self._op(kern.FmaOp, [a, b, c], a.type)

    def neg(self, a: SSAValue) -> SSAValue:
        return self.unary("neg", a)

    def abs(self, a: SSAValue) -> SSAValue:
        return self.unary("abs", a)

    def min(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("min", a, b)

    def max(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("max", a, b)

    def eq(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("eq", a, b)

    def ne(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("ne", a, b)

    def lt(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("lt", a, b)

    def le(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("le", a, b)

    def gt(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("gt", a, b)

    def ge(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("ge", a, b)

    def select(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        if part_of(a.type) is not None:
            pairs = zip(self.pair(a), self.pair(b), strict=True)
            return self.complex(*(self.select(condition, x, y) for x, y in pairs))
        return self._op(kern.SelectOp, [condition, a, b], a.type)

    def and_(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("and", a, b)

    def or_(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("or", a, b)

    def xor(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("xor", a, b)

    def not_(self, a: SSAValue) -> SSAValue:
        return self.unary("not", a)

    def shl(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("shl", a, b)

    def shr(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("shr", a, b)

    def cast(self, a: SSAValue, dtype: Attribute) -> SSAValue:
        if a.type == dtype:
            return a
        source, target = part_of(a.type), part_of(dtype)
        if source is not None and target is not None:
            return self.complex(*(self.cast(x, target) for x in self.pair(a)))
        if source is not None:
            return self.cast(self.pair(a)[0], dtype)
        if target is not None:
            return self.complex(self.cast(a, target), self.const(0.0, target))
        return self._op(kern.CastOp, [a], dtype)

    def bitcast(self, a: SSAValue, dtype: Attribute) -> SSAValue:
        return a if a.type == dtype else self._op(kern.BitcastOp, [a], dtype)

    def floor(self, a: SSAValue) -> SSAValue:
        return self.unary("floor", a)

    def ceil(self, a: SSAValue) -> SSAValue:
        return self.unary("ceil", a)

    def trunc(self, a: SSAValue) -> SSAValue:
        return self.unary("trunc", a)

    def round(self, a: SSAValue) -> SSAValue:
        return self.unary("round", a)

    def sqrt(self, a: SSAValue) -> SSAValue:
        return self.unary("sqrt", a)

    def math(self, name: str, *operands: SSAValue) -> SSAValue:
        if part_of(operands[0].type) is not None:
            return self.complex(*self._complex.call(name, *map(self.pair, operands)))
        return self._op(kern.MathOp, operands, operands[0].type, function=StringAttr(name))


class IndexView:
    """`Indices[Index, SSAValue]` over a builder, with the names that the protocol has."""

    def __init__(self, builder: KernBuilder):
        self.b = builder

    def dim(self, dim: Dim) -> Index:
        return self.b.dim(dim)

    def add(self, a: Index, b: Index) -> Index:
        return self.b.add_index(a, b)

    def sub(self, a: Index, b: Index) -> Index:
        return self.b.sub_index(a, b)

    def mul(self, a: Index, b: Index) -> Index:
        return self.b.mul_index(a, b)

    def floordiv(self, a: Index, b: Index) -> Index:
        return self.b.floordiv(a, b)

    def mod(self, a: Index, b: Index) -> Index:
        return self.b.mod(a, b)

    def min(self, a: Index, b: Index) -> Index:
        return self.b.min_index(a, b)

    def max(self, a: Index, b: Index) -> Index:
        return self.b.max_index(a, b)

    def lt(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("lt", a, b)

    def ge(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("ge", a, b)

    def eq(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("eq", a, b)

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b.and_(a, b)

    def select(self, condition: SSAValue, a: Index, b: Index) -> Index:
        return self.b.select_index(condition, a, b)


def _arithmetic(functions: ComplexMath, kind: str) -> Callable[[Pair, Pair], Pair]:
    table = {
        "add": functions.add,
        "sub": functions.sub,
        "mul": functions.mul,
        "div": functions.div,
    }
    if kind not in table:
        raise UnsupportedError(f"{kind} is not defined for complex numbers; take parts first")
    return table[kind]


def _fold(kind: str, a: int, b: int) -> int:
    match kind:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv":
            return a // b
        case "mod":
            return a % b
        case "min":
            return min(a, b)
        case _:
            return max(a, b)
