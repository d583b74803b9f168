"""Layout and device as parameters of types: canonical form, text, spreading, errors."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import StringAttr, UnknownLoc
from xdsl.ir import Block
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from torsh_dialect import dtypes
from torsh_dialect.builder import BlockBuilder, build_region
from torsh_dialect.context import Context
from torsh_dialect.dims import symbol
from torsh_dialect.encodings import DimsAttr, Storage, TensorAttr, joined_device
from torsh_dialect.errors import DeviceError, InvalidArgumentError, ShapeError, TorshError
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp
from torsh_dialect.ops.elementwise import AddOp, MulOp
from torsh_dialect.ops.join import ConcatOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.ops.select import WhereOp
from torsh_dialect.ops.shape import ShapeOfOp
from torsh_dialect.ops.storage import ToDeviceOp, ToLayoutOp
from torsh_dialect.types import (
    device_of,
    dims_of,
    layout_of,
    tensor,
    verify_tensor,
    with_storage,
)

CTX = Context()
N = symbol("n")
ELEMENTS = (dtypes.f32, dtypes.bf16, dtypes.i1, dtypes.i64, dtypes.f8e4m3fn, dtypes.c64)
extents = st.one_of(
    st.integers(0, 9),
    st.sampled_from([N, symbol("h") * 2 + 1, symbol("batch"), N.floordiv(symbol("k"))]),
)
devices = st.one_of(
    st.sampled_from([None, "cpu", "cuda"]), st.integers(0, 999).map(lambda n: f"cuda:{n}")
)


@st.composite
def types(draw):
    dims = draw(st.lists(extents, max_size=5))
    layout = draw(st.one_of(st.none(), st.permutations(range(len(dims)))))
    return draw(st.sampled_from(ELEMENTS)), dims, layout, draw(devices)


@given(types())
@settings(max_examples=300, deadline=None)
def test_types_go_through_text_and_keep_what_they_say(parts):
    element, dims, layout, device = parts
    type = tensor(element, dims, layout, device)
    verify_tensor(type)
    again = Parser(CTX, str(type)).parse_type()
    assert again == type
    assert str(again) == str(type)
    assert dims_of(type) == tuple(dims)
    assert device_of(type) == device
    identity = layout is None or list(layout) == list(range(len(dims)))
    assert layout_of(type) == (None if identity else tuple(layout))
    plain = tensor(element, dims)
    assert with_storage(type, None, None) is plain
    assert isinstance(type.encoding, TensorAttr) == (device is not None or not identity)


def test_a_type_without_storage_is_what_it_was():
    assert str(tensor(dtypes.f32, (2, 3))) == "tensor<2x3xf32>"
    assert tensor(dtypes.f32, (2, 3), (0, 1)) is tensor(dtypes.f32, (2, 3))
    assert isinstance(tensor(dtypes.f32, (N, 3), (0, 1)).encoding, DimsAttr)
    stored = tensor(dtypes.f32, (N, 3), (1, 0), "cuda:0")
    assert stored is tensor(dtypes.f32, [N, 3], [1, 0], "cuda:0")
    assert str(stored) == (
        'tensor<?x3xf32, #torsh.tensor<dims = [n, 3], layout = [1, 0], device = "cuda:0">>'
    )


HOSTILE = {
    "nothing": "#torsh.tensor<>",
    "no parts": "#torsh.tensor",
    "extents alone": "#torsh.tensor<dims = [n, 3]>",
    "extents that are numbers": '#torsh.tensor<dims = [2, 3], device = "cpu">',
    "a row-major layout": "#torsh.tensor<layout = [0, 1]>",
    "an empty layout": "#torsh.tensor<layout = []>",
    "an axis twice": "#torsh.tensor<layout = [1, 1]>",
    "an axis that is not there": "#torsh.tensor<layout = [0, 2]>",
    "a negative axis": "#torsh.tensor<layout = [-1, 0]>",
    "a huge axis": "#torsh.tensor<layout = [1, 99999999999999999999999]>",
    "a name as axis": "#torsh.tensor<layout = [n, 0]>",
    "a float axis": "#torsh.tensor<layout = [1.0, 0]>",
    "another rank": "#torsh.tensor<dims = [n, 3], layout = [2, 1, 0]>",
    "a key twice": "#torsh.tensor<layout = [1, 0], layout = [1, 0]>",
    "an unknown key": '#torsh.tensor<memory = "pinned">',
    "no value": "#torsh.tensor<layout>",
    "a comma at the end": "#torsh.tensor<layout = [1, 0],>",
    "an unknown device": '#torsh.tensor<device = "tpu">',
    "no device": '#torsh.tensor<device = "">',
    "an index with zeros": '#torsh.tensor<device = "cuda:00">',
    "an index of a CPU": '#torsh.tensor<device = "cpu:0">',
    "a negative index": '#torsh.tensor<device = "cuda:-1">',
    "a large index": '#torsh.tensor<device = "cuda:1000">',
    "other digits": '#torsh.tensor<device = "cuda:\\D9\\A3">',
    "a line break": '#torsh.tensor<device = "cuda:1\\0A">',
    "capitals": '#torsh.tensor<device = "CUDA">',
    "a bare device": "#torsh.tensor<device = cuda>",
    "a call": '#torsh.tensor<dims = ["__import__(1)"], device = "cpu">',
    "division by zero": '#torsh.tensor<dims = ["floordiv(n, 0)"], device = "cpu">',
    "a function's name": '#torsh.tensor<dims = [floordiv], device = "cpu">',
    "deep nesting": f'#torsh.tensor<dims = ["{"(" * 500}n{")" * 500}"], device = "cpu">',
    "open": '#torsh.tensor<device = "cpu"',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_bad_text_is_one_parse_error(text):
    with pytest.raises(ParseError):
        Parser(CTX, f"tensor<?x3xf32, {text}>").parse_type()


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_parses_or_is_refused(text):
    try:
        found = Parser(CTX, f"#torsh.tensor<{text}>").parse_attribute()
    except ParseError:
        return
    assert Parser(CTX, str(found)).parse_attribute() == found


def test_canonical_form_is_checked_however_an_attribute_is_made():
    for storage in (
        Storage(),
        Storage(dims=(N, 3)),
        Storage(dims=(2, 3), device="cpu"),
        Storage(layout=(0, 1)),
        Storage(layout=(0, 0)),
        Storage(device="cuda:"),
    ):
        with pytest.raises(VerifyException):
            TensorAttr(storage)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tensor<2x3x4xf32, #torsh.tensor<layout = [1, 0]>>", "the layout has 2 axes"),
        ("tensor<?x3xf32, #torsh.tensor<layout = [1, 0]>>", "no encoding that names the extent"),
        ('tensor<2x3xf32, #torsh.tensor<dims = [n, 3], device = "cpu">>', "disagree"),
        ('tensor<?x3xf32, "dense">', "not #torsh.dims or #torsh.tensor"),
    ],
)
def test_an_encoding_that_does_not_fit_the_shape_is_refused(text, reason):
    type = Parser(CTX, text).parse_type()
    with pytest.raises(VerifyException, match=reason):
        verify_tensor(type)


def test_the_factory_refuses_what_is_no_layout_or_device():
    for layout in ((0, 0), (0, 1, 2), (0,), (1, 2)):
        with pytest.raises(ShapeError, match="no order of the 2 axes"):
            tensor(dtypes.f32, (2, 3), layout)
    with pytest.raises(InvalidArgumentError, match="'gpu' is no device; write cpu, cuda"):
        tensor(dtypes.f32, (2, 3), device="gpu")


# -- devices spread


def values(*types):
    return Block(arg_types=types).args


def on(device, dims=(2, 3), element=dtypes.f32, layout=None):
    return tensor(element, dims, layout, device)


JOINED = [
    (None, None, None),
    (None, "cpu", "cpu"),
    ("cuda", None, "cuda"),
    ("cuda", "cuda:3", "cuda:3"),
    ("cuda:1", "cuda", "cuda:1"),
    ("cpu", "cpu", "cpu"),
]


@pytest.mark.parametrize(("a", "b", "joined"), JOINED)
def test_results_are_on_the_device_of_the_operands(a, b, joined):
    assert joined_device(a, b) == joined
    x, y = values(on(a), on(b))
    assert AddOp.make(x, y).results[0].type == on(joined)


def test_devices_of_any_order_join_to_the_same():
    for row in itertools.permutations([None, "cuda", "cuda:2"]):
        assert joined_device(joined_device(row[0], row[1]), row[2]) == "cuda:2"


@pytest.mark.parametrize(("a", "b"), [("cpu", "cuda:0"), ("cuda:0", "cuda:1"), ("cuda", "cpu")])
def test_operands_on_two_devices_are_one_error(a, b):
    x, y = values(on(a), on(b))
    with pytest.raises(DeviceError) as caught:
        AddOp.make(x, y, location=_location("model.py", 12))
    message = str(caught.value)
    assert message.startswith("model.py:12:")
    for part in ("torsh.add", f"on {a}", f"on {b}", "torsh.to_device"):
        assert part in message


def _location(file, line):
    from xdsl.dialects.builtin import FileLineColLoc, IntAttr

    return FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(0))


def test_a_scalar_on_the_cpu_goes_with_tensors_anywhere():
    x, scalar, other = values(on("cuda:0"), on("cpu", ()), on("cpu", ()))
    assert device_of(MulOp.make(x, scalar).results[0]) == "cuda:0"
    assert device_of(MulOp.make(scalar, other).results[0]) == "cpu"
    tensor_on_cpu, scalar_on_gpu = values(on("cpu"), on("cuda:0", ()))
    with pytest.raises(DeviceError):
        MulOp.make(tensor_on_cpu, scalar_on_gpu)


def test_results_are_row_major_and_keep_symbols_and_device():
    (x,) = values(on("cuda:0", (N, 3), layout=(1, 0)))
    assert TransposeOp.make(x, perm=[1, 0]).results[0].type == on("cuda:0", (3, N))
    assert ToLayoutOp.make(x, layout=[0, 1]).results[0].type == on("cuda:0", (N, 3))
    assert ToDeviceOp.make(x, device="cpu").results[0].type == on("cpu", (N, 3), layout=(1, 0))


def test_extents_do_not_care_where_the_tensor_is():
    (x,) = values(on("cuda:0"))
    assert device_of(ShapeOfOp.make(x).results[0]) is None


def test_several_operands_and_weights():
    mask, a = values(on("cuda:1", element=dtypes.i1), on(None))
    weight = WeightOp.make(id="w", type=on("cuda:1"))
    assert device_of(weight.results[0]) == "cuda:1"
    assert device_of(WhereOp.make(mask, a, weight.results[0]).results[0]) == "cuda:1"
    assert device_of(ConcatOp.make([a, weight.results[0]], axis=0).results[0]) == "cuda:1"


def test_control_flow_keeps_each_value_where_it_is():
    going, trips, x, y, counter = values(
        on("cpu", (), dtypes.i1), on(None, (), dtypes.i64), on("cuda:0"), on("cuda:0"), on("cpu")
    )
    regions = [build_region((), lambda b, _, v=v: [v, counter]) for v in (x, y)]
    cond = CondOp.make(going, regions=regions)
    assert [device_of(r) for r in cond.results] == ["cuda:0", "cpu"]

    def body(b: BlockBuilder, arguments):
        return [going, b(AddOp, arguments[1], x), b(AddOp, arguments[2], counter)]

    region = build_region([on(None, (), dtypes.i64), x.type, counter.type], body)
    loop = LoopOp.make(trips, going, [x, counter], regions=[region], scans=0)
    assert [device_of(r) for r in loop.results] == ["cuda:0", "cpu"]

    mixed = [build_region((), lambda b, _, v=v: [v]) for v in (x, counter)]
    with pytest.raises(DeviceError, match=r"torsh\.cond: .*on cuda:0 and on cpu"):
        CondOp.make(going, regions=mixed)


def test_to_layout_and_to_device_refuse_by_constraint():
    (x,) = values(on(None))
    with pytest.raises(ShapeError, match=r"torsh\.to_layout: layout"):
        ToLayoutOp.make(x, layout=[0, 0])
    with pytest.raises(TorshError, match=r"torsh\.to_device: 'tpu' is no device"):
        ToDeviceOp.make(x, device="tpu")


def test_an_op_without_location_says_none():
    x, y = values(on("cpu"), on("cuda"))
    op = AddOp.create(operands=[x, y], result_types=[on("cpu")])
    assert isinstance(op.location, UnknownLoc)
    with pytest.raises(DeviceError) as caught:
        op.implied_types()
    assert caught.value.location is None
