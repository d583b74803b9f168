"""Inputs that torch does not store row-major: taken as they lie, and torch says what is right."""

import numpy as np
import pytest
import torch
from torch import nn

import torsh_fx
from lowering.runtime.executable import Executable
from lowering.runtime.load import load_program
from torsh_dialect.errors import InputError, InvalidArgumentError
from torsh_dialect.ops.movement import TransposeOp
from torsh_fx.ahead import write_program
from torsh_fx.importers.torch_types import layout_of_tensor, to_numpy, to_torch

LAST = torch.channels_last
NHWC = (0, 2, 3, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3, stride=2)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        y = torch.relu(self.first(x))
        return self.second(self.pool(y) + 1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(4)
    return Net().eval()


@pytest.fixture(scope="module")
def x():
    return torch.randn(2, 3, 16, 18, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def compiled(net, x):
    return torsh_fx.compile(net, (x.to(memory_format=LAST),))


def expected(net, x):
    with torch.no_grad():
        return net(x)


def layouts(compiled):
    spec = compiled.executable.spec
    return [one.layout for one in spec.inputs], [one.layout for one in spec.outputs]


def pointer_of_input(executable):
    """Where the program read its first input in its last call."""
    (context,) = executable._idle
    (record,) = context.records.values()
    return record.inputs[0]


def test_the_type_says_how_the_example_lies(compiled):
    assert "tensor<2x3x16x18xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>" in str(compiled.graph)
    assert layouts(compiled) == ([NHWC], [NHWC])


def test_no_element_is_moved(compiled, net, x):
    assert not [op for op in compiled.optimised.walk() if isinstance(op, TransposeOp)
                and op.parent_op().parent_op().sym_name.data == "main"]  # fmt: skip
    given = x.to(memory_format=LAST)
    y = compiled(given)
    assert pointer_of_input(compiled.executable) == given.data_ptr()
    torch.testing.assert_close(y, expected(net, given), rtol=1e-5, atol=1e-5)
    assert y.stride() == expected(net, given).stride()


def test_other_strides_are_converted(compiled, net, x):
    want = expected(net, x)
    wide = torch.zeros(2, 3, 16, 36)
    wide[..., ::2] = x
    for given in (x, x.transpose(2, 3).contiguous().transpose(2, 3), wide[..., ::2]):
        assert not given.is_contiguous(memory_format=LAST)
        torch.testing.assert_close(compiled(given), want, rtol=1e-5, atol=1e-5)
        assert pointer_of_input(compiled.executable) != given.data_ptr()


def test_numpy_callers_give_and_get_logical_arrays(compiled, net, x):
    want = expected(net, x).numpy()
    array = x.numpy()
    strange = array[:, ::-1, :, :].copy()[:, ::-1]
    for given in (array, np.asfortranarray(array), strange, strange[::1]):
        found = compiled.run([given])[0]
        assert found.shape == want.shape
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found, compiled(given))


def test_a_row_major_example_gives_a_row_major_program(net, x):
    plain = torsh_fx.compile(net, (x,))
    assert layouts(plain) == ([()], [()])
    assert "#torsh.tensor" not in str(plain.module)
    y = plain(x.to(memory_format=LAST))
    torch.testing.assert_close(y, expected(net, x), rtol=1e-5, atol=1e-5)


def test_errors_speak_of_the_axes_of_the_user(compiled, x):
    with pytest.raises(InputError, match="extent 4 at axis 1, not 3"):
        compiled(torch.zeros(2, 4, 16, 18))
    with pytest.raises(InputError, match="rank 3"):
        compiled(torch.zeros(3, 16, 18))


@pytest.mark.parametrize("batch", [1, 2])
def test_symbolic_extents_have_layouts_too(net, x, batch):
    dims = ({0: torch.export.Dim("batch", max=16), 2: torch.export.Dim("h", min=10, max=64)},)
    example = x[:batch].to(memory_format=LAST)
    compiled = torsh_fx.compile(net, (example,), dynamic_shapes=dims)
    assert layouts(compiled) == ([NHWC], [NHWC])
    assert "#torsh.tensor<dims = [batch, 3, h, 18], layout = [0, 2, 3, 1]>" in str(compiled.module)
    for size in ((1, 3, 16, 18), (5, 3, 11, 18)):
        given = torch.randn(size).to(memory_format=LAST)
        torch.testing.assert_close(compiled(given), expected(net, given), rtol=1e-5, atol=1e-5)
        assert compiled.executable.signature.usable(0, to_numpy(given)).ctypes.data == (
            given.data_ptr()
        )
    with pytest.raises(InputError, match=r"h is 65 \(axis 2 of 'x'\)"):
        compiled(torch.zeros(1, 3, 65, 18))


def test_volumes_matrices_and_halves():
    volume = torch.randn(1, 2, 5, 6, 7).to(memory_format=torch.channels_last_3d)
    conv = nn.Conv3d(2, 3, 3).eval()
    compiled = torsh_fx.compile(conv, (volume,))
    assert layouts(compiled)[0] == [(0, 2, 3, 4, 1)]
    torch.testing.assert_close(compiled(volume), expected(conv, volume), rtol=1e-5, atol=1e-5)

    turned, linear = torch.randn(6, 4).t(), nn.Linear(6, 3).eval()
    compiled = torsh_fx.compile(linear, (turned,))
    assert layouts(compiled)[0] == [(1, 0)]
    torch.testing.assert_close(compiled(turned), expected(linear, turned), rtol=1e-5, atol=1e-5)

    halves = torch.randn(2, 3, 4, 5).to(torch.bfloat16).to(memory_format=LAST)
    compiled = torsh_fx.compile(nn.ReLU(), (halves,))
    assert layouts(compiled) == ([NHWC], [NHWC])
    assert torch.equal(compiled(halves), torch.relu(halves))
    assert torch.equal(compiled(halves.contiguous()), torch.relu(halves))


def test_several_inputs_and_outputs_each_have_their_own():
    class Two(nn.Module):
        def forward(self, a, b):
            return a.sum(1), (a * b).permute(0, 2, 3, 1), b + 1

    a, b = torch.randn(2, 3, 4, 5).to(memory_format=LAST), torch.randn(2, 3, 4, 5)
    compiled = torsh_fx.compile(Two(), (a, b))
    assert layouts(compiled)[0] == [NHWC, ()]
    for found, want in zip(compiled(a, b), Two()(a, b), strict=True):
        torch.testing.assert_close(found, want)
        assert found.stride() == want.stride()


def test_an_input_that_is_written_has_its_new_value():
    class Adds(nn.Module):
        def forward(self, x, y):
            x.add_(y)
            return x * 2

    x = torch.ones(1, 3, 4, 4).to(memory_format=LAST)
    compiled = torsh_fx.compile(Adds(), (x.clone(memory_format=torch.preserve_format), x))
    given = x.clone(memory_format=torch.preserve_format)
    assert torch.equal(compiled(given, x * 3), torch.full_like(x, 8))
    assert torch.equal(given, torch.full_like(x, 4))


def test_caller_owned_outputs_are_written_in_their_layout(compiled, net, x):
    array, want = to_numpy(x.to(memory_format=LAST)), expected(net, x).numpy()
    out = np.empty((2, 3, 4, 4), np.float32).transpose(0, 3, 1, 2)
    assert out.shape == want.shape
    for _ in range(2):
        out[...] = 0
        compiled.run_into([array], [out])
        np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    bound = compiled.executable.bind([array], [out])
    out[...] = 0
    bound()
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match=r"contiguous in the order \[0, 2, 3, 1\]"):
        compiled.run_into([array], [np.empty(want.shape, np.float32)])
    with pytest.raises(InvalidArgumentError, match=r"must be contiguous in the order"):
        compiled.executable.bind([x.numpy()], [out])


