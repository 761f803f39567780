r"""Triplet loss: losses, mining, and verification (hw10 5(b), (c), (e)).

An embedding puts each example at a point; the triplet loss wants the point of an *anchor* nearer
to a *positive*, of the same identity, than to a *negative*, of another, by a margin. Losses and
mining are kept apart: :func:`triplet_loss` takes triplets, :func:`all_triplets`,
:func:`semi_hard` and :func:`hardest` find them. The batch losses compute the same without
writing triplets down: :func:`batch_all_loss`, :func:`batch_semi_hard_loss` and
:func:`batch_hard_loss` take :math:`O(B^2 \log B)` time for a batch of B.

An empty set of triplets is no error: a miner returns none, and a loss over none is 0, with a
gradient that is 0. Late in training nothing may be left inside the margin, and a run must not end
for that. Where a batch *should* hold a triplet, ask :func:`count_triplets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from dlchecked.arguments import (
    finite,
    flag,
    floating,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.training import Batches, History, train

__all__ = [
    "CHOICES",
    "REDUCTIONS",
    "BatchLoss",
    "DigitSplit",
    "Evaluate",
    "LabelledPairs",
    "TripletShares",
    "Triplets",
    "VerificationCurve",
    "all_triplets",
    "batch_all_loss",
    "batch_hard_loss",
    "batch_semi_hard_loss",
    "count_triplets",
    "embedding_network",
    "hardest",
    "identity_batches",
    "identity_digits",
    "labelled_pairs",
    "pair_loss",
    "pairwise_distances",
    "semi_hard",
    "train_classifier",
    "train_embedding",
    "triplet_loss",
    "triplet_shares",
    "val_at_far",
    "verification",
]

REDUCTIONS = ("mean", "active", "sum", "none")
"""Over all triplets, over those with a positive loss, their sum, or each one."""

CHOICES = ("all", "nearest")
"""Every semi-hard negative of a positive pair, or the nearest of them."""

#: Elements of a block of rows: 2 MiB in float64, which stays in a processor's cache.
_BLOCK = 2**18
#: A squared distance below this share of the row's squared norm is taken from the difference
#: itself; above it the product formula in float64 keeps twelve digits.
_NEAR = 2e-3
#: The largest coordinate: squares of larger ones, added up, may overflow and end as NaN.
_LARGEST = {torch.float64: 1e140}
_LARGEST_IN_FLOAT32 = 1e15


# Distances


class _Distances(torch.autograd.Function):
    """Pairwise distances by blocks of rows, in float64, exact near zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, squared: bool) -> Tensor:
        wide_x, wide_y = _centred(x, y)
        out = torch.empty(x.shape[0], y.shape[0], dtype=x.dtype, device=x.device)
        for rows in _blocks(x.shape[0], y.shape[0]):
            block = _squared_distances(wide_x[rows], wide_y)
            out[rows] = (block if squared else block.sqrt_()).to(out.dtype)
        ctx.save_for_backward(x, y)
        ctx.squared = squared
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        _once_only()
        x, y = ctx.saved_tensors
        wide_x, wide_y = _centred(x, y)
        to_x, to_y = torch.zeros_like(wide_x), torch.zeros_like(wide_y)
        for rows in _blocks(x.shape[0], y.shape[0]):
            weights = grad[rows].double()
            if not ctx.squared:
                _divide_by_twice(weights, _squared_distances(wide_x[rows], wide_y).sqrt_())
            _pull(weights, wide_x[rows], wide_y, to_x[rows], to_y)
        return to_x.to(x.dtype), to_y.to(y.dtype), None


def _once_only() -> None:
    """Refuse to be differentiated twice: the second derivative would silently be 0."""
    if torch.is_grad_enabled():
        raise RuntimeError("these distances and losses can be differentiated once: no create_graph")


