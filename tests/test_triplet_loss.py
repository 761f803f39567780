"""Triplet losses, mining, distances, verification, the digits, and the small training runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from sklearn.datasets import load_digits
from sklearn.metrics import roc_curve
from torch import Tensor

from dlchecked import triplet_loss as module
from dlchecked.arguments import value_checks
from dlchecked.triplet_loss import (
    Triplets,
    VerificationCurve,
    all_triplets,
    batch_all_loss,
    batch_hard_loss,
    batch_semi_hard_loss,
    count_triplets,
    embedding_network,
    hardest,
    identity_batches,
    identity_digits,
    labelled_pairs,
    pair_loss,
    pairwise_distances,
    semi_hard,
    train_classifier,
    train_embedding,
    triplet_loss,
    triplet_shares,
    val_at_far,
    verification,
)

BATCH_LOSSES = (batch_all_loss, batch_semi_hard_loss, batch_hard_loss)
HALF = [torch.float16, torch.bfloat16]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def names(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


#: Labels of every shape: none, one, singletons, one class, unequal, negative, out of order.
LABELS = st.one_of(
    st.lists(st.integers(-2, 2), max_size=9),
    st.integers(0, 6).map(lambda n: list(range(n))),
    st.integers(0, 6).map(lambda n: [3] * n),
)


def batch_of(labels: list[int], seed: int, size: int = 2) -> tuple[Tensor, Tensor]:
    return rows(len(labels), size, seed=seed), names(*labels)


# What a loop says


def loop_distance(x: Tensor, i: int, j: int, squared: bool) -> float:
    found = sum((float(a) - float(b)) ** 2 for a, b in zip(x[i], x[j], strict=True))
    return found if squared else math.sqrt(found)


def loop_triplets(labels: Tensor) -> list[tuple[int, int, int]]:
    every = range(len(labels))
    return [
        (a, p, n)
        for a in every
        for p in every
        for n in every
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def as_list(triplets: Triplets) -> list[tuple[int, int, int]]:
    assert all(part.dtype == torch.int64 for part in triplets)
    return list(zip(*(part.tolist() for part in triplets), strict=True))


def brute_force(
    x: Tensor, labels: Tensor, *, margin: float, squared: bool, semi: bool
) -> tuple[Tensor, int]:
    """The sum of the losses over all (semi-hard) triplets, and how many are active."""
    a, p, n = all_triplets(labels)
    losses = triplet_loss(x[a], x[p], x[n], margin=margin, squared=squared, reduction="none")
    if semi:
        losses = losses[losses < margin]
    return losses.sum(), int((losses > 0).sum())


# Triplets and mining


@settings(max_examples=60, deadline=None)
@given(labels=LABELS)
def test_all_triplets_and_their_count(labels: list[int]) -> None:
    expected = loop_triplets(names(*labels))
    assert as_list(all_triplets(names(*labels))) == expected
    assert count_triplets(names(*labels)) == len(expected)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 2**20), squared=st.booleans())
def test_semi_hard_agrees_with_a_loop(labels: list[int], seed: int, squared: bool) -> None:
    x, y = batch_of(labels, seed)
    d = partial(loop_distance, x, squared=squared)
    expected = [
        (a, p, n) for a, p, n in loop_triplets(y) if d(i=a, j=p) < d(i=a, j=n) < d(i=a, j=p) + 0.7
    ]
    assert as_list(semi_hard(x, y, margin=0.7, squared=squared)) == expected
    nearest = {}
    for a, p, n in expected:
        best = nearest.get((a, p))
        if best is None or d(i=a, j=n) < d(i=a, j=best):
            nearest[a, p] = n
    found = as_list(semi_hard(x, y, margin=0.7, squared=squared, choose="nearest"))
    assert found == [(a, p, n) for (a, p), n in nearest.items()]


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 2**20))
def test_hardest_agrees_with_a_loop(labels: list[int], seed: int) -> None:
    x, y = batch_of(labels, seed)
    d = partial(loop_distance, x, squared=True)
    each, one = [], []
    for a in range(len(labels)):
        mine = [t for t in loop_triplets(y) if t[0] == a]
        if mine:
            n = min({n for _, _, n in mine}, key=lambda n: d(i=a, j=n))
            positives = sorted({p for _, p, _ in mine})
            each += [(a, p, n) for p in positives]
            one.append((a, max(positives, key=lambda p: d(i=a, j=p)), n))
    assert as_list(hardest(x, y, positives="all")) == each
    assert as_list(hardest(x, y)) == one


def test_hardest_does_not_depend_on_the_size() -> None:
    x, y = rows(30, 3), torch.arange(30) % 4
    for positives in ("farthest", "all"):
        expected = as_list(hardest(x, y, positives=positives))
        assert as_list(hardest(1e6 * x, y, positives=positives)) == expected


def test_hardest_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(50, 3), torch.arange(50) % 7
    whole = [hardest(x, y), hardest(x, y, positives="all"), semi_hard(x, y)]
    monkeypatch.setattr(module, "_BLOCK", 120)
    parts = [hardest(x, y), hardest(x, y, positives="all"), semi_hard(x, y)]
    for one, other in zip(whole, parts, strict=True):
        assert as_list(one) == as_list(other)


# Batch losses against brute force


@settings(max_examples=80, deadline=None)
@given(
    labels=LABELS,
    seed=st.integers(0, 2**20),
    squared=st.booleans(),
    semi=st.booleans(),
    margin=st.sampled_from([0.05, 0.5, 5.0]),
)
def test_batch_losses_agree_with_brute_force(
    labels: list[int], seed: int, squared: bool, semi: bool, margin: float
) -> None:
    x, y = batch_of(labels, seed)
    x.requires_grad_()
    total, active = brute_force(x, y, margin=margin, squared=squared, semi=semi)
    fast = batch_semi_hard_loss if semi else batch_all_loss
    call = partial(fast, x, y, margin=margin, squared=squared)
    torch.testing.assert_close(call(reduction="sum"), total, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(call(), total / max(1, active), rtol=1e-11, atol=1e-11)
    over = active if semi else count_triplets(y)
    torch.testing.assert_close(call(reduction="mean"), total / max(1, over), rtol=1e-11, atol=1e-11)
    (expected,) = torch.autograd.grad(total, x, materialize_grads=True)
    (found,) = torch.autograd.grad(call(reduction="sum"), x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", [batch_all_loss, batch_semi_hard_loss])
@pytest.mark.parametrize("squared", [True, False])
def test_blocks_change_nothing(
    loss: Callable[..., Tensor], squared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = rows(60, 4).requires_grad_(), torch.arange(60).remainder(5)[torch.randperm(60)]
    whole = loss(x, y, squared=squared)
    (slope,) = torch.autograd.grad(whole, x)
    monkeypatch.setattr(module, "_BLOCK", 150)
    parts = loss(x, y, squared=squared)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, x)[0], slope)


def test_ties_are_counted_as_the_definition_says() -> None:
    # Whole coordinates make exact ties: d(a, n) = d(a, p) and d(a, n) = d(a, p) + margin.
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    y = torch.arange(9) % 3
    for squared, semi in ((True, False), (True, True), (False, False), (False, True)):
        total, active = brute_force(grid, y, margin=1.0, squared=squared, semi=semi)
        fast = batch_semi_hard_loss if semi else batch_all_loss
        torch.testing.assert_close(
            fast(grid, y, margin=1.0, squared=squared), total / max(1, active)
        )
        if semi:
            assert len(semi_hard(grid, y, margin=1.0, squared=squared).anchors) == active


def test_a_margin_too_small_to_be_added() -> None:
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    y = torch.arange(9) % 3
    assert batch_semi_hard_loss(grid, y, margin=1e-30, reduction="sum").item() == 0
    assert triplet_shares(grid, y, margin=1e-30).semi_hard == 0
    assert as_list(semi_hard(grid, y, margin=1e-30)) == []


@pytest.mark.parametrize("loss", [*BATCH_LOSSES, pair_loss])
@pytest.mark.parametrize("labels", [[], [1], [1, 2, 3], [4, 4, 4]])
def test_no_triplet_is_a_loss_of_zero_with_a_gradient_of_zero(
    loss: Callable[..., Tensor], labels: list[int]
) -> None:
    x, y = batch_of(labels, 0)
    x.requires_grad_()
    value = loss(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    if loss is not pair_loss:  # a pair needs no third
        assert value.item() == 0
        assert gradient.abs().sum().item() == 0
    assert gradient.shape == x.shape
    assert bool(gradient.isfinite().all())


def test_nothing_semi_hard_is_a_loss_of_zero() -> None:
    x = torch.tensor([[0.0], [0.1], [9.0], [9.1]], requires_grad=True)
    y = names(0, 0, 1, 1)
    assert count_triplets(y) == 8
    assert as_list(semi_hard(x, y)) == []
    value = batch_semi_hard_loss(x, y)
    assert value.item() == 0
    assert torch.autograd.grad(value, x)[0].abs().sum() == 0


@pytest.mark.parametrize("reduction", ["mean", "active", "sum"])
def test_a_loss_over_no_triplets_given(reduction: str) -> None:
    none = torch.empty(0, 3, requires_grad=True)
    value = triplet_loss(none, none, none, reduction=reduction)
    assert value.item() == 0
    assert torch.autograd.grad(value, none)[0].shape == (0, 3)


# Against libraries


def semantics(squared: bool) -> LpDistance:
    return LpDistance(normalize_embeddings=False, p=2, power=2 if squared else 1)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("semi", [True, False])
def test_agreement_with_pytorch_metric_learning(squared: bool, semi: bool) -> None:
    x = torch.nn.functional.normalize(rows(60, 8), dim=-1).requires_grad_()
    y = torch.randint(6, (60,), generator=source(1))
    theirs = TripletMarginLoss(margin=0.2, distance=semantics(squared))
    miner = TripletMarginMiner(0.2, "semihard", distance=semantics(squared))
    expected = theirs(x, y, miner(x, y)) if semi else theirs(x, y)
    ours = (batch_semi_hard_loss if semi else batch_all_loss)(x, y, squared=squared)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(value, x)[0] for value in (ours, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_pair_loss_agrees_with_pytorch_metric_learning() -> None:
    x, y = rows(20, 4), torch.arange(20) % 3

    same = ContrastiveLoss(pos_margin=0, neg_margin=1e-9, distance=semantics(True))(x, y)
    d = pairwise_distances(x, squared=False)
    positive = d[(y[:, None] == y) & ~torch.eye(20, dtype=torch.bool)].square().mean()
    negative = (1.5 - d[y[:, None] != y]).relu().square().mean()
    torch.testing.assert_close(same, positive, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(pair_loss(x, y, margin=1.5), (positive + negative) / 2)


def test_given_triplets_agree_with_torch() -> None:
    a, p, n = rows(3, 30, 5)
    theirs = torch.nn.functional.triplet_margin_loss(a, p, n, margin=0.3, eps=0)
    torch.testing.assert_close(triplet_loss(a, p, n, margin=0.3, squared=False), theirs)


# The loss and its gradient


@pytest.mark.parametrize("squared", [True, False])
def test_gradcheck_of_the_losses(squared: bool) -> None:
    x, y = rows(9, 3).requires_grad_(), torch.arange(9) % 3
    for loss in (*BATCH_LOSSES, pair_loss):
        options = {} if loss is pair_loss else {"squared": squared, "margin": 0.5}
        assert torch.autograd.gradcheck(lambda x, f=loss, o=options: f(x, y, **o), x)
    parts = [rows(6, 3, seed=i).requires_grad_() for i in range(3)]
    assert torch.autograd.gradcheck(lambda *t: triplet_loss(*t, squared=squared), parts)


@pytest.mark.parametrize("loss", [*BATCH_LOSSES, pair_loss])
def test_autocast_changes_nothing(loss: Callable[..., Tensor]) -> None:
    x, y = torch.nn.functional.normalize(rows(40, 8), dim=-1).float(), torch.arange(40) % 4
    found = []
    for enabled in (False, True):
        z = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = loss(z, y)
        found.append((value, *torch.autograd.grad(value, z)))
    assert all(torch.equal(*parts) for parts in zip(*found, strict=True))


@pytest.mark.parametrize("loss", [batch_all_loss, batch_semi_hard_loss])
def test_a_second_derivative_is_refused(loss: Callable[..., Tensor]) -> None:
    x, y = rows(9, 3).requires_grad_(), torch.arange(9) % 3
    for value in (loss(x, y, margin=5.0), pairwise_distances(x).sum()):
        with pytest.raises(RuntimeError, match="differentiated once"):
            torch.autograd.grad(value, x, create_graph=True)


@pytest.mark.parametrize("loss", [*BATCH_LOSSES, pair_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_large_coordinates_give_numbers_or_an_error(
    loss: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    # Up to the limit all is well; 16 bits may round the loss to infinity, never to NaN.
    limit = 1e140 if dtype == torch.float64 else min(1e15, torch.finfo(dtype).max / 8)
    x, y = rows(12, 3, dtype=torch.float64), torch.arange(12) % 3
    z = (x / x.abs().max() * limit).to(dtype).requires_grad_()
    value = loss(z, y)
    (slope,) = torch.autograd.grad(value, z)
    assert not bool(value.isnan())
    assert not bool(slope.isnan().any())
    if dtype not in HALF:
        with pytest.raises(ValueError, match="embeddings must have no coordinate above"):
            loss(2 * z, y)


def test_the_gradient_and_its_sum() -> None:
    a, p, n = (x.requires_grad_() for x in rows(3, 4))
    loss = triplet_loss(a, p, n, margin=100.0)
    found = torch.autograd.grad(loss, (a, p, n))
    for gradient, expected in zip(found, (n - p, p - a, a - n), strict=True):
        torch.testing.assert_close(gradient, 2 * expected)
    assert sum(found).abs().max() < 1e-14


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_collapse_is_the_margin_and_no_nan(squared: bool, dtype: torch.dtype) -> None:
    x = torch.ones(6, 3, dtype=dtype, requires_grad=True)
    y = names(0, 0, 0, 1, 1, 1)
    for loss in (batch_all_loss, batch_hard_loss):
        value = loss(x, y, squared=squared)
        assert value.dtype == dtype
        assert value.item() == pytest.approx(0.2, rel=torch.finfo(dtype).eps)
        assert torch.autograd.grad(value, x)[0].abs().sum() == 0
    # Equal distances are not semi-hard: the negative must be farther.
    assert batch_semi_hard_loss(x, y, squared=squared).item() == 0


def test_reductions() -> None:
    a = torch.zeros(3, 1)
    p, n = torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    losses = triplet_loss(a, p, n, reduction="none")
    torch.testing.assert_close(losses, torch.tensor([0.2, 0.0, 0.0]))
    found = [triplet_loss(a, p, n, reduction=r).item() for r in ("mean", "active", "sum")]
    assert found == pytest.approx([0.2 / 3, 0.2, 0.2])


@pytest.mark.parametrize("dtype", HALF)
def test_sixteen_bits_are_widened(dtype: torch.dtype) -> None:
    x, y = rows(40, 8, dtype=dtype), torch.arange(40) % 4
    for loss in BATCH_LOSSES:
        expected = loss(x.float(), y).item()
        # One rounding, of the result: half a unit in its last place.
        assert loss(x, y).item() == pytest.approx(expected, rel=torch.finfo(dtype).eps)


@pytest.mark.parametrize("loss", [batch_all_loss, batch_semi_hard_loss])
@pytest.mark.parametrize("squared", [True, False])
def test_gradients_in_float32(loss: Callable[..., Tensor], squared: bool) -> None:
    # Up to 100 terms of size 1 add up in each coordinate, and cancel in part.
    x, y = torch.nn.functional.normalize(rows(120, 16), dim=-1), torch.arange(120) % 6
    slopes = []
    for dtype in (torch.float32, torch.float64):
        z = x.float().to(dtype).requires_grad_()
        slopes.append(torch.autograd.grad(loss(z, y, squared=squared), z)[0].double())
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_renaming_identities_changes_nothing() -> None:
    x, y = rows(20, 3).requires_grad_(), torch.arange(20) % 4
    renamed = names(7, -3, 100, 0)[y]
    for loss in BATCH_LOSSES:
        before, after = loss(x, y), loss(x, renamed)
        torch.testing.assert_close(after, before)
        slopes = [torch.autograd.grad(value, x)[0] for value in (before, after)]
        torch.testing.assert_close(*slopes)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_moving_and_turning_the_batch_changes_no_loss(seed: int) -> None:
    x, y = rows(12, 3, seed=seed), torch.arange(12) % 3
    turn = torch.linalg.qr(rows(3, 3, seed=seed + 1))[0]
    moved = x @ turn + rows(3, seed=seed + 2)
    for loss in BATCH_LOSSES:
        torch.testing.assert_close(loss(moved, y), loss(x, y), rtol=1e-9, atol=1e-9)


def test_shares_add_up_and_agree_with_the_miners() -> None:
    x, y = rows(30, 3), torch.arange(30) % 5
    a, p, n = all_triplets(y)
    losses = triplet_loss(x[a], x[p], x[n], margin=2.0, reduction="none")
    shares = triplet_shares(x, y, margin=2.0)
    assert sum(shares) == pytest.approx(1)
    assert shares.easy == pytest.approx((losses == 0).double().mean().item())
    semi = len(semi_hard(x, y, margin=2.0).anchors)
    assert shares.semi_hard == pytest.approx(semi / count_triplets(y))


# Distances


@pytest.mark.parametrize("squared", [True, False])
def test_distances_agree_with_the_difference(squared: bool) -> None:
    x, y = rows(17, 5), rows(9, 5, seed=1)
    expected = (x[:, None] - y).square().sum(-1)
    found = pairwise_distances(x, y, squared=squared)
    torch.testing.assert_close(found, expected if squared else expected.sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-6])
def test_small_distances_keep_their_digits(dtype: torch.dtype, apart: float) -> None:
    # A product of matrices in float32 is wrong by a third at 1e-3.
    x = torch.nn.functional.normalize(rows(40, 16), dim=-1).to(dtype)
    y = (x + apart * rows(40, 16, seed=1, dtype=dtype)).to(dtype)
    expected = (x.double() - y.double()).square().sum(-1).sqrt()
    found = pairwise_distances(x, y, squared=False).diagonal().double()
    # Above the switch the product formula keeps twelve digits; below it only the last digit of the
    # coordinates, of size 1, is lost in moving their mean to the origin.
    near = max(4 * torch.finfo(dtype).eps, 1e-12)
    torch.testing.assert_close(found, expected, rtol=near, atol=torch.finfo(torch.float64).eps)


def test_far_from_the_origin_and_of_unlike_sizes() -> None:
    x = torch.cat([rows(20, 4), 1e6 * rows(3, 4, seed=1), torch.zeros(2, 4).double()]) + 1e3
    expected = (x[:, None] - x).square().sum(-1)
    torch.testing.assert_close(pairwise_distances(x), expected, rtol=1e-9, atol=0)
    assert pairwise_distances(x).diagonal().abs().max() == 0


@pytest.mark.parametrize("squared", [True, False])
def test_gradcheck_of_the_distances(squared: bool) -> None:
    x, y = rows(5, 3).requires_grad_(), rows(4, 3, seed=1).requires_grad_()
    distances = partial(pairwise_distances, squared=squared)
    assert torch.autograd.gradcheck(distances, (x, y))
    # Of a batch with itself, off the diagonal, where the plain distance has no derivative.
    away = ~torch.eye(5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: distances(x)[away], x)


@pytest.mark.parametrize("squared", [True, False])
def test_the_gradient_at_zero_is_zero(squared: bool) -> None:
    x = torch.ones(3, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(pairwise_distances(x, squared=squared).sum(), x)
    assert slope.abs().sum() == 0


def test_the_plain_distances_slope_just_off_zero() -> None:
    x = torch.tensor([[0.6, 0.8], [0.6, 0.8 + 1e-9]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pairwise_distances(x, squared=False)[0, 1], x)
    torch.testing.assert_close(slope, torch.tensor([[0.0, -1.0], [0.0, 1.0]]).double())


# Verification


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 4), min_size=2, max_size=12),
    flags=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_val_and_far_are_the_papers(values: list[int], flags: list[bool]) -> None:
    distances = torch.tensor(values, dtype=torch.float64)
    same = torch.tensor(flags[: len(values)])
    same[0], same[-1] = True, False
    curve = verification(distances, same)
    assert curve.thresholds.tolist() == [-math.inf, *sorted(set(values))]
    for d, val, far in zip(*(part.tolist() for part in curve), strict=True):
        assert val == pytest.approx((distances[same] <= d).double().mean().item())
        assert far == pytest.approx((distances[~same] <= d).double().mean().item())
    assert (curve.val[-1], curve.far[-1]) == (1, 1)


def test_the_curve_agrees_with_scikit_learn() -> None:
    distances, same = rows(500).abs(), rows(500, seed=1) > 0
    far, val, _ = roc_curve(same.numpy(), -distances.numpy(), drop_intermediate=False)
    curve = verification(distances, same)
    np.testing.assert_allclose(curve.far, far)
    np.testing.assert_allclose(curve.val, val)


def test_val_at_a_far() -> None:
    curve = verification(
        torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]), torch.tensor([True, False, True, True, False])
    )
    assert [val_at_far(curve, f) for f in (0, 0.4, 0.5, 1)] == pytest.approx([1 / 3, 1 / 3, 1, 1])
    worst = verification(torch.tensor([0.1, 0.2]), torch.tensor([False, True]))
    assert val_at_far(worst, 0.5) == 0


def test_rates_keep_their_digits() -> None:
    # One of 1000 different pairs is accepted: a FAR of exactly 1/1000, which float32 overstates.
    distances, same = torch.arange(1.0, 1002), torch.arange(1001) == 1
    curve = verification(distances.requires_grad_(), same)
    assert all(part.dtype == torch.float64 and not part.requires_grad for part in curve)
    assert curve.far[1].item() == 1 / 1000
    assert (val_at_far(curve, 0.001), val_at_far(curve, np.float64(0.0009))) == (1, 0)


def test_pairs_are_taken_once() -> None:
    x, y = rows(7, 3), torch.arange(7) % 2
    pairs = labelled_pairs(x, y, squared=False)
    expected = [
        (loop_distance(x, i, j, squared=False), bool(y[i] == y[j]))
        for i in range(7)
        for j in range(i + 1, 7)
    ]
    torch.testing.assert_close(pairs.distances, torch.tensor([d for d, _ in expected]).double())
    assert pairs.same.tolist() == [same for _, same in expected]


# Digits, networks, training


def test_digits_are_split_by_identity() -> None:
    data = identity_digits(unseen=(1, 4))
    assert data.unseen_labels.unique().tolist() == [1, 4]
    assert not set(data.seen_labels.tolist()) & {1, 4}
    assert len(data.seen_labels) + len(data.unseen_labels) == 1797
    whole = load_digits()
    torch.testing.assert_close(
        data.unseen_images,
        torch.tensor(whole.images[np.isin(whole.target, (1, 4))] / 16).float(),
    )
    assert (data.seen_images.min(), data.seen_images.max()) == (0, 1)
    assert data.seen_images.dtype == torch.float32


def test_batches_hold_identities_and_their_own_images() -> None:
    images = torch.arange(60.0).reshape(60, 1)
    labels = torch.arange(60) // 6
    labels[:3] = 99  # too few of it
    batches = identity_batches(images, labels, identities=4, images_each=5)(source())
    seen = set()
    for _, (x, y) in zip(range(30), batches, strict=False):
        assert y.unique(return_counts=True)[1].tolist() == [5] * 4
        assert len(set(x.flatten().tolist())) == 20
        assert torch.equal(labels[x.flatten().long()], y)
        seen |= set(y.tolist())
    assert seen == set(range(1, 10))


def test_the_network_ends_on_the_sphere_and_is_reproducible() -> None:
    images = torch.rand(5, 8, 8, generator=source())
    first, second = (embedding_network(generator=source(3), size=6) for _ in range(2))
    assert torch.equal(first(images), second(images))
    torch.testing.assert_close(first(images).norm(dim=-1), torch.ones(5))
    assert first(images).shape == (5, 6)


@pytest.mark.parametrize("loss", BATCH_LOSSES)
def test_training_brings_identities_apart(loss: Callable[..., Tensor]) -> None:
    data = identity_digits(unseen=(5, 6, 7, 8, 9))
    network, history = train_embedding(
        loss, data.seen_images, data.seen_labels, generator=source(1), steps=60
    )
    with torch.no_grad():
        after = triplet_shares(network(data.seen_images), data.seen_labels)
    before = triplet_shares(
        embedding_network(generator=source(1))(data.seen_images), data.seen_labels
    )
    assert after.hard < 0.2 * before.hard
    again = train_embedding(
        loss, data.seen_images, data.seen_labels, generator=source(1), steps=60
    )[1]
    assert torch.equal(again.losses, history.losses)


def test_training_in_float64() -> None:
    x, y = rows(20, 3), torch.arange(20) % 2
    network, _ = train_embedding(batch_all_loss, x, y, generator=source(), images_each=4, steps=2)
    assert network(x).dtype == torch.float64
    network, _ = train_classifier(x, y, generator=source(), images_each=4, steps=2)
    assert network(x).dtype == torch.float64


def test_a_classifiers_bottleneck_is_on_the_sphere() -> None:
    data = identity_digits()
    network, history = train_classifier(
        data.seen_images, data.seen_labels + 5, generator=source(), steps=40, size=8
    )
    assert history.losses[-5:].mean() < 0.8 * history.losses[:5].mean()
    torch.testing.assert_close(network(data.unseen_images).norm(dim=-1), torch.ones(533))


# What is refused

X, Y = rows(4, 2), names(0, 0, 1, 1)
NAN = torch.full((4, 2), math.nan).double()
CURVE = VerificationCurve(torch.zeros(1), torch.zeros(1), torch.zeros(1))
G = source()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: triplet_loss(X, X, X[:2]), ValueError, "negative must have the shape of anchor"),
        (lambda: triplet_loss(X, X.float(), X), TypeError, "positive must have the dtype of"),
        (lambda: triplet_loss([1.0], X, X), TypeError, "anchor must be a torch.Tensor"),
        (lambda: triplet_loss(X, NAN, X), ValueError, "positive must be finite"),
        (lambda: triplet_loss(X, X, X, margin=-0.2), ValueError, "margin must be positive"),
        (lambda: triplet_loss(X, X, X, margin=0), ValueError, "margin must be positive"),
        (lambda: triplet_loss(X, X, X, squared=2), TypeError, "squared must be True or False"),
        (lambda: triplet_loss(X, X, X, reduction="max"), ValueError, "reduction must be one of"),
        (lambda: batch_all_loss(X, Y[:3]), ValueError, "labels must have one entry for each"),
        (lambda: batch_all_loss(X, Y.double()), TypeError, "labels must be integers"),
        (lambda: batch_all_loss(X, Y == 0), TypeError, "labels must be integers"),
        (lambda: batch_all_loss(X, [0, 0, 1, 1]), TypeError, "labels must be a torch.Tensor"),
        (lambda: batch_all_loss(X, Y[None]), ValueError, "labels must have 1 dimension"),
        (lambda: batch_all_loss(NAN, Y), ValueError, "embeddings must be finite"),
        (lambda: batch_all_loss(X[0], Y), ValueError, "embeddings must have 2 dimensions"),
        (lambda: batch_all_loss(X, Y, margin=math.nan), ValueError, "margin must be positive"),
        (lambda: batch_all_loss(X, Y, reduction="none"), ValueError, "reduction must be one of"),
        (lambda: batch_semi_hard_loss(X, Y, margin=-1), ValueError, "margin must be positive"),
        (lambda: batch_semi_hard_loss(NAN, Y), ValueError, "embeddings must be finite"),
        (lambda: batch_hard_loss(X, Y, margin=True), TypeError, "margin must be a real number"),
        (lambda: batch_hard_loss(X, Y, reduction="none"), ValueError, "reduction must be one of"),
        (lambda: hardest(X, Y, positives="near"), ValueError, "positives must be"),
        (lambda: semi_hard(X, Y, choose="first"), ValueError, "choose must be one of"),
        (lambda: semi_hard(X, Y.to("meta")), ValueError, "labels must be on the device"),
        (lambda: count_triplets(Y.float()), TypeError, "labels must be integers"),
        (lambda: triplet_shares(X, names(1, 2, 3, 4)), ValueError, "labels must allow a triplet"),
        (lambda: pair_loss(X, Y, margin=0), ValueError, "margin must be positive"),
        (lambda: pairwise_distances(X, X[:, :1]), ValueError, "y must have the size of x"),
        (lambda: pairwise_distances(X, X.float()), TypeError, "y must have the dtype of x"),
        (lambda: pairwise_distances(X, NAN), ValueError, "y must be finite"),
        (lambda: verification(X[0], Y[:2]), TypeError, "same must be a torch.Tensor of booleans"),
        (lambda: verification(X[0], Y == 0), ValueError, "same must have the shape of"),
        (lambda: verification(X[0], X[0] > 99), ValueError, "at least one pair of one identity"),
        (lambda: verification(X[0], X[0] < 99), ValueError, "one pair of two identities"),
        (lambda: verification(NAN[0], X[0] < 0), ValueError, "distances must be finite"),
        (lambda: val_at_far(CURVE, 1.5), ValueError, "far must lie between 0 and 1"),
        (lambda: val_at_far((1, 2, 3), 0.1), TypeError, "curve must be a VerificationCurve"),
        (lambda: pairwise_distances(1e141 * X), ValueError, "x must have no coordinate above 1e"),
        (lambda: triplet_loss(X, X, 1e200 * X), ValueError, "negative must have no coordinate"),
        (lambda: semi_hard(1e200 * X, Y), ValueError, "embeddings must have no coordinate above"),
        (lambda: val_at_far(CURVE, "0.1"), TypeError, "far must be a number"),
        (lambda: identity_digits(unseen=7), TypeError, "unseen must be a sequence of digits"),
        (lambda: identity_digits(unseen="7"), TypeError, "unseen must be a sequence of digits"),
        (
            lambda: train_embedding(batch_all_loss, [1.0], Y, generator=G),
            TypeError,
            "images must be a torch.Tensor",
        ),
        (
            lambda: train_embedding(3, X, Y, generator=G),
            TypeError,
            "loss must be callable",
        ),
        (
            lambda: train_embedding(batch_all_loss, X[:0], Y[:0], generator=G),
            ValueError,
            "images must hold at least one pixel",
        ),
        (lambda: train_classifier(Y, Y, generator=G), TypeError, "images must have a real"),
        (lambda: identity_digits(unseen=()), ValueError, "unseen must hold one to nine"),
        (lambda: identity_digits(unseen=(3, 3)), ValueError, "unseen must hold one to nine"),
        (lambda: identity_digits(unseen=(10,)), ValueError, "unseen must hold one to nine"),
        (
            lambda: identity_batches(X, Y, identities=3, images_each=2),
            ValueError,
            "identities must be at most",
        ),
        (
            lambda: identity_batches(X[:2], Y, identities=2, images_each=2),
            ValueError,
            "images must have one entry for each label",
        ),
        (
            lambda: identity_batches(X, Y, identities=1, images_each=2),
            ValueError,
            "identities must be at least 2",
        ),
        (lambda: embedding_network(generator=0), TypeError, "generator must be"),
        (lambda: embedding_network(generator=G, size=1), ValueError, "size must be at least 2"),
        (
            lambda: train_embedding(batch_all_loss, X, Y, generator=G, learning_rate=0),
            ValueError,
            "learning_rate must be positive",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        assert math.isnan(triplet_loss(X, NAN, X).item())
