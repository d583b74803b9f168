"""Small functions that write LLVM IR text: the alphabet of every template and emitter.

A `Text` collects one function. Values are strings: an SSA name (`%t3`) or a literal (`7`).
Integer helpers fold literals, so static shapes cost no instructions.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

Value = str
Span = tuple[Value, Value]
"""The lanes `[first, end)` of a mask; i64 that may lie outside of the vector."""

Body = Callable[[Value, list[Value]], Sequence[Value] | None]

KERNEL_PARAMETERS = "ptr noalias %args, i64 %lo, i64 %hi, i64 %worker"
"""The one signature of kernels: argument words, part of the parallel range, worker number."""

NEAR = 3
"""Loops out of which values move: from farther away they would take up registers for too long."""


def is_literal(value: Value) -> bool:
    """Whether `value` is an integer literal."""
    return value.lstrip("-").isdigit()


def vector_of(element: str, lanes: int) -> str:
    """The LLVM type of `lanes` elements; the element type itself for one lane."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def lanes_of(type: str) -> int:
    """How many lanes an LLVM type has; 1 for a scalar."""
    return int(type[1:].split(" ", 1)[0]) if type.startswith("<") else 1


def element_of(type: str) -> str:
    """The element type of an LLVM vector type; a scalar type itself."""
    return type.split(" x ", 1)[1][:-1] if type.startswith("<") else type


def alignment_of(type: str) -> int:
    """The bytes that the elements of a type are aligned to; 8-byte ones may lie at half of that."""
    return {"i1": 1, "i8": 1, "i16": 2, "half": 2, "bfloat": 2}.get(element_of(type), 4)


def only_lane(mask: Value) -> int | None:
    """The one lane that a constant mask has; None where it has others or is not constant."""
    lanes = mask.strip("<>").split(", ") if mask.startswith("<") else []
    found = [place for place, lane in enumerate(lanes) if lane in ("i1 1", "i1 true")]
    return found[0] if len(found) == 1 else None


def suffix_of(type: str) -> str:
    """How an intrinsic's name spells `type`: `<8 x float>` is `v8f32`."""
    names = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
    element = element_of(type)
    lanes = lanes_of(type)
    spelled = names.get(element, element)
    return f"v{lanes}{spelled}" if type.startswith("<") else spelled


@dataclass
class Module:
    """LLVM module text under construction: functions, declarations, constants."""

    functions: list[str] = field(default_factory=list[str])
    declarations: dict[str, str] = field(default_factory=dict[str, str])
    constants: dict[str, str] = field(default_factory=dict[str, str])

    def declare(
        self, name: str, result: str, parameters: Sequence[str], attributes: str = ""
    ) -> str:
        """Declare `@name` once and return `@name`."""
        self.declarations[name] = f"declare {result} @{name}({', '.join(parameters)}) {attributes}"
        return f"@{name}"

    def constant(self, name: str, type: str, initializer: str, align: int = 64) -> str:
        """Define a private constant once and return `@name`."""
        self.constants[name] = (
            f"@{name} = private unnamed_addr constant {type} {initializer}, align {align}"
        )
        return f"@{name}"

    def text(self) -> str:
        """The whole module as LLVM IR text."""
        parts: Iterable[str] = (
            *self.constants.values(),
            *self.declarations.values(),
            *self.functions,
        )
        return "\n".join(parts) + "\n"


@dataclass
class _Preheader:
    """The place before a loop.

    Attributes:
        born: How many names there were.
        lines: Code that was moved there.
        known: Its values by key.
    """

    born: int
    lines: list[str] = field(default_factory=list[str])
    known: dict[Hashable, Value] = field(default_factory=dict[Hashable, Value])


