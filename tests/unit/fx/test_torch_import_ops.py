"""ATen ops through the importer and the reference interpreter, each against eager torch."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch_oracle import check

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
torch.manual_seed(1)
X, Y, P = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 4) + 0.1
N = torch.randint(-9, 9, (3, 4))
B = X > 0
V = torch.randn(2, 3, 6, 7)
I = torch.tensor([2, 0, 1])  # noqa: E741
EDGES = torch.tensor([0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan])

ROWS = {
    "promotion of int and float": (lambda n, x: n + x * 2 - n // 2, N, X),
    "integer division": (
        lambda n: (
            n / 3,
            n // -3,
            n % -3,
            torch.fmod(n, 3),
            torch.div(n, 3, rounding_mode="trunc"),
        ),
        N,
    ),
    "alpha": (
        lambda x, y: (torch.add(x, y, alpha=2), torch.sub(x, y, alpha=3), torch.rsub(x, 1.0)),
        X,
        Y,
    ),
    "powers": (lambda x, n: (x**2, x**3, x**-1, x.abs() ** 0.5, 2.0**x, n**3), X, N),
    "unary maths": (
        lambda x: (x.exp(), x.sin(), x.atan(), x.tanh(), x.erf(), x.sigmoid(), x.expm1()),
        X,
    ),
    "logarithms": (
        lambda x: (x.log(), x.log2(), x.log1p(), x.log10(), x.rsqrt(), x.lgamma(), x.digamma()),
        P,
    ),
    "rounding": (
        lambda x: (x.floor(), x.ceil(), x.round(), x.trunc(), x.frac(), x.round(decimals=1)),
        X * 3,
    ),
    "edge values": (
        lambda x: (
            x.sign(),
            x.isnan(),
            x.isinf(),
            x.relu(),
            x.clamp(-1, 1),
            x.nan_to_num(),
            x.abs(),
        ),
        EDGES,
    ),
    "comparisons": (lambda x, y, n: (x < y, x >= 0, n == 3, n != x), X, Y, N),
    "logic": (lambda b, n: (b & (n > 0), b | ~b, b ^ True, n & 5, n | 2, ~n, n << 2, n >> 1), B, N),
    "where and masks": (lambda x, b: (torch.where(b, x, 0.0), x.masked_fill(b, -1.0)), X, B),
    "activations": (
        lambda x: (
            F.gelu(x),
            F.gelu(x, approximate="tanh"),
            F.silu(x),
            F.mish(x),
            F.elu(x),
            F.celu(x, 2.0),
            F.selu(x),
            F.softplus(x, 2),
            F.hardswish(x),
            F.hardsigmoid(x),
            F.leaky_relu(x, 0.2),
            F.hardtanh(x),
            F.softshrink(x),
            F.hardshrink(x),
            F.logsigmoid(x),
            F.glu(x),
        ),
        X,
    ),
    "casts": (
        lambda x: (x.int(), x.bool(), x.double(), x.half(), x.to(torch.uint8), x.to(torch.int8)),
        X * 100,
    ),
    "views": (
        lambda x: (
            x.view(2, 6),
            x.t(),
            x.permute(1, 0),
            x[None],
            x.unsqueeze(1).squeeze(1),
            x.flatten(),
        ),
        X,
    ),
    "slices": (lambda x: (x[1:], x[:, ::2], x[-1], x[..., 1:-1], x[5:], x.narrow(1, 1, 2)), X),
    "joins": (lambda x, y: (torch.cat([x, y], 1), torch.stack([x, y]), torch.hstack([x, y])), X, Y),
    "splits": (
        lambda x: (x.split(2, 1), x.chunk(3, 1), x.unbind(0), torch.tensor_split(x, 3, 1)),
        X,
    ),
    "repeats": (
        lambda x: (
            x.repeat(2, 1),
            x.expand(2, 3, 4),
            x.repeat_interleave(2, 1),
            x.flip(0),
            x.roll((1, 2), (0, 1)),
        ),
        X,
    ),
    "pads": (
        lambda v: (
            F.pad(v, (1, 2)),
            F.pad(v, (1, 1, 2, 0), "reflect"),
            F.pad(v, (2, 2, 1, 0), "replicate"),
            F.pad(v, (1, 1, 1, 1), "circular"),
            F.pad(v, (-1, 1), value=3.0),
        ),
        V,
    ),
    "triangles": (
        lambda x: (x.tril(), x.triu(1), x.diagonal(), torch.diag_embed(x), x.diagonal(1)),
        X,
    ),
    "reductions": (
        lambda x: (
            x.sum(),
            x.mean(1),
            x.prod(0),
            x.amax(1, True),
            x.amin(),
            x.argmax(1),
            x.argmin(),
            x.any(),
            x.all(1),
            x.norm(),
            x.norm(1, 1),
            x.logsumexp(0),
            x.var(1),
            x.std(),
            x.count_nonzero(0),
        ),
        X,
    ),
    "reductions of integers": (
        lambda n: (n.sum(), n.prod(1), n.max(), n.min(1), n.float().mean()),
        N,
    ),
    "scans": (
        lambda x: (x.cumsum(0), x.cumprod(1), x.cummax(1), x.cummin(0), x.logcumsumexp(1)),
        X,
    ),
    "order": (
        lambda x: (x.sort(1), x.topk(2), x.argsort(0, descending=True), x.kthvalue(2), x.median(1)),
        X,
    ),
    "search": (
        lambda x: (
            torch.searchsorted(x.sort().values, x),
            torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])),
        ),
        X,
    ),
    "gathers": (
        lambda x, i: (
            x[i],
            x[:, i],
            x[i, i],
            x.index_select(0, i),
            x.gather(0, i[None].expand(2, 3)),
            F.embedding(i, x),
        ),
        X,
        I,
    ),
    "scatters": (
        lambda x, i: (
            x.index_add(0, i, x),
            x.scatter(0, i[:, None], 5.0),
            x.index_fill(1, i, 2.0),
            x.scatter_reduce(0, i[:, None].expand(3, 4), x, "amax"),
            x.index_copy(0, i, x),
        ),
        X,
        I,
    ),
    "creation": (
        lambda x: (
            torch.zeros(2, 3),
            torch.arange(1, 9, 2),
            torch.arange(0, 1, 0.25),
            torch.full_like(x, 2),
            torch.linspace(0, 1, 5),
            torch.eye(3),
            torch.ones_like(x, dtype=torch.int32),
        ),
        X,
    ),
    "products": (
        lambda x, y: (
            x @ y.T,
            torch.addmm(x[:, :3], x, y.T, beta=2, alpha=0.5),
            torch.outer(x[0], y[0]),
            torch.einsum("ij,kj->ik", x, y),
            torch.dot(x[0], y[0]),
        ),
        X,
        Y,
    ),
    "softmaxes": (lambda x: (x.softmax(0), x.log_softmax(1), F.softmin(x, 1)), X),
    "pooling": (
        lambda v: (
            F.max_pool2d(v, 2, 1, 1),
            F.avg_pool2d(v, 2, ceil_mode=True),
            F.adaptive_avg_pool2d(v, (3, 2)),
            F.adaptive_max_pool2d(v, 2),
            F.max_pool2d(v, 3, return_indices=True),
        ),
        V,
    ),
    "norms": (
        lambda v: (
            F.layer_norm(v, (6, 7)),
            F.group_norm(v, 3),
            F.instance_norm(v),
            F.normalize(v, dim=1),
            F.rms_norm(v, (7,)),
            F.local_response_norm(v, 2),
        ),
        V,
    ),
    "resampling": (
        lambda v: (
            F.interpolate(v, scale_factor=2),
            F.interpolate(v, (4, 9), mode="bilinear"),
            F.interpolate(v, (9, 9), mode="bicubic", align_corners=True),
            F.interpolate(v, scale_factor=1.7, mode="bilinear", antialias=True),
        ),
        V,
    ),
    "blocks": (
        lambda v: (
            F.pixel_shuffle(v.repeat(1, 4, 1, 1), 2),
            F.unfold(v, 3, padding=1),
            F.fold(F.unfold(v, 2), (6, 7), 2),
        ),
        V,
    ),
    "complex": (
        lambda x, y: (
            torch.complex(x, y) * 2j,
            torch.complex(x, y).abs(),
            torch.complex(x, y).angle(),
            torch.view_as_real(torch.polar(x.abs(), y)),
        ),
        X,
        Y,
    ),
    "fourier": (
        lambda x: (
            torch.fft.fft(x),
            torch.fft.rfft(x),
            torch.fft.irfft(torch.fft.rfft(x)),
            torch.fft.ifft2(x),
        ),
        X,
    ),
    "distances": (
        lambda x, y: (torch.cdist(x, y), F.cosine_similarity(x, y), F.pairwise_distance(x, y)),
        X,
        Y,
    ),
    "losses": (
        lambda x, y, i: (
            F.mse_loss(x, y),
            F.cross_entropy(x, i),
            F.smooth_l1_loss(x, y),
            F.kl_div(x, y.softmax(1), reduction="batchmean"),
        ),
        X,
        Y,
        I,
    ),
    "linear algebra": (
        lambda a, b: (
            torch.linalg.solve(a, b),
            torch.linalg.inv(a),
            torch.linalg.det(a),
            torch.linalg.slogdet(a),
            torch.linalg.cholesky(a @ a.mT + torch.eye(3)),
            torch.linalg.lu(a),
            torch.linalg.svdvals(a),
            torch.linalg.eigvalsh(a + a.mT),
            torch.linalg.matrix_exp(a),
            torch.linalg.pinv(b),
            torch.linalg.solve_triangular(a, b, upper=True),
            torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b.mT, left=False),
        ),
        torch.randn(2, 3, 3) + 2 * torch.eye(3),
        torch.randn(2, 3, 2),
    ),
    "Householder reflections": (
        lambda a, t, o: (torch.linalg.householder_product(a, t), torch.ormqr(a, t, o)),
        *torch.geqrf(torch.randn(4, 3)),
        torch.randn(4, 5),
    ),
    "runs and segments": (
        lambda n, x: (
            torch.nonzero_static(x, size=5),
            torch.segment_reduce(x, "mean", lengths=torch.tensor([1, 2]), axis=0),
            torch.unique_consecutive(n, return_inverse=True, return_counts=True),
        ),
        torch.tensor([1, 1, 2, 2, 2, 1, 3]),
        X,
    ),
    "polynomials": (
        lambda x: (
            torch.special.chebyshev_polynomial_t(x, 3),
            torch.special.hermite_polynomial_h(x, 4),
            torch.special.legendre_polynomial_p(x, torch.tensor(2.0)),
            torch.special.laguerre_polynomial_l(x, 5),
        ),
        X,
    ),
    "special": (
        lambda p: (
            torch.special.i0(p),
            torch.special.i1(p),
            torch.special.bessel_j0(p),
            torch.special.zeta(p + 2, p),
            torch.special.xlogy(p, p),
            torch.special.ndtri(p / 2),
            torch.polygamma(2, p),
        ),
        P,
    ),
}


DECOMPOSED = (
    "activations",
    "pads",
    "scatters",
    "creation",
    "products",
    "pooling",
    "norms",
    "resampling",
    "losses",
)


@pytest.mark.parametrize("name", ROWS)
def test_op_equals_eager(name):
    function, *args = ROWS[name]
    check(function, tuple(args), tolerance=2e-5)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed_op_equals_eager(name):
    function, *args = ROWS[name]
    check(function, tuple(args), decompose=True, tolerance=2e-5)
