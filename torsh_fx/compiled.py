"""`CompiledModule`: a compiled model as a callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.profile import Profile
from lowering.runtime.signature import Array
from torsh_dialect.errors import ExecutionError
from torsh_dialect.target import TargetInfo
from torsh_fx.calls import as_numpy, as_torch, by_position, is_torch
from torsh_fx.random import Draws
from torsh_fx.session import Session, opened
from torsh_fx.weights import Preparation, replaced
from torsh_fx.written import run_writing

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from torsh_dialect.weights import WeightStore
    from torsh_fx.graph.graph import FxGraph
    from torsh_fx.importers.model import ImportedModel
    from torsh_fx.interface import Interface, State
    from torsh_fx.validate import Validation


@dataclass(frozen=True)
class CompileReport:
    """What a compilation did.

    Attributes:
        source_nodes: Nodes of the source graph.
        ops_before: Ops after import.
        ops_after: Ops (kernels and views) of `@main` after optimisation.
        kernels: Different kernels that were compiled.
        seconds: Wall time of each step by name; only `load` where the program was in the cache.
    """

    source_nodes: int
    ops_before: int
    ops_after: int
    kernels: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Compilation:
    """What a compilation went through.

    Attributes:
        imported: The model before optimisation.
        optimised: The program as it was lowered.
    """

    imported: ImportedModel
    optimised: ModuleOp


class CompiledModule:
    """A compiled model. Call it with numpy arrays or torch tensors, by position or by name.

    Attributes:
        interface: Its inputs and outputs.
        report: Times and counts of the compilation.
        target: What it was compiled for.
        source: The model that was compiled; None where it is not known.
    """

    def __init__(
        self,
        interface: Interface,
        program: Program,
        preparation: Preparation,
        state: Sequence[Array],
        report: CompileReport,
        options: RunOptions,
        target: TargetInfo,
        compilation: Callable[[], Compilation],
        source: Any = None,
    ):
        """See `torsh_fx.compile`; `compilation` is asked once, when its result is wanted."""
        self.interface = interface
        self.target = target
        self.report = report
        self.source = source
        self._executable: Executable | None = Executable(program, "main", options)
        self._compile = compilation
        self._preparation = preparation
        self._replaced: WeightStore | None = None
        self._state = list(state)
        self._draws = Draws([one.name for one in interface.states])

    @property
    def executable(self) -> Executable:
        """The native entry.

        Raises:
            ExecutionError: The model is closed.
        """
        if self._executable is None:
            raise ExecutionError("the compiled model was closed")
        return self._executable

    @property
    def program(self) -> Program:
        """The linked code with its weights.

        Raises:
            ExecutionError: The model is closed.
        """
        return self.executable.program

    def close(self) -> None:
        """Free code, weights and memory of calls now, or when the last running call is done.

        They are freed without it when the last reference to the model goes. Afterwards calls are
        refused; what a session or a bound call holds lives until that goes too.
        """
        self._executable = None
        self._preparation = replace(self._preparation, constants={}, entry=None)
        self._replaced, self._compile = None, _closed
        self._state = []
        self.__dict__.pop("compilation", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def compilation(self) -> Compilation:
        """The model before optimisation, and the program as it was lowered."""
        return self._compile()

    @property
    def imported(self) -> ImportedModel:
        """The model as it was imported."""
        return self.compilation.imported

    @property
    def module(self) -> ModuleOp:
        """The program before optimisation (`@main` in the torsh dialect)."""
        return self.imported.module

    @property
    def optimised(self) -> ModuleOp:
        """The program as it was lowered."""
        return self.compilation.optimised

    @property
    def weights(self) -> WeightStore:
        """The model's own weights, before preparation."""
        return self.imported.weights if self._replaced is None else self._replaced

    @property
    def graph(self) -> FxGraph:
        """The imported program as a graph: a copy, so edits show in what is compiled from it."""
        from torsh_fx.graph.graph import FxGraph

        return FxGraph(self.module.clone(), self.weights)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a call, in order; state is not among them."""
        return self.interface.user_inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of a call, in order; state is not among them."""
        return self.interface.user_outputs

    @property
    def states(self) -> list[State]:
        """What the model keeps between calls, in order of the inputs that take it."""
        return self.interface.states

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Run on numpy arrays, in order or by name; returns the outputs in order.

        A stateful model takes and gives its state here, behind the inputs and outputs. Only the
        stream of random numbers may be left out: then it goes on as in a call, and is not given.

        Raises:
            InputError: The inputs break the signature; the message names input and limit.
            ExecutionError: A run-time check failed, or memory ran out.
        """
        count = len(self.interface.inputs)
        if self._draws.completed(inputs, count, self._state) is None:
            return self.executable.run(inputs)

        def run() -> tuple[list[Array], list[Array]]:
            whole = self._draws.completed(inputs, count, self._state)
            assert whole is not None
            found = self.executable.run(whole)
            return found[:-1], [found[one.output] for one in self.states]

        return self._draws.call(self._state, run)

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run on numpy arrays and write into the caller's outputs, without allocation."""
        self.executable.run_into(inputs, outputs)

    def save(self, path: str | Path) -> None:
        """Write the model for `torsh_fx.load(path)`; the loaded one gives the same bytes.

        Args:
            path: `NAME.mlir` gets the program as MLIR text, which is compiled again when it is
                loaded, with the weights beside it as `NAME.safetensors`. `NAME.torshpkg` gets
                everything in one file, with machine code for this model's target.

        Raises:
            InvalidArgumentError: The name ends in neither.
            UnsupportedError: A package of a model of which host functions run a part.
            OSError: A file cannot be written.
        """
        if Path(path).suffix == ".torshpkg":
            from torsh_fx.packaging import save_package

            return save_package(self, path)
        from torsh_fx.save import save

        save(replace(self.imported, weights=self.weights), path)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Run once, as a call does, and time every kernel.

        Returns:
            The times; `table()` shows them with the source ops of each kernel.
        """
        flat = self.flat_inputs(args, kwargs)
        return self.executable.profile([*map(as_numpy, flat), *self._state])

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Use other weights from now on; calls that are running finish with the old ones.

        Args:
            weights: Arrays or tensors by the names in `weights`; those not named stay.

        Raises:
            InvalidArgumentError: A name is unknown, or a dtype or shape differs; nothing has
                changed then.
        """
        arrays = {name: as_numpy(value) for name, value in weights.items()}
        store = replaced(self.weights, arrays)
        self.program.update_weights(self._preparation.prepared(store))
        self._replaced = store
        self._state = self._draws.kept(self._state, first_state(self.interface, store))

    def session(
        self,
        carried: Mapping[str, str] | None = None,
        first: Mapping[str, Any] | None = None,
    ) -> Session:
        """A sequence of calls that keeps the model's state from one to the next.

        Args:
            carried: Inputs that take an output of the call before, as `{input: output}`, e.g.
                `{"past_key": "present_key"}`. Calls of the session take the other inputs and
                give the other outputs, by position or name.
            first: First values of state by name; needed for `carried`, otherwise the model's own.

        Raises:
            InvalidArgumentError: A name is unknown, or a first value is missing.
        """
        return opened(self, carried, first)

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an input and an output that may be the same memory in a call."""
        return self.executable.spec.in_place

    def run_keeping(
        self, inputs: Sequence[Array], rooms: Mapping[int, Callable[[tuple[int, ...]], Array]]
    ) -> list[Array]:
        """As `run`; outputs in `rooms` are written where these say, given their extents."""
        return self.executable.run_keeping(inputs, rooms)

    def validate(self, inputs: Sequence[Any], source: Any = None) -> Validation:
        """Compare with the source model in its own framework, in float64.

        Args:
            inputs: Calls, each a tuple of the arguments of one, a single array or tensor, or a
                mapping of names.
            source: The model; what was compiled by default.

        Returns:
            The verdict; `str` of it is a report that says PASS or FAIL.

        Raises:
            InvalidArgumentError: There are no inputs, or nothing can run the source.
        """
        from torsh_fx.validate import validate

        return validate(self, self.source if source is None else source, inputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on torch tensors or numpy arrays; the same kind comes back.

        A model of one output gives it alone, others a tuple in order; models from torch give
        the structure that the original gives. A stateful model starts from its first state in
        every call; `session` keeps it. Only random numbers go on from call to call (`seed`).
        """
        return self._draws.call(self._state, lambda: self.call_with(self._state, args, kwargs))

    def seed(self, seed: int | None = None) -> int:
        """Start the model's stream of random numbers again.

        Args:
            seed: 64 bits, negative or not; None takes one of the operating system. A model that
                was never seeded starts from torch's default, 67280421310721.

        Returns:
            The seed.

        Raises:
            InvalidArgumentError: The model draws no random numbers, or the seed has more bits.
            ExecutionError: The model is closed.
        """
        _ = self.executable
        return self._draws.seed(self._state, seed)

    def call_with(
        self, state: Sequence[Array], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[Array]]:
        """The result of a call that starts from `state`, and the state behind it.

        Arguments that the model writes have their new values then.
        """
        flat = self.flat_inputs(args, kwargs)
        from_torch = any(map(is_torch, flat)) if flat else self.interface.out_spec is not None
        found: list[Any] = run_writing(self, [*flat, *state], self.interface.written)
        after = [found[one.output] for one in self.states]
        outputs: list[Any] = [as_torch(v) for v in found] if from_torch else found
        return self.structured(outputs), after

    def flat_arrays(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The inputs of a call as numpy arrays, in order."""
        return [as_numpy(v) for v in self.flat_inputs(args, kwargs)]

    def flat_outputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The outputs of a call as numpy arrays, in order; from the first state, as `__call__`."""
        given = self.flat_arrays(args, kwargs)

        def run() -> tuple[list[Array], list[Array]]:
            found = self.run([*given, *self._state])
            return found[: len(self.output_names)], [found[one.output] for one in self.states]

        return self._draws.call(self._state, run)

    @property
    def state_arrays(self) -> list[Array]:
        """The first values of the state, in order; of random numbers, where the last call ended."""
        return list(self._state)

    def flat_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The inputs of a call in order, as they were given."""
        if self.interface.in_spec is not None:
            from torsh_fx.importers.torch_call import flatten_inputs

            return flatten_inputs(self.interface, args, kwargs)
        return by_position(self.input_names, args, kwargs)

    def structured(self, outputs: list[Any]) -> Any:
        """The result of a call from all outputs, in the structure that the source gives."""
        if self.interface.out_spec is not None:
            from torsh_fx.importers.torch_call import unflatten_outputs

            return unflatten_outputs(self.interface, outputs)
        users = outputs[: len(self.output_names)]
        return users[0] if len(users) == 1 else tuple(users)


def _closed() -> Compilation:
    raise ExecutionError("the compiled model was closed")


def first_state(interface: Interface, weights: Mapping[str, Array]) -> list[Array]:
    """The first values of a model's state, in order of the inputs that take them."""
    return [weights[one.weight] for one in interface.states]
