"""Module policies and static capture: as `torch.package` decides, without importing anything."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.package.glob_group import GlobGroup

from torsh_package import Package
from torsh_package.code import (
    Action,
    CodePolicy,
    CodeTable,
    ModuleGlob,
    add_code,
    collect,
    scan_imports,
    sources_of,
)
from torsh_package.errors import CodePolicyError, ManifestError

PATTERNS = [
    "**",
    "a",
    "a.*",
    "a.**",
    "**.b",
    "a.**.c",
    "a*",
    "*.b*.c",
    "torch.**",
    "a.*.c",
    "_x.**",
]
modules = st.lists(
    st.sampled_from(["a", "b", "c", "ab", "bc", "torch", "_x"]), min_size=1, max_size=5
)


@given(
    name=modules.map(".".join),
    include=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    exclude=st.lists(st.sampled_from(PATTERNS[1:]), max_size=2),
)
@settings(max_examples=400, deadline=None)
def test_globs_match_as_in_torch_package(name: str, include: list[str], exclude: list[str]) -> None:
    expected = GlobGroup(include, exclude=exclude).matches(name)
    assert ModuleGlob.of(include, exclude).matches(name) == expected


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", "a..b", "a/b", "a b", "1a", "***", "a.**b", "a\n", "a" * 600]
)
def test_malformed_patterns(pattern: str) -> None:
    with pytest.raises(CodePolicyError, match="pattern"):
        ModuleGlob.of(pattern)


def test_the_first_rule_decides() -> None:
    policy = CodePolicy().intern("a.**", exclude="a.x").mock("a.**").deny("b.**").extern("**")
    assert [policy.action(m) for m in ("a", "a.y", "a.x", "b.c", "z")] == [
        Action.INTERN, Action.INTERN, Action.MOCK, Action.DENY, Action.EXTERN,
    ]  # fmt: skip
    bare = CodePolicy()
    assert bare.action("json.decoder") is Action.EXTERN
    assert bare.action("torch.nn") is Action.EXTERN
    assert bare.action("subprocess") is None
    assert bare.action("numpy") is None


SOURCE = """
import a, b.c as d
from . import sibling
from .deep.er import thing as other
from .. import up
from e import *
import importlib
if TYPE_CHECKING:
    import only_types
def late():
    import f.g
    importlib.import_module("h.i")
    importlib.import_module(".rel", __package__)
    __import__("j")
    __import__(name)
try:
    import k
except ImportError:
    pass
