"""Models with sequences, optional values or strings: native tensor code, and host functions.

`outline-native` splits such a model. Each of its native functions is compiled as a model of its
own; the rest of `@main` is walked in Python, where host functions handle what is no tensor of
numbers. `HostedModule.host_ops` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation

from lowering.passes.outline_native import PREFIX, OutlineNativePass, is_hosted
from lowering.runtime.contexts import Room
from lowering.runtime.executable import Executable
from lowering.runtime.profile import Profile
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
from torsh_dialect.types import SequenceType
from torsh_dialect.weights import WeightStore
from torsh_fx.calls import Items
from torsh_fx.compiled import Compilation, CompiledModule, CompileReport, Origin, first_state
from torsh_fx.hosted_parts import name_extents
from torsh_fx.importers.model import ImportedModel, Report
from torsh_fx.linked import Runnable, closed

DATA_ERRORS = (ValueError, TypeError, IndexError, KeyError, OverflowError)
"""What host functions raise for data that they cannot take, e.g. text that is no number."""


@dataclass
class HostWalker(Evaluator):
    """Walks what is left of a split module: calls native functions, runs host functions.

    Attributes:
        inputs: Names of the inputs of `@main`, in order.
        natives: What computes native functions, by name.
        constants: Values of the constants outside native functions.
    """

    inputs: Sequence[str] = ()
    natives: Mapping[str, Runnable] = field(default_factory=dict[str, Runnable])
    constants: Mapping[Operation, Array] = field(default_factory=dict[Operation, Array])

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """None: host functions make their results themselves."""
        return ()

    def run(self, inputs: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """Run `@main` on arrays, lists (sequences) and None (missing optional values).

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A host function cannot take the data.
        """
        if isinstance(inputs, Mapping):
            if set(inputs) != set(self.inputs):
                raise InputError(f"the inputs are {', '.join(self.inputs)}")
            inputs = [inputs[name] for name in self.inputs]
        return self.call("main", *(_host_value(value) for value in inputs))

    def run_keeping(self, inputs: Sequence[Any], rooms: Mapping[int, Room]) -> list[Any]:
        """As `run`: results are where host functions made them, not in `rooms`."""
        del rooms
        return self.run(inputs)

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
        constants: dict[Operation, Array] = {
            op: op.evaluate()[0] for op in split.walk() if isinstance(op, ConstantOp)
        }
        runnables = {name: native.held.runnable for name, native in natives.items()}
        inputs = imported.interface.inputs
        walker = HostWalker(split, imported.weights, inputs, runnables, constants)

        def use(store: WeightStore) -> None:
            for native in natives.values():
                native.update_weights(store)
            walker.weights = store

        super().__init__(
            imported.interface,
            walker,
            first_state(imported.interface, imported.weights),
            use,
            Origin(report, target, lambda: Compilation(imported, split), source),
        )
        self.natives = dict(natives)
        main = next(f for f in split.ops if isinstance(f, FuncOp) and f.sym_name.data == "main")
        self._takes_list = [isinstance(a.type, SequenceType) for a in main.body.block.args]
        self.host_ops = tuple(dict.fromkeys(op.name for op in split.walk() if is_host_op(op)))

    def run(self, inputs: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """As `CompiledModule.run`; takes lists (sequences) and None (missing values) too."""
        return super().run(inputs)

    def flat_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """As `CompiledModule.flat_inputs`; sequences are `Items`."""
        flat = super().flat_inputs(args, kwargs)
        kinds = zip(flat, self._takes_list, strict=False)  # the state behind them is no sequence
        return [
            Items(cast("list[Any]", v)) if is_list and isinstance(v, list) else v
            for v, is_list in kinds
        ]

    @property
    def executable(self) -> Executable:
        """Refused: there is no single native entry."""
        raise self._refusal("executable", "use run, or the parts in `natives`")

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Refused: host functions make their results themselves."""
        raise self._refusal("run_into", "use run")

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Refused: there is no single native entry."""
        raise self._refusal("profile", "profile the parts in `natives`")

    def close(self) -> None:
        """As `CompiledModule.close`, for the native functions too."""
        super().close()
        for native in self.natives.values():
            native.close()

    def _refusal(self, method: str, remedy: str) -> TorshError:
        if self.is_closed:
            return closed()
        return UnsupportedError(
            f"{method} needs a wholly native model, this one has {self.host_ops}: {remedy}"
        )


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
    name_extents(main)
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
