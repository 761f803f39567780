"""Random features: the estimates, their variances, attention by them, and the door."""

from __future__ import annotations

import copy
import io
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.kernel_approximation import RBFSampler
from torch import nn

from dlchecked.arguments import value_checks
from dlchecked.counting import Cost, cost_of
from dlchecked.gaussian_kernel import gaussian_kernel, softmax_similarity, softmax_width
from dlchecked.kernel_attention import linear_attention
from dlchecked.random_features import (
    NegativeDenominatorError,
    PositiveRandomFeatures,
    RandomFourierFeatures,
    draw_projection,
    feature_denominators,
    fourier_variance,
    orthogonal_covariance,
    positive_relative_variance,
    predicted_negative_share,
    random_feature_attention,
    random_feature_cost,
)

KINDS = ("pair", "offset", "positive", "hyperbolic")


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind, D=8, R=16, seed=0, **options):
    if kind in ("pair", "offset"):
        return RandomFourierFeatures(D, R, generator=stream(seed), form=kind, **options)
    signs = kind == "hyperbolic"
    return PositiveRandomFeatures(D, R, generator=stream(seed), hyperbolic=signs, **options)


def draw(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=stream(seed), dtype=torch.float64).to(dtype)


def exact_attention(q, k, v, mask=None, sigma=None):
    scale = 1 / (sigma or softmax_width(q.shape[-1])) ** 2
    scores = scale * q.double() @ k.double().mT
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(-2), -math.inf)
    return torch.softmax(scores, -1) @ v.double()


# The projection


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 24])
def test_orthogonal_rows_are_orthogonal_within_their_block(rows):
    w = draw_projection(8, rows, generator=stream(), orthogonal=True)
    assert w.shape == (rows, 8)
    for block in w.split(8):
        gram = block @ block.mT
        assert float((gram - gram.diagonal().diag()).abs().max()) < 1e-12


def test_every_orthogonal_row_alone_is_standard_normal():
    blocks = [draw_projection(3, 4, generator=stream(s), orthogonal=True) for s in range(4000)]
    rows = torch.stack(blocks)
    for i in (0, 2, 3):
        for coordinate in range(3):
            assert stats.kstest(rows[:, i, coordinate].numpy(), "norm").pvalue > 1e-3
        assert stats.kstest((rows[:, i] ** 2).sum(-1).numpy(), "chi2", (3,)).pvalue > 1e-3


def test_the_first_direction_prefers_no_sign():
    # Without the sign correction the first coordinate of the first row is always negative.
    firsts = torch.stack(
        [draw_projection(4, 1, generator=stream(s), orthogonal=True)[0, 0] for s in range(400)]
    )
    assert 150 < int((firsts > 0).sum()) < 250


def test_one_seed_gives_one_projection_whatever_the_dtype():
    single, double = make("pair"), make("pair", dtype=torch.float64)
    assert torch.equal(single.projection, double.projection.float())
    assert not torch.equal(single.projection, make("pair", seed=1).projection)


def test_redrawing_changes_the_projection_and_nothing_else():
    features = make("offset")
    before = copy.deepcopy(features.state_dict())
    features.redraw(stream(5))
    assert not torch.equal(features.projection, before["projection"])
    assert not torch.equal(features.offset, before["offset"])
    assert torch.equal(features.projection, make("offset", seed=5).projection)
    assert torch.equal(features.offset, make("offset", seed=5).offset)


# As modules


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_goes_through_a_file_and_back(kind):
    first, second, file = make(kind), make(kind, seed=9), io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    x = draw(3, 8, dtype=torch.float32)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "offset"},
        {"kind": "positive"},
        {"kind": "pair", "sigma": 3.0},
        {"kind": "pair", "orthogonal": True},
    ],
)
def test_a_state_of_other_features_is_refused(other):
    state = make(other.pop("kind"), **other).state_dict()
    with pytest.raises((ValueError, RuntimeError), match=r"same features|offset"):
        make("pair").load_state_dict(state)


def test_a_refused_state_leaves_the_features_as_they_were():
    features, other = make("positive"), make("positive", seed=3, sigma=9.0)
    model = nn.Sequential(features)
    with pytest.raises(ValueError, match="same features"):
        model.load_state_dict(nn.Sequential(other).state_dict())
    assert torch.equal(features.projection, make("positive").projection)


