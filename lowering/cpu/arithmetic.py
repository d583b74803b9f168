"""LLVM text of the scalar language: one function for each group of operations.

All functions work on `lanes` lanes: operands are scalars for one lane, vectors for more.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute

from lowering.cpu import narrow
from lowering.cpu.text import Text, Value, is_literal, suffix_of, vector_of
from lowering.cpu.values import float_text, is_float_register, is_unsigned, register_type
from lowering.math.functions import call
from lowering.math.text_prim import TextPrim
from torsh_dialect import dtypes
from torsh_dialect.dtypes import dtype_of, i1
from torsh_dialect.errors import CodegenError

INTEGER_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
ROUNDING = {
    "floor": "llvm.floor",
    "ceil": "llvm.ceil",
    "trunc": "llvm.trunc",
    "round": "llvm.roundeven",
    "sqrt": "llvm.sqrt",
}


def constant(element: Attribute, value: float, lanes: int) -> Value:
    """A literal of `element`, splatted over the lanes."""
    type = register_type(element)
    if is_float_register(element):
        literal = float_text(value, type)
    elif type == "i1":
        literal = "true" if value else "false"
    elif not isinstance(element, IndexType) and dtype_of(element).kind == "float":
        literal = str(
            int(np.asarray(value, dtype_of(element).numpy).view(type.replace("i", "int")))
        )
    else:
        literal = str(int(value))
    return literal if lanes == 1 else f"splat ({type} {literal})"


def binary(text: Text, kind: str, element: Attribute, a: Value, b: Value, lanes: int) -> Value:
    """One of kern.binary's kinds."""
    if is_float_register(element):
        return _float_binary(text, kind, element, a, b, lanes)
    type = vector_of(register_type(element), lanes)
    if kind in INTEGER_BINARY:
        return text.binary(INTEGER_BINARY[kind], type, a, b)
    unsigned = is_unsigned(element)
    if kind in ("add_sat", "sub_sat"):
        return text.intrinsic(f"llvm.s{kind[:3]}.sat", type, a, b)
    if kind == "mul_sat":
        return _saturating_product(text, a, b)
    if kind in ("min", "max"):
        return text.intrinsic(f"llvm.{'u' if unsigned else 's'}{kind}", type, a, b)
    if kind in ("floordiv", "mod"):
        return _floor_division(text, kind, type, a, b)
    if kind in ("div", "rem"):
        return _integer_division(text, kind, element, a, b, lanes)
    if kind in ("shl", "shr"):
        return _shift(text, kind, element, a, b, lanes)
    raise CodegenError(f"kern.binary has no kind {kind!r} for {element}")


def _integer_division(
    text: Text, kind: str, element: Attribute, a: Value, b: Value, lanes: int
) -> Value:
    """Rounded towards zero; a divisor of 0 gives 0, MIN / -1 wraps; nothing traps."""
    type = vector_of(register_type(element), lanes)
    sign = "u" if is_unsigned(element) else "s"
    zero, one = constant(element, 0, lanes), constant(element, 1, lanes)
    is_zero = text.let(f"icmp eq {type} {b}, {zero}", "c")
    safe = text.select(type, is_zero, one, b)
    if sign == "u":
        return text.select(type, is_zero, zero, text.binary(f"u{kind}", type, a, safe))
    minus = text.let(f"icmp eq {type} {b}, {constant(element, -1, lanes)}", "c")
    result = text.binary(f"s{kind}", type, a, text.select(type, minus, one, safe))
    if kind == "div":
        result = text.select(type, minus, text.binary("sub", type, zero, a), result)
    return text.select(type, is_zero, zero, result)


def _shift(text: Text, kind: str, element: Attribute, a: Value, b: Value, lanes: int) -> Value:
    """Shifts by the width or more give 0, or the sign for arithmetic right shifts."""
    register = register_type(element)
    type, width = vector_of(register, lanes), int(register[1:])
    most = constant(element, width - 1, lanes)
    over = text.let(f"icmp ugt {type} {b}, {most}", "c")
    if kind == "shr" and not is_unsigned(element):
        return text.binary("ashr", type, a, text.select(type, over, most, b))
    shifted = text.binary(
        "shl" if kind == "shl" else "lshr", type, a, text.select(type, over, most, b)
    )
    return text.select(type, over, constant(element, 0, lanes), shifted)


