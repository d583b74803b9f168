"""From a fused module to objects and their specification."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, SSAValue

from lowering.codegen import CodegenUnit
from lowering.cpu.emit import emit_function
from lowering.cpu.text import Module
from lowering.generic.join import join_kernel
from lowering.generic.kernel import RegionKernel
from lowering.generic.kernels import whole_kernel_for
from lowering.kern.dialect import FuncOp as KernFuncOp
from lowering.kern.dialect import TemplateOp
from lowering.kernel import Kernel
from lowering.program.entry import Entry
from lowering.program.versions import with_versions
from lowering.runtime.spec import (
    EntrySpec,
    Extent,
    KernelSpec,
    ProgramSpec,
    SymbolSpec,
    TensorSpec,
    WeightSpec,
)
from lowering.templates.choose import template_kernel
from torsh_dialect.attributes import Array, str_of, strs_of, text
from torsh_dialect.dims import Bounds, Dim
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.encodings import Layout
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.passes.materialize_layouts import ARGUMENTS, RESULTS, inverse, layouts_in
from torsh_dialect.symbols import symbols_in
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type

ENTRY_SYMBOLS = {"main": "torsh", "prepare": "torsh_prepare"}

LONG_HOST = 1 << 20
"""Bytes of the host's text (some thousand launches) from which registers are allocated block by
block: LLVM's time for one long function grows with the square of its length."""


def lower_module(module: ModuleOp, target: TargetInfo) -> tuple[Lowered, Lowered | None]:
    """The program of a fused module, and the program that prepares its weights, if it needs one."""
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    prepare = [f for f in functions if f.sym_name.data == "prepare"]
    main = ProgramBuilder([f for f in functions if f not in prepare], target).build()
    return main, ProgramBuilder(prepare, target).build() if prepare else None


@dataclass
class Lowered:
    """A program before LLVM.

    Attributes:
        spec: What the runtime needs to know.
        units: LLVM modules.
        functions: `kern` functions, kernels first, for printing.
        constants: Data of the weight table that is in the program itself.
    """

    spec: ProgramSpec
    units: list[CodegenUnit]
    functions: list[KernFuncOp]
    constants: dict[str, Array]


@dataclass
class ProgramBuilder:
    """Lowers functions that share one weight table.

    Attributes:
        functions: Functions of a module, fused.
        target: The machine.
    """

    functions: Sequence[FuncOp]
    target: TargetInfo
    kernels: dict[str, Kernel] = field(default_factory=dict[str, Kernel])
    regions: dict[tuple[object, ...], Kernel] = field(
        default_factory=dict[tuple[object, ...], Kernel]
    )
    sources: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    weights: dict[str, WeightSpec] = field(default_factory=dict[str, WeightSpec])
    constants: dict[str, Array] = field(default_factory=dict[str, Array])
    _indices: dict[str, int] = field(default_factory=dict[str, int])

    def build(self) -> Lowered:
        """Lower everything.

        Raises:
            UnsupportedError: An op has no lowering.
        """
        entries: list[EntrySpec] = []
        hosts: list[KernFuncOp] = []
        for function in self.functions:
            spec, functions = self._entry(function)
            entries.append(spec)
            hosts.extend(functions)
        functions = [kernel.function for kernel in self.kernels.values()]
        units = [self._unit([function]) for function in functions]
        units.append(_of_host(self._unit(hosts, tuple(self.kernels))))
        spec = ProgramSpec(
            tuple(entries),
            tuple(self.weights.values()),
            tuple(KernelSpec(n, tuple(s)) for n, s in self.sources.items()),
            target=self.target.name,
        )
        return Lowered(spec, units, [*functions, *hosts], self.constants)

    def _entry(self, function: FuncOp) -> tuple[EntrySpec, list[KernFuncOp]]:
        name = function.sym_name.data
        symbol = ENTRY_SYMBOLS.get(name, f"torsh_{name}")
        bounds = symbols_in(function)
        entry = Entry(function, symbol, self._weight_index, lambda op: self._kernel_of(op, bounds))
        functions = [entry.plan_function(), entry.run_function()]
        outputs = _tensors(
            entry.results,
            _names(function, "result_names", "output", entry.results),
            layouts_in(function, RESULTS, len(entry.results)),
        )
        spec = EntrySpec(
            name,
            symbol,
            _tensors(
                function.args,
                _names(function, "arg_names", "input", function.args),
                layouts_in(function, ARGUMENTS, len(function.args)),
            ),
            tuple(
                replace(spec, data_dependent=entry.is_late_output(value))
                for spec, value in zip(outputs, entry.results, strict=True)
            ),
            tuple(SymbolSpec(n, low, high) for n, (low, high) in bounds.items()),
            tuple(entry.checks.specs),
            scratch_bytes=self._scratch_bytes(),
            allocates=bool(entry.slots),
            in_place=entry.in_place(),
        )
        return spec, functions

    def _scratch_bytes(self) -> int:
        """What the hungriest kernel needs for each worker; dynamic needs at their bounds."""
        return max((k.scratch_bytes for k in self.kernels.values()), default=0)

    def _unit(self, functions: Sequence[KernFuncOp], imported: tuple[str, ...] = ()) -> CodegenUnit:
        module = Module()
        for function in functions:
            emit_function(module, function, self.target)
        name = str_of(functions[0].properties["sym_name"])
        return CodegenUnit(name, module.text(), self.target, host_symbols=imported)

    # -- weights

    def _weight_index(self, op: Operation) -> int:
        if isinstance(op, ConstantOp):
            name = f"constant.{_digest(repr(op.value.data).encode())}"
            self.constants[name] = op.value.data.array()
        else:
            assert isinstance(op, WeightOp)
            name = str_of(op.id)
        index = self._indices.setdefault(name, len(self.weights))
        if index == len(self.weights):
            value = op.results[0]
            dims = tuple(d for d in dims_of(value) if isinstance(d, int))
            self.weights[name] = WeightSpec(name, dtype_of(element_type(value)).name, dims)
        return index

    # -- kernels

    def _kernel_of(self, op: FusedOp, bounds: Mapping[str, Bounds]) -> Kernel:
        key = region_key(op)
        kernel = self.regions.get(key)
        if kernel is None:
            build = partial(build_kernel, target=self.target)
            kernel = self.regions[key] = with_versions(build(op), op, bounds, build)
            for one in kernel.parts:
                self._name(one, stem_of(op, one))
        locations = (inner.location for inner in op.body.block.ops if inner.results)
        sources = [plain_location(at) for at in locations if not isinstance(at, UnknownLoc)]
        for one in kernel.parts:
            self.sources[one.name].extend(sources)
        return kernel

    def _name(self, kernel: Kernel, stem: str) -> None:
        name = kernel_name(kernel.function, stem)
        kernel.function.properties["sym_name"] = text(name)
        self.kernels.setdefault(name, kernel)
        self.sources.setdefault(name, [])


