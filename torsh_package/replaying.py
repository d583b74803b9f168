"""Replaying golden cases: does a package still compute what it did when it was made?

The package holds inputs, expected outputs and tolerances; running a program is not its business.
Whoever can run one registers a `Runner` under the entry point group `torsh_package.runners`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from torsh_package.canonical_json import JsonObject
from torsh_package.contents import PackageContents
from torsh_package.entrypoints import EntryPoint, GoldenCase
from torsh_package.errors import InvalidArgumentError, PolicyError
from torsh_package.package import Package

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

GROUP = "torsh_package.runners"

Call: TypeAlias = "Callable[[EntryPoint, Mapping[str, Array]], Mapping[str, Array]]"
"""Runs an entry point on inputs by name; gives outputs by name."""

Runner: TypeAlias = Callable[[Package], Call]
"""Makes a package's entry points callable."""


@dataclass(frozen=True)
class ReplayResult:
    """Outcome of one output of one golden case.

    Attributes:
        entrypoint: Name of the entry point.
        case: Place of the case among the entry point's cases.
        output: Name of the output.
        max_error: Largest absolute difference, in float64; infinite where it cannot be taken.
        problem: Why the output is wrong, or None.
    """

    entrypoint: str
    case: int
    output: str
    max_error: float
    problem: str | None

    def to_json(self) -> JsonObject:
        """The JSON form; the error as text, since package JSON has no floats."""
        return {
            "entrypoint": self.entrypoint,
            "case": self.case,
            "output": self.output,
            "max_error": repr(self.max_error),
            "problem": self.problem,
        }


def find_runner() -> Runner:
    """The registered runner.

    Raises:
        InvalidArgumentError: None is registered.
    """
    for point in entry_points(group=GROUP):
        return cast(Runner, point.load())
    raise InvalidArgumentError(
        f"nothing is installed that can run programs (entry point group {GROUP}); "
        "install torsh with its compiler"
    )


def replay(package: Package, runner: Runner | None = None) -> list[ReplayResult]:
    """Runs every golden case of every entry point and compares.

    An output is right if its shape and dtype are those expected and each element is within
    `atol + rtol * |expected|` in float64 (NaN equals NaN); other than floats must be equal.

    Raises:
        InvalidArgumentError: There is no runner.
        PolicyError: The package has no golden case, so that nothing would be proven.
    """
    points = [point for point in package.entrypoints.values() if point.golden]
    if not points:
        raise PolicyError(f"package {package.name} has no golden cases to replay")
    call = (runner or find_runner())(package)
    found: list[ReplayResult] = []
    for point in points:
        for number, case in enumerate(point.golden):
            found += _replay_case(package, call, point, number, case)
    return found


def _replay_case(
    package: PackageContents, call: Call, point: EntryPoint, number: int, case: GoldenCase
) -> list[ReplayResult]:
    inputs = dict(package.get_resource(case.inputs).tensors)
    expected = package.get_resource(case.outputs).tensors
    outputs = call(point, inputs)
    results: list[ReplayResult] = []
    for name in sorted({*expected, *outputs}):
        if name not in expected or name not in outputs:
            error, problem = float("inf"), "is missing" if name in expected else "is unexpected"
        else:
            error, problem = _compare(outputs[name], expected[name], case)
        results.append(ReplayResult(point.name, number, name, error, problem))
    return results


def _compare(found: "Array", expected: "Array", case: GoldenCase) -> tuple[float, str | None]:
    import numpy

    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf"), (
            f"is {found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
        )
    if not found.size:
        return 0.0, None
    wide = numpy.complex128 if found.dtype.kind == "c" else numpy.float64
    a, b = found.astype(wide), expected.astype(wide)
    with numpy.errstate(invalid="ignore"):
        gap = numpy.abs(a - b)
    gap = numpy.where((a == b) | (numpy.isnan(a) & numpy.isnan(b)), 0.0, gap)
    gap = numpy.where(numpy.isnan(gap), numpy.inf, gap)
    worst = float(gap.max())
    if found.dtype.kind in "iub":
        equal = bool(numpy.array_equal(found, expected))
        return worst, None if equal else "differs"
    rtol, atol = float(case.rtol), float(case.atol)
    with numpy.errstate(invalid="ignore"):
        close = gap <= atol + rtol * numpy.abs(numpy.nan_to_num(b))
    if close.all():
        return worst, None
    return worst, f"differs by up to {worst:.3g} (rtol {case.rtol}, atol {case.atol})"
