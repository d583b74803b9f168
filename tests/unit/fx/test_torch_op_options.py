"""Options of torch's operators that few models use, against eager torch, whole and decomposed."""

import pytest
import torch
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch_oracle import Function

import torsh_fx

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*assigned during export:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*with oneDNN:UserWarning"),
]

torch.manual_seed(11)


def same(function, *args, tolerance=1e-5, decompose=False):
    module = function if isinstance(function, torch.nn.Module) else Function(function)
    with torch.no_grad():
        wanted = pytree.tree_leaves(module.eval()(*(a.clone() for a in args)))
        program = torch.export.export(module, args, strict=False)
        program = program.run_decompositions() if decompose else program
        found = pytree.tree_leaves(torsh_fx.compile(program)(*args))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.fixture(params=[False, True], ids=["whole", "decomposed"])
def decompose(request):
    return request.param


INTEGERS = torch.tensor([1, 0, 2])
ROWS = torch.randn(4, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, n: torch.repeat_interleave(x, n, 1),
        lambda x, n: torch.repeat_interleave(x, n, 1, output_size=3),
        lambda x, n: torch.repeat_interleave(n.int()),
    ],
)
def test_repeats_that_are_data(function, decompose):
    same(function, ROWS, INTEGERS, decompose=decompose)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_runs_of_equal_slices(dim, inverse, counts):
    x = torch.randint(0, 2, (4, 6, 1 if dim else 2))
    same(
        lambda x: torch.unique_consecutive(
            x, return_inverse=inverse, return_counts=counts, dim=dim
        ),
        x,
    )


@pytest.mark.parametrize("dim", [1, None])
def test_different_elements_of_nothing(dim):
    def both(x):
        runs = torch.unique_consecutive(x, return_inverse=True, return_counts=True, dim=dim)
        return *torch.unique(x, return_inverse=True, return_counts=True, dim=dim), *runs

    same(both, torch.zeros(3, 0, 2))


def test_numbers_on_the_left(decompose):
    def function(x):
        return 3 & x, 3 | x, torch.bitwise_xor(3, x), 3 << x, 9 >> x, 3 % (x + 1)

    same(function, INTEGERS, decompose=decompose)


def test_circular_padding_cuts_where_it_is_negative(decompose):
    def function(x):
        pads = ((-1, 2, 2, -1), (-1, -1, 2, 1), (3, -2, 0, 0))
        return tuple(functional.pad(x, pad, mode="circular") for pad in pads)

    same(function, torch.randn(1, 2, 5, 6), decompose=decompose)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("extents", [(15, 16), (1, 7), (4, 1)])
def test_antialiasing_with_aligned_corners(mode, extents):
    def function(x):
        return tuple(
            functional.interpolate(x, size=size, mode=mode, antialias=True, align_corners=True)
            for size in ((7, 4), (20, 30), (1, 5))
        )

    same(function, torch.randn(1, 2, *extents))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("antialias", [True, False])
def test_resampled_bytes_are_those_of_fixed_point(mode, channels, antialias):
    def function(x):
        return tuple(
            functional.interpolate(
                x, mode=mode, antialias=antialias, align_corners=align, **extents
            )
            for align in (True, False)
            for extents in (dict(size=(7, 4)), dict(size=(1, 30)), dict(scale_factor=(1.3, 0.6)))
        )

    x = torch.randint(0, 256, (2, channels, 15, 16), dtype=torch.uint8)
    same(function, x, tolerance=0)


def test_antialiasing_with_aligned_corners_at_any_extent():
    module = Function(
        lambda x: functional.interpolate(
            x, size=(5, 9), mode="bilinear", antialias=True, align_corners=True
        )
    )
    height = torch.export.Dim("height", min=2, max=40)
    compiled = torsh_fx.compile(
        module, (torch.randn(1, 2, 8, 6),), dynamic_shapes=(({2: height},),)
    )
    for extent in (2, 5, 31):
        x = torch.randn(1, 2, extent, 6)
        torch.testing.assert_close(compiled(x), module(x), rtol=1e-5, atol=1e-5)


def test_windows_and_frequencies(decompose):
    def function(x):
        windows = [
            x.sum() * 0 + window
            for count in (1, 2, 7, 8)
            for periodic in (True, False)
            for window in (
                torch.hamming_window(count, periodic),
                torch.hamming_window(count, periodic, 0.6, 0.4),
                torch.blackman_window(count, periodic),
                torch.bartlett_window(count, periodic),
                torch.kaiser_window(count, periodic),
                torch.kaiser_window(count, periodic, 3.0, dtype=torch.float64),
            )
        ]
        steps = [torch.fft.fftfreq(n, 0.3) for n in (1, 2, 7, 8)]
        return *windows, *steps, torch.fft.rfftfreq(7, 2.0), torch.fft.rfftfreq(8)

    same(function, ROWS, tolerance=1e-6, decompose=decompose)


@pytest.mark.filterwarnings("ignore:torch.range is deprecated")
def test_ranges_with_their_ends(decompose):
    def function(x):
        return torch.range(0, 3) * x[:, 0], torch.range(1, 4, 0.5), torch.range(2, 7, 2)

    same(function, ROWS, decompose=decompose)


def test_differences_with_borders_and_flips():
    def function(x):
        none = x[:0].diff(dim=0), x.diff(n=7), (x > 0).diff()
        return x.diff(prepend=x[:, :1]), x.diff(n=2, dim=0, append=x), x.fliplr(), x.flipud(), *none

    same(function, ROWS)