def _float_binary(
    text: Text, kind: str, element: Attribute, a: Value, b: Value, lanes: int
) -> Value:
    type = vector_of(register_type(element), lanes)
    if kind in FLOAT_BINARY:
        return text.binary(FLOAT_BINARY[kind], type, a, b)
    if kind == "rem":
        return math(text, "fmod", element, (a, b), lanes)
    if not b.startswith("%") and "0x7FF8" not in b:
        # The constant is no NaN: one comparison keeps the NaN of the other operand.
        below = text.let(f"fcmp {'olt' if kind == 'max' else 'ogt'} {type} {a}, {b}", "c")
        return text.select(type, below, b, a)
    return text.intrinsic("llvm.maximum" if kind == "max" else "llvm.minimum", type, a, b)


def _saturating_product(text: Text, a: Value, b: Value) -> Value:
    """`a * b` (i64), or the largest number of its sign."""
    name = text.module.declare("llvm.smul.with.overflow.i64", "{ i64, i1 }", ("i64", "i64"))
    both = text.let(f"call {{ i64, i1 }} {name}(i64 {a}, i64 {b})")
    product = text.let(f"extractvalue {{ i64, i1 }} {both}, 0")
    over = text.let(f"extractvalue {{ i64, i1 }} {both}, 1")
    negative = text.compare("slt", text.binary("xor", "i64", a, b), 0)
    limit = text.select("i64", negative, str(-(1 << 63)), str((1 << 63) - 1))
    return text.select("i64", over, limit, product)


def _floor_division(text: Text, kind: str, type: str, a: Value, b: Value) -> Value:
    """Quotient rounded down, or what it leaves; the divisor is positive."""
    literal = b.removeprefix("splat (i64 ").removesuffix(")")
    if is_literal(literal) and int(literal) & (int(literal) - 1) == 0:
        power = int(literal).bit_length() - 1
        number = power if kind == "floordiv" else int(literal) - 1
        other = f"splat (i64 {number})" if b.startswith("splat") else str(number)
        return text.binary("ashr" if kind == "floordiv" else "and", type, a, other)
    quotient = text.binary("sdiv", type, a, b)
    rest = text.binary("sub", type, a, text.binary("mul", type, quotient, b))
    zero = "zeroinitializer" if type.startswith("<") else "0"
    negative = text.let(f"icmp slt {type} {rest}, {zero}", "c")
    one = "splat (i64 1)" if type.startswith("<") else "1"
    if kind == "floordiv":
        return text.select(type, negative, text.binary("sub", type, quotient, one), quotient)
    return text.select(type, negative, text.binary("add", type, rest, b), rest)


MOST_STEPPED = 1 << 20
"""Up to this a quotient of integers is exact in f32: it rounds to its own side of the next one."""


def stepped_division(
    text: Text, kind: str, first: Value, step: int, lanes: int, divisor: Value
) -> Value | None:
    """`_floor_division` of `first + lane * step` by one positive number for all lanes.

    One scalar division finds quotient and rest of the first lane. From there a divisor that is
    larger than the way to the last lane is passed at most once; for smaller ones the numbers
    are so small that f32 divides them exactly. None where another way is better.
    """
    way = abs(step) * (lanes - 1)
    literal = is_literal(divisor)
    if way >= MOST_STEPPED or (literal and int(divisor) & (int(divisor) - 1) == 0):
        return None
    type = f"<{lanes} x i64>"
    quotient = _floor_division(text, "floordiv", "i64", first, divisor)
    rest = text.sub(first, text.mul(quotient, divisor))
    offsets = ", ".join(f"i64 {lane * step}" for lane in range(lanes))
    along = text.binary("add", type, text.splat(type, rest), f"<{offsets}>")
    other = text.splat(type, divisor)
    if literal:
        steps = (_passed if int(divisor) > way else _small_quotients)(text, lanes, along, other)
    else:
        far = text.splat(f"<{lanes} x i1>", text.compare("sgt", divisor, way))
        passed = _passed(text, lanes, along, other)
        steps = text.select(type, far, passed, _small_quotients(text, lanes, along, other))
    if kind == "floordiv":
        return text.binary("add", type, text.splat(type, quotient), steps)
    return text.binary("sub", type, along, text.binary("mul", type, steps, other))


