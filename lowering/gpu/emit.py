"""`gpu.func` to NVPTX LLVM IR text: the CPU's scalar emitter with the ops of threads added.

Nothing in the text is a library call: maths comes from `lowering.math`, one lane wide. Pointers
are generic; LLVM's address space inference makes global and shared accesses of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects import gpu
from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu.emit import EMITTERS, Emitter
from lowering.cpu.text import Module, Text, Value
from lowering.cpu.values import Val, element_bytes, memory_type, register_type
from lowering.gpu.dialect import ShuffleOp, WorkgroupMemoryOp
from lowering.gpu.from_kern import WARP
from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of, ints_of
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TargetInfo

ALL_LANES = "-1"
"""The member mask of a full warp."""

CLAMP = {"down": WARP - 1, "idx": WARP - 1}
"""The `c` operand of shfl.sync for segments of 32 lanes, by mode (PTX ISA, shfl.sync)."""


@dataclass
class GpuEmitter(Emitter):
    """Emits one kernel, for one thread."""

    def block(self, block: Block) -> list[SSAValue]:
        for op in block.ops:
            if isinstance(op, kern.YieldOp | gpu.ReturnOp):
                return list(op.operands)
            emit = GPU_EMITTERS.get(type(op)) or EMITTERS.get(type(op))
            if emit is None:
                raise CodegenError(f"{op.name} has no form in a GPU kernel")
            emit(self, op)
        return []


def _register(e: Emitter, name: str, role: str) -> Value:
    """A special register of the thread, as i32."""
    function = e.text.module.declare(f"llvm.nvvm.read.ptx.sreg.{name}", "i32", ())
    return e.text.let(f"call i32 {function}()", role)


def _special(name: str, role: str) -> Callable[[Emitter, Operation], None]:
    def emit(e: Emitter, op: Operation) -> None:
        wide = e.text.let(f"zext i32 {_register(e, name, role)} to i64", role)
        e.values[op.results[0]] = Val(wide, "i64")

    return emit


def _subgroup_id(e: Emitter, op: Operation) -> None:
    number = e.text.binary("lshr", "i32", _register(e, "tid.x", "thread"), "5")
    e.values[op.results[0]] = Val(e.text.let(f"zext i32 {number} to i64", "warp"), "i64")


def _barrier(e: Emitter, op: Operation) -> None:
    name = e.text.module.declare("llvm.nvvm.barrier.cta.sync.aligned.all", "void", ("i32",))
    e.text.put(f"call void {name}(i32 0)")


def _workgroup_memory(e: Emitter, op: Operation) -> None:
    assert isinstance(op, WorkgroupMemoryOp)
    buffer = op.buffer.type
    assert isinstance(buffer, kern.BufferType)
    module, count = e.text.module, int_of(op.count)
    name = f"{e.text.name}_shared{len(module.constants)}"
    type = f"[{count} x {memory_type(buffer.element)}]"
    align = max(16, element_bytes(buffer.element))
    module.constants[name] = f"@{name} = internal addrspace(3) global {type} poison, align {align}"
    generic = e.text.let(f"addrspacecast ptr addrspace(3) @{name} to ptr", "shared")
    e.values[op.results[0]] = Val(generic, "ptr")


def _shuffle(e: Emitter, op: Operation) -> None:
    assert isinstance(op, ShuffleOp)
    text, type = e.text, register_type(op.value.type)
    value, offset, mode = e.scalar(op.value), e.scalar(op.offset), op.mode.data
    words = [_shuffled(text, word, offset, mode) for word in _words(text, value, type)]
    e.values[op.shuffle_result] = Val(_joined(text, words, type), type)
    e.values[op.valid] = Val("true", "i1")


def _shuffled(text: Text, word: Value, offset: Value, mode: str) -> Value:
    name = text.module.declare(f"llvm.nvvm.shfl.sync.{mode}.i32", "i32", ("i32",) * 4)
    operands = f"i32 {ALL_LANES}, i32 {word}, i32 {offset}, i32 {CLAMP[mode]}"
    return text.let(f"call i32 {name}({operands})", "lane")


def _words(text: Text, value: Value, type: str) -> list[Value]:
    """A value as words of 32 bits, the low one first."""
    if type == "i32":
        return [value]
    if type == "float":
        return [text.let(f"bitcast float {value} to i32")]
    if type in ("i64", "double"):
        bits = value if type == "i64" else text.let(f"bitcast double {value} to i64")
        high = text.binary("lshr", "i64", bits, "32")
        return [text.let(f"trunc i64 {part} to i32") for part in (bits, high)]
    return [text.let(f"zext {type} {value} to i32")]


def _joined(text: Text, words: list[Value], type: str) -> Value:
    if type == "i32":
        return words[0]
    if type == "float":
        return text.let(f"bitcast i32 {words[0]} to float")
    if type in ("i64", "double"):
        low, high = (text.let(f"zext i32 {word} to i64") for word in words)
        bits = text.binary("or", "i64", low, text.binary("shl", "i64", high, "32"))
        return bits if type == "i64" else text.let(f"bitcast i64 {bits} to double")
    return text.let(f"trunc i32 {words[0]} to {type}")


GPU_EMITTERS: dict[type[Operation], Callable[[Emitter, Operation], None]] = {
    gpu.BlockIdOp: _special("ctaid.x", "block"),
    gpu.ThreadIdOp: _special("tid.x", "thread"),
    gpu.LaneIdOp: _special("laneid", "lane"),
    gpu.SubgroupIdOp: _subgroup_id,
    gpu.BarrierOp: _barrier,
    WorkgroupMemoryOp: _workgroup_memory,
    ShuffleOp: _shuffle,
}
"""How each op of threads is emitted; the others are `lowering.cpu.emit`'s."""


def emit_kernel(module: Module, function: gpu.FuncOp, target: TargetInfo) -> None:
    """Add one kernel to an LLVM module, with its parameters in the order of its arguments."""
    block = function.body.block
    name = function.sym_name.data
    parameters = [_parameter(n, argument) for n, argument in enumerate(block.args)]
    text = Text(module, name, ", ".join(parameters), "ptx_kernel void")
    emitter = GpuEmitter(text, target)
    for number, argument in enumerate(block.args):
        type = "ptr" if isinstance(argument.type, kern.BufferType) else "i64"
        emitter.values[argument] = Val(f"%a{number}", type)
    emitter.block(block)
    threads = ints_of(function.attributes["gpu.known_block_size"])
    text.finish(attributes=f'nounwind "nvvm.reqntid"="{",".join(map(str, threads))}"')


def _parameter(number: int, argument: SSAValue) -> str:
    """A pointer that only this kernel's code uses while it runs, or an extent."""
    if not isinstance(argument.type, kern.BufferType):
        return f"i64 %a{number}"
    stored = any(isinstance(use.operation, kern.StoreOp) for use in argument.uses)
    return f"ptr noalias {'' if stored else 'readonly '}captures(none) %a{number}"


def llvm_text(module: gpu.ModuleOp, target: TargetInfo) -> str:
    """The NVPTX LLVM IR text of all kernels of a `gpu.module`, without triple and layout."""
    whole = Module()
    for function in module.body.block.ops:
        assert isinstance(function, gpu.FuncOp)
        emit_kernel(whole, function, target)
    return whole.text()
