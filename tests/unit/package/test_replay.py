"""Golden cases: replayed through a runner, compared as FORMAT.md and `ReplayResult` say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.torsh_package import main
from torsh_package import (
    EntryPoint,
    GoldenCase,
    InvalidArgumentError,
    Package,
    PolicyError,
    ResourceType,
    replay,
)

X = np.array([1.0, -2.0, np.nan, np.inf], np.float32)


def package(rtol: str = "0", atol: str = "0") -> Package:
    made = Package("m", "1.0.0")
    made.add_resource("in", {"x": X}, ResourceType.Data)
    made.add_resource("out", {"y": X * 2, "n": np.arange(3)}, ResourceType.Data)
    made.add_entrypoint(EntryPoint("double", golden=(GoldenCase("in", "out", rtol, atol),)))
    made.add_entrypoint(EntryPoint("other"))
    return made


def runner(**changes: Any) -> Any:
    """A runner that doubles its input, with some outputs replaced (None takes one away)."""

    def make(_: Package) -> Any:
        def call(point: EntryPoint, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
            assert point.name == "double"
            outputs = {"y": inputs["x"] * 2, "n": np.arange(3), **changes}
            return {name: value for name, value in outputs.items() if value is not None}

        return call

    return make


def problems(made: Package, run: Any) -> dict[str, str | None]:
    return {result.output: result.problem for result in replay(made, run)}


def test_right_outputs() -> None:
    assert problems(package(), runner()) == {"n": None, "y": None}
    results = replay(package(), runner())
    assert all(result.max_error == 0 for result in results)


@pytest.mark.parametrize(
    ("changes", "tolerances", "problem"),
    [
        ({"y": X * 2 + np.float32(1e-3)}, {}, "differs by up to 0.00"),
        ({"y": X * 2 + np.float32(1e-3)}, {"atol": "2e-3"}, None),
        ({"y": X * np.float32(2.001)}, {"rtol": "2e-3"}, None),
        ({"y": X * np.float32(2.001)}, {"rtol": "1e-4"}, "differs"),
        ({"y": np.zeros(4, np.float32)}, {"atol": "100"}, "differs by up to inf"),
        ({"y": (X * 2)[:3]}, {"atol": "100"}, "expected float32"),
        ({"y": (X * 2).astype(np.float64)}, {"atol": "100"}, "is float64"),
        ({"y": None}, {}, "is missing"),
        ({"z": X}, {}, "is unexpected"),
        ({"n": np.array([0, 1, 3])}, {"atol": "100"}, "differs"),
    ],
)
def test_outputs_are_compared(
    changes: dict[str, Any], tolerances: dict[str, str], problem: str | None
) -> None:
    found = [text for text in problems(package(**tolerances), runner(**changes)).values() if text]
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert problem in found[0]


def test_nothing_to_replay() -> None:
    with pytest.raises(PolicyError, match="no golden cases"):
        replay(Package("m", "1.0.0"), runner())


def test_no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torsh_package.replaying.entry_points", lambda group: ())
    with pytest.raises(InvalidArgumentError, match=r"torsh_package\.runners"):
        replay(package())


def test_verify_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Point:
        def __init__(self, **changes: Any):
            self._changes = changes

        def load(self) -> Any:
            return runner(**self._changes)

    path = str(tmp_path / "m.torshpkg")
    package().save(path)
    monkeypatch.setattr("torsh_package.replaying.entry_points", lambda group: (Point(),))
    assert main(["verify", path, "--replay"]) == 0
    assert "double case 0, y: as expected (largest error 0)" in capsys.readouterr().out
    changed = (Point(n=np.arange(4)),)
    monkeypatch.setattr("torsh_package.replaying.entry_points", lambda group: changed)
    assert main(["verify", path, "--replay"]) == 1
    assert "expected int64[3]" in capsys.readouterr().out