def _passed(text: Text, lanes: int, along: Value, divisor: Value) -> Value:
    """1 from the divisor on, -1 below zero, else 0."""
    type = f"<{lanes} x i64>"
    over = text.let(f"icmp sge {type} {along}, {divisor}", "c")
    up = text.let(f"zext <{lanes} x i1> {over} to {type}")
    return text.binary("add", type, up, text.binary("ashr", type, along, "splat (i64 63)"))


def _small_quotients(text: Text, lanes: int, along: Value, divisor: Value) -> Value:
    """Quotients of numbers below `MOST_STEPPED`, rounded down; anything for larger ones."""
    wide, short, floats = (f"<{lanes} x {element}>" for element in ("i64", "i32", "float"))
    a, b = (
        text.let(f"sitofp {short} {narrow} to {floats}")
        for narrow in (text.let(f"trunc {wide} {value} to {short}") for value in (along, divisor))
    )
    down = text.intrinsic("llvm.floor", floats, text.binary("fdiv", floats, a, b))
    whole = text.let(f"fptosi {floats} {down} to {short}")
    return text.let(f"sext {short} {whole} to {wide}")


def unary(text: Text, kind: str, element: Attribute, x: Value, lanes: int) -> Value:
    """One of kern.unary's kinds."""
    type = vector_of(register_type(element), lanes)
    if is_float_register(element):
        if kind == "neg":
            return text.let(f"fneg {type} {x}")
        return text.intrinsic(ROUNDING.get(kind, "llvm.fabs"), type, x)
    if kind == "not":
        return text.binary("xor", type, x, constant(element, -1, lanes))
    if kind == "neg":
        return text.binary("sub", type, constant(element, 0, lanes), x)
    if kind == "abs" and not is_unsigned(element):
        zero = constant(element, 0, lanes)
        negative = text.let(f"icmp slt {type} {x}, {zero}", "c")
        return text.select(type, negative, text.binary("sub", type, zero, x), x)
    return x


def compare(text: Text, kind: str, element: Attribute, a: Value, b: Value, lanes: int) -> Value:
    """One of kern.compare's kinds: an `i1` for each lane."""
    type = vector_of(register_type(element), lanes)
    if is_float_register(element):
        return text.let(f"fcmp {FLOAT_COMPARE[kind]} {type} {a}, {b}", "c")
    signs = "" if kind in ("eq", "ne") else "u" if is_unsigned(element) else "s"
    return text.let(f"icmp {signs}{kind} {type} {a}, {b}", "c")


def math(
    text: Text, function: str, element: Attribute, operands: tuple[Value, ...], lanes: int
) -> Value:
    """A function of the maths library on f32 or f64."""
    prim, kind = TextPrim(text, lanes), dtype_of(element).name
    assert kind in ("f32", "f64"), f"{function} is computed in f32 or f64, not {kind}"
    return call(function, *(prim.num(kind, operand) for operand in operands)).value


def cast(text: Text, source: Attribute, target: Attribute, x: Value, lanes: int) -> Value:
    """Scalar.cast: exact where possible, else rounded once; float to integer saturates."""
    if is_float_register(source) and is_float_register(target):
        return _float_to_float(text, source, target, x, lanes)
    if is_narrow_float(source):
        wide = narrow.to_f32(TextPrim(text, lanes), dtype_of(source).name, x)
        return cast(text, dtypes.f32, target, wide, lanes)
    if is_narrow_float(target):
        if register_type(source) == "double":
            return narrow.from_f64(TextPrim(text, lanes), dtype_of(target).name, x)
        wide = cast(text, source, dtypes.f32, x, lanes)
        return narrow.from_f32(TextPrim(text, lanes), dtype_of(target).name, wide)
    if is_float_register(source):
        return _float_to_integer(text, source, target, x, lanes)
    if is_float_register(target):
        how = "uitofp" if is_unsigned(source) else "sitofp"
        return _convert(text, how, source, target, x, lanes)
    return _integer_to_integer(text, source, target, x, lanes)


def is_narrow_float(element: Attribute) -> bool:
    """Whether `element` is a float that registers hold as its bits (f16, bf16, fp8, fp4)."""
    is_float = not isinstance(element, IndexType) and dtype_of(element).kind == "float"
    return is_float and not is_float_register(element)


def _convert(
    text: Text, how: str, source: Attribute, target: Attribute, x: Value, lanes: int
) -> Value:
    a, b = (vector_of(register_type(t), lanes) for t in (source, target))
    return text.let(f"{how} {a} {x} to {b}")


