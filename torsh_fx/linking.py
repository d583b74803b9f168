"""From code and a model's own weights to a program that runs. Imports no compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lowering.runtime.executable import PREPARE, Executable, Program
from lowering.runtime.signature import Array
from lowering.runtime.spec import ProgramSpec
from torsh_fx.weights import Preparation


@dataclass(frozen=True)
class Code:
    """A program without the model's weights.

    Attributes:
        spec: What it is.
        objects: Its machine code.
        constants: Weights that the compiler made.
    """

    spec: ProgramSpec
    objects: Sequence[bytes]
    constants: Mapping[str, Array]


@dataclass(frozen=True)
class Linked:
    """A program that runs.

    Attributes:
        program: Code and prepared weights.
        preparation: What makes these of the model's own.
    """

    program: Program
    preparation: Preparation

    def use(self, raw: Mapping[str, Array]) -> None:
        """Use other weights of the model's own; calls that are running finish with the old ones.

        Raises:
            ExecutionError: Memory ran out; nothing has changed then.
        """
        self.program.update_weights(self.preparation.prepared(raw))


@dataclass(frozen=True)
class Parts:
    """A program and what makes its weights.

    Attributes:
        main: The program.
        prepare: Makes prepared weights of the model's own; None where nothing needs it.
        host: Object of the thread pool.
    """

    main: Code
    prepare: Code | None
    host: bytes

    def link(self, raw: Mapping[str, Array]) -> Linked:
        """Prepare the weights, and link.

        Raises:
            CodegenError: The objects do not link.
            ExecutionError: This machine cannot run the code, or memory ran out.
        """
        entry = None
        if self.prepare is not None:
            code = self.prepare
            entry = Executable(Program(code.spec, code.objects, code.constants, host=self.host),
                               PREPARE)  # fmt: skip
        preparation = Preparation(self.main.spec, self.main.constants, entry)
        prepared = preparation.prepared(raw)
        program = Program(self.main.spec, self.main.objects, prepared, host=self.host)
        return Linked(program, preparation)

    @property
    def raw_names(self) -> list[str]:
        """Names of the model's own weights that `link` reads."""
        made, needed = set(self.main.constants), list[str]()
        if self.prepare is not None:
            entry = self.prepare.spec.entry(PREPARE)
            made |= {one.name for one in entry.outputs}
            needed = [one.name for one in entry.inputs]
        return [*needed, *(w.name for w in self.main.spec.weights if w.name not in made)]
