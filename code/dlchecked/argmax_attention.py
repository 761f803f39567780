r"""Argmax attention, and what makes it learn (hw9 2).

Four ways to turn the scores :math:`s_j = q \cdot k_j` of a query into weights. *Hard*: all weight
on the best key. *Softmax* at an inverse temperature :math:`\beta`, which tends to it.
*Straight-through*: hard forwards, softmax backwards. *Gumbel*: hard, or nearly so, on scores with
noise. Then how far softmax and argmax are apart, and a task on which all four are trained.

Scores are not divided by :math:`\sqrt D` here: argmax does not see a positive factor, and in the
others it is part of :math:`\beta`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    integer,
    positive,
    random_generator,
    score_rows,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.scaled_dot_product import scaled_dot_product_attention
from dlchecked.training import Batches, History, train

__all__ = [
    "TIES",
    "Attend",
    "Bounds",
    "Lookup",
    "LookupBatch",
    "argmax_attention",
    "gumbel_attention",
    "gumbel_noise",
    "gumbel_weights",
    "hard_weights",
    "lookup_batches",
    "lookup_results",
    "missed_weight_bounds",
    "score_gap",
    "softmax_attention",
    "straight_through_attention",
    "straight_through_weights",
    "train_lookup",
    "winner_radius",
]

TIES = ("first", "share")
"""The rules for equal best scores. The first of them takes all, or each takes the same."""


# Weights


def hard_weights(scores: Tensor, *, ties: str = "first") -> Tensor:
    r"""All weight on the best key: the argmax of hw9 2, as weights.

    Parameters
    ----------
    scores
        ``(..., S)``; ``-inf`` stands for a masked key.
    ties
        ``"first"``: among equal best scores the first key takes all. ``"share"``: each of them
        takes the same, which is what the softmax of :math:`\beta s` tends to. Scores tie if they
        are equal as stored.

    Returns
    -------
    Tensor
        The shape and dtype of `scores`. No gradient passes: the weights are constant wherever
        their derivative exists.

    Raises
    ------
    TypeError
        If `scores` is no floating-point tensor.
    ValueError
        If there are no keys, a score is NaN or ``+inf``, a whole row is masked, or `ties` names no
        rule.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import hard_weights
    >>> hard_weights(torch.tensor([3.0, 11.0, 5.0, 2.0]))
    tensor([0., 1., 0., 0.])
    >>> hard_weights(torch.tensor([1.0, 4.0, 4.0, 0.0]), ties="share")
    tensor([0.0000, 0.5000, 0.5000, 0.0000])
    """
    scores = score_rows(scores).detach()
    if ties not in TIES:
        raise ValueError(f"ties must be one of {TIES}, got {ties!r}")
    if ties == "first":
        # PyTorch's argmax gives the first index where several are the largest.
        best = scores.argmax(-1, keepdim=True)
        return torch.zeros_like(scores).scatter(-1, best, 1.0)
    # Counted in float32: in float16 a row of more than 65504 ties would count as infinitely many.
    among_best = widened((scores == scores.amax(-1, keepdim=True)).to(scores.dtype))
    return (among_best / among_best.sum(-1, keepdim=True)).to(scores.dtype)


def straight_through_weights(scores: Tensor, *, beta: float = 1.0) -> Tensor:
    r"""Hard weights forwards, the Jacobian of the softmax backwards.

    The value is exactly that of :func:`hard_weights`, ties to the first; the gradient is that of
    :math:`\operatorname{softmax}(\beta s)`.

    Parameters
    ----------
    scores
        ``(..., S)``; ``-inf`` stands for a masked key.
    beta
        Inverse temperature of the softmax that lends its gradient.

    Returns
    -------
    Tensor
        The shape and dtype of `scores`.

    Raises
    ------
    TypeError, ValueError
        As :func:`hard_weights`, and for a `beta` not above zero or out of the dtype's range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import straight_through_weights
    >>> scores = torch.tensor([0.0, 2.0], requires_grad=True)
    >>> weights = straight_through_weights(scores)
    >>> weights.detach()
    tensor([0., 1.])
    >>> torch.autograd.grad(weights[1], scores)
    (tensor([-0.1050,  0.1050]),)
    """
    scores = score_rows(scores)
    soft = _softmax(scores, beta=beta)
    # soft - soft is exactly zero, so the value is exactly hard.
    return hard_weights(scores) + (soft - soft.detach())


def gumbel_noise(
    shape: tuple[int, ...], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Draw independent standard Gumbel numbers, with distribution :math:`e^{-e^{-x}}`.

    They are :math:`-\log E` for exponential :math:`E`.

    Parameters
    ----------
    shape
        Of the result.
    generator
        Where the random numbers come from; the result is on its device.
    dtype
        float32 or float64.

    Returns
    -------
    Tensor
        Finite numbers.

    Raises
    ------
    TypeError
        If `generator` is no generator.
    ValueError
        If `dtype` is another, or `shape` negative.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import gumbel_noise
    >>> gumbel_noise((2, 3), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    random_generator("generator", generator)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    if not isinstance(shape, tuple):
        raise TypeError(f"shape must be a tuple of integers, got {type(shape).__name__}")
    shape = tuple(integer("shape", length, at_least=0) for length in shape)
    waiting = torch.empty(shape, dtype=dtype, device=generator.device)
    waiting.exponential_(generator=generator)
    return -waiting.clamp_min(torch.finfo(dtype).tiny).log()


def gumbel_weights(
    scores: Tensor, *, generator: torch.Generator, beta: float = 1.0, hard: bool = False
) -> Tensor:
    r"""Gumbel-softmax weights: :math:`\operatorname{softmax}(\beta (s + g))` with Gumbel noise g.

    The best key *with* noise is distributed like :math:`\operatorname{softmax}(s)`, whatever
    :math:`\beta`; the larger :math:`\beta`, the closer the weights are to that one key.

    Parameters
    ----------
    scores
        ``(..., S)``, log-probabilities up to a constant; ``-inf`` stands for a masked key.
    generator
        Draws the noise; on the device of `scores`.
    beta
        Inverse temperature of the relaxation, one over what papers write as a temperature.
    hard
        Give the sampled key all the weight, and pass the relaxed weights' gradient straight
        through.

    Returns
    -------
    Tensor
        The shape and dtype of `scores`, computed in float32 at least.

    Raises
    ------
    TypeError, ValueError
        As :func:`straight_through_weights`, and if `generator` is no generator or on another
        device, or `hard` no bool.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import gumbel_weights
    >>> rows = torch.zeros(2, 3)
    >>> sampled = gumbel_weights(rows, hard=True, generator=torch.Generator().manual_seed(0))
    >>> sampled.sum(-1)
    tensor([1., 1.])
    """
    scores, beta = score_rows(scores), positive("beta", beta)
    flag("hard", hard)
    random_generator("generator", generator)
    if generator.device.type != scores.device.type:
        raise ValueError(
            f"generator must be on the device of scores, {scores.device}, got {generator.device}"
        )
    wide = widened(scores)
    noisy = wide + gumbel_noise(tuple(scores.shape), generator=generator, dtype=wide.dtype)
    weights = straight_through_weights(noisy, beta=beta) if hard else _softmax(noisy, beta=beta)
    return weights.to(scores.dtype)


# Attention


def argmax_attention(q: Tensor, k: Tensor, v: Tensor, *, ties: str = "first") -> Tensor:
    r"""Return for each query the value of the key with the largest dot product (hw9 2(a)).

    Queries and keys get no gradient: autograd finds no path to them. The values do.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``.
    v
        Values, ``(..., S, M)``.
    ties
        As in :func:`hard_weights`. Scores are compared in float32 at least.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, and (see
        :func:`dlchecked.arguments.value_checks`) for numbers that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import argmax_attention
    >>> q, k = torch.tensor([[1.0, 1.0, 2.0]]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]])
    >>> argmax_attention(q, k, torch.tensor([[2.0, 0.0], [1.0, 4.0]]))
    tensor([[1., 4.]])
    """
    scores, values = _scores_and_values(q, k, v)
    return (hard_weights(scores, ties=ties) @ values).to(q.dtype)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, beta: float = 1.0) -> Tensor:
    r"""Softmax attention at an inverse temperature: :math:`\operatorname{softmax}(\beta q k^T) v`.

    :func:`~dlchecked.scaled_dot_product.scaled_dot_product_attention` with `beta` for its scale.

    Parameters
    ----------
    q, k, v
        As in :func:`argmax_attention`.
    beta
        Inverse temperature, above zero; :math:`1/\sqrt D` is the usual attention.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        As :func:`argmax_attention`, and for a `beta` not above zero.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import softmax_attention
    >>> q, k, v = torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> softmax_attention(q, k, v, beta=50.0)
    tensor([[1.]])
    """
    return scaled_dot_product_attention(q, k, v, scale=positive("beta", beta))


def straight_through_attention(q: Tensor, k: Tensor, v: Tensor, *, beta: float = 1.0) -> Tensor:
    """Argmax attention forwards, softmax attention's weights backwards.

    Parameters
    ----------
    q, k, v
        As in :func:`argmax_attention`.
    beta
        Inverse temperature of the softmax that lends its gradient.

    Returns
    -------
    Tensor
        ``(..., N, M)``, equal to that of :func:`argmax_attention`. The values' gradient is equal,
        too; queries and keys get one by way of the softmax's Jacobian.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax_attention`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import straight_through_attention
    >>> q, k, v = torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [7.0]])
    >>> straight_through_attention(q, k, v)
    tensor([[7.]])
    """
    scores, values = _scores_and_values(q, k, v)
    return (straight_through_weights(scores, beta=beta) @ values).to(q.dtype)


def gumbel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    generator: torch.Generator,
    beta: float = 1.0,
    hard: bool = False,
) -> Tensor:
    r"""Attention with Gumbel-softmax weights: softmax attention by sampling keys.

    With ``hard=True`` the output is the value of one key, drawn with the probabilities
    :math:`\operatorname{softmax}(q k^T)`; its mean is softmax attention.

    Parameters
    ----------
    q, k, v
        As in :func:`argmax_attention`.
    generator, beta, hard
        As in :func:`gumbel_weights`.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        As :func:`argmax_attention` and :func:`gumbel_weights`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import gumbel_attention
    >>> q, k, v = torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([[3.0], [7.0]])
    >>> out = gumbel_attention(q, k, v, hard=True, generator=torch.Generator().manual_seed(0))
    >>> out.item() in (3.0, 7.0)
    True
    """
    scores, values = _scores_and_values(q, k, v)
    weights = gumbel_weights(scores, generator=generator, beta=beta, hard=hard)
    return (weights @ values).to(q.dtype)


# How far softmax and argmax are apart


class Bounds(NamedTuple):
    """A number's lower and upper bound."""

    low: Tensor
    high: Tensor


