"""Every op sample compiled natively gives what its numpy reference gives.

The samples of an op are one program (a few, where there are many). All run with fixed extents; a
part runs again with dynamic ones.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
import samples_basic
import samples_nn
from op_sweep import close, leaves, module_of
from xdsl.dialects.builtin import FunctionType
from xdsl.dialects.func import ReturnOp

from lowering.codegen import CodeGenerator, CodegenSettings
from lowering.cpu.host import host_target
from lowering.program.build import Lowered, lower_module
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_dialect.errors import CodegenError
from torsh_dialect.evaluate import evaluate
from torsh_dialect.kinds import DataDependent
from torsh_dialect.ops.linalg import EighOp, EigOp, SvdOp
from torsh_fx.pipeline import optimise

DYNAMIC_SHARE = 6
"""One of so many samples runs with dynamic extents too."""

MOST_SAMPLES, MOST_DYNAMIC = 12, 4
"""Samples of one program, with fixed and with dynamic extents."""

GROUPS = 16
"""Programs are lowered and compiled in so many batches, each by the first test that needs it."""

GAPS: dict[str, str] = {}
"""Known gaps by op: reasons, strict."""


@dataclass
class Case:
    """Samples of one op on their way to native code; what goes wrong is raised by the test."""

    samples: list
    dynamic: bool
    expected: list = field(default_factory=list)
    main: Lowered | None = None
    prepare: Lowered | None = None
    objects: dict = field(default_factory=dict)
    error: BaseException | None = None

    def lower(self):
        try:
            module = self._module()
            with np.errstate(all="ignore"):
                self.expected = evaluate(module, self.arrays())
            ctx = Context(target=host_target())
            optimise(module, ctx)
            self.main, self.prepare = lower_module(module, ctx.target)
        except Exception as error:
            self.error = error

    def _module(self):
        """The samples' modules joined: one function with all their inputs and outputs."""
        module, _ = module_of(self.samples[0], dynamic=self.dynamic)
        (function,) = module.ops
        block = function.body.block
        last = block.last_op
        results = list(last.operands)
        last.detach()
        last.erase()
        for sample in self.samples[1:]:
            other, _ = module_of(sample, dynamic=self.dynamic)
            (joined,) = other.ops
            inner = joined.body.block
            for argument in list(inner.args):
                argument.replace_all_uses_with(block.insert_arg(argument.type, len(block.args)))
            for op in list(inner.ops):
                if isinstance(op, ReturnOp):
                    results.extend(op.operands)
                else:
                    op.detach()
                    block.add_op(op)
        block.add_op(ReturnOp(*results))
        types = ([a.type for a in block.args], [r.type for r in results])
        function.function_type = FunctionType.from_lists(*types)
        module.verify()
        return module

    def arrays(self):
        return [np.asarray(a, order="C") for sample in self.samples for a in leaves(sample)]

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
    """Names and cases; ops that name extents are alone, as their samples use the same names."""
    by_op = defaultdict(list)
    for number, sample in enumerate(_samples()):
        by_op[sample.op.name.removeprefix("torsh."), False].append(sample)
        if number % DYNAMIC_SHARE == 0:
            by_op[sample.op.name.removeprefix("torsh."), True].append(sample)
    for (name, dynamic), samples in by_op.items():
        most = MOST_DYNAMIC if dynamic else MOST_SAMPLES
        most = 1 if issubclass(samples[0].op, DataDependent) else most
        for number, start in enumerate(range(0, len(samples), most)):
            some = samples[start : start + most]
            suffix = "-dynamic" if dynamic else ""
            yield f"{name}-{number}{suffix}", name, Case(some, dynamic)


def _parameters():
    for number, (title, name, case) in enumerate(_cases()):
        gap = GAPS.get(name)
        marks = [pytest.mark.xfail(reason=gap, strict=True)] if gap else []
        yield pytest.param(number % GROUPS, case, id=title, marks=marks)


@pytest.fixture(scope="module")
def compiled(request):
    """Lowers and compiles the selected cases of a group, all units in one batch."""
    here = [i for i in request.session.items if i.module is request.module]
    groups = defaultdict(list)
    for item in here:
        groups[item.callspec.params["group"]].append(item.callspec.params["case"])
    generator = CodeGenerator(CodegenSettings(inprocess=False))

    def group(number):
        cases = groups.pop(number, [])
        for case in cases:
            case.lower()
        units = {(u.name, u.text): u for c in cases if c.error is None for u in c.units()}
        objects = _objects(generator, units)
        for case in cases:
            case.objects = objects

    yield group
    generator.close()


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

    Eigenvalues of general matrices have no order.

    The rows of a full V^H without a singular value are any basis, and those of the reference here.
    `test_spectral.py` checks the vectors by their definition.
    """
    if op is EighOp:
        values, vectors = results
        return [values, vectors * _phases(vectors, expected[1])]
    if op is EigOp:
        values, vectors = results
        order = np.abs(values[..., None, :] - expected[0][..., None]).argmin(-1)
        values = np.take_along_axis(values, order, -1)
        vectors = np.take_along_axis(vectors, order[..., None, :], -1)
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


@pytest.mark.parametrize(("group", "case"), list(_parameters()))
def test_compiled_equals_reference(group, case, compiled):
    compiled(group)
    if case.error is not None:
        raise case.error
    actual, expected = iter(case.run()), iter(case.expected)
    for sample in case.samples:
        count = len(module_of(sample)[1].results)
        want = [np.asarray(next(expected)) for _ in range(count)]
        have = _with_numpys_phases(sample.op, [next(actual) for _ in range(count)], want)
        for a, b in zip(have, want, strict=True):
            close(a, b)
