"""Tests of dlchecked.gaussian_kernel: properties, peers, gradients, dtypes, limits, errors."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, poisson
from torch.nn.functional import scaled_dot_product_attention as torch_attention

from dlchecked.arguments import value_checks
from dlchecked.gaussian_kernel import (
    append_norm_gap,
    append_norm_penalty,
    factored_softmax_similarity,
    gaussian_kernel,
    gaussian_kernel_attention,
    gaussian_kernel_weights,
    log_gaussian_kernel,
    log_softmax_similarity,
    multi_indices,
    norm_exponent,
    overflow_norm,
    softmax_similarity,
    softmax_width,
    taylor_degree,
    taylor_error_bound,
    taylor_feature_dimension,
    taylor_features,
    taylor_kernel,
    underflow_distance,
)
from dlchecked.scaled_dot_product import scaled_dot_product_attention

DOUBLE = torch.float64
HALVES = (torch.float16, torch.bfloat16)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE, scale: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=DOUBLE)).to(dtype)


def attention_case(seed: int = 0, dtype: torch.dtype = DOUBLE, scale: float = 1.0):
    q, k = draw(2, 3, 7, 8, seed=seed, scale=scale), draw(2, 3, 9, 8, seed=seed + 1, scale=scale)
    return q.to(dtype), k.to(dtype), draw(2, 3, 9, 5, seed=seed + 2, dtype=dtype)


def slow_kernel(q, k, sigma):
    """The definition, pair by pair and number by number."""
    pairs = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in k] for x in q]
    values = [[math.exp(-d / (2 * sigma**2)) for d in row] for row in pairs]
    return torch.tensor(values, dtype=DOUBLE)


# Slow machines are no failure, and a run of the tests is to be like the one before.
checked = settings(deadline=None, derandomize=True, max_examples=60)

coordinates = st.floats(-3, 3, allow_nan=False, width=32)
widths = st.floats(0.25, 4)


@st.composite
def rows(draw_one, count=2):
    """Matrices of one D between 1 and 5, with 1 to 6 rows each."""
    size = draw_one(st.integers(1, 5))
    row = st.lists(coordinates, min_size=size, max_size=size)
    return [
        torch.tensor(draw_one(st.lists(row, min_size=1, max_size=6)), dtype=DOUBLE)
        for _ in range(count)
    ]


# The kernel


@checked
@given(rows(), widths)
def test_kernel_is_its_definition(qk, sigma):
    q, k = qk
    expected = slow_kernel(q.tolist(), k.tolist(), sigma)
    torch.testing.assert_close(gaussian_kernel(q, k, sigma=sigma), expected, rtol=1e-10, atol=0)


@checked
@given(rows(), widths)
def test_kernel_is_symmetric_and_at_most_one(qk, sigma):
    q, k = qk
    kernel = gaussian_kernel(q, k, sigma=sigma)
    assert torch.equal(kernel, gaussian_kernel(k, q, sigma=sigma).mT)
    assert bool(((kernel >= 0) & (kernel <= 1)).all())
    assert torch.equal(gaussian_kernel(q, q, sigma=sigma).diagonal(), torch.ones(len(q)).to(DOUBLE))


@checked
@given(rows(), widths)
def test_kernel_matrix_has_no_negative_eigenvalue(qk, sigma):
    points = torch.cat(qk)
    lowest = torch.linalg.eigvalsh(gaussian_kernel(points, points, sigma=sigma)).min()
    assert float(lowest) > -1e-12


def test_kernel_is_a_normal_density_over_its_maximum():
    q, k = draw(6, 3), draw(1, 3, seed=1)
    density = multivariate_normal(k[0].numpy(), cov=1.7**2)
    expected = torch.from_numpy(density.pdf(q.numpy()) / density.pdf(k[0].numpy()))
    torch.testing.assert_close(gaussian_kernel(q, k, sigma=1.7)[:, 0], expected, **EXACT)


def test_one_width_apart_is_exp_of_minus_a_half():
    kernel = gaussian_kernel(torch.zeros(1, 1), torch.full((1, 1), 3.0), sigma=3.0)
    assert kernel.item() == pytest.approx(math.exp(-0.5), rel=1e-6)


@pytest.mark.parametrize("rows_", [3, 26, 100])
def test_close_points_far_from_zero_keep_their_digits(rows_):
    # 4096 + small multiples of 2**-10 are exact in float32, and so are their differences.
    offsets = torch.arange(rows_, dtype=torch.float32)[:, None] * 2**-10
    points = 4096 + offsets.expand(-1, 4)
    moved = log_gaussian_kernel(points, points, sigma=0.25)
    at_zero = log_gaussian_kernel(points - 4096, points - 4096, sigma=0.25)
    torch.testing.assert_close(moved, at_zero, rtol=1e-6, atol=0)


def test_no_queries_give_no_rows():
    assert gaussian_kernel(torch.zeros(0, 3), torch.zeros(2, 3), sigma=2.0).shape == (0, 2)
    out = gaussian_kernel_attention(torch.zeros(0, 3), torch.zeros(2, 3), torch.zeros(2, 4))
    assert out.shape == (0, 4)
    out = gaussian_kernel_attention(*(torch.zeros(0, n, 3) for n in (2, 4, 4)), is_causal=True)
    assert out.shape == (0, 2, 3)


def test_views_give_what_copies_give():
    q, k, v = (t.mT.contiguous().mT for t in attention_case())
    assert not q.is_contiguous()
    copies = [t.contiguous() for t in (q, k, v)]
    torch.testing.assert_close(
        gaussian_kernel_attention(q, k, v), gaussian_kernel_attention(*copies), **EXACT
    )
    features = [taylor_features(x, sigma=1.7, degree=3) for x in (q, copies[0])]
    torch.testing.assert_close(*features, **EXACT)


# The identity


@checked
@given(rows(), widths)
def test_exponents_add_up_to_the_dot_product(qk, sigma):
    q, k = qk
    expected = q @ k.mT / sigma**2
    # Three exponents of up to 4 * 45 / (2 * 0.25**2) = 1440 are added: their rounding is left.
    actual = log_softmax_similarity(q, k, sigma=sigma)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_three_forms_of_the_similarity_agree(size):
    q, k = draw(2, 4, size), draw(2, 6, size, seed=1)
    direct = torch.exp(q @ k.mT / math.sqrt(size))
    torch.testing.assert_close(softmax_similarity(q, k), direct, rtol=1e-11, atol=0)
    torch.testing.assert_close(factored_softmax_similarity(q, k), direct, rtol=1e-11, atol=0)
    torch.testing.assert_close(log_softmax_similarity(q, k).exp(), direct, rtol=1e-11, atol=0)


def test_zero_vectors_have_similarity_one():
    zero = torch.zeros(1, 3)
    assert softmax_similarity(zero, zero).item() == 1.0
    assert factored_softmax_similarity(zero, zero).item() == 1.0
    assert norm_exponent(zero, sigma=2.0).item() == 0.0


def test_softmax_width_is_the_fourth_root():
    assert [softmax_width(d) for d in (1, 16, 81)] == pytest.approx([1, 2, 3])


# Attention


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("sigma", [None, 0.7])
def test_with_key_factor_it_is_softmax_attention(sigma, is_causal):
    q, k, v = attention_case()
    ours = gaussian_kernel_attention(q, k, v, sigma=sigma, key_factor=True, is_causal=is_causal)
    scale = None if sigma is None else 1 / sigma**2
    for peer in (torch_attention, scaled_dot_product_attention):
        torch.testing.assert_close(ours, peer(q, k, v, is_causal=is_causal, scale=scale), **EXACT)


def masks():
    """One of each kind for the nine keys of `attention_case`; the last leaves row 2 no key."""
    seen = draw(7, 9, seed=5) > 0
    seen[:, 0] = True
    added = draw(2, 3, 7, 9, seed=6)
    none_left = seen.clone()
    none_left[2] = False
    return {
        "boolean": seen,
        "of one batch": seen.expand(1, 3, 7, 9),
        "added": added,
        "added in float32": added.float(),
        "added, with -inf": added.masked_fill(~seen, -math.inf),
        "nothing left": none_left,
    }


@pytest.mark.parametrize("name", masks())
def test_masks_mean_what_they_mean_in_softmax_attention(name):
    q, k, v = attention_case()
    ours = gaussian_kernel_attention(q, k, v, key_factor=True, attn_mask=masks()[name])
    theirs = scaled_dot_product_attention(q, k, v, attn_mask=masks()[name])
    torch.testing.assert_close(ours, theirs, **EXACT)
    # The same without the key's factor, by the coordinate that takes it out of softmax attention.
    longer = append_norm_penalty(q, k)
    plain = gaussian_kernel_attention(q, k, v, attn_mask=masks()[name])
    theirs = scaled_dot_product_attention(*longer, v, scale=8**-0.5, attn_mask=masks()[name])
    torch.testing.assert_close(plain, theirs, **EXACT)


def test_a_query_without_keys_gets_zeros_and_no_gradient():
    q, k, v = (t.requires_grad_() for t in attention_case())
    out = gaussian_kernel_attention(q, k, v, attn_mask=masks()["nothing left"])
    assert torch.equal(out[..., 2, :], torch.zeros_like(out[..., 2, :]))
    out.sum().backward()
    assert torch.equal(q.grad[..., 2, :], torch.zeros_like(q.grad[..., 2, :]))
    assert all(bool(t.grad.isfinite().all()) for t in (q, k, v))


def test_causal_is_its_mask_for_any_two_lengths():
    for queries, keys in ((3, 5), (5, 3), (1, 4), (4, 1)):
        q, k, v = draw(queries, 4), draw(keys, 4, seed=1), draw(keys, 2, seed=2)
        lower = torch.ones(queries, keys, dtype=torch.bool).tril()
        by_mask = gaussian_kernel_attention(q, k, v, attn_mask=lower)
        assert torch.equal(gaussian_kernel_attention(q, k, v, is_causal=True), by_mask)


def test_without_key_factor_it_is_the_kernel_average():
    q, k, v = attention_case()
    kernel = gaussian_kernel(q, k, sigma=1.3)
    expected = (kernel @ v) / kernel.sum(-1, keepdim=True)
    torch.testing.assert_close(gaussian_kernel_attention(q, k, v, sigma=1.3), expected, **EXACT)


@checked
@given(rows(), widths, st.booleans(), st.booleans())
def test_weights_are_positive_and_add_up_to_one(qk, sigma, key_factor, is_causal):
    q, k = qk
    options = {"sigma": sigma, "key_factor": key_factor, "is_causal": is_causal}
    weights = gaussian_kernel_weights(q, k, **options)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(q), dtype=DOUBLE), **EXACT)


def test_equal_norms_make_the_key_factor_vanish():
    q, k, _ = attention_case()
    k = k / k.norm(dim=-1, keepdim=True)
    plain, with_factor = (gaussian_kernel_weights(q, k, key_factor=f) for f in (False, True))
    torch.testing.assert_close(plain, with_factor, **EXACT)


def test_one_key_takes_all():
    q, k, v = torch.full((3, 2), 9.0), torch.full((1, 2), -9.0), torch.tensor([[4.0]])
    assert gaussian_kernel_attention(q, k, v).tolist() == [[4.0]] * 3


def test_causal_rows_ignore_the_keys_behind():
    q, k, v = attention_case()
    before = gaussian_kernel_attention(q, k, v, is_causal=True)
    k[..., 4:, :], v[..., 4:, :] = 100.0, -100.0
    after = gaussian_kernel_attention(q, k, v, is_causal=True)
    assert torch.equal(before[..., :4, :], after[..., :4, :])
    assert not torch.allclose(before[..., 4:7, :], after[..., 4:7, :])


def test_attention_survives_norms_where_every_kernel_value_is_zero():
    q, k, v = attention_case(dtype=torch.float32, scale=100.0)
    assert bool((gaussian_kernel(q, k, sigma=softmax_width(8)) == 0).all())
    for key_factor in (False, True):
        ours = gaussian_kernel_attention(q, k, v, key_factor=key_factor)
        options = {"key_factor": key_factor}
        exact = gaussian_kernel_attention(q.double(), k.double(), v.double(), **options)
        # Exponents near 3e4 carry rounding errors near 3e4 * 2**-24 = 2e-3 each.
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=2e-2)


@checked
@given(rows())
def test_gap_makes_norms_equal_and_keeps_products(qk):
    q, k = qk
    longer_q, longer_k = append_norm_gap(q, k)
    norms = longer_k.norm(dim=-1)
    torch.testing.assert_close(norms, norms[:1].expand_as(norms), **EXACT)
    torch.testing.assert_close(longer_q @ longer_k.mT, q @ k.mT, **EXACT)


@pytest.mark.parametrize("is_causal", [False, True])
def test_gap_turns_softmax_attention_into_gaussian(is_causal):
    q, k, v = attention_case()
    longer = append_norm_gap(q, k)
    ours = gaussian_kernel_attention(*longer, v, sigma=softmax_width(8), is_causal=is_causal)
    torch.testing.assert_close(ours, torch_attention(q, k, v, is_causal=is_causal), **EXACT)


def test_gap_has_a_gradient_at_large_norms():
    # Near 1e9 the squared norms of float32 are 64 apart.
    q, k = draw(2, 4, dtype=torch.float32), draw(3, 4, seed=1, dtype=torch.float32) * 2e4
    q.requires_grad_()
    k.requires_grad_()
    gaussian_kernel_weights(*append_norm_gap(q, k), sigma=1e3)[:, 0].sum().backward()
    assert bool(q.grad.isfinite().all())
    assert bool(k.grad.isfinite().all())


@pytest.mark.parametrize("is_causal", [False, True])
def test_penalty_turns_gaussian_attention_into_softmax(is_causal):
    q, k, v = attention_case()
    longer_q, longer_k = append_norm_penalty(q, k)
    fused = torch_attention(longer_q, longer_k, v, is_causal=is_causal, scale=8**-0.5)
    ours = gaussian_kernel_attention(q, k, v, is_causal=is_causal)
    torch.testing.assert_close(ours, fused, **EXACT)


# Derivatives


@pytest.mark.parametrize("key_factor", [False, True])
def test_attention_gradients(key_factor):
    inputs = [t[0, 0, :4].clone().requires_grad_() for t in attention_case()]
    assert torch.autograd.gradcheck(
        lambda q, k, v: gaussian_kernel_attention(q, k, v, key_factor=key_factor), inputs
    )


@pytest.mark.parametrize("function", [gaussian_kernel, log_gaussian_kernel])
def test_kernel_gradients_also_where_points_coincide(function):
    q, k = draw(3, 4).requires_grad_(), draw(5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: function(q, k, sigma=1.4), (q, k))
    same = draw(3, 4).requires_grad_()
    function(same, same.detach(), sigma=1.4).diagonal().sum().backward()
    assert torch.equal(same.grad, torch.zeros_like(same))


def test_feature_and_gap_gradients():
    x = torch.cat([draw(3, 2), torch.zeros(1, 2, dtype=DOUBLE)]).requires_grad_()
    features = lambda x: taylor_features(x, sigma=1.2, degree=3)  # noqa: E731
    assert torch.autograd.gradcheck(features, x)
    q, k = draw(2, 2).requires_grad_(), draw(3, 2, seed=1).requires_grad_()
    attention = lambda q, k: gaussian_kernel_weights(*append_norm_gap(q, k), sigma=1.2)  # noqa: E731
    assert torch.autograd.gradcheck(attention, (q, k))
    assert torch.autograd.gradcheck(append_norm_penalty, (q, k))


# Taylor features


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("degree", [0, 1, 2, 4])
def test_multi_indices_are_all_there_once(size, degree):
    listed = multi_indices(size, degree)
    every = itertools.product(range(degree + 1), repeat=size)
    assert set(listed) == {alpha for alpha in every if sum(alpha) <= degree}
    assert len(listed) == len(set(listed)) == taylor_feature_dimension(size, degree)
    assert [sum(a) for a in listed] == sorted(sum(a) for a in listed)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6])
def test_features_multiply_to_the_truncated_kernel(degree):
    q, k = draw(2, 4, 3), draw(2, 5, 3, seed=1)
    features = [taylor_features(x, sigma=1.3, degree=degree) for x in (q, k)]
    assert features[0].shape == (2, 4, taylor_feature_dimension(3, degree))
    expected = taylor_kernel(q, k, sigma=1.3, degree=degree)
    torch.testing.assert_close(features[0] @ features[1].mT, expected, **EXACT)


def test_features_of_long_vectors_are_zero_and_not_nan():
    x = torch.tensor([[200.0, -100.0]])
    features = taylor_features(x, sigma=1.0, degree=24)
    assert torch.equal(features, torch.zeros_like(features))
    assert taylor_kernel(x, x, sigma=1.0, degree=24).tolist() == [[0.0]]


def test_features_follow_the_multi_indices():
    x = draw(4, 3)
    damping = torch.exp(-norm_exponent(x, sigma=1.3))
    features = taylor_features(x, sigma=1.3, degree=4)
    for column, alpha in zip(features.mT, multi_indices(3, 4), strict=True):
        root = math.sqrt(math.prod(math.factorial(a) for a in alpha))
        power = (x / 1.3).pow(torch.tensor(alpha)).prod(-1)
        torch.testing.assert_close(column, damping * power / root, **EXACT)


@checked
@given(rows(), st.integers(0, 12))
def test_error_never_exceeds_the_bound(qk, degree):
    q, k = qk
    error = taylor_kernel(q, k, sigma=1.5, degree=degree) - gaussian_kernel(q, k, sigma=1.5)
    norms = torch.broadcast_tensors(q.norm(dim=-1)[:, None], k.norm(dim=-1)[None])
    bound = taylor_error_bound(*norms, sigma=1.5, degree=degree)
    assert bool((error.abs() <= bound * (1 + 1e-9) + 1e-13).all())


@pytest.mark.parametrize("degree", [0, 1, 4, 9])
def test_bound_is_attained_by_parallel_vectors(degree):
    q = draw(6, 4)
    k = q * torch.tensor([0.3, 0.5, 0.9, 1.0, 1.2, 2.0], dtype=DOUBLE)[:, None]
    kernel = gaussian_kernel(q, k, sigma=1.5)
    truncated = taylor_kernel(q, k, sigma=1.5, degree=degree)
    bound = taylor_error_bound(q.norm(dim=-1), k.norm(dim=-1), sigma=1.5, degree=degree)
    torch.testing.assert_close((kernel - truncated).diagonal(), bound, rtol=1e-7, atol=1e-15)


def test_bound_of_equal_norms_is_a_poisson_tail():
    norm = torch.linspace(0.0, 6.0, 13, dtype=DOUBLE)
    for degree in (0, 3, 10):
        bound = taylor_error_bound(norm, norm, sigma=2.0, degree=degree)
        expected = torch.from_numpy(poisson.sf(degree, (norm**2 / 4).numpy()))
        torch.testing.assert_close(bound, expected, **EXACT)


@pytest.mark.parametrize("tolerance", [0.5, 1e-2, 1e-6])
def test_degree_is_the_least_that_suffices(tolerance):
    norm = torch.tensor(5.0, dtype=DOUBLE)
    degree = taylor_degree(5.0, sigma=2.0, tolerance=tolerance)
    assert degree > 0
    assert taylor_error_bound(norm, norm, sigma=2.0, degree=degree) <= tolerance
    assert taylor_error_bound(norm, norm, sigma=2.0, degree=degree - 1) > tolerance


def test_degree_is_found_for_the_smallest_and_the_largest_norms():
    assert taylor_degree(1e-3, sigma=1.0, tolerance=0.5) == 0
    # A Poisson number of mean 1e8 is normal to many digits.
    degree = taylor_degree(1e4, sigma=1.0, tolerance=1e-2)
    assert (degree - 1e8) / 1e4 == pytest.approx(2.326, abs=1e-3)


def test_degree_serves_all_smaller_norms_too():
    degree = taylor_degree(5.0, sigma=2.0, tolerance=1e-2)
    norms = torch.linspace(0, 5, 41, dtype=DOUBLE)
    pairs = torch.cartesian_prod(norms, norms).mT.contiguous()
    assert float(taylor_error_bound(*pairs, sigma=2.0, degree=degree).max()) <= 1e-2


def test_even_degrees_stay_positive_and_odd_ones_do_not():
    q, k = torch.full((1, 1), 3.0), torch.full((1, 1), -3.0)
    signs = [taylor_kernel(q, k, sigma=1.5, degree=p).sign().item() for p in (1, 2, 3, 4)]
    assert signs == [-1.0, 1.0, -1.0, 1.0]


# Overflow and underflow


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
def test_factor_overflows_at_the_predicted_norm(dtype):
    sigma = 2.0
    norm = overflow_norm(dtype, sigma=sigma)
    # The exponent is rounded to the dtype before exp sees it: a few units in its last place.
    slack = 1 + 4 * torch.finfo(dtype).eps
    below, above = (
        torch.tensor(n**2 / (2 * sigma**2), dtype=dtype) for n in (norm / slack, norm * slack)
    )
    assert torch.isfinite(torch.exp(below))
    assert torch.isinf(torch.exp(above))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
def test_kernel_underflows_at_the_predicted_distance(dtype):
    distance = underflow_distance(dtype, sigma=2.0)
    # Points are rounded to the dtype, so their distance is off by up to half a last place.
    slack = 1 + 2 * torch.finfo(dtype).eps
    points = torch.tensor([[distance / slack], [distance * slack]], dtype=DOUBLE).to(dtype)
    kernel = gaussian_kernel(torch.zeros(1, 1, dtype=dtype), points, sigma=2.0)
    assert kernel[0, 1] == 0
    subnormal = torch.exp(torch.tensor([[-103.0]])).item() > 0
    assert kernel[0, 0] > 0 or not subnormal


def test_bfloat16_overflows_with_float32_and_float16_long_before():
    norms = {d: overflow_norm(d, sigma=3.0) for d in (torch.float32, *HALVES)}
    assert norms[torch.bfloat16] == pytest.approx(norms[torch.float32], rel=1e-4)
    assert norms[torch.float16] < 0.36 * norms[torch.float32]


def test_factored_form_fails_silently_and_then_loudly():
    e = torch.eye(4)
    for norm, failure in ((5.0, 1.0), (15.0, 0.0), (30.0, math.nan)):
        factored = factored_softmax_similarity(norm * e[:1], norm * e[1:2]).item()
        assert factored == pytest.approx(failure, nan_ok=True)
        assert softmax_similarity(norm * e[:1], norm * e[1:2]).item() == 1.0


# Dtypes

DTYPE_TOLERANCES = [
    # Exponents up to about 30, in float64 and float32, and one rounding of the result.
    (torch.float64, 1e-13),
    (torch.float32, 30 * 2**-23),
    (torch.float16, 2**-10),
    (torch.bfloat16, 2**-7),
]


@pytest.mark.parametrize(("dtype", "rtol"), DTYPE_TOLERANCES)
def test_results_in_the_dtype_of_the_input(dtype, rtol):
    q, k, v = attention_case(dtype=dtype)
    wide = [t.double() for t in (q, k, v)]
    close = {"rtol": rtol, "atol": rtol}
    for function in (
        lambda q, k, v: gaussian_kernel(q, k, sigma=1.7),
        lambda q, k, v: log_gaussian_kernel(q, k, sigma=1.7),
        lambda q, k, v: log_softmax_similarity(q, k),
        lambda q, k, v: norm_exponent(q, sigma=1.7),
        lambda q, k, v: gaussian_kernel_weights(q, k),
        lambda q, k, v: gaussian_kernel_attention(q, k, v),
        lambda q, k, v: gaussian_kernel_attention(q, k, v, key_factor=True),
        lambda q, k, v: taylor_kernel(q, k, sigma=1.7, degree=3),
        lambda q, k, v: taylor_features(q, sigma=1.7, degree=2),
        lambda q, k, v: taylor_error_bound(q.abs(), q.abs(), sigma=1.7, degree=2),
    ):
        result = function(q, k, v)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), function(*wide), **close)


@pytest.mark.parametrize("dtype", HALVES)
def test_factored_form_stays_in_its_dtype(dtype):
    q, k, _ = attention_case(dtype=dtype)
    assert factored_softmax_similarity(q, k).dtype == dtype
    assert all(t.dtype == dtype for t in (*append_norm_gap(q, k), *append_norm_penalty(q, k)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_results_on_a_gpu():
    q, k, v = attention_case(dtype=torch.float32)
    there = gaussian_kernel_attention(q.cuda(), k.cuda(), v.cuda(), is_causal=True)
    here = gaussian_kernel_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5)
    features = taylor_features(q.cuda(), sigma=1.7, degree=3).cpu()
    torch.testing.assert_close(features, taylor_features(q, sigma=1.7, degree=3))


# The door

Q, K, V = torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(4, 5)
NAN = torch.full((2, 3), math.nan)
PAIRWISE = [
    gaussian_kernel,
    log_gaussian_kernel,
    softmax_similarity,
    log_softmax_similarity,
    factored_softmax_similarity,
    gaussian_kernel_weights,
]


@pytest.mark.parametrize("function", PAIRWISE)
@pytest.mark.parametrize(
    ("q", "k", "sigma", "error", "match"),
    [
        ([[1.0]], K, 1.5, TypeError, "q must be a torch.Tensor"),
        (Q, None, 1.5, TypeError, "k must be a torch.Tensor"),
        (Q.long(), K, 1.5, TypeError, "q must have a real floating-point dtype"),
        (Q, K.to(torch.complex64), 1.5, TypeError, "k must have a real floating-point dtype"),
        (Q, K.double(), 1.5, TypeError, "k must have the dtype of q"),
        (Q[0], K, 1.5, ValueError, "q must have at least 2 dimensions"),
        (Q, K[:, :2], 1.5, ValueError, "k must have the size of q"),
        (Q, K[None], 1.5, ValueError, "k must have the leading dimensions of q"),
        (Q, K[:0], 1.5, ValueError, "k must hold at least one key"),
        (Q[:, :0], K[:, :0], 1.5, ValueError, "q must have a size of at least 1"),
        (NAN, K, 1.5, ValueError, "q must be finite, but 6 of 6"),
        (Q, K + math.inf, 1.5, ValueError, "k must be finite"),
        (Q, K, 0.0, ValueError, "sigma must be positive"),
        (Q, K, -1.0, ValueError, "sigma must be positive"),
        (Q, K, math.nan, ValueError, "sigma must be positive"),
        (Q, K, "wide", TypeError, "sigma must be a real number"),
        (Q, K, True, TypeError, "sigma must be a real number"),
    ],
)
def test_pairs_at_the_door(function, q, k, sigma, error, match):
    with pytest.raises(error, match=match):
        function(q, k, sigma=sigma)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gaussian_kernel_attention(Q, K, V[:3]), ValueError, "v must have one row"),
        (lambda: gaussian_kernel_attention(Q, K, V.double()), TypeError, "v must have the dtype"),
        (lambda: gaussian_kernel_attention(Q, K, V / 0), ValueError, "v must be finite"),
        (lambda: gaussian_kernel_attention(NAN, K, V), ValueError, "q must be finite"),
        (lambda: gaussian_kernel_attention(Q, K, V, sigma=0), ValueError, "sigma must be"),
        (lambda: gaussian_kernel_weights(Q, K, key_factor=1), TypeError, "key_factor must be"),
        (lambda: gaussian_kernel_weights(Q, K, is_causal=None), TypeError, "is_causal must be"),
        (
            lambda: gaussian_kernel_weights(Q, K, attn_mask=1),
            TypeError,
            "attn_mask must be a torch",
        ),
        (
            lambda: gaussian_kernel_weights(Q, K, attn_mask=torch.ones(2, 4).long()),
            TypeError,
            "attn_mask must be boolean",
        ),
        (
            lambda: gaussian_kernel_weights(Q, K, attn_mask=torch.ones(4, 2).bool()),
            ValueError,
            "attn_mask must broadcast",
        ),
        (
            lambda: gaussian_kernel_weights(Q, K, attn_mask=torch.zeros(2, 4), is_causal=True),
            ValueError,
            "attn_mask must be None",
        ),
        (lambda: norm_exponent(3.0, sigma=1), TypeError, "x must be a torch.Tensor"),
        (lambda: norm_exponent(torch.tensor(3.0), sigma=1), ValueError, "x must have at least 1"),
        (lambda: norm_exponent(NAN, sigma=1), ValueError, "x must be finite"),
        (lambda: softmax_width(0), ValueError, "dimension must be at least 1"),
        (lambda: softmax_width(2.5), TypeError, "dimension must be an integer"),
        (lambda: append_norm_gap(Q, K[:, :1]), ValueError, "k must have the size of q"),
        (lambda: append_norm_penalty(Q, None), TypeError, "k must be a torch.Tensor"),
        (lambda: multi_indices(0, 2), ValueError, "dimension must be at least 1"),
        (lambda: multi_indices(2, -1), ValueError, "degree must be at least 0"),
        (lambda: taylor_feature_dimension(2, 1.0), TypeError, "degree must be an integer"),
        (lambda: taylor_features(Q, sigma=0, degree=2), ValueError, "sigma must be positive"),
        (lambda: taylor_features(Q, sigma=1, degree=-2), ValueError, "degree must be at least 0"),
        (lambda: taylor_features(NAN, sigma=1, degree=2), ValueError, "x must be finite"),
        (lambda: taylor_features(Q[:, :0], sigma=1, degree=2), ValueError, "dimension must be"),
        (lambda: taylor_kernel(Q, K, sigma=1, degree=True), TypeError, "degree must be an integer"),
        (lambda: taylor_error_bound(1.0, Q, sigma=1, degree=1), TypeError, "q_norm must be"),
        (lambda: taylor_error_bound(Q, K, sigma=1, degree=1), ValueError, "k_norm must have"),
        (lambda: taylor_error_bound(Q, Q.half(), sigma=1, degree=1), TypeError, "k_norm must have"),
        (lambda: taylor_degree(0.0, sigma=1, tolerance=0.1), ValueError, "norm must be positive"),
        (lambda: taylor_degree(2.0, sigma=1, tolerance=1), ValueError, "tolerance must be below 1"),
        (lambda: taylor_degree(2.0, sigma=1, tolerance=0), ValueError, "tolerance must be pos"),
        (lambda: overflow_norm(torch.int32, sigma=1), TypeError, "dtype must be a real floating"),
        (lambda: underflow_distance("half", sigma=1), TypeError, "dtype must be a real floating"),
        (lambda: overflow_norm(torch.float32, sigma=-1), ValueError, "sigma must be positive"),
    ],
)
def test_other_arguments_at_the_door(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_value_checks_can_be_switched_off():
    with value_checks(False):
        assert bool(gaussian_kernel(NAN, K, sigma=2.0).isnan().all())