def score_gap(scores: Tensor) -> Tensor:
    """How much the best score exceeds the second best; 0 at a tie.

    Parameters
    ----------
    scores
        ``(..., S)`` with S at least 2; ``-inf`` stands for a masked key.

    Returns
    -------
    Tensor
        ``(...)``, in the dtype of `scores`.

    Raises
    ------
    TypeError, ValueError
        As :func:`hard_weights`, and for a single key.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import score_gap
    >>> score_gap(torch.tensor([3.0, 11.0, 5.0, 2.0]))
    tensor(6.)
    """
    scores = score_rows(scores)
    if scores.shape[-1] < 2:
        raise ValueError(f"scores must hold at least two keys, got shape {shape_of(scores)}")
    best, second = scores.topk(2, dim=-1).values.unbind(-1)
    return best - second


def missed_weight_bounds(gap: Tensor, *, keys: int, beta: float = 1.0) -> Bounds:
    r"""Bounds on the weight that :math:`\operatorname{softmax}(\beta s)` leaves off the best key.

    With the gap :math:`\Delta` and :math:`x = e^{-\beta\Delta}`, that weight lies between
    :math:`x/(1 + x)`, reached when only the second best counts, and
    :math:`(S - 1)x/(1 + (S - 1)x)`, reached when all others tie for the second place.

    Parameters
    ----------
    gap
        Best score minus second best, from 0 on; any shape.
    keys
        Number S of keys, at least 2.
    beta
        Inverse temperature.

    Returns
    -------
    Bounds
        Two tensors with the shape and dtype of `gap`.

    Raises
    ------
    TypeError, ValueError
        If `gap` is no floating-point tensor, negative or NaN, or a number is out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import missed_weight_bounds
    >>> low, high = missed_weight_bounds(torch.tensor(6.0), keys=4)
    >>> f"{low:.5f} {high:.5f}"
    '0.00247 0.00738'
    """
    gap = floating("gap", gap, at_least=0)
    if values_are_checked() and not bool((gap >= 0).all()):
        raise ValueError("gap must be at least 0, but some of it is negative or NaN")
    keys, beta = integer("keys", keys, at_least=2), positive("beta", beta)
    exponent = -beta * gap.double()
    # x / (1 + x) is a sigmoid of log x, which does not overflow and keeps tiny values.
    low = exponent.sigmoid()
    high = (exponent + math.log(keys - 1)).sigmoid()
    return Bounds(low.to(gap.dtype), high.to(gap.dtype))