def test_a_module_moves_and_trains_nothing():
    features = make("offset")
    assert list(features.parameters()) == []
    assert {name for name, _ in features.named_buffers()} == {"projection", "offset"}
    wide = copy.deepcopy(features).to(torch.float64)
    assert wide.projection.dtype == wide.offset.dtype == torch.float64
    assert features.to("meta").projection.device.type == "meta"
    assert nn.Sequential(make("pair")).bfloat16()[0].projection.dtype == torch.bfloat16
    assert "sigma" in repr(features)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rounded_module_still_estimates_the_kernel(kind):
    # Rounding w moves it by 2^-9 of itself, alike for q and k: the estimate moves by little.
    features = make(kind, R=256)
    q, k = 0.4 * draw(2, 5, 8, dtype=torch.float32)
    before = features(q) @ features(k).mT
    after = features.bfloat16()(q) @ features(k).mT
    assert float((after - before).abs().max()) < 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 4, 8), (0, 8)])
def test_any_leading_dimensions(kind, shape):
    features, x = make(kind), draw(*shape)
    r = features.feature_dimension
    assert r == (32 if kind in ("pair", "hyperbolic") else 16)
    assert features(x).shape == (*shape[:-1], r)
    phi, log_scale = features.softmax_features(x)
    assert phi.shape == (*shape[:-1], r)
    assert log_scale.shape == shape[:-1]