def _centred(*points: Tensor) -> tuple[Tensor, ...]:
    """The points in float64, moved so that their mean is 0: differences keep their digits."""
    wide = [p.detach().double() for p in points]
    stacked = torch.cat(wide) if len(wide) > 1 and wide[0] is not wide[1] else wide[0]
    if stacked.shape[0] == 0:
        return tuple(wide)
    middle = stacked.mean(0)
    return tuple(p - middle for p in wide)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows, each of about `_BLOCK` elements."""
    step = max(1, _BLOCK // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x - y|² for all pairs of rows, float64: by a product, and near zero by the difference."""
    length = x.square().sum(-1, keepdim=True)
    left = torch.cat([x, length, torch.ones_like(length)], dim=1)
    theirs = y.square().sum(-1, keepdim=True)
    found = left @ torch.cat([-2 * y, torch.ones_like(theirs), theirs], dim=1).mT
    # Where x and y are near, their lengths are nearly equal: one of them is enough to judge by.
    near_x, near_y = (found < _NEAR * length).nonzero(as_tuple=True)
    step = max(1, _BLOCK // max(1, x.shape[-1]))
    for i, j in zip(torch.split(near_x, step), torch.split(near_y, step), strict=True):
        found[i, j] = (x[i] - y[j]).square_().sum(-1)
    return found.clamp_min_(0.0)


def _divide_by_twice(weights: Tensor, distances: Tensor) -> None:
    """Divide, in place, by 2d: from the slope in d to that in d². At d = 0 it becomes 0."""
    weights.div_(distances.mul_(2.0)).masked_fill_(distances == 0, 0.0)


def _pull(weights: Tensor, x: Tensor, y: Tensor, to_x: Tensor, to_y: Tensor) -> None:
    """Add the gradient of the sum of weights times |x - y|² to `to_x` and `to_y`."""
    # A column of ones makes the products add up the weights as well.
    seen_x = weights @ torch.cat([y, torch.ones_like(y[:, :1])], dim=1)
    seen_y = weights.mT @ torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    to_x.add_(seen_x[:, -1:] * x - seen_x[:, :-1], alpha=2.0)
    to_y.add_(seen_y[:, -1:] * y - seen_y[:, :-1], alpha=2.0)


def pairwise_distances(x: Tensor, y: Tensor | None = None, *, squared: bool = True) -> Tensor:
    r"""Distances between all rows of `x` and all rows of `y`.

    Exact near zero: where :math:`|x|^2 + |y|^2 - 2 x \cdot y` would lose digits, the difference
    itself is squared. Computed in float64, block by block, after moving the mean of all points to
    the origin. At distance 0 the gradient is 0: for the squared distance that is its derivative,
    for the plain one a subgradient.

    Parameters
    ----------
    x
        ``(n, E)``.
    y
        ``(m, E)``; `x` itself if left out.
    squared
        Whether to return squared distances.

    Returns
    -------
    Tensor
        ``(n, m)``, in the dtype of `x`. It can be differentiated once; ``create_graph`` is refused.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, and (see
        :func:`dlchecked.arguments.value_checks`) for numbers that are not finite or so large that
        sums of squares overflow: above 1e15, in float64 above 1e140.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import pairwise_distances
    >>> pairwise_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), squared=False)
    tensor([[0., 5.],
            [5., 0.]])
    """
    x = _points("x", x)
    other = x if y is None else _points("y", y)
    same_kind(x=x, y=other)
    if other.shape[1] != x.shape[1]:
        raise ValueError(f"y must have the size of x, E = {x.shape[1]}, got {shape_of(other)}")
    found: Tensor = _Distances.apply(x, other, flag("squared", squared))  # type: ignore[no-untyped-call]
    return found


# The loss of given triplets


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
    reduction: str = "mean",
) -> Tensor:
    r"""The triplet loss (FaceNet, equation 3): :math:`\max(d_{ap} - d_{an} + \alpha,\ 0)`.

    Parameters
    ----------
    anchor, positive, negative
        ``(…, E)`` each, of one shape: the embeddings of the triplets.
    margin
        :math:`\alpha`, above zero.
    squared
        Whether :math:`d` is the squared distance, as in the paper, or the plain one.
    reduction
        ``"mean"`` over all triplets, ``"active"`` over those with a positive loss, ``"sum"``, or
        ``"none"``. Over no triplets each of the first three is 0.

    Returns
    -------
    Tensor
        A number, or with ``"none"`` shape ``(…)``; in the dtype of `anchor`, computed in float32
        at least. A triplet that meets the margin exactly has loss 0 and gradient 0.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, a margin not above zero, an unknown
        reduction, and (see :func:`dlchecked.arguments.value_checks`) numbers that are not finite or
        as large as :func:`pairwise_distances` refuses them.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import triplet_loss
    >>> a, p, n = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> triplet_loss(a, p, n)
    tensor(0.)
    >>> triplet_loss(a, n, p)  # 2 - 0.4 + 0.2
    tensor(1.8000)
    """
    parts = {"anchor": anchor, "positive": positive, "negative": negative}
    parts = {name: floating(name, part) for name, part in parts.items()}
    same_kind(**parts)
    for name, part in parts.items():
        if part.shape != anchor.shape:
            raise ValueError(
                f"{name} must have the shape of anchor, {shape_of(anchor)}, got {shape_of(part)}"
            )
        finite(name, part)
        _in_range(name, part)
    margin, squared = _margin(margin), flag("squared", squared)
    a, p, n = (widened(part) for part in parts.values())
    violation = _distance(a - p, squared) - _distance(a - n, squared) + margin
    return _reduced(violation.relu(), _reduction(reduction)).to(anchor.dtype)


def _distance(difference: Tensor, squared: bool) -> Tensor:
    if squared:
        return difference.square().sum(-1)
    # The gradient of this norm is 0 at 0, where that of a square root is NaN.
    length: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return length


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    counted = (
        torch.count_nonzero(losses) if reduction == "active" else losses.new_tensor(losses.numel())
    )
    return total / counted.clamp_min(1)


# Triplets


