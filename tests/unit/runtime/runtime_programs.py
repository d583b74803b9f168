"""Small programs written by hand in LLVM text, as the compiler would write them."""

from functools import cache

import numpy as np

from lowering.codegen import CodeGenerator, CodegenUnit
from lowering.cpu.text import Module, Text
from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.spec import (
    CheckSpec,
    EntrySpec,
    ProgramSpec,
    SymbolSpec,
    TensorSpec,
    WeightSpec,
)
from torsh_dialect.target import TARGETS

TARGET = TARGETS["x86-64-v2"]
CALL, RUN = "ptr %call", "ptr %host, ptr %call"


def word(text: Text, index: int, kind: str = "ptr") -> str:
    """Word `index` of the call record."""
    return text.load(kind, text.at("%call", index, "i64"), 8)


def entry_of(table: str, index: int, text: Text, kind: str = "ptr") -> str:
    """Entry `index` of a table of words."""
    return text.load(kind, text.at(table, index, "i64"), 8)


def add_module(*, grain: int = 1, arena: int = 0) -> str:
    """`y[i] = a[i] + b[i]` over `n` floats through the arena, in a parallel kernel.

    The plan refuses n > 1000000 with check 1, leaving n and the limit in the error words.
    """
    module = Module()
    plan = Text(module, "torsh_plan", CALL, "i32")
    n = entry_of(word(plan, 1), 0, plan, "i64")
    error = word(plan, 7)
    too_big, fits = plan.label("big"), plan.label("fits")
    plan.branch_if(plan.compare("sgt", n, 1_000_000), too_big, fits)
    plan.start(too_big)
    plan.store("i64", n, error, 8)
    plan.store("i64", "1000000", plan.at(error, 1, "i64"), 8)
    plan.put("ret i32 1")
    plan.start(fits)
    plan.store("i64", n, word(plan, 3), 8)
    plan.store("i64", plan.add(plan.mul(n, 4), arena), plan.at("%call", 6, "i64"), 8)
    plan.finish("0")

    kernel = Text(module, "add_kernel")
    a, b, out = (kernel.argument(i) for i in range(3))

    def body(i: str, _: list[str]) -> None:
        x, y = kernel.load("float", kernel.at(a, i)), kernel.load("float", kernel.at(b, i))
        kernel.store("float", kernel.binary("fadd", "float", x, y), kernel.at(out, i))

    kernel.loop("%lo", "%hi", 1, body)
    kernel.finish()

    run = Text(module, "torsh_run", RUN, "i32")
    n = entry_of(word(run, 1), 0, run, "i64")
    inputs, outputs, memory = word(run, 0), word(run, 2), word(run, 5)
    args = run.alloca("i64", 3)
    result = entry_of(outputs, 0, run)
    for i, value in enumerate((entry_of(inputs, 0, run), entry_of(inputs, 1, run), memory)):
        run.store("ptr", value, run.at(args, i, "i64"), 8)
    parallel = run.load("ptr", run.let("getelementptr i8, ptr %host, i64 8"), 8)
    run.put(f"call void {parallel}(ptr %host, ptr @add_kernel, ptr {args}, i64 {n}, i64 {grain})")
    name = module.declare("llvm.memcpy.p0.p0.i64", "void", ("ptr", "ptr", "i64", "i1"))
    run.put(f"call void {name}(ptr {result}, ptr {memory}, i64 {run.mul(n, 4)}, i1 false)")
    run.finish("0")
    return module.text()


ADD_SPEC = ProgramSpec(
    entries=(
        EntrySpec(
            inputs=(TensorSpec("a", "f32", ("n",)), TensorSpec("b", "f32", ("n",))),
            outputs=(TensorSpec("y", "f32", ("n",)),),
            symbols=(SymbolSpec("n", 0, 2_000_000),),
            checks=(CheckSpec("input", "n is {0}, more than the limit {1}", "add.py:3"),),
        ),
    ),
    target=TARGET.name,
)