def winner_radius(q: Tensor, k: Tensor) -> Tensor:
    r"""How far each query can move in any direction before another key can win.

    Key j overtakes the winner b on the hyperplane :math:`q \cdot (k_b - k_j) = 0`, at the distance
    :math:`q \cdot (k_b - k_j) / |k_b - k_j|`; the radius is the least of these. A key equal to the
    winner never overtakes it.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``.

    Returns
    -------
    Tensor
        ``(..., N)``, in the dtype of `q`: 0 at a tie of different keys, infinite if no other key
        differs from the winner.

    Raises
    ------
    TypeError, ValueError
        As :func:`argmax_attention`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import winner_radius
    >>> winner_radius(torch.tensor([[3.0, 1.0]]), torch.eye(2))
    tensor([1.4142])
    """
    scores, _ = _scores_and_values(q, k, k)
    keys = widened(k)
    best = scores.argmax(-1)
    winners = keys.gather(-2, best.unsqueeze(-1).expand(*best.shape, keys.shape[-1]))
    apart = winners.unsqueeze(-2) - keys.unsqueeze(-3)
    # Divided by its largest coordinate, a difference of keys has a length that is neither
    # rounded to zero nor too large for the dtype.
    size = apart.abs().amax(-1, keepdim=True)
    apart = apart / size.masked_fill(size == 0, 1.0)
    lengths: Tensor = torch.linalg.vector_norm(apart, dim=-1)
    gaps = (widened(q).unsqueeze(-2) * apart).sum(-1).clamp_min(0.0)
    radii = (gaps / lengths).masked_fill(lengths == 0, torch.inf)
    return radii.amin(-1).to(q.dtype)