class Triplets(NamedTuple):
    """Indices into a batch, int64, ``(T,)`` each: anchors, positives and negatives."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def count_triplets(labels: Tensor) -> int:
    r"""How many triplets a batch holds: :math:`\sum_c n_c (n_c - 1)(B - n_c)`.

    Parameters
    ----------
    labels
        ``(B,)``, integers: the identities.

    Returns
    -------
    int
        0 if there are no two examples of one identity, or no second identity.

    Raises
    ------
    TypeError, ValueError
        If `labels` is no one-dimensional tensor of integers.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import count_triplets
    >>> count_triplets(torch.tensor([0, 0, 1, 1, 1]))  # 2 * 1 * 3 + 3 * 2 * 2
    18
    """
    labels = _labels(labels)
    sizes = torch.unique(labels, return_counts=True)[1].tolist()
    return sum(n * (n - 1) * (len(labels) - n) for n in sizes)


def all_triplets(labels: Tensor) -> Triplets:
    """All valid triplets of a batch, ordered by anchor, positive, negative.

    Parameters
    ----------
    labels
        ``(B,)``, integers.

    Returns
    -------
    Triplets
        :func:`count_triplets` of them; none is no error.

    Raises
    ------
    TypeError, ValueError
        As :func:`count_triplets`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import all_triplets
    >>> [part.tolist() for part in all_triplets(torch.tensor([7, 7, 3]))]
    [[0, 1], [1, 0], [2, 2]]
    """
    labels = _labels(labels)
    a, p = _positive_pairs(labels)
    pair, n = (labels[a, None] != labels).nonzero(as_tuple=True)
    return Triplets(a[pair], p[pair], n)


def semi_hard(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
    choose: str = "all",
) -> Triplets:
    r"""Triplets with a semi-hard negative: :math:`d_{ap} < d_{an} < d_{ap} + \alpha`.

    Farther from the anchor than the positive is (FaceNet, equation 4), and inside the margin. A
    pair of anchor and positive without such a negative gives no triplet: nothing is put in its
    place.

    Parameters
    ----------
    embeddings
        ``(B, E)``.
    labels
        ``(B,)``, integers.
    margin
        :math:`\alpha`, above zero, in the units of the distance.
    squared
        Whether distances are squared. The margin means something else then.
    choose
        ``"all"``: every such negative. ``"nearest"``: for each pair the nearest of them.

    Returns
    -------
    Triplets
        Ordered by anchor, positive, negative; perhaps none.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, a margin not above zero, an unknown choice,
        and (see :func:`dlchecked.arguments.value_checks`) numbers that are not finite or too large.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import semi_hard
    >>> line = torch.tensor([[0.0], [1.0], [1.04], [9.0]])
    >>> [part.tolist() for part in semi_hard(line, torch.tensor([0, 0, 1, 1]))]
    [[0], [1], [2]]
    """
    embeddings, labels = _batch(embeddings, labels)
    margin, squared = _margin(margin), flag("squared", squared)
    if choose not in CHOICES:
        raise ValueError(f"choose must be one of {CHOICES}, got {choose!r}")
    distances = _wide_distances(embeddings, squared)
    a, p = _positive_pairs(labels)
    found = [
        _semi_hard_block(distances, labels, a[block], p[block], margin, choose)
        for block in _blocks(len(a), len(labels))
    ]
    nothing = a[:0]
    parts = zip(*found, strict=True) if found else [(nothing,)] * 3
    return Triplets(*(torch.cat(part) for part in parts))


def _semi_hard_block(
    distances: Tensor, labels: Tensor, a: Tensor, p: Tensor, margin: float, choose: str
) -> tuple[Tensor, Tensor, Tensor]:
    nearer, rows = distances[a, p].unsqueeze(1), distances[a]
    region = (labels[a, None] != labels) & (rows > nearer) & (rows < nearer + margin)
    if choose == "nearest":
        best = rows.masked_fill_(~region, torch.inf).argmin(1)
        kept = region.any(1)
        return a[kept], p[kept], best[kept]
    pair, n = region.nonzero(as_tuple=True)
    return a[pair], p[pair], n


def hardest(embeddings: Tensor, labels: Tensor, *, positives: str = "farthest") -> Triplets:
    """For each anchor its nearest negative, with its farthest positive or with each positive.

    Squared and plain distances give the same triplets. At a tie the first index is taken.

    Parameters
    ----------
    embeddings
        ``(B, E)``.
    labels
        ``(B,)``, integers.
    positives
        ``"farthest"``: one triplet an anchor. ``"all"``: one for each pair of anchor and
        positive, as the paper pairs them.

    Returns
    -------
    Triplets
        Ordered by anchor. An anchor without a positive or without a negative is left out.

    Raises
    ------
    TypeError, ValueError
        As :func:`semi_hard`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import hardest
    >>> line = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
    >>> [part.tolist() for part in hardest(line, torch.tensor([0, 0, 1, 1]))]
    [[0, 1, 2, 3], [1, 0, 3, 2], [2, 2, 1, 1]]
    """
    embeddings, labels = _batch(embeddings, labels)
    if positives not in ("farthest", "all"):
        raise ValueError(f"positives must be 'farthest' or 'all', got {positives!r}")
    if len(labels) == 0:
        return Triplets(*(torch.empty(0, dtype=torch.int64, device=labels.device),) * 3)
    (points,) = _centred(embeddings)
    parts = [
        _hardest_block(points, labels, rows, positives) for rows in _blocks(*(len(labels),) * 2)
    ]
    return Triplets(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _hardest_block(points: Tensor, labels: Tensor, rows: slice, positives: str) -> Triplets:
    distances = _squared_distances(points[rows], points)
    same = labels[rows, None] == labels
    nearest = distances.masked_fill(same, torch.inf).argmin(1)
    own = torch.arange(len(labels), device=labels.device)[rows]
    # Without a negative there is no triplet, whatever the positives.
    pairs = same & ~same.all(1, keepdim=True)
    pairs.scatter_(1, own[:, None], False)
    if positives == "farthest":
        farthest = distances.masked_fill_(~pairs, -1.0).argmax(1)
        kept = pairs.any(1)
        return Triplets(own[kept], farthest[kept], nearest[kept])
    a, p = pairs.nonzero(as_tuple=True)
    return Triplets(own[a], p, nearest[a])


def _positive_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different examples with one label."""
    a, p = (labels[:, None] == labels).fill_diagonal_(False).nonzero(as_tuple=True)
    return a, p


def _wide_distances(embeddings: Tensor, squared: bool) -> Tensor:
    """Distances of a batch in float64, without a graph."""
    wide = embeddings.detach().double()
    found: Tensor = _Distances.apply(wide, wide, squared)  # type: ignore[no-untyped-call]
    return found


# Losses of a whole batch


BatchLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of embeddings ``(B, E)`` and labels ``(B,)``."""


class _BatchTriplets(torch.autograd.Function):
    """The sum of all (or all semi-hard) losses, and how many triplets are active; no B³ tensor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, labels: Tensor, margin: float, squared: bool, semi: bool
    ) -> tuple[Tensor, Tensor]:
        (points,) = _centred(x)
        order = labels.argsort(stable=True)
        points, sorted_labels = points[order], labels[order]
        _, class_of, sizes = torch.unique_consecutive(
            sorted_labels, return_inverse=True, return_counts=True
        )
        first = (sizes.cumsum(0) - sizes)[class_of]
        # The weights of squared distances are small whole numbers: float32 embeddings get their
        # gradient from products in float32. Those of plain ones grow without bound near zero.
        wide = x.dtype == torch.float64 or not squared
        pulled = points.to(torch.float64 if wide else torch.float32)
        gradient = torch.zeros_like(pulled) if ctx.needs_input_grad[0] else None
        total, active = points.new_zeros(()), points.new_zeros(())
        for rows in _blocks(len(labels), len(labels)):
            block = _anchor_block(points, rows, first, sizes[class_of], margin, squared, semi)
            total += block.total
            active += block.active
            if gradient is not None:
                if not squared:
                    _divide_by_twice(block.weights, block.distances)
                weights = block.weights.to(pulled.dtype)
                # Autocast would take these products in 16 bits.
                with torch.autocast(x.device.type, enabled=False):
                    _pull(weights, pulled[rows], pulled, gradient[rows], gradient)
        if gradient is not None:
            ctx.save_for_backward(torch.empty_like(gradient).index_copy_(0, order, gradient))
        ctx.mark_non_differentiable(active)
        ctx.dtype = x.dtype
        return total, active

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        _once_only()
        (gradient,) = ctx.saved_tensors
        return (grad * gradient).to(ctx.dtype), None, None, None, None


class _Block(NamedTuple):
    total: Tensor
    active: Tensor
    weights: Tensor
    distances: Tensor


def _anchor_block(
    points: Tensor,
    rows: slice,
    first: Tensor,
    sizes: Tensor,
    margin: float,
    squared: bool,
    semi: bool,
) -> _Block:
    """The triplets of some anchors, in a batch sorted by label.

    Rank each anchor's positives by distance. With a margin, a negative is active with the ranks
    from some `low` on, whose thresholds d(a, p) + margin lie above its distance; if semi-hard, up
    to some `high`, the ranks that are nearer than it. Both change only at the sorted `steps`, so
    one `searchsorted` places a negative in a bin, and all else is known of the bin.
    """
    anchors = torch.arange(len(points), device=points.device)[rows, None]
    starts, ends = first[rows, None], (first + sizes)[rows, None]
    distances = _squared_distances(points[rows], points)
    if not squared:
        distances.sqrt_()
    width = int((ends - starts).max())
    seats = starts + torch.arange(width, device=points.device)
    # Classes differ in size: a seat too many is the anchor's own, which is no positive.
    seats = torch.where(seats < ends, seats, anchors)
    nearer, place = distances.gather(1, seats).masked_fill_(seats == anchors, -torch.inf).sort(1)
    thresholds = nearer + margin
    steps, low, high = _bins(thresholds, nearer if semi else None)
    bins = torch.searchsorted(steps, distances, right=True)
    # In the last bin all thresholds are passed: there is the place of what is no negative.
    bins.scatter_(1, seats, steps.shape[1])
    held = torch.zeros_like(low, dtype=points.dtype)
    held.scatter_add_(1, bins, held.new_ones(()).expand_as(distances))
    # With the positive of a rank are active the negatives that begin there or before, less those
    # that have ended.
    changes = points.new_zeros(len(low), width + 1)
    changes.scatter_add_(1, low, held).scatter_add_(1, high, held.neg())
    with_positive = changes.cumsum(1)[:, :width]
    weights = (low - high).to(points.dtype).gather(1, bins)
    total = torch.dot(weights.reshape(-1), distances.reshape(-1))
    total += (with_positive * thresholds.masked_fill_(nearer.isinf(), 0.0)).sum()
    weights.scatter_add_(1, seats.gather(1, place), with_positive)
    return _Block(total, with_positive.sum(), weights, distances)


def _bins(thresholds: Tensor, nearer: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Where a negative's ranks change, and for each bin between: the first rank, and the end."""
    anchors, width = thresholds.shape
    if nearer is None:
        low = torch.arange(width + 1, device=thresholds.device).expand(anchors, -1)
        return thresholds, low, torch.full_like(low, width)
    # A negative at the positive's distance is not farther: its step comes one number later.
    beyond = torch.nextafter(nearer, torch.full_like(nearer, torch.inf))
    steps, order = torch.cat([thresholds, beyond], dim=1).sort(1)
    passed = nn.functional.pad((order < width).cumsum(1), (1, 0))
    high = torch.arange(2 * width + 1, device=steps.device) - passed
    # A margin too small to be added makes both steps one.
    return steps, passed.minimum(high), high


def batch_all_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
    reduction: str = "active",
) -> Tensor:
    r"""The triplet loss over *all* valid triplets of a batch, without writing them down.

    For each anchor the thresholds :math:`d_{ap} + \alpha` are sorted and every negative is looked
    up among them: :math:`O(B^2 \log B)` time, and memory for a block of rows at a time. Computed
    in float64; the value and the gradient are exact up to rounding.

    Parameters
    ----------
    embeddings
        ``(B, E)``.
    labels
        ``(B,)``, integers.
    margin, squared
        As in :func:`triplet_loss`.
    reduction
        ``"active"`` (the default): the mean over triplets with a positive loss. ``"mean"``: over
        all valid ones. ``"sum"``.

    Returns
    -------
    Tensor
        A number in the dtype of `embeddings`; 0, with a gradient of 0, if the set is empty. It can
        be differentiated once; ``create_graph`` is refused.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, labels of another length, a margin not above
        zero, an unknown reduction, and (see :func:`dlchecked.arguments.value_checks`) numbers that
        are not finite or too large.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import batch_all_loss
    >>> line = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
    >>> batch_all_loss(line, torch.tensor([0, 0, 1, 1]))  # (0.95 + 0.2 + 2.2) / 3
    tensor(1.1167)
    """
    return _batch_loss(embeddings, labels, margin, squared, reduction, semi=False)


