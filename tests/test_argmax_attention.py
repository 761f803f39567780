"""Argmax attention, its relaxations, their distance, and the task they are trained on."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlchecked.argmax_attention import (
    Lookup,
    LookupBatch,
    argmax_attention,
    gumbel_attention,
    gumbel_noise,
    gumbel_weights,
    hard_weights,
    lookup_batches,
    lookup_results,
    missed_weight_bounds,
    score_gap,
    softmax_attention,
    straight_through_attention,
    straight_through_weights,
    train_lookup,
    winner_radius,
)
from dlchecked.arguments import value_checks
from dlchecked.scaled_dot_product import softmax_jacobian

INF = math.inf
HALF = [torch.float16, torch.bfloat16]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def inputs(
    lead: tuple[int, ...] = (2, 3),
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((*lead, 5, 8), (*lead, 7, 8), (*lead, 7, 3))
    q, k, v = (rows(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes))
    return q, k, v


def argmax_for_lookup(q: Tensor, k: Tensor, v: Tensor, beta: float) -> Tensor:
    return argmax_attention(q, k, v)


# The sheet


KEYS = torch.tensor([[1.0, 2, 0], [0, 3, 4], [5, 0, 0], [0, 0, 1]])
VALUES = torch.tensor([[2.0, 0, 1], [1, 4, 3], [0, -1, 4], [1, 0, -1]])
QUERY = torch.tensor([[1.0, 1, 2]])


def test_the_sheets_example() -> None:
    assert (QUERY @ KEYS.mT).tolist() == [[3, 11, 5, 2]]
    assert argmax_attention(QUERY, KEYS, VALUES).tolist() == [[1, 4, 3]]
    assert hard_weights(torch.tensor([1.0, 3.0, 2.0])).tolist() == [0, 1, 0]


# Hard weights


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=7), ties=st.sampled_from(["f", "s"])
)
def test_hard_weights_follow_the_rule_for_ties(scores: list[int], ties: str) -> None:
    given_scores = torch.tensor(scores, dtype=torch.float64)
    best = [j for j, s in enumerate(scores) if s == max(scores)]
    weights = hard_weights(given_scores, ties="first" if ties == "f" else "share").tolist()
    chosen = best[:1] if ties == "f" else best
    assert weights == [1 / len(chosen) if j in chosen else 0 for j in range(len(scores))]


def test_ties_to_the_first_on_long_rows() -> None:
    scores = torch.zeros(3, 10_000)
    scores[1, 7000:] = 1
    assert hard_weights(scores).argmax(-1).tolist() == [0, 7000, 0]


def test_more_ties_than_float16_can_count() -> None:
    weights = hard_weights(torch.zeros(70_000, dtype=torch.float16), ties="share")
    assert weights.double().sum().item() == pytest.approx(1, rel=0.01)


def test_masked_keys_get_nothing() -> None:
    scores = torch.tensor([[-INF, 0.0, -INF], [-INF, -INF, -9.0]])
    for weights in (
        hard_weights(scores),
        straight_through_weights(scores),
        gumbel_weights(scores, generator=source(), hard=True),
    ):
        assert weights.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_shared_ties_are_the_limit_of_the_softmax() -> None:
    scores = torch.tensor([2.0, 5.0, 5.0, -1.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close((200 * scores).softmax(-1), hard_weights(scores, ties="share"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), power=st.integers(-8, 8))
def test_argmax_sees_no_positive_factor(seed: int, power: int) -> None:
    q, k, v = inputs(seed=seed)
    assert torch.equal(argmax_attention(q, k, v), argmax_attention(2.0**power * q, k, v))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_the_output_is_exactly_a_value(dtype: torch.dtype) -> None:
    q, k, v = inputs(dtype=dtype)
    out = argmax_attention(q, k, v)
    wide = torch.promote_types(dtype, torch.float32)
    best = (q.to(wide) @ k.to(wide).mT).argmax(-1)
    assert out.dtype == dtype
    assert torch.equal(out, v.gather(-2, best.unsqueeze(-1).expand(*best.shape, 3)))
    assert torch.equal(straight_through_attention(q, k, v), out)


def test_sixteen_bit_scores_are_compared_in_float32() -> None:
    # Above 512 bfloat16 numbers are 4 apart: both products round to 512.
    q = torch.tensor([[16.0, 1.0]], dtype=torch.bfloat16)
    k = torch.tensor([[32.0, 1.0], [32.0, 1.5]], dtype=torch.bfloat16)
    v = torch.tensor([[0.0], [1.0]], dtype=torch.bfloat16)
    assert (q @ k.mT).unique().numel() == 1
    assert argmax_attention(q, k, v).item() == 1


# Gradients


def test_queries_and_keys_get_none_and_values_get_theirs() -> None:
    q, k, v = (x.requires_grad_() for x in inputs())
    out = argmax_attention(q, k, v)
    upstream = rows(*out.shape, seed=9)
    of_q, of_k, of_v = torch.autograd.grad(out, (q, k, v), upstream, allow_unused=True)
    assert of_q is None
    assert of_k is None
    torch.testing.assert_close(of_v, hard_weights((q @ k.mT).detach()).mT @ upstream)


def test_straight_through_lends_the_softmax_jacobian() -> None:
    scores = rows(4, 6).requires_grad_()
    upstream = rows(4, 6, seed=1)
    weights = straight_through_weights(scores, beta=1.7)
    (gradient,) = torch.autograd.grad(weights, scores, upstream)
    jacobian = 1.7 * softmax_jacobian(1.7 * scores.detach())
    torch.testing.assert_close(gradient, (jacobian @ upstream.unsqueeze(-1)).squeeze(-1))
    assert torch.equal(weights.detach(), hard_weights(scores))


def test_straight_through_attention_passes_the_softmax_weights_gradient() -> None:
    q, k, v = (x.requires_grad_() for x in inputs(()))
    upstream = rows(5, 3, seed=9)
    found = torch.autograd.grad(straight_through_attention(q, k, v, beta=0.5), (q, k, v), upstream)
    # The output is linear in the weights, so for q and k only the weights' Jacobian matters.
    soft = torch.autograd.grad(softmax_attention(q, k, v, beta=0.5), (q, k), upstream)
    torch.testing.assert_close(found[:2], soft)
    hard = torch.autograd.grad(argmax_attention(q, k, v), v, upstream)
    torch.testing.assert_close(found[2:], hard)


def test_softmax_attention_is_torchs_at_that_scale_and_differentiable() -> None:
    q, k, v = inputs()
    torch.testing.assert_close(
        softmax_attention(q, k, v, beta=0.3),
        torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3),
    )
    parts = tuple(x.requires_grad_() for x in inputs(()))
    assert torch.autograd.gradcheck(partial(softmax_attention, beta=0.7), parts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_no_beta_makes_a_softmax_overflow(dtype: torch.dtype) -> None:
    scores = torch.tensor([0.0, 300.0, 299.0, -INF], dtype=dtype)
    for beta in (2e-38, 300.0, 1e37, 3e38):
        leaf = scores.clone().requires_grad_()
        weights = straight_through_weights(leaf, beta=beta)
        assert weights.tolist() == hard_weights(scores).tolist()
        assert bool(torch.isfinite(torch.autograd.grad(weights[1], leaf)[0]).all())
        for hard in (False, True):
            sampled = gumbel_weights(scores, beta=beta, hard=hard, generator=source())
            assert sampled.double().sum().item() == pytest.approx(1, rel=0.01)


def test_relaxed_gumbel_weights_are_differentiable() -> None:
    def weights(scores: Tensor) -> Tensor:
        return gumbel_weights(scores, beta=0.7, generator=source(3))

    assert torch.autograd.gradcheck(weights, (rows(3, 4).requires_grad_(),))


# Noise


def test_gumbel_noise_has_its_distribution() -> None:
    noise = gumbel_noise((200_000,), generator=source(), dtype=torch.float64)
    assert bool(torch.isfinite(noise).all())
    # Mean is Euler's constant, variance pi^2 / 6; five standard errors.
    assert abs(noise.mean().item() - 0.5772156649) < 5 * 1.2825 / 200_000**0.5
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert (noise < 0).double().mean().item() == pytest.approx(math.exp(-1), abs=0.006)


@pytest.mark.parametrize("beta", [0.1, 1.0, 30.0])
def test_sampled_keys_are_distributed_like_the_softmax(beta: float) -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, -1.0])
    drawn = gumbel_weights(scores.expand(100_000, 4), beta=beta, hard=True, generator=source(1))
    assert bool(((drawn == 0) | (drawn == 1)).all())
    expected = scores.softmax(-1)
    error = 5 * (expected * (1 - expected) / 100_000).sqrt()
    assert bool(((drawn.mean(0) - expected).abs() < error).all())


def test_gumbel_attention_averages_to_softmax_attention() -> None:
    q, k, v = inputs(())
    mean = torch.stack(
        [gumbel_attention(q, k, v, hard=True, generator=source(s)) for s in range(4000)]
    ).mean(0)
    torch.testing.assert_close(mean, softmax_attention(q, k, v), atol=0.12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_relaxed_weights_add_up_and_are_reproducible(dtype: torch.dtype) -> None:
    scores = rows(5, 9, dtype=dtype)
    first, again = (gumbel_weights(scores, beta=2.0, generator=source(2)) for _ in range(2))
    assert first.dtype == dtype
    assert torch.equal(first, again)
    # Each of nine weights is rounded once.
    tolerance = 5 * max(torch.finfo(dtype).eps, 1e-7 if dtype == torch.float32 else 0)
    torch.testing.assert_close(
        first.double().sum(-1), torch.ones(5).double(), atol=tolerance, rtol=0
    )


# Distances


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), keys=st.integers(2, 9), beta=st.floats(0.1, 20))
def test_the_missed_weight_is_between_its_bounds(seed: int, keys: int, beta: float) -> None:
    scores = rows(4, keys, seed=seed)
    missed = 1 - (beta * scores).softmax(-1).amax(-1)
    low, high = missed_weight_bounds(score_gap(scores), keys=keys, beta=beta)
    assert bool((low <= missed + 1e-14).all())
    assert bool((missed <= high + 1e-14).all())


def test_the_bounds_are_reached() -> None:
    gap = torch.tensor(1.3, dtype=torch.float64)
    low, high = missed_weight_bounds(gap, keys=5, beta=2.0)
    alone = torch.tensor([1.3, 0.0, *[-500.0] * 3], dtype=torch.float64)
    tied = torch.tensor([1.3, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    for scores, bound in ((alone, low), (tied, high)):
        torch.testing.assert_close(1 - (2 * scores).softmax(-1)[0], bound)
    both = missed_weight_bounds(gap, keys=2)
    assert torch.equal(both.low, both.high)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_bounds_keep_their_dtype_and_tiny_values(dtype: torch.dtype) -> None:
    low, high = missed_weight_bounds(torch.tensor([0.0, 8.0], dtype=dtype), keys=3)
    assert low.dtype == high.dtype == dtype
    assert low[0] == 0.5
    assert low[1].item() == pytest.approx(math.exp(-8), rel=0.02)


@pytest.mark.parametrize("beta", [1e-300, 1.0, 1e300])
def test_bounds_at_the_ends_of_gap_and_beta(beta: float) -> None:
    low, high = missed_weight_bounds(torch.tensor([0.0, INF]), keys=3, beta=beta)
    assert low.tolist() == [0.5, 0]
    torch.testing.assert_close(high, torch.tensor([2 / 3, 0.0]))


def test_score_gap() -> None:
    scores = torch.tensor([[3.0, 11.0, 5.0], [4.0, 4.0, 1.0], [-INF, 2.0, -INF]])
    assert score_gap(scores).tolist() == [6, 0, INF]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_inside_the_radius_nothing_changes_and_beyond_it_something_does(seed: int) -> None:
    q, k, v = rows(1, 4, seed=seed), rows(6, 4, seed=seed + 1), rows(6, 2, seed=seed + 2)
    radius = winner_radius(q, k)
    winner = (q @ k.mT).argmax()
    others = [j for j in range(6) if j != winner]
    before = argmax_attention(q, k, v)
    for direction in torch.nn.functional.normalize(rows(20, 4, seed=seed + 3), dim=-1):
        inside = q + 0.999 * radius * direction
        assert torch.equal(argmax_attention(inside, k, v), before)
    apart = k[winner] - k[others]
    nearest = (apart @ q[0] / apart.norm(dim=-1)).argmin()
    outwards = -apart[nearest] / apart[nearest].norm()
    beyond = q + 1.001 * radius * outwards
    assert not torch.equal(argmax_attention(beyond, k, v), before)


def test_the_radius_at_ties_and_without_rivals() -> None:
    q = torch.tensor([[1.0, 0.0]])
    assert winner_radius(q, torch.tensor([[1.0, 0.0], [1.0, 5.0]])).item() == 0
    assert winner_radius(q, torch.tensor([[1.0, 2.0], [1.0, 2.0]])).item() == INF
    assert winner_radius(q, torch.tensor([[1.0, 2.0]])).item() == INF
    assert winner_radius(*inputs()[:2]).shape == (2, 3, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-0.75, 0.55])
def test_the_radius_does_not_depend_on_the_keys_size(dtype: torch.dtype, power: float) -> None:
    # Their squares are zero, or infinite, in this dtype.
    size = torch.finfo(dtype).max ** power
    keys = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=dtype)
    q = torch.tensor([[1.0, 0.5]], dtype=dtype)
    torch.testing.assert_close(winner_radius(q, size * keys), winner_radius(q, keys))


# The task


def test_questions_have_one_right_answer() -> None:
    batch = next(iter(lookup_batches(3, batch_size=50, symbols=9, keys=4)(source())))
    assert batch.shown.shape == batch.labels.shape == (3, 50, 4)
    matches = batch.shown == batch.asked.unsqueeze(-1)
    assert bool((matches.sum(-1) == 1).all())
    assert torch.equal(batch.labels[matches].reshape(3, 50), batch.answer)
    assert batch.shown.sort(-1).values.diff(dim=-1).min() > 0


def perfect(attend: object) -> Lookup:
    """Queries and keys that match, values that name their label."""
    model = Lookup(attend, replicas=2, size=16, generator=source())  # type: ignore[arg-type]
    with torch.no_grad():
        for table, factor in ((model.queries, 20.0), (model.keys, 1.0), (model.values, 9.0)):
            table.copy_(factor * torch.eye(table.shape[-1]).expand_as(table))
    return model


@pytest.mark.parametrize("attend", [argmax_for_lookup, softmax_attention])
def test_a_model_that_knows_answers_right(attend: object) -> None:
    batch = next(iter(lookup_batches(2)(source())))
    found = lookup_results(perfect(attend), batch)
    assert found["accuracy"].tolist() == [1, 1]
    assert found["loss"].detach().max() < 0.01
    # Blind to the key it answers by chance.
    model = perfect(attend)
    with torch.no_grad():
        model.queries.zero_()
    assert lookup_results(model, batch)["accuracy"].max() < 0.8


def test_the_weights_behind_the_answers() -> None:
    batch = next(iter(lookup_batches(2)(source())))
    soft, hard = (
        perfect(attend).weights(batch) for attend in (softmax_attention, argmax_for_lookup)
    )
    assert torch.equal(
        hard.argmax(-1), (batch.shown == batch.asked.unsqueeze(-1)).long().argmax(-1)
    )
    assert torch.equal(hard.amax(-1), torch.ones(2, 32))
    torch.testing.assert_close(soft, hard)


def test_replicas_are_independent() -> None:
    model = Lookup(softmax_attention, replicas=3, generator=source())
    batch = next(iter(lookup_batches(3)(source(1))))
    gradients = torch.autograd.grad(
        lookup_results(model, batch)["loss"][1], list(model.parameters())
    )
    for gradient in gradients:
        assert gradient[[0, 2]].abs().max() == 0
        assert gradient[1].abs().max() > 0


def test_training_moves_what_has_a_gradient() -> None:
    for attend, moves in (
        (argmax_for_lookup, False),
        (softmax_attention, True),
        (straight_through_attention, True),
    ):
        _, history = train_lookup(attend, replicas=4, steps=40, generator=source(1))
        before, after = history.snapshots[0], history.snapshots[40]
        assert torch.equal(before["queries"], after["queries"]) is not moves
        assert torch.equal(before["keys"], after["keys"]) is not moves
        assert not torch.equal(before["values"], after["values"])


def test_softmax_learns_the_table_and_is_reproducible() -> None:
    runs = [
        train_lookup(softmax_attention, replicas=4, steps=120, generator=source(2))
        for _ in range(2)
    ]
    metrics = runs[0][1].metrics
    assert metrics["accuracy"][-1].min() > 0.95
    assert metrics["hard accuracy"][-1].min() > 0.95
    assert metrics["loss"].shape == (13, 4)
    assert not torch.equal(metrics["accuracy"][0], metrics["hard accuracy"][0])
    # From softmax over keys that mean nothing to nearly one key.
    assert metrics["entropy"][0].min() > 1.5
    assert metrics["entropy"][-1].max() < 0.5
    assert torch.equal(metrics["loss"], runs[1][1].metrics["loss"])


def test_beta_may_follow_the_step() -> None:
    seen: list[float] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, beta: float) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(beta)
        return softmax_attention(q, k, v, beta=beta)

    train_lookup(attend, beta=lambda step: 1.0 + step, replicas=1, steps=3, generator=source())
    assert seen == [1.0, 2.0, 3.0]


# What is refused

Q, K, V = (torch.zeros(n, 4) for n in (2, 3, 3))
S = torch.zeros(2, 3)
softmax = softmax_attention
G = source()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hard_weights([1.0]), TypeError, "scores must be a torch.Tensor, got list"),
        (lambda: hard_weights(S.long()), TypeError, "scores must have a real floating-point"),
        (lambda: hard_weights(S[:, :0]), ValueError, "scores must hold at least one key"),
        (lambda: hard_weights(S / 0), ValueError, r"scores must be finite or -inf"),
        (lambda: hard_weights(S - INF), ValueError, "scores must leave each row a key"),
        (lambda: hard_weights(S, ties="last"), ValueError, "ties must be one of"),
        (lambda: straight_through_weights(S, beta=0), ValueError, "beta must be positive"),
        (lambda: straight_through_weights(S, beta=1e-39), ValueError, "beta must lie between"),
        (lambda: straight_through_weights(S, beta="1"), TypeError, "beta must be a real number"),
        (lambda: gumbel_noise((2,), generator=0), TypeError, "generator must be"),
        (
            lambda: gumbel_noise((2,), generator=G, dtype=torch.float16),
            ValueError,
            "dtype must be torch.float32 or torch.float64",
        ),
        (lambda: gumbel_noise((-2,), generator=G), ValueError, "shape must be at least 0"),
        (lambda: gumbel_noise(2, generator=G), TypeError, "shape must be a tuple"),
        (lambda: gumbel_weights(S, generator=None), TypeError, "generator must be"),
        (lambda: gumbel_weights(S, generator=G, beta=1e39), ValueError, "beta must lie between"),
        (lambda: gumbel_weights(S, generator=G, beta=-1), ValueError, "beta must be positive"),
        (lambda: gumbel_weights(S, generator=G, hard=1), TypeError, "hard must be True or False"),
        (lambda: argmax_attention(Q, K.double(), V), TypeError, "k must have the dtype of q"),
        (lambda: argmax_attention(Q, K[:, :2], V), ValueError, "k must have the size of q"),
        (lambda: argmax_attention(Q, K, V[:2]), ValueError, "v must have one row for each key"),
        (lambda: argmax_attention(Q / 0, K, V), ValueError, "q must be finite"),
        (lambda: argmax_attention(Q, K, V / 0), ValueError, "v must be finite"),
        (lambda: argmax_attention(Q + 1e30, K - 1e30, V), ValueError, "product of q and k must be"),
        (lambda: argmax_attention(Q, K, V, ties="last"), ValueError, "ties must be one of"),
        (lambda: softmax(Q, K, V, beta=INF), ValueError, "beta must be positive and finite"),
        (lambda: straight_through_attention(Q[0], K, V), ValueError, "q must have at least 2"),
        (lambda: gumbel_attention(Q, K / 0, V, generator=G), ValueError, "k must be finite"),
        (lambda: score_gap(S[:, :1]), ValueError, "scores must hold at least two keys"),
        (lambda: missed_weight_bounds(S - 1, keys=3), ValueError, "gap must be at least 0"),
        (lambda: missed_weight_bounds(S / 0, keys=3), ValueError, "gap must be at least 0"),
        (lambda: missed_weight_bounds(S, keys=1), ValueError, "keys must be at least 2"),
        (lambda: missed_weight_bounds(1.0, keys=3), TypeError, "gap must be a torch.Tensor"),
        (lambda: winner_radius(Q, K[:, :2]), ValueError, "k must have the size of q"),
        (lambda: lookup_batches(0), ValueError, "replicas must be at least 1"),
        (lambda: lookup_batches(1, keys=17), ValueError, "keys must be at most the number"),
        (lambda: lookup_batches(1, keys=1), ValueError, "keys must be at least 2"),
        (lambda: lookup_batches(1, labels=1), ValueError, "labels must be at least 2"),
        (lambda: Lookup(3, replicas=1, generator=G), TypeError, "attend must be callable"),  # type: ignore[arg-type]
        (lambda: Lookup(softmax, replicas=1, generator=1), TypeError, "generator must be"),
        (lambda: Lookup(softmax, replicas=1, generator=G, size=0), ValueError, "size must be"),
        (lambda: train_lookup(softmax, generator=G, beta=0), ValueError, "beta must be positive"),
        (
            lambda: train_lookup(softmax, generator=G, learning_rate=0),
            ValueError,
            "learning_rate must be positive",
        ),
        (lambda: train_lookup(softmax, generator=G, steps=-1), ValueError, "must be at least 0"),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        assert bool(argmax_attention(Q, K, V / 0).isnan().all())
        assert hard_weights(S - INF).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_a_generator_on_another_device_is_named() -> None:
    with value_checks(False), pytest.raises(ValueError, match="generator must be on the device of"):
        gumbel_weights(S.to("meta"), generator=G)


def test_a_batch_names_its_parts() -> None:
    assert LookupBatch._fields == ("asked", "shown", "labels", "answer")