# Estimates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("R", [5, 8])
def test_estimates_have_the_stated_mean_and_variance(kind, orthogonal, R):
    D, runs = 4, 3000
    features = make(kind, D=D, R=R, orthogonal=orthogonal, sigma=1.5, dtype=torch.float64)
    # Short vectors: b stays below 0.6, where a sample variance of positive features is of use.
    q, k = 0.25 * draw(1, D, seed=2), 0.35 * draw(3, D, seed=3)
    generator, seen = stream(4), []
    for _ in range(runs):
        features.redraw(generator)
        seen.append(features(q) @ features(k).mT)
    ratio = torch.stack(seen)[:, 0] / gaussian_kernel(q, k, sigma=1.5)[0]
    predicted = features.relative_variance(q, k)[0]
    assert bool(((ratio.mean(0) - 1).abs() < 4.5 * (predicted / runs).sqrt()).all())
    assert bool((ratio.var(0) / predicted - 1).abs().max() < 0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_softmax_features_estimate_the_softmax_similarity(kind):
    features = make(kind, R=60_000, sigma=2.0, dtype=torch.float64)
    q, k = 0.5 * draw(4, 8), 0.5 * draw(5, 8, seed=7)
    (phi_q, c_q), (phi_k, c_k) = features.softmax_features(q), features.softmax_features(k)
    estimate = phi_q @ phi_k.mT * torch.exp(c_q[:, None] + c_k)
    ratio = estimate / softmax_similarity(q, k, sigma=2.0)
    deviations = (ratio - 1) / features.relative_variance(q, k).sqrt()
    assert float(deviations.abs().max()) < 5


@pytest.mark.parametrize("kind", KINDS)
def test_both_feature_maps_differ_by_the_norm_alone(kind):
    features, x = make(kind, dtype=torch.float64), draw(6, 8)
    phi, log_scale = features.softmax_features(x)
    norm = x.square().sum(-1, keepdim=True) / (2 * features.sigma**2)
    rebuilt = phi * torch.exp(log_scale.unsqueeze(-1) - norm)
    torch.testing.assert_close(features(x), rebuilt)


def test_positive_features_are_positive_and_bounded_at_any_norm():
    features = make("hyperbolic", D=64, R=128)
    for norm in (0.0, 1.0, 50.0, 1e6):
        x = norm * torch.nn.functional.normalize(draw(20, 64, dtype=torch.float32), dim=-1)
        phi, log_scale = features.softmax_features(x)
        assert bool((phi >= 0).all())
        assert bool((phi.amax(-1) == 1).all())
        assert bool(log_scale.isfinite().all())


@given(seed=st.integers(0, 2**32), reach=st.floats(0.01, 6))
@settings(max_examples=40, deadline=None)
def test_a_vector_with_itself_is_one_without_any_error_for_pairs(seed, reach):
    x = reach * draw(3, 8, seed=seed)
    products = make("pair", dtype=torch.float64, seed=seed)(x).square().sum(-1)
    torch.testing.assert_close(products, torch.ones(3, dtype=torch.float64))


@given(seed=st.integers(0, 2**32), shift=st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_pairs_depend_on_the_difference_alone(seed, shift):
    features = make("pair", dtype=torch.float64)
    q, k = draw(2, 1, 8, seed=seed)
    first, second = (features(x) @ features(y).mT for x, y in ((q, k), (q + shift, k + shift)))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_hyperbolic_features_do_not_see_a_common_sign(seed):
    features = make("hyperbolic", dtype=torch.float64)
    q, k = draw(2, 1, 8, seed=seed)
    torch.testing.assert_close(features(q) @ features(k).mT, features(-q) @ features(-k).mT)


def test_the_offset_form_is_that_of_scikit_learn():
    sampler = RBFSampler(gamma=1 / (2 * 1.7**2), n_components=24, random_state=3)
    x = draw(10, 8)
    expected = sampler.fit(x.numpy()).transform(x.numpy())
    features = make("offset", R=24, sigma=1.7, dtype=torch.float64)
    features.projection.copy_(torch.from_numpy(1.7 * sampler.random_weights_.T))
    features.offset.copy_(torch.from_numpy(sampler.random_offset_))
    np.testing.assert_allclose(features(x).numpy(), expected, rtol=0, atol=1e-13)


# The closed forms


def test_variances_at_their_ends():
    ends = torch.tensor([0.0, 1e-8, 700.0], dtype=torch.float64)
    pair = fourier_variance(ends, projections=3)
    assert pair[0] == 0
    assert pair[2] == pytest.approx(1 / 6)
    assert pair[1] == pytest.approx(1e-16 / 6)
    offset = fourier_variance(ends, projections=3, form="offset")
    torch.testing.assert_close(offset, pair + 1 / 6)
    positive = positive_relative_variance(ends, projections=3)
    assert positive[0] == 0
    assert positive[1] == pytest.approx(1e-8 / 3)
    hyperbolic = positive_relative_variance(ends, projections=3, hyperbolic=True)
    assert hyperbolic[1] == pytest.approx(1e-16 / 6)
    assert positive_relative_variance(torch.tensor(100.0), projections=1) == math.inf


def test_relative_and_absolute_variance_differ_by_the_squared_kernel():
    a = torch.linspace(0, 9, 10, dtype=torch.float64)
    for options in ({}, {"form": "offset"}, {"orthogonal_dimension": 6}):
        absolute = fourier_variance(a, projections=12, **options)
        relative = fourier_variance(a, projections=12, relative=True, **options)
        torch.testing.assert_close(relative * torch.exp(-a), absolute)
    torch.testing.assert_close(
        fourier_variance(a, projections=7, relative=True), (torch.cosh(a) - 1) / 7
    )


@pytest.mark.parametrize("D", [2, 3, 8, 64, 257])
def test_orthogonal_covariances_to_many_digits(D):
    with mpmath.workdps(60):
        for a in (1e-6, 1e-3, 0.0999, 0.1001, 1.0, 7.0, 30.0):
            given_a = torch.tensor([a], dtype=torch.float64)
            x = mpmath.mpf(a) / 2
            cosines = mpmath.hyp1f1(D, mpmath.mpf(D) / 2, -x) - mpmath.exp(-2 * x)
            exact = mpmath.hyp1f1(D, mpmath.mpf(D) / 2, x) * mpmath.exp(-2 * x) - 1
            seen = float(orthogonal_covariance(given_a, dimension=D))
            assert seen == pytest.approx(float(cosines), rel=1e-9, abs=1e-14)
            seen = float(orthogonal_covariance(given_a, dimension=D, of="exponentials"))
            assert seen == pytest.approx(float(exact), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("D", [2, 3, 65])
def test_orthogonal_covariances_have_their_limits(D):
    # SciPy's function is infinite there, and infinity times 0 is no number.
    far = torch.tensor([1399.0, 1401.0, 1e5, math.inf], dtype=torch.float64)
    assert float(orthogonal_covariance(far, dimension=D).abs().max()) < 2e-9
    assert bool((orthogonal_covariance(far, dimension=D, of="exponentials") == -1).all())
    seen = fourier_variance(far, projections=D, orthogonal_dimension=D)
    torch.testing.assert_close(seen, torch.full_like(far, 1 / (2 * D)))
    assert bool((positive_relative_variance(far, projections=D, orthogonal_dimension=D) > 1).all())


def test_orthogonal_variances_of_long_vectors_are_numbers():
    unit = torch.nn.functional.normalize(draw(1, 3), dim=-1)
    for kind in KINDS:
        features = make(kind, D=3, R=6, orthogonal=True, dtype=torch.float64)
        assert not bool(features.relative_variance(50 * unit, -50 * unit).isnan())
        assert not bool(features.relative_variance(50 * unit, 50 * unit).isnan())


def test_an_orthogonal_variance_refuses_to_go_backward_by_half():
    x = draw(2, 8).requires_grad_()
    for kind in KINDS:
        make(kind, dtype=torch.float64).relative_variance(x, x.detach()).sum().backward()
        variance = make(kind, orthogonal=True, dtype=torch.float64).relative_variance(x, x.detach())
        with pytest.raises(NotImplementedError, match="has no derivative"):
            variance.sum().backward()


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_closed_forms_take_any_shape(shape):
    a = torch.ones(shape)
    assert fourier_variance(a, projections=8, orthogonal_dimension=4).shape == shape
    seen = positive_relative_variance(a, projections=8, orthogonal_dimension=4)
    assert seen.shape == shape
    assert seen.dtype == torch.float32


def test_orthogonal_draws_help_near_pairs_by_the_limit():
    near = torch.tensor([1e-4], dtype=torch.float64)
    for D in (4, 64):
        plain = fourier_variance(near, projections=2 * D)
        better = fourier_variance(near, projections=2 * D, orthogonal_dimension=D)
        assert float(better / plain) == pytest.approx(3 / (D + 2), rel=1e-3)


def test_a_cut_block_counts_its_own_pairs():
    a = torch.tensor([2.0], dtype=torch.float64)
    covariance = orthogonal_covariance(a, dimension=4)
    one = fourier_variance(a, projections=1)
    seen = fourier_variance(a, projections=6, orthogonal_dimension=4)
    torch.testing.assert_close(seen, (6 * one + (4 * 3 + 2 * 1) * covariance) / 36)


# Attention


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orthogonal", [False, True])
def test_attention_comes_near_softmax_attention(kind, orthogonal):
    q, k, v = 0.5 * draw(2, 3, 10, 8), 0.5 * draw(2, 3, 12, 8, seed=2), draw(2, 3, 12, 5, seed=3)
    features = make(kind, R=40_000, orthogonal=orthogonal, dtype=torch.float64)
    error = random_feature_attention(q, k, v, features=features) - exact_attention(q, k, v)
    assert float(error.abs().max()) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_the_ratio_of_estimated_similarities(kind):
    q, k, v = 0.5 * draw(10, 8), 0.5 * draw(12, 8, seed=2), draw(12, 5, seed=3)
    features = make(kind, R=200, dtype=torch.float64)
    (phi_q, c_q), (phi_k, c_k) = features.softmax_features(q), features.softmax_features(k)
    similarity = phi_q @ phi_k.mT * torch.exp(c_q[:, None] + c_k)
    expected = similarity @ v / similarity.sum(-1, keepdim=True)
    seen = random_feature_attention(q, k, v, features=features)
    torch.testing.assert_close(seen, expected)
    through = linear_attention(phi_q, phi_k, v, log_scale_k=c_k)
    torch.testing.assert_close(through, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_keys_take_no_part(kind):
    q, k, v = 0.5 * draw(2, 10, 8), 0.5 * draw(2, 12, 8, seed=2), draw(2, 12, 5, seed=3)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, 9:] = False
    features = make(kind, R=200, dtype=torch.float64)
    whole = random_feature_attention(q, k[:, :9], v[:, :9], features=features)
    k, v = k.masked_fill(~mask[..., None], 30.0), v.masked_fill(~mask[..., None], 1e6)
    hidden = random_feature_attention(q, k, v, features=features, key_mask=mask)
    torch.testing.assert_close(hidden, whole)
    denominators = feature_denominators(q, k, features=features, key_mask=mask)
    torch.testing.assert_close(denominators, feature_denominators(q, k[:, :9], features=features))


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_without_any_key_gets_zeros(kind):
    q, k, v = draw(2, 3, 8), draw(2, 4, 8), draw(2, 4, 5)
    mask = torch.tensor([[True] * 4, [False] * 4])
    out = random_feature_attention(q, k, v, features=make(kind), key_mask=mask, allow_negative=True)
    assert bool((out[1] == 0).all())
    assert bool((out[0] != 0).any())


@pytest.mark.parametrize("norm", [0.0, 1.0, 8.0, 50.0, 1e4])
@pytest.mark.parametrize("hyperbolic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_positive_features_average_at_any_norm(norm, hyperbolic, dtype):
    features = PositiveRandomFeatures(64, 96, generator=stream(), hyperbolic=hyperbolic)
    unit = torch.nn.functional.normalize
    q, k = (norm * unit(draw(20, 64, seed=s), dim=-1) for s in (1, 2))
    q, k, v = (x.to(dtype) for x in (q, k, draw(20, 3, seed=3)))
    out = random_feature_attention(q, k, v, features=features)
    assert out.dtype == dtype
    assert bool(out.isfinite().all())
    low, high = v.amin(0), v.amax(0)
    slack = 4 * torch.finfo(dtype).eps * 4
    assert bool((out >= low - slack).all())
    assert bool((out <= high + slack).all())
    ones = random_feature_attention(q, k, torch.ones_like(v), features=features)
    torch.testing.assert_close(ones, torch.ones_like(v))
    if norm:
        assert bool((feature_denominators(q, k, features=features) >= 1).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_narrow_inputs_are_computed_in_float32(dtype, kind):
    # What remains is the rounding of the output: values up to 4, half a unit in the last place.
    q, k, v = (0.6 * draw(30, 16, seed=s).to(dtype) for s in (1, 2, 3))
    features = make(kind, D=16, R=512, orthogonal=True)
    seen = random_feature_attention(q, k, v, features=features)
    wide = [x.double() for x in (q, k, v)]
    error = seen.double() - random_feature_attention(*wide, features=features)
    assert seen.dtype == dtype
    assert float(error.abs().max()) < (
        2e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_rounds_nothing(kind):
    features = make(kind, D=16, R=64)
    q, k, v = (0.5 * draw(10, 16, seed=s, dtype=torch.float32) for s in (1, 2, 3))

    def everything():
        out = random_feature_attention(q, k, v, features=features, allow_negative=True)
        below = feature_denominators(q, k, features=features)
        return out, below, features(q), *features.softmax_features(q)

    expected = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = everything()
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)


def test_an_output_beyond_float16_is_no_silent_infinity():
    # Two keys of nearly cancelling estimates: their weights are large, and of both signs.
    features = make("pair", D=1, R=1, sigma=1.0)
    features.projection.fill_(1.0)
    q, k = torch.zeros(1, 1).half(), torch.tensor([[1.4], [1.7461]]).half()
    v = torch.tensor([[6e4], [-6e4]]).half()
    with pytest.raises(ValueError, match="the output must be finite"):
        random_feature_attention(q, k, v, features=features, allow_negative=True)
    assert bool(
        random_feature_attention(
            q.float(), k.float(), v.float(), features=features, allow_negative=True
        ).isfinite()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sines_and_cosines_at_large_norms_are_finite_or_say_what_is_wrong(dtype):
    q, k = (50 * torch.nn.functional.normalize(draw(40, 64, seed=s), dim=-1) for s in (1, 2))
    q, k, v = q.to(dtype), k.to(dtype), draw(40, 4).to(dtype)
    features = make("pair", D=64, R=128)
    with pytest.raises(NegativeDenominatorError, match="features must give positive"):
        random_feature_attention(q, k, v, features=features)
    out = random_feature_attention(q, k, v, features=features, allow_negative=True)
    assert bool(out.isfinite().all())


def test_how_often_denominators_are_negative_is_predicted():
    q, k = draw(1, 40, 8), draw(1, 6, 8, seed=2)
    predicted = predicted_negative_share(q, k, projections=16)
    negative = torch.zeros_like(predicted)
    for seed in range(500):
        features = make("pair", D=8, R=16, seed=seed, dtype=torch.float64)
        negative += feature_denominators(q, k, features=features) < 0
    assert float((negative / 500).mean()) == pytest.approx(float(predicted.mean()), abs=0.03)
    assert float(predicted.mean()) > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    features = make(kind, D=3, R=6, sigma=1.5, dtype=torch.float64)
    q, k, v = (0.5 * draw(4, 3, seed=s).requires_grad_() for s in (1, 2, 3))

    def attend(q, k, v):
        return random_feature_attention(q, k, v, features=features, allow_negative=True)

    assert torch.autograd.gradcheck(attend, (q, k, v))
    assert torch.autograd.gradcheck(features, (q,))


# Costs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(5, 7, 3, 2, 4), (30, 20, 16, 5, 24), (1, 1, 1, 1, 1)])
def test_the_cost_is_what_is_counted(kind, sizes):
    N, S, D, M, R = sizes
    q, k, v = draw(N, D), draw(S, D), draw(S, M)
    with value_checks(False):
        counted = cost_of(random_feature_attention, q, k, v, features=make(kind, D=D, R=R))
    steps = random_feature_cost(N=N, S=S, D=D, M=M, projections=R, kind=kind)
    assert counted == sum(steps.values(), Cost())


# The door


Q, K, V = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4, 2)
G = torch.Generator().manual_seed(0)
FOURIER = RandomFourierFeatures(3, 4, generator=G)
POSITIVE = PositiveRandomFeatures(3, 4, generator=G)
BOTH = (RandomFourierFeatures, PositiveRandomFeatures)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"dimension": 0}, ValueError, "dimension must be at least 1"),
        ({"dimension": 2.0}, TypeError, "dimension must be an integer"),
        ({"projections": 0}, ValueError, "projections must be at least 1"),
        ({"projections": True}, TypeError, "projections must be an integer"),
        ({"sigma": 0.0}, ValueError, "sigma must be positive"),
        ({"sigma": -1}, ValueError, "sigma must be positive"),
        ({"sigma": math.nan}, ValueError, "sigma must be positive"),
        ({"sigma": "wide"}, TypeError, "sigma must be a real number"),
        ({"generator": 7}, TypeError, "generator must be a torch.Generator"),
        ({"generator": None}, TypeError, "generator must be a torch.Generator"),
        ({"orthogonal": 1}, TypeError, "orthogonal must be True or False"),
        ({"dtype": torch.int64}, TypeError, "dtype must be a real floating"),
        ({"dtype": "float32"}, TypeError, "dtype must be a real floating"),
    ],
)
def test_modules_at_the_door(cls, arguments, error, match):
    with pytest.raises(error, match=match):
        cls(**{"dimension": 3, "projections": 4, "generator": G} | arguments)


@pytest.mark.parametrize("features", [FOURIER, POSITIVE])
@pytest.mark.parametrize("method", ["__call__", "softmax_features"])
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        ([[1.0]], TypeError, "x must be a torch.Tensor"),
        (Q.long(), TypeError, "x must have a real floating-point dtype"),
        (torch.tensor(1.0), ValueError, "x must have at least 1 dimension"),
        (Q[:, :2], ValueError, "x must have the size of the features, D = 3"),
        (Q * math.nan, ValueError, "x must be finite, but 6 of 6"),
        (Q / 0, ValueError, "x must be finite"),
        (Q.to("meta"), ValueError, "x must be on the device of the features"),
        (Q * 1e38, ValueError, "x must be short enough"),
    ],
)
def test_features_at_the_door(features, method, x, error, match):
    if isinstance(features, RandomFourierFeatures) and method == "__call__" and "short" in match:
        x = x * 3
    with pytest.raises(error, match=match):
        getattr(features, method)(x)