def batch_semi_hard_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
    reduction: str = "active",
) -> Tensor:
    r"""The triplet loss over all semi-hard triplets of a batch: those of :func:`semi_hard`.

    Computed as :func:`batch_all_loss`. Each semi-hard triplet has a positive loss, less than the
    margin.

    Parameters
    ----------
    embeddings, labels, margin, squared
        As in :func:`batch_all_loss`.
    reduction
        ``"active"`` or ``"mean"``, both the mean over the semi-hard triplets, or ``"sum"``.

    Returns
    -------
    Tensor
        A number in the dtype of `embeddings`; 0, with a gradient of 0, if the set is empty.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_all_loss`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import batch_semi_hard_loss
    >>> line = torch.tensor([[0.0], [1.0], [1.04], [9.0]])
    >>> batch_semi_hard_loss(line, torch.tensor([0, 0, 1, 1]))  # 1 - 1.0816 + 0.2
    tensor(0.1184)
    """
    return _batch_loss(embeddings, labels, margin, squared, reduction, semi=True)


def _batch_loss(
    embeddings: Tensor, labels: Tensor, margin: float, squared: bool, reduction: str, *, semi: bool
) -> Tensor:
    embeddings, labels = _batch(embeddings, labels)
    margin, squared = _margin(margin), flag("squared", squared)
    reduction = _reduction(reduction, none=False)
    if len(labels) == 0:
        return embeddings.sum()
    total, active = _BatchTriplets.apply(embeddings, labels, margin, squared, semi)  # type: ignore[no-untyped-call]
    if reduction == "mean" and not semi:
        total = total / max(1, count_triplets(labels))
    elif reduction != "sum":
        total = total / active.clamp_min(1)
    found: Tensor = total.to(embeddings.dtype)
    return found


def batch_hard_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
    reduction: str = "active",
    positives: str = "farthest",
) -> Tensor:
    """The triplet loss over the triplets of :func:`hardest`.

    Parameters
    ----------
    embeddings, labels, margin, squared
        As in :func:`batch_all_loss`.
    reduction
        ``"active"``: the mean over triplets with a positive loss. ``"mean"``: over all that
        :func:`hardest` returns. ``"sum"``.
    positives
        As in :func:`hardest`.

    Returns
    -------
    Tensor
        A number in the dtype of `embeddings`; 0, with a gradient of 0, if the set is empty.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_all_loss`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import batch_hard_loss
    >>> line = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
    >>> batch_hard_loss(line, torch.tensor([0, 0, 1, 1]))  # (0.95 + 2.2) / 2
    tensor(1.5750)
    """
    triplets = hardest(embeddings, labels, positives=positives)
    a, p, n = (embeddings[part] for part in triplets)
    reduction = _reduction(reduction, none=False)
    return triplet_loss(a, p, n, margin=margin, squared=squared, reduction=reduction)


class TripletShares(NamedTuple):
    """Which share of a batch's triplets is hard, semi-hard and easy; the three add up to 1.

    ``hard``: the negative is as near as the positive, or nearer. ``semi_hard``: farther, and
    inside the margin. ``easy``: the margin is met, and the loss is 0.
    """

    hard: float
    semi_hard: float
    easy: float


def triplet_shares(
    embeddings: Tensor, labels: Tensor, *, margin: float = 0.2, squared: bool = True
) -> TripletShares:
    r"""Sort all triplets of a batch into hard, semi-hard and easy ones, and count.

    Counted as in :func:`batch_all_loss`, without writing triplets down.

    Parameters
    ----------
    embeddings, labels, margin, squared
        As in :func:`batch_all_loss`.

    Returns
    -------
    TripletShares

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_all_loss`, and if the batch holds no triplet: there is no share of none.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import triplet_shares
    >>> line = torch.tensor([[0.0], [1.0], [1.5], [2.95]])
    >>> triplet_shares(line, torch.tensor([0, 0, 1, 1]))
    TripletShares(hard=0.25, semi_hard=0.125, easy=0.625)
    """
    embeddings, labels = _batch(embeddings, labels)
    margin, squared = _margin(margin), flag("squared", squared)
    total = count_triplets(labels)
    if total == 0:
        raise ValueError("labels must allow a triplet: two of one identity, and a second identity")
    active, semi = (
        float(_BatchTriplets.apply(embeddings.detach(), labels, margin, squared, kind)[1])  # type: ignore[no-untyped-call]
        for kind in (False, True)
    )
    return TripletShares((active - semi) / total, semi / total, (total - active) / total)