# A task that needs the right key


Attend = Callable[..., Tensor]
"""Attention as the task calls it, ``attend(q, k, v, beta=…)``."""


class LookupBatch(NamedTuple):
    """Questions of the lookup task, for R independent replicas of B questions each.

    ``asked``, ``(R, B)``, is the symbol asked for; ``shown``, ``(R, B, S)``, are the symbols on
    show, all different, with the one asked for among them; ``labels``, ``(R, B, S)``, are the
    labels that they bear in this question; ``answer``, ``(R, B)``, is that of the one asked for.
    """

    asked: Tensor
    shown: Tensor
    labels: Tensor
    answer: Tensor


def lookup_batches(
    replicas: int, *, batch_size: int = 32, symbols: int = 16, keys: int = 8, labels: int = 4
) -> Batches:
    """Questions without end: which label does this symbol bear?

    Parameters
    ----------
    replicas
        Independent copies of the task, R.
    batch_size
        Questions for each, B.
    symbols
        How many symbols there are.
    keys
        How many of them are on show, S, at least 2 and at most `symbols`.
    labels
        How many labels there are, at least 2; drawn anew for each symbol in each question.

    Returns
    -------
    Batches
        Given a generator, yields :class:`LookupBatch` forever.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import lookup_batches
    >>> batch = next(iter(lookup_batches(2)(torch.Generator().manual_seed(0))))
    >>> batch.shown.shape
    torch.Size([2, 32, 8])
    """
    replicas = integer("replicas", replicas, at_least=1)
    batch_size = integer("batch_size", batch_size, at_least=1)
    keys, labels = integer("keys", keys, at_least=2), integer("labels", labels, at_least=2)
    symbols = integer("symbols", symbols, at_least=2)
    if keys > symbols:
        raise ValueError(f"keys must be at most the number of symbols, {symbols}, got {keys}")
    shape = (replicas, batch_size)

    def endless(generator: torch.Generator) -> Iterator[LookupBatch]:
        while True:
            order = torch.rand(*shape, symbols, generator=generator).argsort(-1)
            shown = order[..., :keys]
            borne = torch.randint(labels, (*shape, keys), generator=generator)
            place = torch.randint(keys, (*shape, 1), generator=generator)
            asked, answer = (x.gather(-1, place).squeeze(-1) for x in (shown, borne))
            yield LookupBatch(asked, shown, borne, answer)

    return endless