"""


def test_imports_are_found_at_any_depth() -> None:
    scan = scan_imports(SOURCE, "p.q.r")
    names = {found.module for found in scan.imports}
    assert names == {
        "a", "b.c", "p.q", "p.q.deep.er", "p", "e", "importlib", "only_types", "f.g", "h.i",
        "p.q.rel", "j", "k",
    }  # fmt: skip
    assert [f.module for f in scan.imports if f.dynamic] == ["h.i", "p.q.rel", "j"]
    assert len(scan.computed) == 1
    assert scan.bound["other"] == "p.q.deep.er.thing"
    assert scan_imports("from . import x", "p.q", is_package=True).imports[0].module == "p.q"


@pytest.mark.parametrize(
    "source", ["from ... import x", "def f(:", "\0", "(" * 300, "import x\n\tbad"]
)
def test_malformed_sources(source: str) -> None:
    with pytest.raises(CodePolicyError):
        scan_imports(source, "p.q")


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


BOOM = "raise SystemExit('was imported')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tree(
        tmp_path,
        net__model=BOOM
        + "from net.layers import Dense\nfrom . import util\nimport numpy.linalg\nimport wandb\n",
        net__layers=BOOM + "import torch.nn\nclass Dense: ...\n",
        net__util=BOOM + "import json\n",
        net__unused=BOOM,
        lone=BOOM + "import net.model\n",
    )
    (root / "net" / "__init__.py").write_text(BOOM)
    return root


POLICY = CodePolicy().intern("net.**").extern("numpy.**").mock("wandb")


def test_capture_follows_imports_and_imports_nothing(project: Path) -> None:
    before = set(sys.modules)
    found = collect("net.model", [project], POLICY)
    assert set(found.modules) == {"net", "net.model", "net.layers", "net.util"}
    assert found.mocks == {"wandb"}
    assert {"numpy", "torch", "json"} <= set(found.externs)
    assert found.externs["numpy"] is not None
    assert found.externs["json"] is None
    assert not {m for m in set(sys.modules) - before if m.startswith("net")}
    assert found.chain("net.layers") == ["net.model", "net.layers"]


def test_every_problem_is_reported_with_its_chain(project: Path) -> None:
    tree(
        project, net__util="import requests\nimport missing_thing\nimport net.gone\nimport pickle\n"
    )
    with pytest.raises(CodePolicyError) as caught:
        collect("net.model", [project], POLICY.deny("requests"))
    message = str(caught.value)
    assert "4 problem(s)" in message
    assert (
        "requests is denied by the policy (reached by net.model -> net.util -> requests)" in message
    )
    assert "missing_thing matches no rule" in message
    assert "net.gone is to be interned, but no source folder has it" in message
    assert "pickle matches no rule" in message


@pytest.mark.parametrize("use", [
    "class A(wandb.Base): ...", "@wandb.watch\ndef f(): ...", "x = wandb.init()",
    "def f(x=wandb.config): ...", "def f(x: wandb.Run): ...", "y = [wandb for _ in '']",
])  # fmt: skip
def test_mocks_never_satisfy_a_used_object(project: Path, use: str) -> None:
    tree(project, net__util=f"import wandb\n{use}\n")
    with pytest.raises(CodePolicyError, match="uses the mocked module wandb at line 2"):
        collect("net.model", [project], POLICY)
    tree(project, net__util="import wandb\ndef f():\n    return wandb.init()\ng = lambda: wandb\n")
    collect("net.model", [project], POLICY)


def test_a_rule_may_have_to_match(project: Path) -> None:
    policy = POLICY.extern("never.**", allow_empty=False)
    with pytest.raises(CodePolicyError, match="matched no module"):
        collect("net.model", [project], policy)


def test_the_table_survives_saving(project: Path, tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    add_code(package, "net.model", [project], POLICY)
    package.save(tmp_path / "m.torshpkg")
    loaded = Package.load(tmp_path / "m.torshpkg")
    assert loaded.code is not None
    table = CodeTable.from_json(loaded.code)
    assert table.policy == POLICY
    assert table.mocks == ("wandb",)
    assert set(sources_of(loaded)) == {"net", "net.model", "net.layers", "net.util"}
    assert {d.name: d.kind for d in loaded.dependencies} == {"numpy": "pip", "torch": "pip"}
    assert loaded.get_resource("code/net/__init__.py").text() == BOOM
    assert "net" not in sys.modules


def test_changed_sources_are_refused(project: Path) -> None:
    package = Package("m", "1.0.0")
    add_code(package, "net.model", [project], POLICY)
    package.remove_resource("code/net/util.py")
    with pytest.raises(CodePolicyError, match="missing"):
        sources_of(package)
    package.add_source_file("net/util.py", "import os\n")
    with pytest.raises(CodePolicyError, match="captured"):
        sources_of(package)


@pytest.mark.parametrize("table", [
    {}, {"policy": [], "modules": [], "externs": [], "mocks": [1]},
    {"policy": [{"action": "run", "include": [], "exclude": []}], "modules": [], "externs": [],
     "mocks": []},
    {"policy": [], "modules": [{"name": "a"}], "externs": [], "mocks": []},
    {"policy": [], "modules": [], "externs": [], "mocks": [], "more": 1},
])  # fmt: skip
def test_malformed_tables(table: dict) -> None:
    with pytest.raises(ManifestError):
        CodeTable.from_json(table)


def test_add_module_takes_weights_and_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    root = tree(
        tmp_path / "src",
        shop__net="import torch\nfrom torch import nn\nfrom shop import blocks\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.block = blocks.Block()\n",
        shop__blocks="from torch import nn\nclass Block(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(2, 3)\n",
    )
    (root / "shop" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(root)
    from shop.net import Net  # pyright: ignore[reportMissingImports]

    model, package = Net(), Package("m", "1.0.0")
    package.add_module("model", model)
    assert torch.equal(
        torch.from_numpy(package.get_resource("model").tensor("block.weight").copy()),
        model.block.weight.detach(),
    )
    assert set(sources_of(package)) == {"shop", "shop.net", "shop.blocks"}
    assert {d.name: d.kind for d in package.dependencies} == {"torch": "pip"}
    bare = Package("m", "1.0.0")
    bare.add_module("model", model, include_source=False)
    assert bare.code is None
    local = type("Local", (torch.nn.Linear,), {"__module__": "__main__"})
    with pytest.raises(CodePolicyError, match="include_source=False"):
        Package("m", "1.0.0").add_module("model", local(1, 1))
    with pytest.raises(CodePolicyError, match="state_dict"):
        Package("m", "1.0.0").add_module("model", object())
    for name in [m for m in sys.modules if m.split(".")[0] == "shop"]:
        del sys.modules[name]
