"""Every op sample compiled natively gives what its numpy reference gives.

All samples run with fixed extents; a rotating part runs again with dynamic ones. Code is generated
in one batch for all tests that were selected.
"""

import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import samples_basic
import samples_nn
from op_sweep import close, leaves, module_of

from lowering.codegen import CodeGenerator, CodegenSettings
from lowering.cpu.host import host_target
from lowering.program.build import Lowered, lower_module
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_dialect.errors import CodegenError
from torsh_dialect.evaluate import evaluate
from torsh_dialect.ops.linalg import EighOp, SvdOp
from torsh_fx.pipeline import optimise

DYNAMIC_SHARE = 6
"""One of so many samples runs with dynamic extents too."""

GAPS: dict[str, str] = {}
"""Known gaps by test id: reasons, strict."""


@dataclass
class Case:
    """A sample on its way to native code; what went wrong on the way is raised by its test."""

    sample: object
    dynamic: bool
    expected: list = field(default_factory=list)
    main: Lowered | None = None
    prepare: Lowered | None = None
    objects: dict = field(default_factory=dict)
    error: BaseException | None = None

    def lower(self):
        try:
            arrays = self.arrays()
            module, _ = module_of(self.sample, dynamic=self.dynamic)
            with np.errstate(all="ignore"):
                self.expected = evaluate(module, arrays)
            ctx = Context(target=host_target())
            optimise(module, ctx)
            self.main, self.prepare = lower_module(module, ctx.target)
        except Exception as error:
            self.error = error

    def arrays(self):
        return [np.asarray(a, order="C") for a in leaves(self.sample)]

    def units(self):
        return [u for part in (self.main, self.prepare) if part is not None for u in part.units]

    def run(self):
        weights = dict(self.main.constants)
        if self.prepare is not None:
            made = self._program(self.prepare, self.prepare.constants, "prepare")
            weights.update(zip([o.name for o in made.spec.outputs], made.run([]), strict=True))
        used = {w.name: weights[w.name] for w in self.main.spec.weights}
        return self._program(self.main, used, "main").run(self.arrays())

    def _program(self, lowered, weights, entry):
        objects = [self.objects[unit.name, unit.text] for unit in lowered.units]
        return Executable(Program(lowered.spec, objects, weights), entry)


def _samples():
    found = {id(s): s for s in [*samples_basic.SAMPLES, *samples_nn.SAMPLES]}
    return list(found.values())


def _cases():
    for number, sample in enumerate(_samples()):
        name = f"{sample.op.name.removeprefix('torsh.')}-{number}"
        yield name, Case(sample, dynamic=False)
        if number % DYNAMIC_SHARE == 0:
            yield f"{name}-dynamic", Case(sample, dynamic=True)


def _parameters():
    for name, case in _cases():
        gap = GAPS.get(name)
        marks = [pytest.mark.xfail(reason=gap, strict=True)] if gap else []
        yield pytest.param(case, id=name, marks=marks)


@pytest.fixture(scope="module")
def compiled(request):
    """Lowers and compiles the selected cases, all units in one batch."""
    here = [i for i in request.session.items if i.module is request.module]
    cases = [i.callspec.params["case"] for i in here if hasattr(i, "callspec")]
    for case in cases:
        case.lower()
    units = {(u.name, u.text): u for c in cases if c.error is None for u in c.units()}
    generator = CodeGenerator(CodegenSettings(inprocess=False))
    try:
        objects = _objects(generator, units)
    finally:
        generator.close()
    for case in cases:
        case.objects = objects
    return objects


def _objects(generator, units):
    try:
        return dict(zip(units, generator.compile(list(units.values())), strict=True))
    except CodegenError:
        found = {}
        for key, unit in units.items():
            try:
                found[key] = generator.compile([unit])[0]
            except CodegenError as error:
                print(f"{key[0]}: {error}", file=sys.stderr)
        return found


def _with_numpys_phases(op, results, expected):
    """Eigenvectors and singular vectors are unique up to phases: those of the reference.

    The rows of a full V^H without a singular value are any basis, and those of the reference here.
    `test_spectral.py` checks the vectors by their definition.
    """
    if op is EighOp:
        values, vectors = results
        return [values, vectors * _phases(vectors, expected[1])]
    if op is SvdOp:
        u, s, vh = results
        count = s.shape[-1]
        phases = _phases(u[..., :count], expected[0][..., :count])
        u[..., :count] *= phases
        vh[..., :count, :] *= np.swapaxes(phases, -1, -2).conj()
        if u.shape[-1] == vh.shape[-2]:
            return [u, s, vh]
        return [u, s, np.concatenate([vh[..., :count, :], expected[2][..., count:, :]], -2)]
    return results


def _phases(vectors, expected):
    """For each column, the number of size 1 that makes it the expected one, where one does."""
    inner = np.sum(vectors.conj() * expected, axis=-2, keepdims=True)
    return (inner / np.maximum(np.abs(inner), 1e-30)).astype(vectors.dtype)


@pytest.mark.parametrize("case", list(_parameters()))
def test_compiled_equals_reference(case, compiled):
    if case.error is not None:
        raise case.error
    results = _with_numpys_phases(case.sample.op, case.run(), case.expected)
    for actual, expected in zip(results, case.expected, strict=True):
        close(actual, np.asarray(expected))