class Text:
    """One LLVM function under construction, written instruction by instruction."""

    def __init__(
        self, module: Module, name: str, parameters: str = KERNEL_PARAMETERS, result: str = "void"
    ):
        self.module = module
        self.name = name
        self.parameters = parameters
        self.result = result
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.block = "entry"
        self.spans: dict[Value, Span] = {}
        self._births: dict[Value, int] = {}
        self._loops: list[_Preheader] = []
        self._names = 0

    # -- names, blocks, raw instructions

    def fresh(self, role: str = "t") -> Value:
        """A new SSA name that begins with `role`."""
        self._names += 1
        name = f"%{role}{self._names}"
        self._births[name] = self._names
        return name

    def label(self, role: str = "bb") -> str:
        """A new block label that begins with `role`."""
        self._names += 1
        return f"{role}{self._names}"

    def put(self, instruction: str) -> None:
        """Append an instruction that has no result."""
        self.lines.append(f"  {instruction}")

    def let(self, instruction: str, role: str = "t") -> Value:
        """Append an instruction and return the name of its result."""
        name = self.fresh(role)
        self.lines.append(f"  {name} = {instruction}")
        return name

    def start(self, label: str) -> None:
        """Begin the block `label`."""
        self.lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        """Jump to `label`."""
        self.put(f"br label %{label}")

    def branch_if(self, condition: Value, then: str, other: str) -> None:
        """Jump to `then` where `condition` (i1) holds, to `other` where not."""
        self.put(f"br i1 {condition}, label %{then}, label %{other}")

    def alloca(self, type: str, count: int = 1, align: int = 64, role: str = "stack") -> Value:
        """Stack memory, allocated once in the entry block."""
        name = self.fresh(role)
        self.entry.append(f"  {name} = alloca {type}, i64 {count}, align {align}")
        return name

    def outside(
        self, key: Hashable, operands: Iterable[Value], write: Callable[[], Value]
    ) -> Value:
        """What `write()` gives, before as many of the `NEAR` loops around as its operands allow.

        Args:
            key: Equal keys are equal values: it is written once for a loop.
            operands: All values that the code reads.
            write: Writes straight-line code.
        """
        newest = max((self._births.get(value, 0) for value in operands), default=0)
        loop = next((loop for loop in self._loops[-NEAR:] if newest <= loop.born), None)
        if loop is None:
            return write()
        if key not in loop.known:
            lines, older = self.lines, len(self._births)
            self.lines = []
            loop.known[key] = write()
            loop.lines += self.lines
            self.lines = lines
            for name in list(islice(reversed(self._births), len(self._births) - older)):
                self._births[name] = loop.born
        return loop.known[key]

    # -- integers (i64)

    def _integer(self, op: str, a: Value | int, b: Value | int) -> Value:
        a, b = str(a), str(b)
        kind = op.split()[0]
        if is_literal(a) and is_literal(b):
            x, y = int(a), int(b)
            if kind == "sdiv" and y:
                return str(abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1))
            folded = {"add": x + y, "sub": x - y, "mul": x * y}.get(kind)
            if folded is not None:
                return str(folded)
        if b == "0" and kind in ("add", "sub"):
            return a
        if a == "0" and kind == "add":
            return b
        if kind == "mul" and "0" in (a, b):
            return "0"
        if b == "1" and kind in ("mul", "sdiv"):
            return a
        if a == "1" and kind == "mul":
            return b
        return self.let(f"{op} i64 {a}, {b}")

    def add(self, a: Value | int, b: Value | int) -> Value:
        """`a + b` on i64; never overflows by construction of the caller."""
        return self._integer("add nsw", a, b)

    def sub(self, a: Value | int, b: Value | int) -> Value:
        """`a - b` on i64."""
        return self._integer("sub nsw", a, b)

    def mul(self, a: Value | int, b: Value | int) -> Value:
        """`a * b` on i64."""
        return self._integer("mul nsw", a, b)

    def sdiv(self, a: Value | int, b: Value | int) -> Value:
        """`a / b` on i64, rounded towards zero."""
        return self._integer("sdiv", a, b)

    def minimum(self, a: Value | int, b: Value | int) -> Value:
        """The smaller of two i64."""
        if is_literal(str(a)) and is_literal(str(b)):
            return str(min(int(a), int(b)))
        return self.intrinsic("llvm.smin", "i64", str(a), str(b))

    def maximum(self, a: Value | int, b: Value | int) -> Value:
        """The larger of two i64."""
        if is_literal(str(a)) and is_literal(str(b)):
            return str(max(int(a), int(b)))
        return self.intrinsic("llvm.smax", "i64", str(a), str(b))

    def udiv(self, a: Value | int, b: Value | int) -> Value:
        """`a // b` for i64 that are not negative."""
        if is_literal(str(a)) and is_literal(str(b)):
            return str(int(a) // int(b))
        return str(a) if str(b) == "1" else self.let(f"udiv i64 {a}, {b}")

    def urem(self, a: Value | int, b: Value | int) -> Value:
        """`a % b` for i64 that are not negative."""
        if is_literal(str(a)) and is_literal(str(b)):
            return str(int(a) % int(b))
        return "0" if str(b) == "1" else self.let(f"urem i64 {a}, {b}")

    def ceildiv(self, a: Value | int, b: Value | int) -> Value:
        """`a / b` rounded up, for i64 that are not negative."""
        return self.udiv(self.add(a, self.sub(b, 1)), b)

    def compare(self, predicate: str, a: Value | int, b: Value | int, type: str = "i64") -> Value:
        """`icmp predicate` on integers of `type`."""
        return self.let(f"icmp {predicate} {type} {a}, {b}", "c")

    # -- memory

    def argument(self, index: int, type: str = "ptr", role: str = "arg") -> Value:
        """Word `index` of the kernel's argument words, read as `type`."""
        slot = self.let(f"getelementptr inbounds i64, ptr %args, i64 {index}", "slot")
        return self.let(f"load {type}, ptr {slot}, align 8", role)

    def at(self, base: Value, offset: Value | int, element: str = "float") -> Value:
        """The address of element `offset` from `base`, in elements of type `element`."""
        if str(offset) == "0":
            return base
        return self.let(f"getelementptr inbounds {element}, ptr {base}, i64 {offset}", "p")

    def load(self, type: str, address: Value, align: int | None = None, role: str = "v") -> Value:
        """Load a scalar or vector of `type`, aligned as its elements are."""
        align = align or alignment_of(type)
        return self.let(f"load {type}, ptr {address}, align {align}", role)

    def store(self, type: str, value: Value, address: Value, align: int | None = None) -> None:
        """Store a scalar or vector of `type`, aligned as its elements are."""
        align = align or alignment_of(type)
        self.put(f"store {type} {value}, ptr {address}, align {align}")

    def masked_load(
        self, type: str, address: Value, mask: Value, other: Value, align: int | None = None
    ) -> Value:
        """Lanes of `address` where `mask` is set, lanes of `other` elsewhere."""
        lanes, lane = lanes_of(type), only_lane(mask)
        align = align or alignment_of(type)
        if lane is not None:
            element = element_of(type)
            one = self.load(element, self.at(address, lane, element), align)
            return self.let(f"insertelement {type} {other}, {element} {one}, i64 {lane}", "v")
        name = self.module.declare(
            f"llvm.masked.load.{suffix_of(type)}.p0", type, ("ptr", "i32", f"<{lanes} x i1>", type)
        )
        return self.let(
            f"call {type} {name}(ptr {address}, i32 {align}, "
            f"<{lanes} x i1> {mask}, {type} {other})",
            "v",
        )

    def masked_store(
        self, type: str, value: Value, address: Value, mask: Value, align: int | None = None
    ) -> None:
        """Store the lanes of `value` where `mask` is set.

        One known lane is stored as a scalar: LLVM (20, x86) makes a 4-byte store of a masked one
        of a single truncated lane, over what follows in memory.
        """
        lanes, lane = lanes_of(type), only_lane(mask)
        align = align or alignment_of(type)
        if lane is not None:
            element = element_of(type)
            one = self.let(f"extractelement {type} {value}, i64 {lane}")
            self.store(element, one, self.at(address, lane, element), align)
            return
        name = self.module.declare(
            f"llvm.masked.store.{suffix_of(type)}.p0",
            "void",
            (type, "ptr", "i32", f"<{lanes} x i1>"),
        )
        self.put(
            f"call void {name}({type} {value}, ptr {address}, i32 {align}, <{lanes} x i1> {mask})"
        )

    # -- vectors and floats

    def splat(self, type: str, scalar: Value) -> Value:
        """All lanes of vector `type` set to `scalar`; the scalar itself for a scalar type."""
        if not type.startswith("<"):
            return scalar
        one = self.let(f"insertelement {type} poison, {element_of(type)} {scalar}, i64 0")
        lanes = lanes_of(type)
        return self.let(
            f"shufflevector {type} {one}, {type} poison, <{lanes} x i32> zeroinitializer"
        )

    def intrinsic(
        self, name: str, type: str, *operands: Value, result: str | None = None, flags: str = ""
    ) -> Value:
        """Call `name.suffix(type)` on operands that are all of `type`."""
        full = f"{name}.{suffix_of(type)}"
        result = result or type
        self.module.declare(full, result, [type] * len(operands))
        listed = ", ".join(f"{type} {operand}" for operand in operands)
        return self.let(f"call {flags} {result} @{full}({listed})".replace("  ", " "))

    def fma(self, type: str, a: Value, b: Value, c: Value) -> Value:
        """`a * b + c`: fused where the target can, never a library call."""
        return self.intrinsic("llvm.fmuladd", type, a, b, c)

    def binary(self, op: str, type: str, a: Value, b: Value) -> Value:
        """Any two-operand instruction: `fadd`, `fmul`, `and`, `shl`, ..."""
        return self.let(f"{op} {type} {a}, {b}")

    def select(self, type: str, condition: Value, a: Value, b: Value) -> Value:
        """`a` where `condition` holds and `b` elsewhere, lane by lane for a vector."""
        lanes = lanes_of(type)
        mask = vector_of("i1", lanes) if type.startswith("<") else "i1"
        return self.let(f"select {mask} {condition}, {type} {a}, {type} {b}")

    def choose(self, condition: Value, a: Value, b: Value, type: str = "i64") -> Value:
        """`a` where `condition` (i1) holds, else `b`; nothing is written if they are the same."""
        return a if a == b else self.select(type, condition, a, b)

    def prefetch(self, address: Value, locality: int = 3) -> None:
        """Ask for the cache line at `address` to be read soon."""
        name = self.module.declare("llvm.prefetch.p0", "void", ("ptr", "i32", "i32", "i32"))
        self.put(f"call void {name}(ptr {address}, i32 0, i32 {locality}, i32 1)")

    def copy(self, target: Value, source: Value, size: Value) -> None:
        """Copy `size` bytes between memories that do not overlap."""
        name = self.module.declare("llvm.memcpy.p0.p0.i64", "void", ("ptr", "ptr", "i64", "i1"))
        self.put(f"call void {name}(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    # -- control flow

    def loop(
        self,
        lower: Value | int,
        upper: Value | int,
        step: int,
        body: Body,
        carried: Sequence[tuple[str, Value]] = (),
        *,
        guarded: bool | None = None,
        hint: str = "",
    ) -> list[Value]:
        """`for i in range(lower, upper, step)` with loop-carried values.

        Args:
            lower: First index.
            upper: One past the last index.
            step: Distance of indices, positive.
            body: Called with the index and the carried values; returns their next values.
            carried: Types and initial values of the loop-carried values.
            guarded: Whether the loop may have no iteration; None decides from literals.
            hint: Metadata to hang on the back edge.

        Returns:
            The carried values after the last iteration.
        """
        lower, upper = str(lower), str(upper)
        static = is_literal(lower) and is_literal(upper)
        initial = [value for _, value in carried]
        if static and int(upper) <= int(lower):
            return initial
        if static and int(upper) - int(lower) <= step:
            return list(body(lower, initial) or [])
        guarded = not static if guarded is None else guarded
        before = self.block
        head, done = self.label("loop"), self.label("done")
        above, edge = _Preheader(self._names), len(self.lines)
        self._loops.append(above)
        self.lines.append("")
        if guarded:
            self.branch_if(self.compare("slt", lower, upper), head, done)
        else:
            self.branch(head)
        self.start(head)
        index, following = self.fresh("i"), self.fresh("i")
        phis = [self.fresh("acc") for _ in carried]
        place = len(self.lines)
        self.lines.append("")
        after = list(body(index, phis) or [])
        self.put(f"{following} = add nuw nsw i64 {index}, {step}")
        latch = self.block
        again = self.compare("slt", following, upper)
        self.put(f"br i1 {again}, label %{head}, label %{done}{hint}")
        heads = [f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{latch} ]"]
        for (type, start), phi, value in zip(carried, phis, after, strict=True):
            heads.append(f"  {phi} = phi {type} [ {start}, %{before} ], [ {value}, %{latch} ]")
        self.lines[place] = "\n".join(heads)
        self.lines[edge] = "\n".join(above.lines)
        self._loops.pop()
        self.start(done)
        if not guarded:
            return after
        return [
            self.let(f"phi {type} [ {start}, %{before} ], [ {value}, %{latch} ]", "out")
            for (type, start), value in zip(carried, after, strict=True)
        ]

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """Run `body` where `condition` (i1) holds."""
        then, done = self.label("then"), self.label("done")
        self.branch_if(condition, then, done)
        self.start(then)
        body()
        self.branch(done)
        self.start(done)

    def finish(self, value: Value | None = None, attributes: str = "nounwind") -> None:
        """Return, and add the function to the module."""
        self.put("ret void" if value is None else f"ret {self.result} {value}")
        body = "\n".join(filter(None, [*self.entry, *self.lines]))
        self.module.functions.append(
            f"define {self.result} @{self.name}({self.parameters}) {attributes} "
            f"{{\nentry:\n{body}\n}}\n"
        )
