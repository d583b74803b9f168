"""f16, bf16, fp8, fp6 and fp4 in registers: codes in integers, converted through f32."""

from __future__ import annotations

from lowering.cpu.text import Value
from lowering.math import convert
from lowering.math.num import Num
from lowering.math.prim import Kind
from lowering.math.text_prim import TextPrim


def _storage(name: str) -> Kind:
    return "i16" if name in ("f16", "bf16") else "i8"


def to_f32(prim: TextPrim, name: str, code: Value) -> Value:
    """The f32 value of a code of the format `name`; exact."""
    wide: Num[Value] = prim.num(_storage(name), code).to("zext", "i32")
    if name == "f8e8m0fnu":
        return convert.decode_e8m0(wide).value
    return convert.decode(wide, _format(name)).value


def from_f32(prim: TextPrim, name: str, value: Value) -> Value:
    """The code of an f32 in the format `name`, rounded half to even."""
    x: Num[Value] = prim.num("f32", value)
    if name == "f8e8m0fnu":
        return convert.encode_e8m0(x, rounding="nearest").to("trunc", "i8").value
    return convert.encode(x, _format(name)).to("trunc", _storage(name)).value


def from_f64(prim: TextPrim, name: str, value: Value) -> Value:
    """The code of an f64, rounded once: to odd on the way through f32."""
    return from_f32(prim, name, convert.narrow_odd(prim.num("f64", value)).value)


def _format(name: str) -> convert.Format:
    return convert.FORMATS[name if name in convert.FORMATS else name.removesuffix("fn")]
