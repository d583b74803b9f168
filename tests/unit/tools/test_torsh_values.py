"""Models of sequences, optional values, maps and text on the command line, `--json`, `--quiet`."""

import json

import numpy as np
import pytest
from onnx import TensorProto as Type
from onnx import helper, save

import torsh_fx
from tools.torsh_verbs.values import NOTHING, difference, parts_of_value
from torsh_dialect.errors import ImportModelError, InvalidArgumentError

TENSOR = helper.make_tensor_type_proto(Type.FLOAT, ["n", 2])
SEQUENCE = helper.make_sequence_type_proto(TENSOR)
TABLE = helper.make_sequence_type_proto(
    helper.make_map_type_proto(Type.STRING, helper.make_tensor_type_proto(Type.FLOAT, []))
)
LABELS = {"domain": "ai.onnx.ml", "classlabels_strings": ["cat", "dog"]}


def node(*args, **attributes):
    return helper.make_node(*args, **attributes)


def text(size):
    return helper.make_tensor_type_proto(Type.STRING, [size])


MODELS = {
    "split": ([node("SplitToSequence", ["x"], ["y"])], TENSOR, SEQUENCE),
    "join": ([node("ConcatFromSequence", ["x"], ["y"], axis=0)], SEQUENCE, TENSOR),
    "unwrap": (
        [node("OptionalGetElement", ["x"], ["v"]), node("Relu", ["v"], ["y"])],
        helper.make_optional_type_proto(TENSOR), TENSOR,
    ),
    "unwrap_join": (
        [
            node("OptionalGetElement", ["x"], ["v"]),
            node("ConcatFromSequence", ["v"], ["y"], axis=0),
        ],
        helper.make_optional_type_proto(SEQUENCE), TENSOR,
    ),
    "label": ([node("ZipMap", ["x"], ["y"], **LABELS)], TENSOR, TABLE),
    "upper": (
        [node("StringConcat", ["x", "x"], ["y"])], text("n"), text("n"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of the models, by name."""
    folder = tmp_path_factory.mktemp("values")
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    for name, (nodes, taken, given) in MODELS.items():
        ends = helper.make_value_info("x", taken), helper.make_value_info("y", given)
        graph = helper.make_graph(nodes, name, ends[:1], ends[1:])
        save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_all_kinds_of_values_agree_with_onnxruntime(torsh, models, name):
    code, out, err = torsh("run", models[name], "--compare", "onnxruntime")
    assert code == 0, out + err
    assert "agrees with onnxruntime" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("split", ("f32[n, 2]", "sequence of f32[1, 2]")),
        ("join", ("sequence of f32[?, 2]", "f32[u0, 2]  (extents depend on data)")),
        ("unwrap", ("optional f32[?, 2]", "f32[u0, 2]  (extents depend on data)")),
        ("unwrap_join", ("optional sequence of f32[?, 2]", None)),
        ("label", ("f32[n, 2]", "sequence of map from str to f32")),
        ("upper", ("str[n]", "str[n]")),
    ],
)
def test_inspect_names_all_types(torsh, models, name, words):
    code, out, _ = torsh("inspect", models[name], "--json")
    assert code == 0
    signature = json.loads(out)["signature"]
    assert signature["inputs"] == [{"name": "x", "type": words[0]}]
    if words[1]:
        assert signature["outputs"] == [{"name": "y", "type": words[1]}]
    assert words[0] in torsh("inspect", models[name])[1]


def test_sequences_come_from_files_and_go_to_them_by_item(torsh, models, tmp_path):
    items = [np.full((n, 2), n, np.float32) for n in (1, 3)]
    np.savez(tmp_path / "x.npz", *items)
    out = tmp_path / "y.npz"
    assert torsh("run", models["join"], "--input", f"x={tmp_path / 'x.npz'}", "-o", out)[0] == 0
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["y"], np.concatenate(items))
    np.save(tmp_path / "x.npy", items[1])
    assert torsh("run", models["split"], "--input", f"x={tmp_path / 'x.npy'}", "-o", out)[0] == 0
    with np.load(out) as arrays:
        assert arrays.files == ["y[0]", "y[1]", "y[2]"]
        assert [arrays[n].shape for n in arrays.files] == [(1, 2)] * 3


@pytest.mark.parametrize("name", ["split", "join", "unwrap_join", "label", "upper"])
def test_validation_says_what_it_cannot_judge(torsh, models, name):
    code, out, err = torsh("run", models[name], "--validate", "1")
    assert (code, out) == (1, "")
    assert "validation judges tensors of numbers" in err


def test_parts_differ_where_values_do():
    assert dict(parts_of_value("s", [None, []])) == {"s[0]": NOTHING, "s[1]": "empty sequence"}
    one, two = np.array(["a", "b"]), np.array(["a", "c"], object)
    assert difference(one, one.astype(object)) == (0.0, 1.0)
    assert difference(one, two)[0] == np.inf
    assert difference(NOTHING, one)[0] == np.inf
    assert difference(NOTHING, NOTHING) == (0.0, 1.0)


def test_json_of_run_is_one_value(torsh, mlp):
    code, out, _ = torsh(
        "run", mlp, "--compare", "reference", "--validate", "2", "--profile", "--json", "--size",
        "n=3",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"outputs", "compare", "validate", "profile"}
    assert found["outputs"][0]["type"] == "float32[3, 4]"
    assert found["compare"]["agrees"] is True
    assert found["compare"]["outputs"][0]["difference"] < 1e-5
    assert found["validate"]["passed"] is True
    assert sum(run["seconds"] for run in found["profile"]["runs"]) <= found["profile"]["seconds"]


def test_json_of_a_difference_has_exit_code_1(torsh, mlp, monkeypatch):
    monkeypatch.setattr(
        "tools.torsh_verbs.peers.Reference.__call__",
        lambda self, inputs: [np.full((2, 4), np.nan, np.float32)],
    )
    code, out, _ = torsh("run", mlp, "--compare", "reference", "--json")
    row = json.loads(out)["compare"]["outputs"][0]
    assert code == 1
    assert row == {"name": "y", "difference": None, "relative": None, "agrees": False}


def test_json_of_the_other_verbs(torsh, mlp, tmp_path):
    found = json.loads(torsh("bench", mlp, "--seconds", "0.01", "--json")[1])
    assert set(found["median_seconds"]) == {"torsh", "onnxruntime"}
    low, high = found["ratio"]["quartiles"]
    assert 0 < low <= found["ratio"]["median"] <= high
    axes = json.loads(torsh("inspect", mlp, "--shapes", "--json")[1])["axes"]
    assert [axis["kind"] for axis in axes] == ["free", "fixed"]
    whole = json.loads(torsh("inspect", mlp, "--json")[1])
    assert whole["signature"]["extents"] == {"n": [0, None]}
    assert whole["ops"]["relu"] == {"imported": 1, "optimised": 1}
    assert whole["memory"]["weights"] > 0
    made = json.loads(torsh("compile", mlp, "-o", tmp_path / "m.mlir", "--json")[1])
    assert made["output"] == str(tmp_path / "m.mlir")
    done = json.loads(
        torsh("quantize", mlp, "-o", tmp_path / "q.mlir", "--mode", "dynamic", "--json")[1]
    )
    assert done["report"]["layers"][0]["bits"] == 8


def test_errors_are_json_too(torsh, tmp_path):
    code, out, err = torsh("run", tmp_path / "none.onnx", "--json")
    assert code == 1
    assert json.loads(out)["error"]["message"] in err


def test_quiet_leaves_out_remarks_alone(torsh, mlp, tmp_path):
    assert "float32[2, 4]" in torsh("run", mlp, "--quiet")[1]  # all that was asked for
    shown = torsh("run", mlp, "--quiet", "--compare", "reference")[1]
    assert "agrees with reference" in shown
    assert "values" not in shown
    assert torsh("compile", mlp, "-o", tmp_path / "m.mlir", "--quiet")[1:] == ("", "")


def test_another_engine_that_refuses_is_one_error(torsh, mlp, monkeypatch):
    def fail(*_):
        raise RuntimeError("no kernel\nsecond line")

    monkeypatch.setattr("onnxruntime.InferenceSession.__init__", fail)
    code, _, err = torsh("run", mlp, "--compare", "onnxruntime")
    assert code == 1
    assert err.strip().endswith("onnxruntime cannot run the model on these inputs: no kernel")


@pytest.mark.parametrize("name", ["none.onnx", "none.mlir"])
def test_missing_files_are_one_error(tmp_path, name):
    for load in (torsh_fx.compile, torsh_fx.load):
        with pytest.raises(ImportModelError, match=r"cannot read .*No such file"):
            load(tmp_path / name)


def test_validation_in_python_refuses_sequences(models):
    f = torsh_fx.compile(str(models["split"]), cache=False)
    with pytest.raises(InvalidArgumentError, match="y is a sequence"):
        f.validate([(np.ones((2, 2), np.float32),)])