@pytest.mark.parametrize("suffix", ["mlir", "torshpkg"])
def test_a_saved_model_keeps_it(compiled, net, x, tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    compiled.save(path)
    again = torsh_fx.load(path)
    spec = again.executable.spec
    assert [one.layout for one in (*spec.inputs, *spec.outputs)] == [NHWC, NHWC]
    array = to_numpy(x.to(memory_format=LAST))
    found = again.run([array])[0]
    np.testing.assert_array_equal(found, compiled.run([array])[0])
    np.testing.assert_allclose(found, expected(net, x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_program_folder_keeps_it(compiled, x, tmp_path):
    write_program(compiled, tmp_path / "program", compiled.target)
    program = load_program(tmp_path / "program")
    for given in (x.numpy(), to_numpy(x.to(memory_format=LAST))):
        found = Executable(program).run([given])[0]
        np.testing.assert_array_equal(found, compiled.run([given])[0])


def test_torch_compile_takes_them(net, x):
    torch._dynamo.reset()
    faster = torch.compile(net, backend="torsh")
    given = x.to(memory_format=LAST)
    with torch.no_grad():
        found = faster(given)
    torch.testing.assert_close(found, expected(net, given), rtol=1e-5, atol=1e-5)
    assert found.stride() == expected(net, given).stride()


SHAPES = [(2, 3, 4, 5), (1, 3, 1, 1), (2, 1, 4, 5), (1, 1, 1, 1), (0, 3, 4, 5), (2, 3, 1, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_layouts_that_are_read_off_agree_with_torch(shape):
    plain, last = torch.zeros(shape), torch.zeros(shape).to(memory_format=LAST)
    assert layout_of_tensor(plain) is None
    found = layout_of_tensor(last)
    assert found == (None if last.is_contiguous() else NHWC)
    back = to_torch(to_numpy(last))
    assert back.stride() == last.stride() or last.numel() == 0


def test_gaps_and_shared_elements_have_no_layout():
    base = torch.zeros(4, 6)
    assert layout_of_tensor(base[:, ::2]) is None
    assert layout_of_tensor(base.t()[::2]) is None
    assert layout_of_tensor(torch.zeros(3, 1).expand(3, 4)) is None
    assert layout_of_tensor(base.t()) == (1, 0)
    assert layout_of_tensor(torch.zeros(2, 3, 4).permute(2, 0, 1)) == (1, 2, 0)
