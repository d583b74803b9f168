"""Judging a conversion: the compiled model against its source in float64.

The rules, over all inputs, for each output (`own` is the source framework's error in its own
precision, ulp that of the output's dtype at the reference's root mean square):

* rms error at most 1.5 times own rms error, or 4 ulp, whichever is larger;
* largest error at most 4 times own largest error, or 16 ulp, whichever is larger;
* float32: largest error at most 1e-5 of the output's largest magnitude, unless own exceeds 5e-6;
* where the source gives NaN or an infinity, so does the compiled model, and nowhere else;
* integers, bools and indices equal the source's, its own or those in float64, except where the
  float64 margin is below our float error (`torsh_fx.margins`);
* where only the imported module could be run in float64, the source itself must agree with it up
  to 32 roundings of the output's dtype: so an import that is wrong still fails;
* names, dtypes and shapes are the source's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.errors import InvalidArgumentError, ValidationError
from torsh_fx.margins import EPSILON, ROUNDINGS, Evaluations, Margins
from torsh_fx.reference import Call, Source, source_of
from torsh_fx.wide import wide_array

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule

Evaluate = Callable[[], Evaluations | None]

ENOUGH = 16
"""Inputs that a verdict should rest on."""


@dataclass(frozen=True)
class Error:
    """Root mean square and largest of the differences to float64."""

    rms: float
    most: float

    def __str__(self) -> str:
        """Both numbers."""
        return f"rms {self.rms:.3g}, max {self.most:.3g}"


@dataclass(frozen=True)
class OutputVerdict:
    """The verdict on one output.

    Attributes:
        name: The output.
        dtype: Its dtype.
        ours: The compiled model's error.
        own: The source framework's error in its own precision.
        limit: What ours may be.
        faults: What is wrong, in words; empty for PASS.
    """

    name: str
    dtype: str
    ours: Error
    own: Error
    limit: Error
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def __str__(self) -> str:
        """The numbers in one line, and a line for each fault."""
        word = "PASS" if self.passed else "FAIL"
        line = (
            f"{word}  {self.name} ({self.dtype}): error {self.ours}; "
            f"source's own {self.own}; limit {self.limit}"
        )
        return "\n".join([line, *(f"      {fault}" for fault in self.faults)])


@dataclass(frozen=True)
class Validation:
    """The verdict on a conversion.

    Attributes:
        outputs: A verdict for each output.
        count: How many inputs it rests on.
        plain: What ran the source, in words.
        exact: What ran it in float64, in words.
    """

    outputs: tuple[OutputVerdict, ...]
    count: int
    plain: str
    exact: str

    @property
    def passed(self) -> bool:
        """Whether all outputs pass."""
        return all(output.passed for output in self.outputs)

    def require(self) -> None:
        """Refuse a conversion that is wrong.

        Raises:
            ValidationError: An output fails; the report.
        """
        if not self.passed:
            raise ValidationError(str(self))

    def __str__(self) -> str:
        """The report: PASS or FAIL in words, then each output."""
        word = "PASS" if self.passed else "FAIL"
        told = "computes what its source does" if self.passed else "differs from its source"
        few = "" if self.count >= ENOUGH else f" (fewer than {ENOUGH}: a weak verdict)"
        head = f"{word}: the compiled model {told}, over {self.count} inputs{few}"
        against = f"reference: {self.exact}; source: {self.plain}"
        return "\n".join([head, against, *map(str, self.outputs)])


def validate(compiled: CompiledModule, source: Any, inputs: Sequence[Any]) -> Validation:
    """Compare a compiled model with its source.

    Args:
        compiled: The model.
        source: The model that it was made from.
        inputs: Calls: tuples of arguments, mappings of names, or single arguments.

    Raises:
        InvalidArgumentError: There are no inputs, nothing can run the source, or an input or output
            is no tensor of numbers.
        ValidationError: The source refuses the inputs.
    """
    calls = [Call.of(one) for one in inputs]
    if not calls:
        raise InvalidArgumentError("validation needs inputs; 16 or more make a good verdict")
    runner = source_of(source, compiled)
    judges = _judges(compiled, runner, calls)
    return Validation(
        tuple(judge.verdict(independent=runner.independent) for judge in judges),
        len(calls),
        runner.plain,
        runner.exact,
    )


def _judges(compiled: CompiledModule, runner: Source, calls: Sequence[Call]) -> list[_Judge]:
    judges = [_Judge(name, index) for index, name in enumerate(compiled.output_names)]
    margins = Margins(compiled)
    for call in calls:
        _require_tensors(compiled.input_names, compiled.flat_inputs(call.args, call.named))
        mine = compiled.flat_outputs(call.args, call.named)
        _require_tensors(compiled.output_names, mine)
        plain, exact = runner.run(call), runner.run_wide(call)
        if not len(mine) == len(plain) == len(exact):
            raise ValidationError(
                f"the source has {len(plain)} outputs, the compiled model {len(mine)}"
            )
        inputs = [*compiled.flat_arrays(call.args, call.named), *compiled.state_arrays]
        evaluations = cache(partial(margins.evaluations, inputs))
        for judge, found in zip(judges, zip(mine, plain, exact, strict=True), strict=True):
            judge.add(found, evaluations)
    return judges


def _require_tensors(names: Sequence[str], values: Sequence[Any]) -> None:
    """Refuse what has no error in numbers: sequences, maps, nothing and text."""
    for name, value in zip(names, values, strict=False):
        words = {list: "a sequence", dict: "a map", type(None): "nothing"}
        what = next((word for kind, word in words.items() if isinstance(value, kind)), None)
        if isinstance(value, np.ndarray) and cast("Array", value).dtype.kind in "OUS":
            what = "text"
        if what is not None:
            raise InvalidArgumentError(
                f"validation judges tensors of numbers, {name} is {what}: "
                "compare with another engine instead (`torsh run --compare`)"
            )


class _Judge:
    """Collects the differences of one output over all calls."""

    def __init__(self, name: str, index: int):
        self.name = name
        self._index = index
        self.dtype = ""
        self._faults: list[str] = []
        self._ours: list[Array] = []
        self._own: list[Array] = []
        self._exact: list[Array] = []

    def add(self, found: tuple[Any, Any, Any], evaluations: Evaluate) -> None:
        """Compare one call's output: ours, the source's, and the source's in float64.

        Where they differ in what floats decide, `evaluations` of `Margins` judge.
        """
        mine, plain, exact = found
        self.dtype = dtype_of_numpy(mine.dtype).name
        if mine.dtype != plain.dtype or mine.shape != plain.shape:
            self._fault(
                f"is {mine.dtype}{list(mine.shape)}, the source gives "
                f"{plain.dtype}{list(plain.shape)}"
            )
        elif exact.shape != plain.shape:
            self._fault(f"the reference has shape {list(exact.shape)}, not {list(plain.shape)}")
        elif dtype_of_numpy(mine.dtype).kind in ("float", "complex"):
            self._compare(wide_array(mine), wide_array(plain), wide_array(exact))
        else:
            differ: Any = (mine != plain) & (mine != exact)
            if differ.any() and (judged := evaluations()) is not None:
                differ &= ~cast(Any, judged.explains(self._index, mine, exact))
            if count := int(np.count_nonzero(differ)):
                self._fault(f"{count} of {mine.size} values differ from the source's")

    def _compare(self, mine: Any, plain: Any, exact: Any) -> None:
        finite = np.isfinite(plain)
        same = np.isfinite(mine) == finite
        odd = ~finite & same
        same &= ~odd | (mine == plain) | (np.isnan(mine) & np.isnan(plain))
        if count := int(np.count_nonzero(~same)):
            self._fault(
                f"{count} of {mine.size} values are NaN or infinite where the source's "
                "are not, or the other way round"
            )
        usable = finite & np.isfinite(mine) & np.isfinite(exact)
        mine, plain, exact = mine[usable], plain[usable], exact[usable]
        self._ours.append(np.abs(mine - exact))
        self._own.append(np.abs(plain - exact))
        self._exact.append(np.abs(exact))

    def _fault(self, fault: str) -> None:
        if fault not in self._faults:
            self._faults.append(fault)

    def verdict(self, *, independent: bool) -> OutputVerdict:
        """The verdict over all calls."""
        ours, own, size = (_error(v) for v in (self._ours, self._own, self._exact))
        ulp = _ulp(size.rms, EPSILON.get(self.dtype, 2.0**-52))
        most = max(4 * own.most, 16 * ulp)
        if self.dtype == "f32" and own.most <= 5e-6 * size.most:
            most = min(most, max(1e-5 * size.most, 4 * ulp))
        bound = ROUNDINGS * EPSILON.get(self.dtype, 2.0**-52) * size.most
        if not independent and own.most > bound:
            self._fault(
                f"the imported module, in float64, differs from the source by {own.most:.3g}, "
                f"which exceeds {bound:.3g}: the import is wrong, or the model ill-conditioned"
            )
        limit = Error(max(1.5 * own.rms, 4 * ulp), most)
        for what, value, bound in (
            ("rms error", ours.rms, limit.rms),
            ("largest error", ours.most, limit.most),
        ):
            if not value <= bound:
                self._fault(f"{what} {value:.3g} exceeds {bound:.3g}")
        return OutputVerdict(self.name, self.dtype, ours, own, limit, tuple(self._faults))


def _error(parts: Sequence[Any]) -> Error:
    whole = cast(Any, np.concatenate([np.ravel(p) for p in parts]) if parts else np.empty(0))
    if not whole.size:
        return Error(0.0, 0.0)
    return Error(math.sqrt(float((whole * whole).mean())), float(whole.max()))


def _ulp(value: float, epsilon: float) -> float:
    """The distance to the next number at a magnitude."""
    return math.ldexp(epsilon, math.frexp(value)[1] - 1) if value > 0 else 0.0
