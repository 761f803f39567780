"""Scaled dot-product attention and what the chapter builds around it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import sympy as sp
import sympy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from dlchecked.arguments import value_checks
from dlchecked.scaled_dot_product import (
    attention_weights,
    causal_mask,
    dot_product_density,
    dot_product_log_density,
    dot_product_moments,
    expected_value,
    masked_softmax,
    normal_moment,
    partner_scores,
    random_scores,
    scaled_dot_product_attention,
    softmax_entropy,
    softmax_jacobian,
    softmax_jacobian_norm,
    softmax_jacobian_trace,
)

theirs = torch.nn.functional.scaled_dot_product_attention
INF = math.inf


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(
    N: int = 5,
    S: int = 7,
    D: int = 8,
    M: int = 3,
    *,
    lead: tuple[int, ...] = (2, 3),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((*lead, N, D), (*lead, S, D), (*lead, S, M))
    generator = source(seed)
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    return q, k, v


# Expectations


@pytest.mark.parametrize("order", range(7))
def test_normal_moment_is_the_integral(order: int) -> None:
    mu, sigma = sp.Symbol("mu", real=True), sp.Symbol("sigma", positive=True)
    integral = sp.stats.E(sp.stats.Normal("x", mu, sigma) ** order) if order else sp.S.One
    assert sp.simplify(normal_moment(order, mu=mu, sigma=sigma) - integral) == 0


def test_expected_value_uses_independence() -> None:
    x, y, a, b = sp.symbols("x y a b")
    laws = {x: (1, a, 7).__getitem__, y: (1, b, 9).__getitem__}
    assert expected_value(x * y, laws) == a * b
    assert expected_value(x**2 * y - 3 * y**2 + 5, laws) == 7 * b - 27 + 5


def test_expected_value_leaves_other_symbols_alone() -> None:
    x, c = sp.symbols("x c")
    assert expected_value(c**2 * x + sp.sqrt(c), {x: (1, 4).__getitem__}) == 4 * c**2 + sp.sqrt(c)


def test_expected_value_of_a_constant() -> None:
    x = sp.Symbol("x")
    assert expected_value(sp.S.Zero, {x: (1, 4).__getitem__}) == 0
    assert expected_value(sp.Integer(3), {x: (1, 4).__getitem__}) == 3


# The dot product


@settings(max_examples=40, deadline=None)
@given(
    D=st.integers(1, 5),
    sigma=st.floats(0.1, 3),
    seed=st.integers(0, 2**20),
    batch=st.integers(0, 3),
)
def test_moments_are_those_of_the_coordinates(D: int, sigma: float, seed: int, batch: int) -> None:
    a, b = torch.randn(2, batch, D, generator=source(seed), dtype=torch.float64)
    mean, variance = dot_product_moments(a, b, sigma=sigma)
    second = (a**2 + sigma**2) * (b**2 + sigma**2)
    torch.testing.assert_close(mean, (a * b).sum(-1))
    torch.testing.assert_close(variance, (second - a**2 * b**2).sum(-1))


def test_moments_agree_with_drawn_vectors() -> None:
    generator = source(1)
    a, b = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    q, k = torch.randn(2, 200_000, 6, generator=generator, dtype=torch.float64)
    drawn = ((a + 0.7 * q) * (b + 0.7 * k)).sum(-1)
    mean, variance = dot_product_moments(a, b, sigma=0.7)
    # Five standard errors each.
    assert abs(drawn.mean() - mean) < 5 * (variance / 200_000).sqrt()
    assert abs(drawn.var() / variance - 1) < 5 * math.sqrt(6 / 200_000)


@pytest.mark.parametrize("D", [1, 2, 3, 8, 65])
def test_log_density_is_scipys_formula(D: int) -> None:
    x = torch.linspace(-20, 20, 100, dtype=torch.float64)
    order = (D - 1) / 2
    z = x.abs().numpy()
    log_bessel = np.log(special.kve(order, z)) - z
    constant = math.log(math.pi) / 2 + order * math.log(2) + math.lgamma(D / 2)
    expected = order * np.log(z) + log_bessel - constant
    np.testing.assert_allclose(dot_product_log_density(x, size=D), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("D", "formula"),
    [
        (2, lambda x: torch.exp(-x.abs()) / 2),
        (4, lambda x: (1 + x.abs()) * torch.exp(-x.abs()) / 4),
        (6, lambda x: (3 + 3 * x.abs() + x**2) * torch.exp(-x.abs()) / 16),
    ],
)
def test_density_for_small_even_sizes(D: int, formula: object) -> None:
    x = torch.linspace(-9, 9, 19, dtype=torch.float64)
    assert callable(formula)
    torch.testing.assert_close(dot_product_density(x, size=D), formula(x))


@pytest.mark.parametrize("D", [2, 3, 10, 301])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_density_integrates_to_one_with_the_right_variance(D: int, sigma: float) -> None:
    reach = sigma**2 * (40 + 8 * math.sqrt(D))
    x = torch.linspace(-reach, reach, 20_001, dtype=torch.float64)
    f = dot_product_density(x, size=D, sigma=sigma)
    assert torch.trapezoid(f, x).item() == pytest.approx(1, abs=1e-4)
    assert torch.trapezoid(x**2 * f, x).item() == pytest.approx(D * sigma**4, rel=1e-4)


@pytest.mark.parametrize("D", [1, 3, 16])
def test_density_fits_drawn_vectors(D: int) -> None:
    q, k = torch.randn(2, 5000, D, generator=source(D), dtype=torch.float64)
    drawn = (q * k).sum(-1).sort().values
    x = torch.linspace(-60, 60, 120_001, dtype=torch.float64) + 1e-7
    cdf = torch.cumulative_trapezoid(dot_product_density(x, size=D), x)
    at = np.interp(drawn.numpy(), x[1:].numpy(), cdf.numpy())
    assert stats.kstest(at, "uniform").pvalue > 1e-4


def test_density_at_zero() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert dot_product_density(zero, size=1).item() == INF
    for D in (2, 3, 64, 1001):
        half = (D - 1) / 2
        value = math.exp(math.lgamma(half) - math.lgamma(D / 2)) / (2 * math.sqrt(math.pi))
        assert dot_product_density(zero, size=D).item() == pytest.approx(value, rel=1e-9)


def test_log_density_survives_far_tails() -> None:
    x = torch.tensor([5e3, 1e6], dtype=torch.float64)
    value = dot_product_log_density(x, size=512)
    assert bool(torch.isfinite(value).all())
    assert value[1].item() == pytest.approx(-1e6, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_density_keeps_dtype_and_shape(dtype: torch.dtype) -> None:
    x = torch.linspace(-4, 4, 6, dtype=dtype).reshape(2, 3)
    got = dot_product_density(x, size=8)
    assert got.dtype == dtype
    assert got.shape == (2, 3)
    # Computed in float64; only the result is rounded, relatively by eps/2.
    exact = dot_product_density(x.double(), size=8)
    error = (got.double() / exact - 1).abs().max().item()
    assert error <= torch.finfo(dtype).eps


def test_random_scores_have_the_law_of_dot_products() -> None:
    generator = source(3)
    short = random_scores(4000, 1, size=3, generator=generator).flatten()
    q, k = torch.randn(2, 4000, 3, generator=generator)
    assert stats.ks_2samp(short, (q * k).sum(-1)).pvalue > 1e-4


def test_random_scores_share_the_query_in_a_row() -> None:
    scores = random_scores(4000, 2, size=2, generator=source(4)).double()
    squares = scores.square()
    # For D = 2 the squared length has mean 2 and variance 4, so the squares of a row have
    # covariance 4; with a query for each key it would be 0.
    covariance = torch.cov(squares.T)[0, 1].item()
    assert 1.5 < covariance < 8


# The softmax


def rows(N: int, count: int = 6, spread: float = 3.0, seed: int = 0) -> Tensor:
    return spread * torch.randn(count, N, generator=source(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(N=st.integers(1, 12), spread=st.floats(0, 30), seed=st.integers(0, 2**20))
def test_entropy_lies_between_one_key_and_all(N: int, spread: float, seed: int) -> None:
    x = rows(N, spread=spread, seed=seed)
    entropy = softmax_entropy(x)
    reference = special.entr(special.softmax(x.numpy(), axis=-1)).sum(-1)
    np.testing.assert_allclose(entropy, reference, atol=1e-12)
    assert bool((entropy >= -1e-12).all() and (entropy <= math.log(N) + 1e-12).all())


def test_entropy_of_masked_keys() -> None:
    x = torch.tensor([0.0, -INF, 0.0], dtype=torch.float64, requires_grad=True)
    entropy = softmax_entropy(x)
    (gradient,) = torch.autograd.grad(entropy, x)
    assert entropy.item() == pytest.approx(math.log(2))
    assert bool(torch.isfinite(gradient).all())


def test_entropy_gradient() -> None:
    x = rows(4).requires_grad_()
    assert torch.autograd.gradcheck(softmax_entropy, x)


@settings(max_examples=30, deadline=None)
@given(N=st.integers(1, 9), spread=st.floats(0, 10), seed=st.integers(0, 2**20))
def test_jacobian_norm_and_trace_are_those_of_the_matrix(N: int, spread: float, seed: int) -> None:
    x = rows(N, spread=spread, seed=seed)
    jacobian = softmax_jacobian(x)
    reference = torch.stack(
        [torch.autograd.functional.jacobian(partial(torch.softmax, dim=-1), row) for row in x]
    )
    torch.testing.assert_close(jacobian, reference, rtol=0, atol=1e-12)
    norm, trace = softmax_jacobian_norm(x), softmax_jacobian_trace(x)
    torch.testing.assert_close(norm, torch.linalg.matrix_norm(jacobian), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(trace, jacobian.diagonal(dim1=-2, dim2=-1).sum(-1))
    assert bool((norm <= trace + 1e-12).all())
    assert bool((trace <= 1 - 1 / N + 1e-12).all())
    assert torch.linalg.eigvalsh(jacobian).min().item() > -1e-12


def test_norm_and_trace_of_a_nearly_one_hot_row_do_not_cancel() -> None:
    x = torch.tensor([60.0, 0.0, 0.0], dtype=torch.float64)
    tiny = math.exp(-60)
    # To first order: top entry 2 e, two entries e on the diagonal, four of -e beside the top one.
    assert softmax_jacobian_norm(x).item() == pytest.approx(tiny * math.sqrt(10), rel=1e-9)
    assert softmax_jacobian_trace(x).item() == pytest.approx(4 * tiny, rel=1e-9)


def test_one_key_passes_nothing_on() -> None:
    x = torch.randn(3, 1, generator=source())
    for function in (softmax_entropy, softmax_jacobian_norm, softmax_jacobian_trace):
        assert torch.equal(function(x), torch.zeros(3))


def test_mean_trace_is_the_selected_score() -> None:
    x = 2 * torch.randn(40_000, 10, generator=source(5), dtype=torch.float64)
    selected = (x.softmax(-1) * x).sum(-1)
    difference = softmax_jacobian_trace(x) - selected / 4
    assert abs(difference.mean()) < 5 * difference.std() / 200


@pytest.mark.parametrize(
    "function",
    [softmax_entropy, softmax_jacobian, softmax_jacobian_norm, softmax_jacobian_trace],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_softmax_functions_compute_wide_and_round_once(
    function: object, dtype: torch.dtype
) -> None:
    assert callable(function)
    x = rows(8, seed=2).to(dtype)
    got = function(x)
    assert got.dtype == dtype
    eps = max(torch.finfo(dtype).eps, 1e-6 if dtype != torch.float64 else 1e-12)
    torch.testing.assert_close(got.double(), function(x.double()), rtol=eps, atol=eps)


# Attention


@settings(max_examples=40, deadline=None)
@given(
    N=st.integers(0, 6),
    S=st.integers(1, 6),
    D=st.integers(1, 9),
    M=st.integers(0, 5),
    lead=st.sampled_from([(), (2,), (2, 3), (0,)]),
    causal=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
)
def test_attention_is_torchs(
    N: int, S: int, D: int, M: int, lead: tuple[int, ...], causal: bool, scale: float | None
) -> None:
    q, k, v = inputs(N, S, D, M, lead=lead)
    ours = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    assert ours.shape == (*lead, N, M)
    if ours.numel():
        expected = theirs(q, k, v, is_causal=causal, scale=scale)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 7), (7,), (1, 7), (3, 5, 7), (2, 1, 5, 7), (5, 1)])
@pytest.mark.parametrize("kind", [torch.bool, torch.float64, torch.float32])
def test_masks_are_torchs(shape: tuple[int, ...], kind: torch.dtype) -> None:
    q, k, v = inputs()
    mask: Tensor = torch.rand(shape, generator=source(9)) < 0.6
    if kind != torch.bool:
        mask = torch.where(mask, torch.randn(shape, generator=source(8)), -INF).to(kind)
    # PyTorch's refuses a mask of one dimension, and one in float32 for queries in float64.
    known = mask.expand(5, 7) if mask.dim() == 1 else mask
    expected = theirs(q, k, v, attn_mask=known if kind == torch.bool else known.double())
    got = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Sums of some ten terms of size one, in float32: a few eps.
        (torch.float32, 4e-6),
        # Inputs are exact, the sums run in float32, one rounding at the end: eps/2 of a result
        # of at most four.
        (torch.float16, 4 * torch.finfo(torch.float16).eps),
        (torch.bfloat16, 4 * torch.finfo(torch.bfloat16).eps),
    ],
)
def test_dtypes(dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = inputs(9, 9, 16, 16, dtype=dtype)
    got = scaled_dot_product_attention(q, k, v, is_causal=True)
    exact = scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    assert got.dtype == dtype
    assert (got.double() - exact).abs().max().item() <= tolerance
    assert attention_weights(q, k).dtype == dtype


def test_products_beyond_float16_do_no_harm() -> None:
    q = torch.full((1, 64), 40.0, dtype=torch.float16)
    v = torch.eye(2, dtype=torch.float16)
    out = scaled_dot_product_attention(q, q.expand(2, -1), v)
    assert torch.equal(out, torch.full((1, 2), 0.5, dtype=torch.float16))
    assert bool(torch.isinf(q @ q.mT).all())


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_gradients(mask: str) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(3, 4, 2, 2, lead=(2,)))
    boolean = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
    additive = torch.where(boolean, 0.5, -INF).double()
    options: dict[str, object] = {
        "none": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": boolean},
        "float": {"attn_mask": additive},
    }[mask]  # type: ignore[assignment]
    assert torch.autograd.gradcheck(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, **options),  # type: ignore[arg-type]
        (q, k, v),
    )


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_without_keys_gets_zeros_and_sends_none_back(kind: str) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(3, 4))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    given_mask = mask if kind == "bool" else torch.where(mask, 0.0, -INF).double()
    out = scaled_dot_product_attention(q, k, v, attn_mask=given_mask)
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert torch.equal(out[..., 1, :], torch.zeros_like(out[..., 1, :]))
    assert torch.equal(gradients[0][..., 1, :], torch.zeros_like(q[..., 1, :]))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    weights = attention_weights(q, k, attn_mask=given_mask)
    torch.testing.assert_close(weights.sum(-1)[0, 0], torch.tensor([1.0, 0.0, 1.0]).double())
    expected = theirs(q, k, v, attn_mask=given_mask)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    known = torch.autograd.grad(expected.sum(), (q, k, v))
    torch.testing.assert_close(gradients, known, rtol=0, atol=1e-12)


def test_a_hidden_key_has_no_influence() -> None:
    q, k, v = inputs(6, 6)
    before = scaled_dot_product_attention(q, k, v, is_causal=True)
    k[..., -1, :] += 100
    v[..., -1, :] += 100
    after = scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.equal(before[..., :-1, :], after[..., :-1, :])
    assert not torch.equal(before[..., -1, :], after[..., -1, :])


def test_causal_mask_starts_top_left() -> None:
    assert causal_mask(2, 4).tolist() == [[True, False, False, False], [True, True, False, False]]
    assert causal_mask(3, 1).tolist() == [[True], [True], [True]]
    assert causal_mask(0, 3).shape == (0, 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), reach=st.floats(0, 20))
def test_a_common_shift_of_the_keys_changes_nothing(seed: int, reach: float) -> None:
    q, k, _ = inputs(seed=seed)
    shift = reach * torch.randn(8, generator=source(seed + 1), dtype=torch.float64)
    torch.testing.assert_close(
        attention_weights(q, k + shift), attention_weights(q, k), rtol=0, atol=1e-10
    )


def test_attention_with_identity_values_is_its_weights() -> None:
    q, k, _ = inputs()
    eye = torch.eye(7, dtype=torch.float64).expand(2, 3, 7, 7)
    weights = attention_weights(q, k, scale=0.7)
    torch.testing.assert_close(scaled_dot_product_attention(q, k, eye, scale=0.7), weights)


def test_identical_keys_are_attended_to_equally() -> None:
    q, k, v = inputs()
    out = scaled_dot_product_attention(q, k[..., :1, :].expand(k.shape), v)
    torch.testing.assert_close(out, v.mean(-2, keepdim=True).expand(out.shape))


# Training


def test_training_finds_the_partners() -> None:
    seen = partner_scores(64, scale=1 / 8, steps=30, generator=source(1))
    assert seen.shape == (31,)
    # From nothing to a score that leaves the 15 other tokens little weight.
    assert abs(seen[0].item()) < 4
    assert seen[-1].item() / 8 > math.log(15)


def test_training_moves_queries_and_keys_alike_at_every_width() -> None:
    gains = []
    for D in (32, 256):
        runs = [partner_scores(D, scale=1 / D, generator=source(i)) for i in range(8)]
        gains.append(sum((run[-1] - run[0]).item() for run in runs) / D)
    assert gains[1] == pytest.approx(gains[0], rel=0.1)


def test_training_is_reproducible_and_takes_its_scale_seriously() -> None:
    first, again, other = (
        partner_scores(16, scale=scale, generator=source(2)) for scale in (0.25, 0.25, 4.0)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(partner_scores(16, scale=4.0, steps=0, generator=source(2)), other[:1])


# What is refused

Q, K, V = (torch.zeros(n, 4) for n in (2, 3, 3))
MU = torch.zeros(3)
SYMBOL = sp.Symbol("x")
attend = scaled_dot_product_attention


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: attend([1.0], K, V), TypeError, "q must be a torch.Tensor, got list"),
        (lambda: attend(Q.long(), K, V), TypeError, "q must have a real floating-point dtype"),
        (lambda: attend(Q, K.double(), V), TypeError, "k must have the dtype of q"),
        (lambda: attend(Q[0], K, V), ValueError, "q must have at least 2 dimensions"),
        (lambda: attend(Q, K[:, :3], V), ValueError, "k must have the size of q, D = 4"),
        (lambda: attend(Q, K, V[:2]), ValueError, "v must have one row for each key"),
        (lambda: attend(Q[None], K, V), ValueError, "k must have the leading dimensions of q"),
        (lambda: attend(Q, K[:0], V[:0]), ValueError, "k must hold at least one key"),
        (lambda: attend(Q[:, :0], K[:, :0], V), ValueError, "q must have a size of at least 1"),
        (lambda: attend(Q, K, V, scale=0.0), ValueError, "scale must be positive and finite"),
        (lambda: attend(Q, K, V, scale=-1.0), ValueError, "scale must be positive and finite"),
        (lambda: attend(Q, K, V, scale="8"), TypeError, "scale must be a real number"),
        (lambda: attend(Q, K, V, is_causal=1), TypeError, "is_causal must be True or False"),
        (
            lambda: attend(Q, K, V, is_causal=True, attn_mask=causal_mask(2, 3)),
            ValueError,
            "attn_mask must be None when is_causal is True",
        ),
        (lambda: attend(Q, K, V, attn_mask=[True]), TypeError, "attn_mask must be a torch.Tensor"),
        (
            lambda: attend(Q, K, V, attn_mask=torch.ones(2, 3, dtype=torch.int64)),
            TypeError,
            "attn_mask must be boolean, float32 or of the dtype of q",
        ),
        (
            lambda: attend(Q, K, V, attn_mask=causal_mask(3, 2)),
            ValueError,
            r"attn_mask must broadcast to the scores' shape \(2, 3\), got \(3, 2\)",
        ),
        (
            lambda: attend(Q, K, V, attn_mask=causal_mask(2, 3)[None]),
            ValueError,
            "attn_mask must broadcast",
        ),
        (
            lambda: attend(Q, K, V, attn_mask=torch.full((2, 3), math.nan)),
            ValueError,
            "attn_mask must be finite or -inf",
        ),
        (
            lambda: attend(Q, K, V, attn_mask=torch.full((2, 3), INF)),
            ValueError,
            "attn_mask must be finite or -inf",
        ),
        (lambda: attend(Q / 0, K, V), ValueError, "q must be finite, but 8 of 8"),
        (
            lambda: attend(Q + 1e20, K - 1e20, V, attn_mask=causal_mask(2, 3)),
            ValueError,
            "product of q and k must be finite, but 6 of 6",
        ),
        (lambda: attend(Q, K / 0, V), ValueError, "k must be finite"),
        (lambda: attend(Q, K, V / 0), ValueError, "v must be finite"),
        (lambda: attention_weights(Q, K / 0), ValueError, "k must be finite"),
        (lambda: attention_weights(Q, K[0]), ValueError, "k must have at least 2 dimensions"),
        (lambda: causal_mask(-1, 2), ValueError, "queries must be at least 0"),
        (lambda: causal_mask(1, 2.0), TypeError, "keys must be an integer"),
        (lambda: softmax_entropy([0.0]), TypeError, "scores must be a torch.Tensor"),
        (lambda: softmax_entropy(torch.tensor(0.0)), ValueError, "scores must have at least 1"),
        (lambda: softmax_jacobian(torch.zeros(2, 0)), ValueError, "scores must hold at least one"),
        (lambda: softmax_jacobian_norm(MU / 0), ValueError, "scores must be finite or -inf"),
        (
            lambda: softmax_jacobian_trace(torch.full((2, 3), -INF)),
            ValueError,
            "scores must leave each row a key",
        ),
        (lambda: dot_product_moments(MU, MU[:2]), ValueError, r"mu_k must have shape \(3,\)"),
        (lambda: dot_product_moments(MU, MU.double()), TypeError, "mu_k must have the dtype"),
        (lambda: dot_product_moments(MU, MU, sigma=0), ValueError, "sigma must be positive"),
        (lambda: dot_product_density(MU, size=0), ValueError, "size must be at least 1"),
        (lambda: dot_product_density(MU, size=2.0), TypeError, "size must be an integer"),
        (lambda: dot_product_density(MU / 0, size=2), ValueError, "x must be finite"),
        (lambda: dot_product_density(MU, size=2, sigma=-1), ValueError, "sigma must be positive"),
        (lambda: random_scores(0, 1, size=1, generator=source()), ValueError, "rows must be"),
        (lambda: random_scores(1, 0, size=1, generator=source()), ValueError, "keys must be"),
        (lambda: random_scores(1, 1, size=1, generator=0), TypeError, "generator must be"),
        (lambda: partner_scores(0, scale=1, generator=source()), ValueError, "size must be"),
        (lambda: partner_scores(4, scale=0, generator=source()), ValueError, "scale must be"),
        (lambda: partner_scores(4, scale=1, generator=None), TypeError, "generator must be"),
        (
            lambda: partner_scores(4, scale=1, tokens=1, generator=source()),
            ValueError,
            "tokens must be at least 2",
        ),
        (
            lambda: partner_scores(4, scale=1, steps=-1, generator=source()),
            ValueError,
            "steps must be at least 0",
        ),
        (lambda: normal_moment(-1, mu=SYMBOL, sigma=SYMBOL), ValueError, "order must be"),
        (lambda: normal_moment(0.5, mu=SYMBOL, sigma=SYMBOL), TypeError, "order must be"),
        (lambda: expected_value(SYMBOL, {}), ValueError, "moments must name"),
        (
            lambda: expected_value(sp.exp(SYMBOL), {SYMBOL: (1,).__getitem__}),
            ValueError,
            "polynomial must be a polynomial in x",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        out = scaled_dot_product_attention(Q / 0, K, V)
    assert bool(out.isnan().all())


def test_a_masked_softmax_is_the_one_inside_attention():
    scores = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 4)
    allowed = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])
    weights = masked_softmax(scores, attn_mask=allowed)
    assert torch.equal(weights[1], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(weights[2], scores[2].softmax(-1), rtol=1e-14, atol=0)
    kept = scores[0, [0, 2, 3]].softmax(-1)
    torch.testing.assert_close(weights[0, [0, 2, 3]], kept, rtol=1e-14, atol=0)
    with pytest.raises(TypeError, match=r"scores must be a torch\.Tensor"):
        masked_softmax([[1.0]])
