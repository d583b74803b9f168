"""Small programs written by hand in LLVM text, as the compiler would write them."""

from functools import cache

from lowering.codegen import CodeGenerator, CodegenUnit
from lowering.cpu.text import Module, Text
from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.spec import CheckSpec, EntrySpec, ProgramSpec, SymbolSpec, TensorSpec
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


@cache
def generator() -> CodeGenerator:
    """One pool of workers for all tests of a process."""
    return CodeGenerator()


@cache
def object_of(text: str) -> bytes:
    """The object of an LLVM module."""
    return generator().compile([CodegenUnit("test", text, TARGET)])[0]


def add_program(**options: int) -> Program:
    """A fresh link of `add_module`."""
    return Program(ADD_SPEC, [object_of(add_module(**options))])


def add_executable(threads: int = 1, *, flush: bool = False, **options: int) -> Executable:
    """An executable of `add_module`."""
    return Executable(
        add_program(**options), options=RunOptions(threads=threads, flush_denormals=flush)
    )