def pair_loss(embeddings: Tensor, labels: Tensor, *, margin: float = 1.0) -> Tensor:
    r"""The contrastive loss of pairs: same ones together, different ones a margin apart.

    Half of the mean over pairs with one label of :math:`d^2`, plus half of the mean over pairs
    with different labels of :math:`\max(m - d, 0)^2` (Hadsell, Chopra and LeCun, 2006, with the
    two kinds of pairs given the same weight).

    Parameters
    ----------
    embeddings
        ``(B, E)``.
    labels
        ``(B,)``, integers.
    margin
        :math:`m`, above zero, a *plain* distance.

    Returns
    -------
    Tensor
        A number in the dtype of `embeddings`; a kind of which there is no pair counts as 0.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, a margin not above zero, and (see
        :func:`dlchecked.arguments.value_checks`) numbers that are not finite or too large.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import pair_loss
    >>> line = torch.tensor([[0.0], [1.0], [1.5]])
    >>> pair_loss(line, torch.tensor([0, 0, 1])).item()  # (1 + (0 + 0.25) / 2) / 2
    0.5625
    """
    embeddings, labels = _batch(embeddings, labels)
    margin = _margin(margin)
    i, j = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    distances = _distance(widened(embeddings)[i] - widened(embeddings)[j], squared=False)
    same = labels[i] == labels[j]
    together = distances[same].square()
    apart = (margin - distances[~same]).relu().square()
    terms = (
        together.sum() / same.sum().clamp_min(1),
        apart.sum() / (~same).sum().clamp_min(1),
    )
    return ((terms[0] + terms[1]) / 2).to(embeddings.dtype)


# Verification


class LabelledPairs(NamedTuple):
    """Pairs of examples: their ``distances``, and whether they are of the ``same`` identity."""

    distances: Tensor
    same: Tensor


class VerificationCurve(NamedTuple):
    """VAL and FAR at every threshold where one of them changes, in rising order, ``(T,)`` each.

    ``thresholds`` begin with -inf, where nothing is accepted, and end with the largest distance.
    """

    thresholds: Tensor
    val: Tensor
    far: Tensor


def labelled_pairs(embeddings: Tensor, labels: Tensor, *, squared: bool = True) -> LabelledPairs:
    """All pairs of different examples, each once, with distance and whether the labels agree.

    Parameters
    ----------
    embeddings
        ``(n, E)``.
    labels
        ``(n,)``, integers.
    squared
        Whether distances are squared.

    Returns
    -------
    LabelledPairs
        Two tensors ``(n (n - 1) / 2,)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_all_loss`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import labelled_pairs
    >>> pairs = labelled_pairs(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
    >>> pairs.distances.tolist(), pairs.same.tolist()
    ([1.0, 9.0, 4.0], [True, False, False])
    """
    embeddings, labels = _batch(embeddings, labels)
    distances = pairwise_distances(embeddings, squared=squared)
    i, j = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    return LabelledPairs(distances[i, j], labels[i] == labels[j])


def verification(distances: Tensor, same: Tensor) -> VerificationCurve:
    r"""The validation rate and the false accept rate at every threshold (FaceNet, section 4).

    A pair is accepted at the threshold d if its distance is at most d. VAL(d) is the share
    accepted of the pairs of one identity, FAR(d) that of the pairs of two.

    Parameters
    ----------
    distances
        ``(P,)``.
    same
        ``(P,)``, booleans: whether the pair is of one identity.

    Returns
    -------
    VerificationCurve
        In float64. FAR against VAL is the ROC curve.

    Raises
    ------
    TypeError, ValueError
        For shapes or dtypes that do not fit, no pair of one of the two kinds, and (see
        :func:`dlchecked.arguments.value_checks`) distances that are NaN or infinite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import verification
    >>> curve = verification(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([True, False, True]))
    >>> curve.val.tolist(), curve.far.tolist()
    ([0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0])
    """
    distances = floating("distances", distances, exactly=1)
    finite("distances", distances)
    if not isinstance(same, Tensor) or same.dtype != torch.bool:
        kind = same.dtype if isinstance(same, Tensor) else type(same).__name__
        raise TypeError(f"same must be a torch.Tensor of booleans, got {kind}")
    if same.shape != distances.shape:
        raise ValueError(
            f"same must have the shape of distances, {shape_of(distances)}, got {shape_of(same)}"
        )
    accepted = int(same.sum())
    for name, found in (("one identity", accepted), ("two identities", len(same) - accepted)):
        if found == 0:
            raise ValueError(f"same must hold at least one pair of {name}, got none")
    ordered, order = distances.detach().double().sort()
    # In float64, or a FAR of 1/1000 would not be at most 0.001.
    right = same[order].double().cumsum(0)
    wrong = torch.arange(1, len(same) + 1, device=same.device) - right
    # Of equal distances only the last, where all of them are accepted.
    last = torch.ones_like(same)
    last[:-1] = ordered[:-1] != ordered[1:]
    nothing = ordered.new_zeros(1)
    return VerificationCurve(
        torch.cat([nothing - torch.inf, ordered[last]]),
        torch.cat([nothing, right[last] / accepted]),
        torch.cat([nothing, wrong[last] / (len(same) - accepted)]),
    )


def val_at_far(curve: VerificationCurve, far: float) -> float:
    """The largest validation rate whose false accept rate is at most `far`.

    A FAR below one over the number of pairs of two identities allows no such pair at all.

    Parameters
    ----------
    curve
        From :func:`verification`.
    far
        From 0 to 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If `curve` is no curve, or `far` no number from 0 to 1.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import val_at_far, verification
    >>> curve = verification(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([True, False, True]))
    >>> val_at_far(curve, 0.001)
    0.5
    """
    if not isinstance(curve, VerificationCurve):
        raise TypeError(f"curve must be a VerificationCurve, got {type(curve).__name__}")
    if isinstance(far, bool) or not isinstance(far, Real):
        raise TypeError(f"far must be a number, got {type(far).__name__}")
    if not 0 <= far <= 1:
        raise ValueError(f"far must lie between 0 and 1, got {far}")
    return float(curve.val[curve.far <= float(far)].amax())


# Digits as identities