class Lookup(nn.Module):
    """A table of queries, keys and values, and attention between them; R replicas side by side.

    Each symbol has a query and a key of its own, each label a value, which is read as the logits
    of the answer. So the answer can be right only if the asked symbol's query picks that symbol's
    key, and each label's value names that label. All start as normal numbers with mean 0;
    queries and keys have norms around 1, and values around 1.

    Parameters
    ----------
    attend
        Called as ``attend(q, k, v, beta=self.beta)``.
    replicas
        Independent models trained side by side.
    generator
        Draws the initial tables.
    symbols, labels
        As in :func:`lookup_batches`.
    size
        Length D of queries and keys.

    Attributes
    ----------
    queries, keys
        ``(R, symbols, D)``.
    values
        ``(R, labels, labels)``.
    beta
        Handed to `attend`; may be changed between steps.
    """

    def __init__(
        self,
        attend: Attend,
        *,
        replicas: int,
        generator: torch.Generator,
        symbols: int = 16,
        labels: int = 4,
        size: int = 8,
    ) -> None:
        super().__init__()
        random_generator("generator", generator)
        if not callable(attend):
            raise TypeError(f"attend must be callable, got {type(attend).__name__}")
        replicas = integer("replicas", replicas, at_least=1)
        symbols = integer("symbols", symbols, at_least=2)
        labels, size = integer("labels", labels, at_least=2), integer("size", size, at_least=1)
        self.attend, self.beta = attend, 1.0

        def table(rows: int, columns: int) -> nn.Parameter:
            drawn = torch.randn(replicas, rows, columns, generator=generator)
            return nn.Parameter(drawn / columns**0.5)

        self.queries, self.keys = table(symbols, size), table(symbols, size)
        self.values = table(labels, labels)

    def forward(self, batch: LookupBatch, attend: Attend | None = None) -> Tensor:
        """Logits of the answers, ``(R, B, labels)``; `attend` replaces the model's own."""
        row = torch.arange(self.values.shape[0])[:, None, None]
        return self._attended(batch, self.values[row, batch.labels], attend)

    def weights(self, batch: LookupBatch) -> Tensor:
        """The attention weights behind the answers, ``(R, B, S)``."""
        seats = batch.shown.shape[-1]
        # Attention over the rows of the identity returns its weights, whatever its kind.
        return self._attended(batch, torch.eye(seats).expand(*batch.shown.shape, seats), None)

    def _attended(self, batch: LookupBatch, values: Tensor, attend: Attend | None) -> Tensor:
        row = torch.arange(self.queries.shape[0])[:, None]
        q = self.queries[row, batch.asked].unsqueeze(-2)
        k = self.keys[row[..., None], batch.shown]
        out: Tensor = (attend or self.attend)(q, k, values, beta=self.beta)
        return out.squeeze(-2)


def lookup_results(
    model: Lookup, batch: LookupBatch, attend: Attend | None = None
) -> dict[str, Tensor]:
    """Loss and accuracy of each replica.

    Parameters
    ----------
    model
        What answers.
    batch
        The questions.
    attend
        Attention in the place of the model's own.

    Returns
    -------
    dict
        ``"loss"``, the cross-entropy in nats, and ``"accuracy"``, both ``(R,)``.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import (
    ...     Lookup, lookup_batches, lookup_results, softmax_attention)
    >>> source = torch.Generator().manual_seed(0)
    >>> model = Lookup(softmax_attention, replicas=3, generator=source)
    >>> lookup_results(model, next(iter(lookup_batches(3)(source))))["loss"].shape
    torch.Size([3])
    """
    logits = model(batch, attend)
    losses = nn.functional.cross_entropy(logits.mT, batch.answer, reduction="none")
    right = logits.argmax(-1) == batch.answer
    return {"loss": losses.mean(-1), "accuracy": right.double().mean(-1)}