@pytest.mark.parametrize("norm", [2.0, 1.5])
def test_embedding_of_bounded_norm(norm, decompose):
    def function(x, places):
        return functional.embedding(places, x, max_norm=1.0, norm_type=norm)

    same(function, ROWS, INTEGERS, decompose=decompose)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_margins_of_several_labels(reduction):
    labels = torch.tensor([[0, 2, -1, 1], [1, -1, 2, 3], [-1, 0, 1, 2], [3, 2, 1, 0]])

    def function(x, labels):
        rows = functional.multilabel_margin_loss(x, labels, reduction=reduction)
        return rows, functional.multilabel_margin_loss(x[0], labels[0], reduction=reduction)

    same(function, torch.randn(4, 4), labels)


def test_fractional_pooling_of_given_samples(decompose):
    def function(x, s, volume, t):
        plane = functional.fractional_max_pool2d(
            x, (2, 3), output_size=(3, 4), _random_samples=s, return_indices=True
        )
        return *plane, *functional.fractional_max_pool3d(
            volume, (2, 3, 2), output_size=(3, 4, 1), _random_samples=t, return_indices=True
        )

    args = torch.randn(2, 3, 8, 9), torch.rand(2, 3, 2), torch.randn(2, 3, 8, 9, 7)
    same(function, *args, torch.rand(2, 3, 3), decompose=decompose)


@pytest.mark.parametrize("directions", [1, 2])
def test_lstm_with_a_projection(directions, decompose):
    module = torch.nn.LSTM(4, 5, directions, bidirectional=directions == 2, proj_size=3)
    same(module, torch.randn(3, 6, 4), decompose=decompose)


def test_products_of_int8(decompose):
    a, b = (torch.randint(-128, 128, dims, dtype=torch.int8) for dims in ((32, 16), (16, 8)))
    same(torch._int_mm, a, b, decompose=decompose)


def test_convolution_with_time_first(decompose):
    args = torch.randn(6, 2, 3), torch.randn(3, 3, 4), torch.randn(4)
    same(lambda x, w, b: torch.conv_tbc(x, w, b, 1), *args, decompose=decompose)


@pytest.mark.parametrize("name", ["chebyshev_polynomial_t", "hermite_polynomial_he"])
def test_degrees_are_cut_to_whole_numbers(name):
    polynomial = getattr(torch.special, name)
    degrees = torch.tensor([-2.5, -1.0, -0.5, 0.0, 0.7, 1.0, 2.9, 5.0])

    def function(x, degrees):
        return polynomial(x, degrees), polynomial(x, -0.5), polynomial(x, 3.7)

    same(function, torch.linspace(-1, 1, 8), degrees, tolerance=1e-4)


@pytest.mark.parametrize("element", [torch.float32, torch.float64])
def test_bessel_functions_have_no_limit_at_infinity(element):
    special = torch.special
    functions = (special.i0, special.i1, special.bessel_j0, special.bessel_j1, special.bessel_y0)
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, 1.0, -3.5], dtype=element)
    same(lambda x: tuple(function(x) for function in functions), x)


@pytest.mark.parametrize("element", [torch.float16, torch.bfloat16])
def test_numbers_times_halves_are_not_rounded(element, decompose):
    def function(x):
        products = x * 0.7013, 0.7013 * x, x * torch.tensor(0.3), x * 1001, x * 0.1 + 0.1
        quotients = x / 0.7013, x / torch.tensor(1.7), 0.7013 / x, x / 3
        sums = torch.addcmul(x, x, x, value=0.7), torch.addcdiv(x, x, x + 19, value=0.7)
        return *products, *quotients, *sums, torch.lerp(x, x * 2, 0.3), x + 0.1, x - 0.3

    same(function, (torch.randn(37, 6) * 3).to(element), tolerance=0, decompose=decompose)


@pytest.mark.parametrize("element", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rms_norm_adds_the_epsilon_of_the_wide_type(element, decompose):
    def function(x):
        return functional.rms_norm(x, (6,)), functional.rms_norm(x, (5, 6), x, eps=0.1)

    x = (torch.randn(5, 6) * 0.01).to(element)
    same(function, x, tolerance=1e-6, decompose=decompose)


def test_values_are_searched_in_the_common_type():
    def function(row, values):
        places = torch.searchsorted(row, 2.5), torch.bucketize(2.5, row, right=True)
        return *places, torch.searchsorted(row, values), torch.bucketize(values.int(), row)

    same(function, torch.tensor([1, 2, 3, 5]), torch.tensor([2.5, 1.0, 7.0]))


def test_complex_progressions_and_steps():
    def function(z):
        steps = torch.lerp(z, z * 2, 0.3), torch.lerp(z, z * 2, 0.7 + 0.2j), torch.lerp(z, z + 1, z)
        return *steps, torch.linspace(0, 1 + 2j, 5) * z, torch.logspace(0, 1j, 3)

    same(function, torch.randn(5, dtype=torch.complex64))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("initial", [None, 2.0])
def test_segments_along_any_axis(reduce, initial):
    offsets = torch.tensor([[0, 2, 2, 4], [1, 1, 3, 3]])

    def function(x, offsets):
        options = dict(initial=initial, unsafe=True)
        by_offsets = torch.segment_reduce(x, reduce, offsets=offsets, axis=1, **options)
        return by_offsets, torch.segment_reduce(x, reduce, lengths=offsets[1, :2], **options)

    same(function, torch.randn(4, 5, 3)[:2], offsets)


@pytest.mark.parametrize("first", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("second", [torch.float64, torch.int32, torch.bfloat16])
def test_the_next_number_of_mixed_types(first, second):
    x, y = torch.tensor([0.0, 1.5, -2.0, 7.0]), torch.tensor([3.0, -1.0, -2.0, 9.0])
    same(torch.nextafter, x.to(first), y.to(second), tolerance=0)
