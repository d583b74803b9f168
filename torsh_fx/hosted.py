"""Models with sequences, optional values or strings: native tensor code, and host functions.

`outline-native` splits such a model. Each of its native functions is compiled as a model of its
own; the rest of `@main` is walked in Python, where host functions handle what is no tensor of
numbers. `HostedModule.host_ops` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation

from lowering.passes.outline_native import PREFIX, OutlineNativePass, is_hosted
from lowering.runtime.executable import Executable
from lowering.runtime.profile import Profile
from lowering.runtime.spec import ProgramSpec
from torsh_dialect.attributes import Array
from torsh_dialect.context import Context
from torsh_dialect.driver import words_of
from torsh_dialect.errors import ExecutionError, InputError, TorshError, UnsupportedError
from torsh_dialect.evaluate import Evaluator, Scope, names_of
from torsh_dialect.kinds import Control, TensorOp
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.shape import BindOp
from torsh_dialect.symbols import symbols_in
from torsh_dialect.target import TargetInfo
from torsh_fx.compiled import Compilation, CompiledModule, CompileReport, first_state
from torsh_fx.importers.model import ImportedModel, Report
from torsh_fx.random import Draws
from torsh_fx.weights import Preparation

DATA_ERRORS = (ValueError, TypeError, IndexError, KeyError, OverflowError)
"""What host functions raise for data that they cannot take, e.g. text that is no number."""


@dataclass
class HostWalker(Evaluator):
    """Walks what is left of a split module: calls native functions, runs host functions.

    Attributes:
        natives: Compiled functions by name.
        constants: Values of the constants outside native functions.
    """

    natives: Mapping[str, CompiledModule] = field(default_factory=dict[str, CompiledModule])
    constants: Mapping[Operation, Array] = field(default_factory=dict[Operation, Array])

    def call(self, name: str, *args: Array) -> list[Array]:
        native = self.natives.get(name)
        return super().call(name, *args) if native is None else native.run(args)

    def _op(self, op: Operation, operands: Sequence[Array], scope: Scope) -> Sequence[Array]:
        if isinstance(op, ConstantOp):
            return (self.constants[op],)
        if isinstance(op, BindOp):
            return operands
        try:
            return super()._op(op, operands, scope)
        except TorshError as error:
            error.place(words_of(op.location))
            raise
        except DATA_ERRORS as error:
            if not is_host_op(op):
                raise
            raise ExecutionError(
                f"{op.name}: {error}", location=words_of(op.location) or None
            ) from error


class HostedModule(CompiledModule):
    """A compiled model of which host functions run a part. See `CompiledModule`.

    Attributes:
        natives: The compiled functions by name.
        host_ops: Names of the ops that host functions run, in order.
    """

    def __init__(
        self,
        imported: ImportedModel,
        split: ModuleOp,
        natives: Mapping[str, CompiledModule],
        report: CompileReport,
        target: TargetInfo,
        source: Any = None,
    ):
        self.interface = imported.interface
        self.target = target
        self.report = report
        self.source = source
        self._executable = None
        self._preparation = Preparation(ProgramSpec(()), {}, None)
        self._compile = lambda: Compilation(imported, split)
        self._replaced = None
        self._state = first_state(imported.interface, imported.weights)
        self._draws = Draws([one.name for one in imported.interface.states])
        self.natives = dict(natives)
        self.host_ops = tuple(dict.fromkeys(op.name for op in split.walk() if is_host_op(op)))
        constants: dict[Operation, Array] = {
            op: op.evaluate()[0] for op in split.walk() if isinstance(op, ConstantOp)
        }
        self._walker: HostWalker | None = HostWalker(split, imported.weights, natives, constants)

    @property
    def executable(self) -> Executable:
        """Refused: there is no single native entry."""
        raise UnsupportedError(self._refusal("executable", "use run, or the parts in `natives`"))

    def run(self, inputs: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """Run on arrays, lists (sequences) and None (missing optional values)."""
        if isinstance(inputs, Mapping):
            names = self.interface.inputs
            if set(inputs) != set(names):
                raise InputError(f"the inputs are {', '.join(names)}")
            inputs = [inputs[name] for name in names]
        if self._walker is None:
            raise ExecutionError("the compiled model was closed")
        return self._walker.call("main", *(_host_value(value) for value in inputs))

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Refused: host functions make their results themselves."""
        raise UnsupportedError(self._refusal("run_into", "use run"))

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """None: host functions make their results themselves."""
        return ()

    def run_keeping(
        self, inputs: Sequence[Any], rooms: Mapping[int, Callable[[tuple[int, ...]], Array]]
    ) -> list[Any]:
        """As `run`: results are where host functions made them, not in `rooms`."""
        del rooms
        return self.run(inputs)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Refused: there is no single native entry."""
        raise UnsupportedError(self._refusal("profile", "profile the parts in `natives`"))

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """As `CompiledModule.update_weights`, for the weights of native functions."""
        for native in self.natives.values():
            native.update_weights(weights)
            self._replaced = native.weights
        if self._walker is not None:
            self._walker.weights = self.weights

    def close(self) -> None:
        """As `CompiledModule.close`, for the native functions."""
        for native in self.natives.values():
            native.close()
        self._walker = None
        super().close()

    def _refusal(self, method: str, remedy: str) -> str:
        return f"{method} needs a wholly native model, this one has {self.host_ops}: {remedy}"


def is_host_op(op: Operation) -> bool:
    """Whether a host function runs the op: it is hosted, and no control flow around others."""
    return isinstance(op, TensorOp) and not isinstance(op, Control | YieldOp) and is_hosted(op)


def compile_hosted(
    imported: ImportedModel,
    ctx: Context,
    compile_part: Callable[[ImportedModel], CompiledModule],
    source: Any = None,
) -> HostedModule:
    """Compile a model that `needs_host`; `compile_part` compiles each of its native functions."""
    split = imported.module.clone()
    OutlineNativePass().apply(ctx, split)
    natives: dict[str, CompiledModule] = {}
    for function in [f for f in split.ops if isinstance(f, FuncOp)]:
        name = function.sym_name.data
        if name.startswith(PREFIX):
            natives[name] = compile_part(_part(function, imported))
    reports = [native.report for native in natives.values()]
    steps = {step for report in reports for step in report.seconds}
    report = CompileReport(
        len(imported.report.fates),
        sum(one.ops_before for one in reports),
        sum(one.ops_after for one in reports),
        sum(one.kernels for one in reports),
        {step: sum(one.seconds.get(step, 0.0) for one in reports) for step in sorted(steps)},
    )
    return HostedModule(imported, split, natives, report, ctx.target, source)


def _part(function: FuncOp, whole: ImportedModel) -> ImportedModel:
    """A native function as a model of its own, with the weights of the whole."""
    main = function.clone()
    main.sym_name = StringAttr("main")
    names = (names_of(main, "arg_names"), names_of(main, "result_names"))
    return ImportedModel(ModuleOp([main]), whole.weights, *names, symbols_in(main), Report())


def _host_value(value: Any) -> Any:
    """Arrays as the host functions take them: strings are Python objects."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_host_value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    array: Array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array
