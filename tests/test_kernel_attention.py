"""Attention from any similarity and any feature map: exact, linear, and hard to misuse."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as torch_attention

from dlchecked.arguments import value_checks
from dlchecked.counting import Cost, cost_of, saved_bytes
from dlchecked.kernel_attention import (
    ZeroDenominatorError,
    linear_attention,
    linear_attention_cost,
    linear_attention_saved,
    quadratic_attention,
    quadratic_attention_cost,
    quadratic_attention_saved,
    quadratic_crossover,
    quadratic_feature_dimension,
    quadratic_features,
    quadratic_features_cost,
    quadratic_similarity,
    similarity_attention,
    softmax_attention_cost,
    softmax_attention_saved,
)
from dlchecked.scaled_dot_product import scaled_dot_product_attention

DOUBLE = torch.float64
HALVES = [torch.bfloat16, torch.float16]
EXACT = {"rtol": 1e-12, "atol": 1e-12}
checked = settings(max_examples=60, deadline=None, derandomize=True)


def draw(*shape, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype)


def case(*leading, N=5, S=7, D=3, M=4, dtype=DOUBLE, seed=0):
    shapes = ((N, D), (S, D), (S, M))
    return tuple(
        draw(*leading, *shape, seed=10 * seed + i, dtype=dtype) for i, shape in enumerate(shapes)
    )


def softmax_similarity(q, k):
    return torch.exp(q @ k.mT / math.sqrt(q.shape[-1]))


def dot(q, k):
    return q @ k.mT


# The general form


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_softmax_similarity_gives_torch_attention(leading):
    q, k, v = case(*leading)
    ours = similarity_attention(q, k, v, similarity=softmax_similarity)
    torch.testing.assert_close(ours, torch_attention(q, k, v), **EXACT)


def test_masked_similarity_gives_torch_attention():
    q, k, v = case(2, 3)
    mask = draw(5, 7, seed=9) > 0
    mask[:, 0] = True
    ours = similarity_attention(q, k, v, similarity=softmax_similarity, attn_mask=mask)
    torch.testing.assert_close(ours, torch_attention(q, k, v, attn_mask=mask), **EXACT)


def test_similarity_may_be_asymmetric_and_negative():
    q, k, v = case()
    weights = draw(5, 7, seed=3)
    ours = similarity_attention(q, k, v, similarity=lambda q, k: weights)
    expected = weights / weights.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(ours, expected, **EXACT)


@checked
@given(
    st.lists(st.floats(0, 10), min_size=4, max_size=4).filter(lambda w: sum(w) > 1e-3),
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
)
def test_weights_that_are_not_negative_stay_within_the_values(weights, values):
    row = torch.tensor([weights], dtype=DOUBLE)
    v = torch.tensor(values, dtype=DOUBLE)[:, None]
    q, k = torch.zeros(1, 2, dtype=DOUBLE), torch.zeros(4, 2, dtype=DOUBLE)
    out = similarity_attention(q, k, v, similarity=lambda q, k: row).item()
    assert min(values) - 1e-12 <= out <= max(values) + 1e-12


def test_a_factor_of_the_query_cancels():
    q, k, v = case()
    factor = torch.linspace(0.1, 9, 5, dtype=DOUBLE)[:, None]
    ours = similarity_attention(q, k, v, similarity=lambda q, k: factor * softmax_similarity(q, k))
    plain = similarity_attention(q, k, v, similarity=softmax_similarity)
    torch.testing.assert_close(ours, plain, **EXACT)


def test_a_query_without_keys_gets_zeros_and_passes_back_zeros():
    q, k, v = (x.requires_grad_() for x in case())
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[2] = False
    out = similarity_attention(q, k, v, similarity=quadratic_similarity, attn_mask=mask)
    assert out[2].eq(0).all()
    assert out[1].ne(0).all()
    out.sum().backward()
    assert q.grad[2].eq(0).all()
    assert q.grad.isfinite().all()


# The quadratic kernel and its features


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("D", [1, 2, 5, 16])
def test_features_multiply_to_the_kernel(D, offset, symmetric):
    q, k, _ = case(2, D=D)
    options = {"offset": offset, "symmetric": symmetric}
    phi_q, phi_k = quadratic_features(q, **options), quadratic_features(k, **options)
    assert phi_q.shape[-1] == quadratic_feature_dimension(D, **options)
    expected = quadratic_similarity(q, k, offset=offset)
    torch.testing.assert_close(phi_q @ phi_k.mT, expected, rtol=1e-12, atol=1e-10)


def test_features_in_their_documented_order():
    x = torch.tensor([2.0, 3.0, 5.0], dtype=DOUBLE)
    root2, root = math.sqrt(2), math.sqrt(7.0)
    u = [2.0, 3.0, 5.0, root]
    pairs = [(i, i) for i in range(4)] + list(itertools.combinations(range(4), 2))
    expected = [u[i] * u[j] * (1 if i == j else root2) for i, j in pairs]
    assert quadratic_features(x, offset=7.0).tolist() == pytest.approx(expected)
    full = [a * b for a in u for b in u]
    assert quadratic_features(x, offset=7.0, symmetric=False).tolist() == pytest.approx(full)


@pytest.mark.parametrize("D", [1, 2, 3, 10])
def test_symmetric_map_is_the_shortest(D):
    # The Gram matrix of enough points has the rank r: no shorter map has the same products.
    x = draw(200, D)
    for offset in (0.0, 1.0):
        r = quadratic_feature_dimension(D, offset=offset)
        gram = quadratic_similarity(x, x, offset=offset)
        assert int(torch.linalg.matrix_rank(gram, hermitian=True, rtol=1e-10)) == r


@checked
@given(st.lists(st.floats(-20, 20), min_size=6, max_size=6), st.floats(0, 5))
def test_kernel_is_never_negative(coordinates, offset):
    q = torch.tensor(coordinates, dtype=torch.float32).reshape(2, 3)
    assert bool((quadratic_similarity(q, -q, offset=offset) >= 0).all())


# Linear attention


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_linear_form_equals_the_quadratic_one(leading, offset, symmetric):
    q, k, v = case(*leading)
    ours = quadratic_attention(q, k, v, offset=offset, symmetric=symmetric)
    slow = similarity_attention(
        q, k, v, similarity=lambda q, k: quadratic_similarity(q, k, offset=offset)
    )
    torch.testing.assert_close(ours, slow, rtol=1e-10, atol=1e-10)


@checked
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9)
)
def test_any_positive_features(N, S, r, M, seed):
    phi_q, phi_k = draw(N, r, seed=seed).abs() + 0.01, draw(S, r, seed=seed + 50).abs() + 0.01
    v = draw(S, M, seed=seed + 99)
    ours = linear_attention(phi_q, phi_k, v)
    expected = similarity_attention(phi_q, phi_k, v, similarity=dot)
    torch.testing.assert_close(ours, expected, **EXACT)


def test_log_scale_weighs_the_keys_and_never_overflows():
    phi_q, phi_k, v = (x.abs() for x in case(2))
    scale = draw(2, 7, seed=4)
    expected = linear_attention(phi_q, phi_k * scale.exp().unsqueeze(-1), v)
    for shift in (0.0, 1000.0, -1000.0):
        ours = linear_attention(phi_q, phi_k, v, log_scale_k=scale + shift)
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_wide_log_scale_of_narrow_features():
    phi_q, phi_k, v = (x.abs().bfloat16() for x in case())
    scale = 156.0 + draw(7, seed=4).float()
    ours = linear_attention(phi_q, phi_k, v, log_scale_k=scale)
    expected = linear_attention(
        *(x.double() for x in (phi_q, phi_k, v)), log_scale_k=scale.double()
    )
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), expected, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("with_scale", [False, True])
def test_hidden_keys_leave_no_trace(with_scale):
    phi_q, phi_k, v = (x.abs() for x in case(2))
    mask = torch.tensor([[1, 1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    scale = draw(2, 7, seed=4) if with_scale else None
    if scale is not None:
        scale[~mask] = 5000.0
    ours = linear_attention(phi_q, phi_k, v, log_scale_k=scale, key_mask=mask)
    for b in range(2):
        kept = mask[b]
        own = None if scale is None else scale[b, kept]
        expected = linear_attention(phi_q[b], phi_k[b, kept], v[b, kept], log_scale_k=own)
        torch.testing.assert_close(ours[b], expected, **EXACT)


def test_mask_on_the_values_alone_would_be_wrong():
    # Values all equal to 1 must average to 1 whatever is hidden.
    phi_q, phi_k, _ = (x.abs() for x in case())
    mask = torch.arange(7) < 4
    ones = torch.ones(7, 2, dtype=DOUBLE)
    torch.testing.assert_close(
        linear_attention(phi_q, phi_k, ones, key_mask=mask), torch.ones(5, 2, dtype=DOUBLE)
    )
    # Values zeroed behind the mask's back keep the hidden keys in the denominator.
    assert linear_attention(phi_q, phi_k, ones * mask[:, None]).max() < 0.999


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_sequence_without_keys_gets_zeros(with_scale):
    phi_q, phi_k, v = (x.abs().requires_grad_() for x in case(2))
    mask = torch.tensor([[True] * 7, [False] * 7])
    scale = draw(2, 7) if with_scale else None
    out = linear_attention(phi_q, phi_k, v, log_scale_k=scale, key_mask=mask)
    assert out[1].eq(0).all()
    assert out[0].ne(0).all()
    gradients = torch.autograd.grad(out.sum(), (phi_q, phi_k, v))
    assert all(g[1].eq(0).all() and g.isfinite().all() for g in gradients)


def test_features_of_one_vector_and_of_a_batch():
    x = draw(2, 3, 4)
    batch = quadratic_features(x)
    torch.testing.assert_close(quadratic_features(x[1, 2]), batch[1, 2], **EXACT)
    assert quadratic_features(draw(0, 4)).shape == (0, 15)


def test_permuting_keys_changes_nothing():
    q, k, v = case()
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(
        quadratic_attention(q, k, v), quadratic_attention(q, k[order], v[order]), **EXACT
    )


def test_empty_sequence_of_queries():
    q, k, v = case(N=0)
    assert quadratic_attention(q, k, v).shape == (0, 4)
    assert similarity_attention(q, k, v, similarity=quadratic_similarity).shape == (0, 4)


# Zero denominators

MINUS_ONE = (
    torch.tensor([[2.0, 1.0], [1.0, 0.0]]),
    torch.tensor([[-1.0, 3.0], [-1.0, -2.0]]),
    torch.ones(2, 1),
)


def test_all_keys_at_minus_one_are_refused_by_both_forms():
    q, k, v = MINUS_ONE
    with pytest.raises(ZeroDenominatorError, match="row 1 is 0"):
        similarity_attention(q, k, v, similarity=quadratic_similarity)
    for symmetric in (True, False):
        with pytest.raises(ZeroDenominatorError, match=r"row 1 is .*\(1 of 2 rows\)"):
            quadratic_attention(q, k, v, symmetric=symmetric)


def test_rounding_hides_the_zero_of_the_symmetric_map():
    # The reason for a tolerance: sqrt(2) squared is not 2, and the exact zero is missed.
    q, k, _ = MINUS_ONE
    phi_q, phi_k = (quadratic_features(x.double()) for x in (q, k))
    denominator = phi_q[1] @ phi_k.sum(0)
    assert 0 < abs(denominator.item()) < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("S", [16, 1024, 16384])
def test_rounding_errors_of_many_keys_do_not_hide_the_zero(S, dtype):
    # A mask makes the sum over the keys a product, whose errors grow with the number of keys.
    second = torch.randint(-3, 4, (S,), generator=torch.Generator().manual_seed(1)).to(dtype)
    phi_q = quadratic_features(torch.tensor([[1.0, -3.0]], dtype=dtype))
    phi_k = quadratic_features(torch.stack([3 * second - 1, second], -1))
    v, every = draw(S, 2, dtype=dtype), torch.ones(S, dtype=torch.bool)
    for options in ({}, {"key_mask": every}, {"log_scale_k": torch.zeros(S, dtype=dtype)}):
        with pytest.raises(ZeroDenominatorError):
            linear_attention(phi_q, phi_k, v, **options)
    phi_k[0] = quadratic_features(torch.tensor([40.0, 1.0], dtype=dtype))  # one key far off
    assert linear_attention(phi_q, phi_k, v, key_mask=every).isfinite().all()


def test_one_key_off_minus_one_is_enough():
    q, k, _ = MINUS_ONE
    k = k.clone()
    k[0, 0] = -1.125
    out = quadratic_attention(q, k, torch.tensor([[5.0], [7.0]]))
    torch.testing.assert_close(out[1], torch.tensor([5.0]), rtol=1e-3, atol=1e-3)


def test_batched_rows_are_named():
    phi = torch.ones(2, 3, 4)
    phi[1, 2] = 0
    with pytest.raises(ZeroDenominatorError, match=r"row \(1, 2\) is 0"):
        linear_attention(phi, torch.ones(2, 5, 4), torch.ones(2, 5, 1))


def test_zero_with_scale_and_mask():
    q, k, v = MINUS_ONE
    features = [quadratic_features(x) for x in (q, k)]
    with pytest.raises(ZeroDenominatorError):
        linear_attention(*features, v, log_scale_k=torch.tensor([3.0, 80.0]))
    wide = torch.cat([k, torch.tensor([[4.0, 4.0]])])
    features[1] = quadratic_features(wide)
    values = torch.ones(3, 1)
    linear_attention(*features, values)
    with pytest.raises(ZeroDenominatorError):
        linear_attention(*features, values, key_mask=torch.tensor([True, True, False]))
    mask = torch.tensor([True, True, False])
    with pytest.raises(ZeroDenominatorError):
        similarity_attention(q, wide, values, similarity=quadratic_similarity, attn_mask=mask)


def test_negative_denominators_are_allowed():
    phi_q, phi_k = torch.ones(1, 1), torch.tensor([[1.0], [-3.0]])
    out = linear_attention(phi_q, phi_k, torch.tensor([[1.0], [0.0]]))
    assert out.item() == -0.5


def test_small_but_honest_denominators_pass():
    phi_k = torch.tensor([[1.0], [-1.0 + 1e-5]])
    out = linear_attention(torch.ones(1, 1), phi_k, torch.tensor([[1.0], [1.0]]))
    assert out.item() == pytest.approx(1.0)


def test_underflow_is_an_error_and_not_an_average():
    tiny = torch.full((3, 2), 1e-30)
    with pytest.raises(ZeroDenominatorError, match="row 0 is 0"):
        linear_attention(tiny, tiny, torch.ones(3, 1))


def test_value_checks_can_be_switched_off():
    q, k, v = MINUS_ONE
    with value_checks(False):
        assert similarity_attention(q, k, v, similarity=quadratic_similarity).isnan().any()


# Large norms, and the dtypes


@pytest.mark.parametrize("norm", [8.0, 50.0])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, *HALVES])
def test_large_norms_stay_finite_and_right(norm, dtype):
    q, k, v = case(N=16, S=32, D=8)
    q, k = (norm * x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    q, k, v = (x.to(dtype) for x in (q, k, v))
    ours = quadratic_attention(q, k, v)
    exact = similarity_attention(*(x.double() for x in (q, k, v)), similarity=quadratic_similarity)
    # One rounding of the result; sums of 32 products of 45 features in float32 or better before.
    tolerance = max(torch.finfo(dtype).eps, 1e-5 if dtype != DOUBLE else 1e-11)
    assert ours.dtype == dtype
    assert bool(ours.isfinite().all())
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, *HALVES])
def test_results_in_the_dtype_of_the_input(dtype):
    q, k, v = case(dtype=dtype)
    wide = [x.double() for x in (q, k, v)]
    # Features of 16 bits are rounded: a relative error of eps each, some 10 terms.
    close = dict.fromkeys(("rtol", "atol"), max(12 * torch.finfo(dtype).eps, 1e-12))
    for function in (
        lambda q, k, v: quadratic_similarity(q, k),
        lambda q, k, v: quadratic_features(q),
        lambda q, k, v: quadratic_attention(q, k, v),
        lambda q, k, v: similarity_attention(q, k, v, similarity=softmax_similarity),
        lambda q, k, v: linear_attention(quadratic_features(q), quadratic_features(k), v),
    ):
        result = function(q, k, v)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), function(*wide), **close)


def test_narrow_sums_are_kept_wide():
    # In bfloat16 a running sum of ones stops at 256.
    phi, v = torch.ones(4096, 1, dtype=torch.bfloat16), torch.ones(4096, 1, dtype=torch.bfloat16)
    v[2048:] = 0
    assert linear_attention(phi[:1], phi, v).item() == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_results_on_a_gpu():
    q, k, v = case(2, N=40, S=50, D=16, dtype=torch.float32)
    there = quadratic_attention(q.cuda(), k.cuda(), v.cuda()).cpu()
    torch.testing.assert_close(there, quadratic_attention(q, k, v), rtol=1e-4, atol=1e-4)


# Gradients


def test_gradients_of_linear_attention():
    phi_q, phi_k, v = (x.abs() + 0.1 for x in case(2, N=3, S=4, D=3, M=2))
    scale = draw(2, 4, seed=5)
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    inputs = tuple(x.requires_grad_() for x in (phi_q, phi_k, v, scale))

    def function(phi_q, phi_k, v, scale):
        return linear_attention(phi_q, phi_k, v, log_scale_k=scale, key_mask=mask)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    assert torch.autograd.gradcheck(linear_attention, inputs[:3])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_gradients_of_quadratic_attention(offset, symmetric):
    inputs = tuple(x.requires_grad_() for x in case(N=3, S=4, D=2, M=2))

    def function(q, k, v):
        return quadratic_attention(q, k, v, offset=offset, symmetric=symmetric)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_gradients_of_similarity_attention():
    inputs = tuple(x.requires_grad_() for x in case(N=3, S=4, D=2, M=2))
    mask = draw(3, 4, seed=8) > -0.5

    def function(q, k, v):
        return similarity_attention(q, k, v, similarity=quadratic_similarity, attn_mask=mask)

    assert torch.autograd.gradcheck(function, inputs)


# What it costs

SIZES = [(5, 7, 3, 4), (8, 8, 6, 2), (9, 4, 1, 5), (3, 11, 2, 2)]
MAPS = [{"offset": o, "symmetric": s} for o in (0.0, 1.0) for s in (True, False)]


@pytest.mark.parametrize(("N", "S", "D", "M"), SIZES)
def test_counted_operations_are_the_formulas(N, S, D, M):
    q, k, v = case(N=N, S=S, D=D, M=M)
    phi_q, phi_k = q.abs(), k.abs()
    with value_checks(False):
        softmax = cost_of(scaled_dot_product_attention, q, k, v)
        linear = cost_of(linear_attention, phi_q, phi_k, v)
        features = [cost_of(quadratic_features, q, **options) for options in MAPS]
        quadratic = [cost_of(quadratic_attention, q, k, v, **options) for options in MAPS]
    assert softmax == softmax_attention_cost(N, D, M, S=S)
    assert linear == linear_attention_cost(N, D, M, S=S)
    assert features == [quadratic_features_cost(N, D, **options) for options in MAPS]
    assert quadratic == [quadratic_attention_cost(N, D, M, S=S, **options) for options in MAPS]


@pytest.mark.parametrize(("N", "S", "D", "M"), SIZES)
def test_saved_numbers_are_the_formulas(N, S, D, M):
    q, k, v = (x.requires_grad_() for x in case(N=N, S=S, D=D, M=M))
    phi_q, phi_k = (x.detach().abs().requires_grad_() for x in (q, k))
    with value_checks(False):
        softmax = saved_bytes(scaled_dot_product_attention, q, k, v)
        linear = saved_bytes(linear_attention, phi_q, phi_k, v)
        quadratic = [saved_bytes(quadratic_attention, q, k, v, **options) for options in MAPS]
    assert softmax == 8 * softmax_attention_saved(N, D, M, S=S)
    assert linear == 8 * linear_attention_saved(N, D, M, S=S)
    expected = [quadratic_attention_saved(N, D, M, S=S, **options) for options in MAPS]
    assert quadratic == [8 * numbers for numbers in expected]


def test_costs_of_heads_add_up():
    q, k, v = case(2, 3)
    with value_checks(False):
        assert cost_of(quadratic_attention, q, k, v) == 6 * quadratic_attention_cost(5, 3, 4, S=7)


def test_checks_of_values_cost_elementwise_operations():
    q, k, v = case()
    assert cost_of(quadratic_attention, q, k, v).elementwise > (
        quadratic_attention_cost(5, 3, 4, S=7).elementwise
    )


@pytest.mark.parametrize("options", MAPS)
@pytest.mark.parametrize(("D", "M"), [(1, 1), (4, 3), (64, 64), (16, 128)])
def test_crossover_is_the_first_cheaper_length(D, M, options):
    N = quadratic_crossover(D, M, **options)

    def gain(N):
        softmax = softmax_attention_cost(N, D, M).multiply_adds
        return softmax - quadratic_attention_cost(N, D, M, **options).multiply_adds

    assert gain(N) > 0
    assert N == 1 or gain(N - 1) <= 0
    assert all(gain(N + step) > 0 for step in range(1, 20))


def test_costs_are_plain_numbers():
    assert isinstance(softmax_attention_cost(2, 3, 4), Cost)
    assert isinstance(quadratic_attention_saved(2, 3, 4), int)


# The door

Q, K, V = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4, 5)
NAN = torch.full((2, 3), math.nan)
FEATURES = torch.ones(2, 6), torch.ones(4, 6)


def general(q=Q, k=K, v=V, **options):
    return lambda: similarity_attention(q, k, v, **{"similarity": dot, **options})


def linear(phi_q=FEATURES[0], phi_k=FEATURES[1], v=V, **options):
    return lambda: linear_attention(phi_q, phi_k, v, **options)


def quadratic(q=Q, k=K, v=V, **options):
    return lambda: quadratic_attention(q, k, v, **options)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (general(q=[[1.0]]), TypeError, "q must be a torch.Tensor"),
        (general(q=Q.long()), TypeError, "q must have a real floating-point dtype"),
        (general(k=K.double()), TypeError, "k must have the dtype of q"),
        (general(q=Q[0]), ValueError, "q must have at least 2 dimensions"),
        (general(k=K[:, :2]), ValueError, "k must have the size of q"),
        (general(k=K[None]), ValueError, "k must have the leading dimensions of q"),
        (general(v=V[:3]), ValueError, "v must have one row for each key"),
        (general(k=K[:0], v=V[:0]), ValueError, "k must hold at least one key"),
        (general(q=NAN), ValueError, "q must be finite, but 6 of 6"),
        (general(v=V / 0), ValueError, "v must be finite"),
        (general(similarity=3.0), TypeError, "similarity must be callable"),
        (general(similarity=lambda q, k: 1.0), TypeError, "similarity must return"),
        (general(similarity=lambda q, k: (q @ k.mT) > 0), TypeError, "similarity must return"),
        (general(similarity=lambda q, k: k @ q.mT), ValueError, "similarity must return one"),
        (general(similarity=lambda q, k: dot(q, k) / 0), ValueError, "similarity's result must"),
        (general(attn_mask=1), TypeError, "attn_mask must be a torch.Tensor"),
        (general(attn_mask=torch.ones(2, 4)), TypeError, "attn_mask must be boolean"),
        (general(attn_mask=torch.ones(4, 2).bool()), ValueError, "attn_mask must broadcast"),
        (linear(phi_q=None), TypeError, "phi_q must be a torch.Tensor"),
        (linear(phi_k=FEATURES[1].long()), TypeError, "phi_k must have a real floating-point"),
        (linear(phi_k=FEATURES[1].double()), TypeError, "phi_k must have the dtype of phi_q"),
        (linear(v=V.half()), TypeError, "v must have the dtype of phi_q"),
        (linear(phi_q=FEATURES[0][0]), ValueError, "phi_q must have at least 2 dimensions"),
        (linear(phi_k=FEATURES[1][:, :5]), ValueError, "phi_k must have as many features"),
        (linear(phi_k=FEATURES[1][None]), ValueError, "phi_k must have the leading dimensions"),
        (linear(phi_k=torch.ones(0, 6), v=V[:0]), ValueError, "phi_k must hold at least one key"),
        (
            linear(phi_q=torch.ones(2, 0), phi_k=torch.ones(4, 0)),
            ValueError,
            "phi_q must have at least one feature",
        ),
        (linear(v=V[:3]), ValueError, "v must have one row for each key"),
        (linear(phi_q=FEATURES[0] / 0), ValueError, "phi_q must be finite"),
        (linear(phi_k=FEATURES[1] * math.nan), ValueError, "phi_k must be finite"),
        (linear(log_scale_k=1.0), TypeError, "log_scale_k must be a torch.Tensor"),
        (linear(log_scale_k=torch.ones(4).long()), TypeError, "log_scale_k must have a real"),
        (linear(log_scale_k=torch.ones(4, 1)), ValueError, "log_scale_k must have one entry"),
        (linear(log_scale_k=torch.ones(2)), ValueError, "log_scale_k must have one entry"),
        (linear(log_scale_k=torch.ones(4) / 0), ValueError, "log_scale_k must be finite"),
        (linear(key_mask=[True] * 4), TypeError, "key_mask must be a torch.Tensor"),
        (linear(key_mask=torch.ones(4)), TypeError, "key_mask must be boolean"),
        (linear(key_mask=torch.ones(2, 4).bool()), ValueError, "key_mask must have one entry"),
        (linear(phi_q=0 * FEATURES[0]), ZeroDenominatorError, "row 0 is 0"),
        (linear(FEATURES[0] * 3e38), ValueError, "the denominator must be finite"),
        (linear(v=V * 3e38), ValueError, "the output must be finite"),
        (quadratic(q=NAN), ValueError, "q must be finite"),
        (quadratic(v=V.double()), TypeError, "v must have the dtype of q"),
        (quadratic(offset=-1.0), ValueError, "offset must be finite and not negative"),
        (quadratic(offset=math.inf), ValueError, "offset must be finite"),
        (quadratic(offset=1e300), ValueError, "the quadratic features must be finite"),
        (quadratic(offset="1"), TypeError, "offset must be a real number"),
        (quadratic(offset=True), TypeError, "offset must be a real number"),
        (quadratic(symmetric=1), TypeError, "symmetric must be True or False"),
        (lambda: quadratic_similarity(Q, K[:, :1]), ValueError, "k must have the size of q"),
        (lambda: quadratic_similarity(Q, K, offset=-0.5), ValueError, "offset must be finite"),
        (
            lambda: quadratic_similarity(300 * Q.half(), K.half()),
            ValueError,
            "the quadratic similarity must be finite",
        ),
        (lambda: quadratic_features(3.0), TypeError, "x must be a torch.Tensor"),
        (lambda: quadratic_features(Q[:, :0]), ValueError, "dimension must be at least 1"),
        (lambda: quadratic_features(NAN), ValueError, "x must be finite"),
        (lambda: quadratic_features(300 * Q.half()), ValueError, "the quadratic features must be"),
        (lambda: quadratic_feature_dimension(0), ValueError, "dimension must be at least 1"),
        (lambda: quadratic_feature_dimension(2.0), TypeError, "dimension must be an integer"),
        (lambda: softmax_attention_cost(0, 2, 2), ValueError, "N must be at least 1"),
        (lambda: linear_attention_cost(2, 2.0, 2), TypeError, "r must be an integer"),
        (lambda: quadratic_attention_cost(2, 2, 2, S=0), ValueError, "S must be at least 1"),
        (lambda: quadratic_attention_saved(2, 2, True), TypeError, "M must be an integer"),
        (lambda: quadratic_crossover(0, 2), ValueError, "D must be at least 1"),
    ],
)
def test_bad_inputs_at_the_door(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_zero_denominator_is_a_value_error():
    assert issubclass(ZeroDenominatorError, ValueError)