class DigitSplit(NamedTuple):
    """Images ``(n, 8, 8)``, float32 from 0 to 1, and labels ``(n,)``, int64.

    No digit is in both parts: ``unseen_images`` are of identities that training never saw.
    """

    seen_images: Tensor
    seen_labels: Tensor
    unseen_images: Tensor
    unseen_labels: Tensor


def identity_digits(*, unseen: Sequence[int] = (7, 8, 9)) -> DigitSplit:
    """Scikit-learn's 1797 handwritten digits, split by digit: each digit is an identity.

    Parameters
    ----------
    unseen
        The digits kept out of training, different ones.

    Returns
    -------
    DigitSplit

    Raises
    ------
    TypeError, ValueError
        If `unseen` holds no digit, one twice, all ten, or something else.

    Examples
    --------
    >>> from dlchecked.triplet_loss import identity_digits
    >>> data = identity_digits(unseen=(3, 5))
    >>> data.seen_images.shape, data.unseen_labels.unique().tolist()
    (torch.Size([1432, 8, 8]), [3, 5])
    """
    if isinstance(unseen, str) or not isinstance(unseen, Sequence):
        raise TypeError(f"unseen must be a sequence of digits, got {type(unseen).__name__}")
    kept_out = [integer("unseen", digit, at_least=0) for digit in unseen]
    if not 0 < len(kept_out) < 10 or len(set(kept_out)) < len(kept_out) or max(kept_out) > 9:
        raise ValueError(f"unseen must hold one to nine different digits, got {tuple(kept_out)}")
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32) / 16
    labels = torch.tensor(found.target, dtype=torch.int64)
    new = torch.isin(labels, torch.tensor(kept_out))
    return DigitSplit(images[~new], labels[~new], images[new], labels[new])