@pytest.mark.parametrize("features", [FOURIER, POSITIVE])
@pytest.mark.parametrize("function", [random_feature_attention, feature_denominators])
@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"q": None}, TypeError, "q must be a torch.Tensor"),
        ({"q": Q[0]}, ValueError, "q must have at least 2"),
        ({"q": Q[:, :2]}, ValueError, "k must have the size of q"),
        ({"q": Q[None]}, ValueError, "k must have the leading dimensions"),
        ({"q": Q * math.nan}, ValueError, "q must be finite"),
        ({"k": K.long()}, TypeError, "k must have a real floating"),
        ({"k": K.double()}, TypeError, "k must have the dtype of q"),
        ({"k": K[:0], "v": V[:0]}, ValueError, "k must hold at least one key"),
        ({"k": K * math.inf}, ValueError, "k must be finite"),
        ({"k": K * 1e38}, ValueError, "k must be short enough"),
        ({"q": Q * 3e38}, ValueError, "q must be short enough"),
        ({"features": FOURIER.projection}, TypeError, "features must be RandomFourier"),
        ({"features": make("pair", D=4)}, ValueError, "features must have the size of q, D = 3"),
        ({"features": make("pair", D=3).to("meta")}, ValueError, "features must be on the device"),
        ({"key_mask": 1}, TypeError, "key_mask must be a boolean tensor"),
        ({"key_mask": torch.ones(4)}, TypeError, "key_mask must be a boolean tensor"),
        ({"key_mask": torch.ones(3).bool()}, ValueError, "key_mask must have one entry"),
    ],
)
def test_attention_at_the_door(features, function, changed, error, match):
    arguments = {"q": Q, "k": K, "v": V, "features": features} | changed
    if function is feature_denominators:
        del arguments["v"]
    with pytest.raises(error, match=match):
        function(**arguments)