def train_lookup(
    attend: Attend,
    *,
    generator: torch.Generator,
    beta: float | Callable[[int], float] = 1.0,
    replicas: int = 32,
    steps: int = 300,
    learning_rate: float = 0.05,
    every: int = 10,
) -> tuple[Lookup, History]:
    """Train a lookup table by Adam, as many independent replicas at once as asked for.

    The loss is summed over the replicas, and Adam treats every number on its own, so each replica
    is trained as if it were alone.

    Parameters
    ----------
    attend
        Attention in training, ``attend(q, k, v, beta=…)``.
    generator
        Draws initial tables, the questions of the test, and those of the training, in this order.
    beta
        Inverse temperature handed to `attend`: a number, or a function of the step.
    replicas
        Independent models, R.
    steps, learning_rate
        Of Adam.
    every
        Steps between evaluations on 256 questions a replica.

    Returns
    -------
    (Lookup, History)
        The metrics ``loss``, ``accuracy``, ``hard accuracy`` (the one with argmax attention in
        the place of `attend`) and ``entropy`` (of the attention weights, in nats) are
        ``(evaluations, R)``. Snapshots are taken before and after.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.argmax_attention import softmax_attention, train_lookup
    >>> _, history = train_lookup(softmax_attention, replicas=2, steps=20,
    ...                           generator=torch.Generator().manual_seed(0))
    >>> history.metrics["loss"].shape
    torch.Size([3, 2])
    """
    rate = positive("learning_rate", learning_rate)
    if not callable(beta):
        beta = positive("beta", beta)
    model = Lookup(attend, replicas=replicas, generator=generator)
    test = next(iter(lookup_batches(replicas, batch_size=256)(generator)))
    step = itertools.count()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        assert isinstance(model, Lookup)
        model.beta = beta(next(step)) if callable(beta) else beta
        return lookup_results(model, batch)["loss"].sum()

    def evaluate(model: nn.Module) -> Mapping[str, Tensor]:
        assert isinstance(model, Lookup)
        hard = lookup_results(model, test, lambda q, k, v, beta: argmax_attention(q, k, v))
        entropy = torch.special.entr(model.weights(test)).sum(-1).mean(-1)
        return {
            **lookup_results(model, test),
            "hard accuracy": hard["accuracy"],
            "entropy": entropy,
        }

    model.beta = beta(0) if callable(beta) else beta
    history = train(
        model,
        torch.optim.Adam(model.parameters(), lr=rate),
        lookup_batches(replicas),
        loss,
        steps=steps,
        generator=generator,
        evaluate=evaluate,
        every=every,
        snapshot_at={0, steps},
    )
    return model, history


# The door, and precision


def _scores_and_values(q: object, k: object, v: object) -> tuple[Tensor, Tensor]:
    """Dot products and values in float32 at least, checked at the door."""
    query, key, value = attention_inputs(q, k, v)
    for name, tensor in (("q", query), ("k", key), ("v", value)):
        finite(name, tensor)
    scores = widened(query) @ widened(key).mT
    finite("the product of q and k", scores)
    return scores, widened(value)


def _softmax(scores: Tensor, *, beta: float) -> Tensor:
    """The softmax of beta times the scores, in float32 at least, without overflow on the way."""
    wide, beta = widened(scores), positive("beta", beta)
    limits = torch.finfo(wide.dtype)
    if not limits.tiny <= beta <= limits.max:
        raise ValueError(
            f"beta must lie between {limits.tiny:.1e} and {limits.max:.1e} for {wide.dtype}, "
            f"got {beta}"
        )
    return (beta * (wide - wide.detach().amax(-1, keepdim=True))).softmax(-1).to(scores.dtype)