def identity_batches(
    images: Tensor, labels: Tensor, *, identities: int, images_each: int
) -> Batches:
    """Batches without end that hold some identities, and of each the same number of images.

    Parameters
    ----------
    images
        ``(n, …)``.
    labels
        ``(n,)``, integers.
    identities
        Of a batch, at least 2, drawn without replacement.
    images_each
        Of an identity, at least 2, drawn without replacement.

    Returns
    -------
    Batches
        For :func:`dlchecked.training.train`: tuples of images and labels, with
        ``identities * images_each`` entries. Each batch holds triplets.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, lengths that differ, or too few identities with enough images.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import identity_batches, identity_digits
    >>> data = identity_digits()
    >>> source = identity_batches(*data[:2], identities=4, images_each=10)
    >>> images, labels = next(iter(source(torch.Generator().manual_seed(0))))
    >>> images.shape, labels.unique(return_counts=True)[1].tolist()
    (torch.Size([40, 8, 8]), [10, 10, 10, 10])
    """
    labels = _labels(labels)
    images = _images(images, labels)
    identities = integer("identities", identities, at_least=2)
    images_each = integer("images_each", images_each, at_least=2)
    members = [(labels == name).nonzero().squeeze(1) for name in torch.unique(labels).tolist()]
    members = [member for member in members if len(member) >= images_each]
    if len(members) < identities:
        raise ValueError(
            f"identities must be at most the number with {images_each} images, "
            f"{len(members)}, got {identities}"
        )

    def endless(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            chosen = []
            for name in torch.randperm(len(members), generator=generator)[:identities].tolist():
                order = torch.randperm(len(members[name]), generator=generator)[:images_each]
                chosen.append(members[name][order.to(labels.device)])
            batch = torch.cat(chosen)
            yield images[batch], labels[batch]

    return endless


# Networks, and their training


class _OnSphere(nn.Module):
    """Bring each row to length 1; a row of zeros stays one."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=-1)


def embedding_network(
    *, generator: torch.Generator, pixels: int = 64, hidden: int = 128, size: int = 32
) -> nn.Sequential:
    """A small network that puts images on the unit sphere: linear, ReLU, linear, length 1.

    Parameters
    ----------
    generator
        Seeds the initial weights, on the CPU.
    pixels
        Numbers in an image.
    hidden
        Width of the hidden layer.
    size
        Size E of an embedding, at least 2.

    Returns
    -------
    torch.nn.Sequential
        Maps ``(B, …)`` to ``(B, E)``.

    Raises
    ------
    TypeError, ValueError
        If `generator` is no generator, or a number out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import embedding_network
    >>> network = embedding_network(generator=torch.Generator().manual_seed(0), size=16)
    >>> points = network(torch.rand(5, 8, 8))
    >>> points.shape, bool(torch.allclose(points.norm(dim=-1), torch.ones(5)))
    (torch.Size([5, 16]), True)
    """
    pixels = integer("pixels", pixels, at_least=1)
    hidden, size = integer("hidden", hidden, at_least=1), integer("size", size, at_least=2)
    random_generator("generator", generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        layers = [nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, size)]
    return nn.Sequential(*layers, _OnSphere())


Evaluate = Callable[[nn.Module], Mapping[str, float | Tensor]]
"""What to measure of an embedding network while it is trained."""


def train_embedding(
    loss: BatchLoss,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    network: nn.Module | None = None,
    hidden: int = 128,
    size: int = 32,
    identities: int | None = None,
    images_each: int = 16,
    steps: int = 300,
    learning_rate: float = 1e-3,
    evaluate: Evaluate | None = None,
    every: int | None = None,
    snapshot_at: Sequence[int] = (),
) -> tuple[nn.Module, History]:
    """Train an embedding by Adam with a loss of embeddings and labels.

    Parameters
    ----------
    loss
        Called with embeddings ``(B, E)`` and labels ``(B,)``, such as :func:`batch_all_loss`.
    images, labels
        ``(n, …)`` and ``(n,)``.
    generator
        Draws the initial weights and the batches, in this order.
    network
        What to train instead of a new :func:`embedding_network`.
    hidden, size
        Of the new network.
    identities, images_each
        In a batch, as in :func:`identity_batches`; all identities if left out.
    steps, learning_rate
        Of Adam.
    evaluate, every, snapshot_at
        As in :func:`dlchecked.training.train`.

    Returns
    -------
    (torch.nn.Module, History)

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or images and labels that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import batch_all_loss, identity_digits, train_embedding
    >>> data = identity_digits()
    >>> network, history = train_embedding(
    ...     batch_all_loss, data.seen_images, data.seen_labels, steps=30,
    ...     generator=torch.Generator().manual_seed(0))
    >>> history.losses.shape
    torch.Size([30])
    """
    labels, rate = _labels(labels), positive("learning_rate", learning_rate)
    images = _images(images, labels)
    if not callable(loss):
        raise TypeError(f"loss must be callable, got {type(loss).__name__}")
    if network is None:
        network = _new_network(images, generator=generator, hidden=hidden, size=size)
    if identities is None:
        identities = len(torch.unique(labels))

    def batch_loss(model: nn.Module, batch: Any) -> Tensor:
        return loss(model(batch[0]), batch[1])

    history = train(
        network,
        torch.optim.Adam(network.parameters(), lr=rate),
        identity_batches(images, labels, identities=identities, images_each=images_each),
        batch_loss,
        steps=steps,
        generator=generator,
        evaluate=evaluate,
        every=every,
        snapshot_at=snapshot_at,
    )
    return network, history


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    hidden: int = 128,
    size: int = 32,
    images_each: int = 16,
    steps: int = 300,
    learning_rate: float = 1e-3,
) -> tuple[nn.Module, History]:
    """Train a classifier with cross-entropy, and keep its bottleneck as the embedding.

    The same layers as :func:`embedding_network`, with a linear classifier on top of the `size`
    numbers *before* they are brought to length 1. The classifier is thrown away.

    Parameters
    ----------
    images, labels
        ``(n, …)`` and ``(n,)``.
    generator
        Draws the initial weights and the batches, in this order.
    hidden, size, images_each, steps, learning_rate
        As in :func:`train_embedding`; batches hold all identities.

    Returns
    -------
    (torch.nn.Module, History)
        The network from images to the unit sphere.

    Raises
    ------
    TypeError, ValueError
        As :func:`train_embedding`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.triplet_loss import identity_digits, train_classifier
    >>> data = identity_digits()
    >>> network, _ = train_classifier(data.seen_images, data.seen_labels, steps=10,
    ...                               generator=torch.Generator().manual_seed(0))
    >>> network(data.unseen_images).shape
    torch.Size([533, 32])
    """
    names, classes = torch.unique(_labels(labels), return_inverse=True)
    images = _images(images, classes)
    embedding = _new_network(images, generator=generator, hidden=hidden, size=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        head = nn.Linear(size, len(names)).to(images)
    model = nn.Sequential(*list(embedding)[:-1], head)
    _, history = train_embedding(
        cross_entropy,
        images,
        classes,
        generator=generator,
        network=model,
        images_each=images_each,
        steps=steps,
        learning_rate=learning_rate,
    )
    return embedding, history


# The door


def _points(name: str, value: object) -> Tensor:
    points = floating(name, value, exactly=2)
    finite(name, points)
    _in_range(name, points)
    return points


def _in_range(name: str, points: Tensor) -> None:
    if not values_are_checked() or points.numel() == 0:
        return
    limit = _LARGEST.get(points.dtype, _LARGEST_IN_FLOAT32)
    largest = float(points.detach().abs().max())
    if largest > limit:
        raise ValueError(
            f"{name} must have no coordinate above {limit:.0e} in {points.dtype}, or sums of "
            f"squares overflow, got {largest:.3g}"
        )


def _labels(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"labels must be a torch.Tensor, got {type(value).__name__}")
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {value.dtype}")
    if value.dim() != 1:
        raise ValueError(f"labels must have 1 dimension, got shape {shape_of(value)}")
    return value


def _images(value: object, labels: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"images must be a torch.Tensor, got {type(value).__name__}")
    if value.dim() == 0 or len(value) != len(labels):
        raise ValueError(
            f"images must have one entry for each label, {len(labels)}, got shape {shape_of(value)}"
        )
    return value


def _new_network(
    images: Tensor, *, generator: torch.Generator, hidden: int, size: int
) -> nn.Sequential:
    """An embedding network for these images, in their dtype and on their device."""
    if floating("images", images).numel() == 0:
        raise ValueError(f"images must hold at least one pixel, got shape {shape_of(images)}")
    pixels = images[0].numel()
    network = embedding_network(generator=generator, pixels=pixels, hidden=hidden, size=size)
    return network.to(images)


def _batch(embeddings: object, labels: object) -> tuple[Tensor, Tensor]:
    points, names = _points("embeddings", embeddings), _labels(labels)
    if len(names) != len(points):
        raise ValueError(
            f"labels must have one entry for each embedding, {len(points)}, got {len(names)}"
        )
    if names.device != points.device:
        raise ValueError(
            f"labels must be on the device of embeddings, {points.device}, got {names.device}"
        )
    return points, names


def _margin(value: object) -> float:
    return positive("margin", value)


def _reduction(value: object, *, none: bool = True) -> str:
    known = REDUCTIONS if none else REDUCTIONS[:-1]
    if value not in known:
        raise ValueError(f"reduction must be one of {known}, got {value!r}")
    return str(value)