def _float_to_float(
    text: Text, source: Attribute, target: Attribute, x: Value, lanes: int
) -> Value:
    if source == target:
        return x
    how = "fpext" if register_type(target) == "double" else "fptrunc"
    return _convert(text, how, source, target, x, lanes)


def _float_to_integer(
    text: Text, source: Attribute, target: Attribute, x: Value, lanes: int
) -> Value:
    a, b = (vector_of(register_type(t), lanes) for t in (source, target))
    if register_type(target) == "i1":
        return text.let(f"fcmp une {a} {x}, {constant(source, 0.0, lanes)}", "c")
    bits, unsigned = int(register_type(target)[1:]), is_unsigned(target)
    if lanes > 1 and bits <= (16 if unsigned else 32):
        return sub_byte(text, target, _clamped_to_integer(text, source, target, x, lanes), lanes)
    name = f"llvm.fpto{'u' if unsigned else 's'}i.sat.{suffix_of(b)}.{suffix_of(a)}"
    text.module.declare(name, b, (a,))
    return sub_byte(text, target, text.let(f"call {b} @{name}({a} {x})"), lanes)


def _clamped_to_integer(
    text: Text, source: Attribute, target: Attribute, x: Value, lanes: int
) -> Value:
    """What `llvm.fptosi.sat` gives, NaN as 0, in vector instructions.

    LLVM takes the saturating intrinsics of vectors apart, lane by lane.
    """
    bits, unsigned = int(register_type(target)[1:]), is_unsigned(target)
    low, above = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    single = register_type(source) == "float"
    last = float(np.nextafter(np.float32(above), np.float32(0))) if single else above - 1.0
    high = min(float(above - 1), last)
    a, words, out = (vector_of(t, lanes) for t in (register_type(source), "i32", f"i{bits}"))
    least, most = constant(source, float(low), lanes), constant(source, high, lanes)
    value = text.select(a, text.let(f"fcmp ogt {a} {x}, {least}", "c"), x, least)
    value = text.select(a, text.let(f"fcmp olt {a} {value}, {most}", "c"), value, most)
    result = text.let(f"fptosi {a} {value} to {words}")
    if high != above - 1:
        beyond = text.let(f"fcmp oge {a} {x}, {constant(source, float(above), lanes)}", "c")
        result = text.select(words, beyond, f"splat (i32 {above - 1})", result)
    if low:
        ordered = text.let(f"fcmp ord {a} {x}, {x}", "c")
        result = text.select(words, ordered, result, "zeroinitializer")
    return text.let(f"trunc {words} {result} to {out}") if bits < 32 else result


def _integer_to_integer(
    text: Text, source: Attribute, target: Attribute, x: Value, lanes: int
) -> Value:
    a, b = register_type(source), register_type(target)
    if b == "i1":
        zero = constant(source, 0, lanes)
        return x if a == b else text.let(f"icmp ne {vector_of(a, lanes)} {x}, {zero}", "c")
    if a != b:
        wider = int(b[1:]) > int(a[1:])
        how = ("zext" if is_unsigned(source) else "sext") if wider else "trunc"
        x = _convert(text, how, source, target, x, lanes)
    return sub_byte(text, target, x, lanes)


def sub_byte(text: Text, target: Attribute, x: Value, lanes: int) -> Value:
    """Extend the 2 or 4 bits that an integer type has to the byte that holds them."""
    if isinstance(target, IndexType) or dtype_of(target).kind not in ("int", "uint"):
        return x
    if dtype_of(target).bits not in (2, 4):
        return x
    type, free = vector_of("i8", lanes), 8 - dtype_of(target).bits
    count = str(free) if lanes == 1 else f"splat (i8 {free})"
    up = text.binary("shl", type, x, count)
    return text.binary("lshr" if is_unsigned(target) else "ashr", type, up, count)


def bitcast(text: Text, source: Attribute, target: Attribute, x: Value, lanes: int) -> Value:
    """The same bits as another type; a bool has those of the byte that holds it."""
    a, b = (vector_of(register_type(t), lanes) for t in (source, target))
    if a == b:
        return x
    if source == i1:
        return text.let(f"zext {a} {x} to {b}")
    if target == i1:
        return text.let(f"icmp ne {a} {x}, {'0' if lanes == 1 else 'zeroinitializer'}")
    return text.let(f"bitcast {a} {x} to {b}")
