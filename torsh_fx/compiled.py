"""`CompiledModule`: a compiled model as a callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lowering.runtime.profile import Profile
from lowering.runtime.signature import Array
from torsh_dialect.target import TargetInfo
from torsh_fx.calls import as_numpy
from torsh_fx.linked import LinkedModel, Runnable, closed
from torsh_fx.weights import replaced

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from torsh_dialect.weights import WeightStore
    from torsh_fx.graph.graph import FxGraph
    from torsh_fx.importers.model import ImportedModel
    from torsh_fx.interface import Interface
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


@dataclass(frozen=True)
class Origin:
    """Where a compiled model comes from.

    Attributes:
        report: Times and counts of the compilation.
        target: What it was compiled for.
        compilation: Asked once, when its result is wanted.
        source: The model that was compiled; None where it is not known.
    """

    report: CompileReport
    target: TargetInfo
    compilation: Callable[[], Compilation]
    source: Any = None


class CompiledModule(LinkedModel):
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
        runnable: Runnable,
        first: Sequence[Array],
        use: Callable[[WeightStore], None],
        origin: Origin,
    ):
        """See `torsh_fx.compile`; `use` takes other weights of the model's own into use."""
        super().__init__(interface, runnable, first)
        self.report = origin.report
        self.target = origin.target
        self.source = origin.source
        self._compile = origin.compilation
        self._use = use
        self._replaced: WeightStore | None = None

    def close(self) -> None:
        super().close()
        self._replaced = None
        self._compile, self._use = _refused, _refused
        self.__dict__.pop("compilation", None)

    @cached_property
    def compilation(self) -> Compilation:
        """The model before optimisation, and the program as it was lowered.

        Raises:
            ExecutionError: The model is closed.
        """
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
        """The model's own weights, before preparation.

        Raises:
            ExecutionError: The model is closed.
        """
        _ = self.held
        return self.imported.weights if self._replaced is None else self._replaced

    @property
    def graph(self) -> FxGraph:
        """The imported program as a graph: a copy, so edits show in what is compiled from it."""
        from torsh_fx.graph.graph import FxGraph

        return FxGraph(self.module.clone(), self.weights)

    def save(self, path: str | Path) -> None:
        """Write the model for `torsh_fx.load(path)`; the loaded one gives the same bytes.

        Args:
            path: `NAME.mlir` gets the program as MLIR text, which is compiled again when it is
                loaded, with the weights beside it as `NAME.safetensors`. `NAME.torshpkg` gets
                everything in one file, with machine code for this model's target.

        Raises:
            InvalidArgumentError: The name ends in neither.
            UnsupportedError: A package of a model of which host functions run a part.
            ExecutionError: The model is closed.
            OSError: A file cannot be written.
        """
        _ = self.held
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
        executable, state = self.executable, self.state_arrays
        return executable.profile([*self.flat_arrays(args, kwargs), *state])

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Use other weights from now on; calls that are running finish with the old ones.

        Args:
            weights: Arrays or tensors by the names in `weights`; those not named stay.

        Raises:
            InvalidArgumentError: A name is unknown, or a dtype or shape differs; nothing has
                changed then.
            ExecutionError: Memory ran out, or the model is closed.
        """
        states = self.held.states
        arrays = {name: as_numpy(value) for name, value in weights.items()}
        store = replaced(self.weights, arrays)
        self._use(store)
        self._replaced = store
        states.replace(first_state(self.interface, store))

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
            ExecutionError: The model is closed.
        """
        from torsh_fx.validate import validate

        _ = self.held
        return validate(self, self.source if source is None else source, inputs)


def _refused(*_: object) -> NoReturn:
    raise closed()


def first_state(interface: Interface, weights: Mapping[str, Array]) -> list[Array]:
    """The first values of a model's state, in order of the inputs that take them."""
    return [weights[one.weight] for one in interface.states]