def scale_module() -> str:
    """`y[i] = x[i] * w[0]`; the prepared weight `w` is the raw weight `r` doubled."""
    module = Module()
    for prefix in ("torsh", "torsh_prepare"):
        plan = Text(module, f"{prefix}_plan", CALL, "i32")
        extent = "1" if prefix == "torsh_prepare" else entry_of(word(plan, 1), 0, plan, "i64")
        plan.store("i64", extent, word(plan, 3), 8)
        plan.store("i64", "0", plan.at("%call", 6, "i64"), 8)
        plan.finish("0")
    run = Text(module, "torsh_run", RUN, "i32")
    x, y = entry_of(word(run, 0), 0, run), entry_of(word(run, 2), 0, run)
    factor = run.load("float", entry_of(word(run, 4), 0, run))

    def body(i: str, _: list[str]) -> None:
        value = run.binary("fmul", "float", run.load("float", run.at(x, i)), factor)
        run.store("float", value, run.at(y, i))

    run.loop("0", entry_of(word(run, 1), 0, run, "i64"), 1, body)
    run.finish("0")
    prepare = Text(module, "torsh_prepare_run", RUN, "i32")
    raw = prepare.load("float", entry_of(word(prepare, 0), 0, prepare))
    twice = prepare.binary("fadd", "float", raw, raw)
    prepare.store("float", twice, entry_of(word(prepare, 2), 0, prepare))
    prepare.finish("0")
    return module.text()


SCALE_SPEC = ProgramSpec(
    entries=(
        EntrySpec(
            inputs=(TensorSpec("x", "f32", ("n",)),), outputs=(TensorSpec("y", "f32", ("n",)),)
        ),
        EntrySpec(
            "prepare",
            "torsh_prepare",
            inputs=(TensorSpec("r", "f32", (1,)),),
            outputs=(TensorSpec("w", "f32", (1,)),),
        ),
    ),
    weights=(WeightSpec("w", "f32", (1,)),),
    target=TARGET.name,
)


def iota_module() -> str:
    """`y = [0, 1, ..., x[0] - 1]` as i64: an output whose extent depends on data.

    Status 1 where the host refuses the memory.
    """
    module = Module()
    plan = Text(module, "torsh_plan", CALL, "i32")
    plan.store("i64", "0", plan.at("%call", 6, "i64"), 8)
    plan.finish("0")
    run = Text(module, "torsh_run", RUN, "i32")
    count = run.load("i64", entry_of(word(run, 0), 0, run), 8)
    dims = run.alloca("i64")
    run.store("i64", count, dims, 8)
    alloc = run.load("ptr", run.let("getelementptr i8, ptr %host, i64 16"), 8)
    context = run.load("ptr", run.let("getelementptr i8, ptr %host, i64 32"), 8)
    bytes_ = run.mul(count, 8)
    y = run.let(f"call ptr {alloc}(ptr {context}, i64 0, i64 1, ptr {dims}, i64 {bytes_})")
    refused, given = run.label("refused"), run.label("given")
    run.branch_if(run.let(f"icmp eq ptr {y}, null"), refused, given)
    run.start(refused)
    run.put("ret i32 1")
    run.start(given)
    run.loop("0", count, 1, lambda i, _: run.store("i64", i, run.at(y, i, "i64"), 8))
    run.finish("0")
    return module.text()


IOTA_SPEC = ProgramSpec(
    entries=(
        EntrySpec(
            inputs=(TensorSpec("x", "i64", (1,)),),
            outputs=(TensorSpec("y", "i64", ("u0",), data_dependent=True),),
            checks=(CheckSpec("execution", "no memory for y"),),
        ),
    ),
    target=TARGET.name,
)


@cache
def generator() -> CodeGenerator:
    """One pool of workers for all tests of a process."""
    return CodeGenerator()


@cache
def object_of(text: str) -> bytes:
    """The object of an LLVM module."""
    return generator().compile([CodegenUnit("test", text, TARGET)])[0]


def scale_program(factor: float | None) -> Program:
    """A fresh link of `scale_module`; no weights for None."""
    weights = None if factor is None else {"w": np.array([factor], np.float32)}
    return Program(SCALE_SPEC, [object_of(scale_module())], weights)


def iota_executable() -> Executable:
    """An executable of `iota_module`."""
    program = Program(IOTA_SPEC, [object_of(iota_module())])
    return Executable(program, options=RunOptions(threads=1))


def add_program(**options: int) -> Program:
    """A fresh link of `add_module`."""
    return Program(ADD_SPEC, [object_of(add_module(**options))])


def add_executable(threads: int = 1, *, flush: bool = False, **options: int) -> Executable:
    """An executable of `add_module`."""
    return Executable(
        add_program(**options), options=RunOptions(threads=threads, flush_denormals=flush)
    )