def _of_host(unit: CodegenUnit) -> CodegenUnit:
    """The host's module, compiled with less care where it is long: it only launches kernels."""
    return replace(unit, codegen=0) if len(unit.text) > LONG_HOST else unit


def build_kernel(op: FusedOp, target: TargetInfo) -> Kernel:
    """The kernel of a fused region: a template's, a whole-kernel op's, or by elements.

    Raises:
        UnsupportedError: The region has an op without a lowering.
    """
    block = op.body.block
    last = block.last_op
    assert isinstance(last, YieldOp)
    root = last.operands[0].owner
    whole = whole_kernel_for(root) if isinstance(root, Operation) else None
    if whole is not None and isinstance(root, Operation):
        return whole(root)
    if (kernel := template_kernel(op, target)) is not None:
        return kernel
    if len(last.operands) == 1 and (joined := join_kernel(root, block.args)) is not None:
        return joined
    return RegionKernel(block.args, last.operands).build()


def region_key(op: FusedOp) -> tuple[object, ...]:
    """What a region computes, without names and locations: equal keys mean equal kernels."""
    block, numbers = op.body.block, dict[SSAValue, int]()
    for argument in block.args:
        numbers[argument] = len(numbers)
    rows: list[object] = [tuple(a.type for a in block.args)]
    for inner in block.ops:
        operands = tuple(numbers[v] for v in inner.operands)
        for result in inner.results:
            numbers[result] = len(numbers)
        types = tuple(r.type for r in inner.results)
        properties = tuple(sorted(inner.properties.items(), key=lambda item: item[0]))
        rows.append((type(inner), operands, properties, types))
    return tuple(rows)


def kernel_name(function: KernFuncOp, stem: str) -> str:
    """The symbol of a kernel: equal code under one stem has equal names."""
    return f"{stem}_{_digest(repr(structural_key(function)).encode())}"


def stem_of(op: FusedOp, kernel: Kernel) -> str:
    """What a reader of a profile calls a kernel: its template, or the last op of its region."""
    for inner in kernel.function.body.block.ops:
        if isinstance(inner, TemplateOp):
            return str_of(inner.properties["template"])
    last = op.body.block.last_op
    made = None if last is None else last.prev_op
    return "kernel" if made is None else made.name.removeprefix("torsh.")


def plain_location(location: Attribute) -> str:
    """A location without MLIR's punctuation: `loc("conv1")` is `conv1`."""
    return str(location).removeprefix("loc(").removesuffix(")").replace('"', "")


def structural_key(function: KernFuncOp) -> tuple[object, ...]:
    """What a kernel does, without names and locations: equal keys mean equal code."""
    numbers: dict[SSAValue, int] = {}
    return _block_key(function.body.block, numbers)


def _block_key(block: Block, numbers: dict[SSAValue, int]) -> tuple[object, ...]:
    for argument in block.args:
        numbers[argument] = len(numbers)
    rows: list[object] = [tuple(str(a.type) for a in block.args)]
    for op in block.ops:
        operands = tuple(numbers[v] for v in op.operands)
        inner = tuple(_block_key(region.block, numbers) for region in op.regions)
        for result in op.results:
            numbers[result] = len(numbers)
        types = tuple(str(r.type) for r in op.results)
        properties = tuple(f"{k}={v}" for k, v in sorted(op.properties.items()))
        rows.append((op.name, operands, properties, types, inner))
    return tuple(rows)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _names(
    function: FuncOp, attribute: str, default: str, values: Sequence[SSAValue]
) -> tuple[str, ...]:
    given = function.attributes.get(attribute)
    return (
        strs_of(given) if given is not None else tuple(f"{default}{n}" for n in range(len(values)))
    )


def _tensors(
    values: Sequence[SSAValue], names: Sequence[str], layouts: Sequence[Layout]
) -> tuple[TensorSpec, ...]:
    """Inputs or outputs; a value whose type is that of its memory has its axes in order again."""
    found: list[TensorSpec] = []
    for name, value, layout in zip(names, values, layouts, strict=True):
        dims = tuple(map(_extent, dims_of(value)))
        ordered = tuple(dims[axis] for axis in inverse(layout)) if layout else dims
        found.append(TensorSpec(name, dtype_of(element_type(value)).name, ordered, layout=layout))
    return tuple(found)


def _extent(dim: Dim) -> Extent:
    return dim if isinstance(dim, int) else str(dim)