SHARE = predicted_negative_share


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: random_feature_attention(Q, K, V[:3], features=POSITIVE),
            ValueError,
            "v must have one row",
        ),
        (
            lambda: random_feature_attention(Q, K, V / 0, features=POSITIVE),
            ValueError,
            "v must be finite",
        ),
        (
            lambda: random_feature_attention(Q, K, V, features=POSITIVE, allow_negative=1),
            TypeError,
            "allow_negative must be",
        ),
        (
            lambda: RandomFourierFeatures(3, 4, generator=G, form="cosine"),
            ValueError,
            "form must be one of",
        ),
        (
            lambda: PositiveRandomFeatures(3, 4, generator=G, hyperbolic=None),
            TypeError,
            "hyperbolic must be",
        ),
        (lambda: FOURIER.redraw(3), TypeError, "generator must be"),
        (lambda: FOURIER.relative_variance(Q, K[:, :2]), ValueError, "x must have the size"),
        (lambda: fourier_variance(1.0, projections=2), TypeError, "a must be a torch"),
        (lambda: fourier_variance(-Q, projections=2), ValueError, "a must be at least 0"),
        (lambda: fourier_variance(Q, projections=0), ValueError, "projections must be"),
        (lambda: fourier_variance(Q, projections=2, form=2), ValueError, "form must be"),
        (lambda: fourier_variance(Q, projections=2, relative=1), TypeError, "relative must be"),
        (
            lambda: fourier_variance(Q, projections=2, orthogonal_dimension=1),
            ValueError,
            "orthogonal_dimension must be at least 2",
        ),
        (lambda: positive_relative_variance(Q * math.nan, projections=2), ValueError, "b must be"),
        (
            lambda: positive_relative_variance(Q, projections=2, hyperbolic=1),
            TypeError,
            "hyperbolic must be",
        ),
        (lambda: orthogonal_covariance(Q, dimension=1), ValueError, "dimension must be at least 2"),
        (lambda: orthogonal_covariance(Q, dimension=4, of="sines"), ValueError, "of must be"),
        (lambda: SHARE(Q, K[:, :1], projections=2), ValueError, "k must have the size"),
        (lambda: SHARE(Q, K, projections=0), ValueError, "projections must be"),
        (lambda: SHARE(Q, K * 1e30, projections=2), ValueError, "k must be short enough"),
        (lambda: SHARE(Q, K, projections=2, sigma=0), ValueError, "sigma must be"),
        (
            lambda: random_feature_cost(N=0, S=1, D=1, M=1, projections=1),
            ValueError,
            "N must be at least 1",
        ),
        (
            lambda: random_feature_cost(N=1, S=1, D=1, M=1, projections=1, kind="sine"),
            ValueError,
            "kind must be",
        ),
    ],
)
def test_other_arguments_at_the_door(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_gaussian_features_that_overflow_say_so():
    # The largest is e^(|w|^2 / 4), at x along w: beyond float16 from |w| about 7 on.
    features = PositiveRandomFeatures(64, 4, sigma=1.0, generator=stream())
    x = (features.projection[:1] / 2).half()
    with pytest.raises(ValueError, match="use softmax_features"):
        features(x)
    assert bool(features.softmax_features(x)[0].isfinite().all())


def test_value_checks_can_be_switched_off():
    with value_checks(False):
        assert bool(FOURIER(Q * math.nan).isnan().any())
