r"""A transformer with weights set by hand, and the same one trained (hw10 2).

One layer, one head, inputs that are one-hot in the symbol and in the position; no residual
connection, no bias, no normalisation, so that nothing is left but four matrices. First the model
and the designs, then how sharp their softmax has to be, the tasks, the training, and the *ladder*:
how far two models are apart in their weights, products, scores, patterns and outputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
from dlchecked.training import History, train

__all__ = [
    "RUNGS",
    "OneHotTransformer",
    "Task",
    "Trace",
    "all_sequences",
    "content_design",
    "copy_task",
    "drawn_transformer",
    "first_design",
    "first_task",
    "ladder",
    "needed_beta",
    "own_position_design",
    "relative_distance",
    "rungs",
    "sign_design",
    "sign_task",
    "stacked",
    "train_task",
    "visible_product",
    "worst_missed_weight",
]

RUNGS = (
    "W_Q",
    "W_K",
    "W_V",
    "W_O",
    "W_Q W_K^T",
    "W_V W_O",
    "visible W_Q W_K^T",
    "visible W_V W_O",
    "scores",
    "patterns",
    "outputs",
)
"""The rungs of :func:`ladder`, from what training moves to what the data sees."""


# The model


class Trace(NamedTuple):
    """Everything a model computes on the way, for R models and B sequences of N symbols.

    ``queries`` and ``keys``, ``(R, B, N, D)``; ``values``, ``(R, B, N, M)``; ``scores``, as they
    enter the softmax, and ``weights``, ``(R, B, N, N)``; ``outputs``, ``(R, B, N, C)``.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scores: Tensor
    weights: Tensor
    outputs: Tensor


class OneHotTransformer(nn.Module):
    r"""One layer, one head: :math:`\operatorname{softmax}(c\,Q K^T)\, V W_O` (hw10 2).

    The input of a position is its symbol, one-hot, and behind it its place, one-hot: d = T + P
    numbers, of which two are 1. So a row of :math:`W_Q`, :math:`W_K` or :math:`W_V` belongs to a
    symbol or to a place, and a position's query, key or value is the sum of two rows. R models of
    one shape lie side by side; each is as if it were alone.

    Parameters
    ----------
    W_Q, W_K
        ``(d, D)``, or ``(R, d, D)`` for R models.
    W_V
        ``(d, M)``, likewise.
    W_O
        ``(M, C)``, likewise.
    symbols
        How many symbols there are, T.
    length
        How many places have a row, P = d - T: the longest sequence. Without one (``None``) the
        inputs are symbols alone, d = T, and a sequence may have any length.
    scale
        What scores are multiplied by, c; :math:`1/\sqrt D` if not given.
    free_output
        Whether training may move `W_O`.

    Raises
    ------
    TypeError
        For weights that are no floating-point tensors or of different dtypes, sizes that are no
        integers, a `free_output` that is no bool.
    ValueError
        For shapes that do not fit, weights that are not finite, sizes below 1.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import OneHotTransformer
    >>> eye = torch.eye(3)
    >>> model = OneHotTransformer(10 * eye, eye, eye, eye, symbols=3, scale=1.0)
    >>> model(torch.tensor([[2, 0, 2]])).round(decimals=3)[0, 0].tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        W_Q: Tensor,
        W_K: Tensor,
        W_V: Tensor,
        W_O: Tensor,
        *,
        symbols: int,
        length: int | None = None,
        scale: float | None = None,
        free_output: bool = True,
    ) -> None:
        super().__init__()
        self.symbols = integer("symbols", symbols, at_least=1)
        self.length = None if length is None else integer("length", length, at_least=1)
        self.free_output = flag("free_output", free_output)
        weights = _demand_weights(self.symbols + (self.length or 0), W_Q, W_K, W_V, W_O)
        size = weights["W_Q"].shape[-1]
        self.scale = size**-0.5 if scale is None else positive("scale", scale)
        self.W_Q, self.W_K, self.W_V = (
            nn.Parameter(weights[name].detach().clone()) for name in ("W_Q", "W_K", "W_V")
        )
        output = weights["W_O"].detach().clone()
        if free_output:
            self.W_O: Tensor = nn.Parameter(output)
        else:
            self.register_buffer("W_O", output)

    @property
    def replicas(self) -> int:
        """How many models lie side by side, R."""
        return self.W_Q.shape[0]

    def extra_repr(self) -> str:
        """Return the sizes, for the module's printed form."""
        return f"symbols={self.symbols}, length={self.length}, replicas={self.replicas}"

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs alone, ``(R, B, N, C)``; see :meth:`trace`."""
        return self.trace(tokens).outputs

    def trace(self, tokens: Tensor) -> Trace:
        """Everything on the way from symbols to outputs.

        Parameters
        ----------
        tokens
            Symbols 0 to T - 1, int64: ``(B, N)``, the same for all models, or ``(R, B, N)``.

        Returns
        -------
        Trace
            In the dtype of the weights; scores and softmax are computed in float32 at least.

        Raises
        ------
        TypeError
            If `tokens` is no int64 tensor.
        ValueError
            For a wrong shape, a sequence longer than `length` or empty, or (see
            :func:`dlchecked.arguments.value_checks`) a symbol that does not exist.
        """
        x = self._inputs(self._demand_tokens(tokens))
        q, k, v = (_mapped(x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        scores = widened(q) @ widened(k).mT * self.scale
        weights = scores.softmax(-1)
        heads = (weights @ widened(v)).to(v.dtype)
        outputs = _mapped(heads, self.W_O)
        return Trace(q, k, v, scores.to(q.dtype), weights.to(q.dtype), outputs)

    def product(self, which: str) -> Tensor:
        r"""What remains of two matrices when only their product counts.

        Parameters
        ----------
        which
            ``"scores"``: :math:`c\, W_Q W_K^T`, ``(R, d, d)``. ``"values"``: :math:`W_V W_O`,
            ``(R, d, C)``.

        Returns
        -------
        Tensor

        Raises
        ------
        ValueError
            For another name.
        """
        if which == "scores":
            return self.W_Q @ self.W_K.mT * self.scale
        if which == "values":
            return self.W_V @ self.W_O
        raise ValueError(f"which must be 'scores' or 'values', got {which!r}")

    def regauged(self, A: Tensor, B: Tensor) -> OneHotTransformer:
        r"""Other weights, the same function: :math:`W_Q A, W_K A^{-T}, W_V B, B^{-1} W_O`.

        Parameters
        ----------
        A
            Invertible, ``(D, D)`` or ``(R, D, D)``.
        B
            Invertible, ``(M, M)`` or ``(R, M, M)``.

        Returns
        -------
        OneHotTransformer

        Raises
        ------
        TypeError, ValueError
            For a wrong kind or shape, or a singular matrix.

        Examples
        --------
        >>> import torch
        >>> from dlchecked.hand_designed import content_design
        >>> model = content_design(3, beta=8.0, size=3).double()
        >>> A = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 3, 1]], dtype=torch.float64)
        >>> other = model.regauged(A, A)
        >>> tokens = torch.tensor([[0, 1, 2, 1]])
        >>> torch.allclose(model(tokens), other(tokens))
        True
        """
        # Matrices are not inverted in half precision, so all is computed in float32 at least.
        A = widened(_demand_square("A", A, self.W_Q))
        B = widened(_demand_square("B", B, self.W_V))
        W_Q, W_K, W_V, W_O = (widened(w) for w in (self.W_Q, self.W_K, self.W_V, self.W_O))
        changed = W_Q @ A, W_K @ torch.linalg.inv(A).mT, W_V @ B, torch.linalg.inv(B) @ W_O
        return OneHotTransformer(
            *(weight.to(self.W_Q.dtype) for weight in changed),
            symbols=self.symbols,
            length=self.length,
            scale=self.scale,
            free_output=self.free_output,
        )

    def picked(self, which: int | slice | Sequence[int] | Tensor) -> OneHotTransformer:
        """Some of the models, as a model of their own.

        Parameters
        ----------
        which
            What to keep along the first dimension: an index, several, or a slice.

        Returns
        -------
        OneHotTransformer
            With a copy of the weights.

        Raises
        ------
        IndexError
            For a model that does not exist.
        ValueError
            If none is left.
        """
        index = [which] if isinstance(which, int) else which
        if self.W_Q[index].shape[0] == 0:
            raise ValueError(f"which must keep at least one model, got {which!r}")
        return OneHotTransformer(
            *(weight[index] for weight in (self.W_Q, self.W_K, self.W_V, self.W_O)),
            symbols=self.symbols,
            length=self.length,
            scale=self.scale,
            free_output=self.free_output,
        )

    def at(self, history: History, steps: int) -> OneHotTransformer:
        """Return the model as it was after some steps of its training.

        Parameters
        ----------
        history
            From :func:`train_task`.
        steps
            One of the numbers that `snapshot_at` named.

        Returns
        -------
        OneHotTransformer

        Raises
        ------
        ValueError
            If no snapshot was taken then.
        """
        if steps not in history.snapshots:
            taken = sorted(history.snapshots)
            raise ValueError(f"steps must be one of the snapshots, {taken}, got {steps}")
        then = copy.deepcopy(self)
        then.load_state_dict(history.snapshots[steps])
        return then

    def _demand_tokens(self, tokens: object) -> Tensor:
        if not isinstance(tokens, Tensor):
            raise TypeError(f"tokens must be a torch.Tensor, got {type(tokens).__name__}")
        if tokens.dtype != torch.int64:
            raise TypeError(f"tokens must have the dtype torch.int64, got {tokens.dtype}")
        fits = tokens.dim() == 2 or (tokens.dim() == 3 and tokens.shape[0] == self.replicas)
        if not fits or tokens.shape[-1] == 0:
            raise ValueError(
                f"tokens must have the shape (B, N) or ({self.replicas}, B, N) with N of at "
                f"least 1, got {shape_of(tokens)}"
            )
        if self.length is not None and tokens.shape[-1] > self.length:
            raise ValueError(
                f"tokens must be no longer than the model's length, {self.length}, "
                f"got shape {shape_of(tokens)}"
            )
        outside = values_are_checked() and bool(((tokens < 0) | (tokens >= self.symbols)).any())
        if outside:
            raise ValueError(f"tokens must lie between 0 and {self.symbols - 1}, but some do not")
        return tokens

    def _inputs(self, tokens: Tensor) -> Tensor:
        """One-hot inputs, ``(R, B, N, d)``."""
        symbols = nn.functional.one_hot(tokens, self.symbols).to(self.W_Q.dtype)
        if self.length is not None:
            rows = torch.eye(self.length, dtype=symbols.dtype, device=symbols.device)
            places = rows[: tokens.shape[-1]].expand(*tokens.shape, self.length)
            symbols = torch.cat([symbols, places], dim=-1)
        return symbols if symbols.dim() == 4 else symbols.expand(self.replicas, *symbols.shape)


def _mapped(x: Tensor, weight: Tensor) -> Tensor:
    """``(R, B, N, d)`` times ``(R, d, D)``, as one product for each model."""
    flat = x.flatten(1, 2) @ weight
    return flat.reshape(*x.shape[:3], weight.shape[-1])


def _demand_weights(rows: int, *given: object) -> dict[str, Tensor]:
    """Check the four matrices; return them as ``(R, …, …)`` by name."""
    names = ("W_Q", "W_K", "W_V", "W_O")
    weights = {n: floating(n, w, at_least=2) for n, w in zip(names, given, strict=True)}
    same_kind(**weights)
    for name, weight in weights.items():
        if weight.dim() > 3:
            raise ValueError(f"{name} must have 2 or 3 dimensions, got shape {shape_of(weight)}")
        if weight.dim() != weights["W_Q"].dim():
            raise ValueError(f"{name} must have as many dimensions as W_Q, got {shape_of(weight)}")
        finite(name, weight)
    weights = {n: w if w.dim() == 3 else w.unsqueeze(0) for n, w in weights.items()}
    replicas, _, size = weights["W_Q"].shape
    value_size, outputs = weights["W_V"].shape[-1], weights["W_O"].shape[-1]
    expected = {
        "W_Q": (replicas, rows, size),
        "W_K": (replicas, rows, size),
        "W_V": (replicas, rows, value_size),
        "W_O": (replicas, value_size, outputs),
    }
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape or 0 in shape:
            raise ValueError(f"{name} must have the shape {shape}, got {shape_of(weights[name])}")
    return weights


def _demand_square(name: str, matrix: object, weight: Tensor) -> Tensor:
    """Check that a matrix can stand behind `weight` and can be inverted."""
    square = floating(name, matrix, at_least=2)
    same_kind(**{"the weights": weight, name: square})
    size: int = weight.shape[-1]
    if tuple(square.shape) not in ((size, size), (weight.shape[0], size, size)):
        raise ValueError(f"{name} must have the shape ({size}, {size}), got {shape_of(square)}")
    finite(name, square)
    if values_are_checked() and bool((torch.linalg.matrix_rank(widened(square)) < size).any()):
        raise ValueError(f"{name} must be invertible, but its rank is less than {size}")
    return square


def drawn_transformer(
    symbols: int,
    outputs: int,
    *,
    generator: torch.Generator,
    length: int | None = None,
    size: int = 8,
    value_size: int = 8,
    replicas: int = 1,
    initial: float = 1.0,
    free_output: bool = True,
) -> OneHotTransformer:
    r"""Random weights to start training from.

    Each is uniform between :math:`\pm a/\sqrt{\text{inputs}}`, as those of
    :class:`torch.nn.Linear`, times the factor a.

    Parameters
    ----------
    symbols, length
        As in :class:`OneHotTransformer`.
    outputs
        Numbers that each position puts out, C.
    generator
        Draws the weights; they are in float32 and on its device.
    size, value_size
        D and M.
    replicas
        Independent models side by side.
    initial
        The factor a.
    free_output
        Without it `W_O` is the identity (ones on its diagonal), and stays it.

    Returns
    -------
    OneHotTransformer

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import drawn_transformer
    >>> model = drawn_transformer(5, 5, replicas=3, generator=torch.Generator().manual_seed(0))
    >>> model(torch.tensor([[0, 4, 1, 1]])).shape
    torch.Size([3, 1, 4, 5])
    """
    random_generator("generator", generator)
    sizes = {"symbols": symbols, "outputs": outputs, "size": size, "value_size": value_size}
    T, C, D, M = (integer(name, value, at_least=1) for name, value in sizes.items())
    d = T + (0 if length is None else integer("length", length, at_least=1))
    R, initial = integer("replicas", replicas, at_least=1), positive("initial", initial)

    def uniform(inputs: int, columns: int) -> Tensor:
        drawn = torch.rand(R, inputs, columns, generator=generator, device=generator.device)
        bound: float = initial / inputs**0.5
        return (2 * drawn - 1) * bound

    read = torch.eye(M, C, device=generator.device).expand(R, M, C)
    weights = uniform(d, D), uniform(d, D), uniform(d, M)
    output = uniform(M, C) if flag("free_output", free_output) else read
    return OneHotTransformer(*weights, output, symbols=T, length=length, free_output=free_output)


def stacked(models: Sequence[OneHotTransformer]) -> OneHotTransformer:
    """Put models of one shape side by side, so that they run and train as one.

    Parameters
    ----------
    models
        At least one; all with the same sizes, scale and dtype.

    Returns
    -------
    OneHotTransformer
        With as many replicas as all of them together, and a copy of their weights.

    Raises
    ------
    TypeError, ValueError
        If there are none, or they do not fit.

    Examples
    --------
    >>> from dlchecked.hand_designed import content_design, stacked
    >>> stacked([content_design(3, beta=b) for b in (1.0, 5.0)]).replicas
    2
    """
    models = list(models)
    if not models:
        raise ValueError("models must hold at least one model")
    for model in models:
        if not isinstance(model, OneHotTransformer):
            raise TypeError(f"models must be OneHotTransformers, got {type(model).__name__}")
    first = models[0]
    described = [
        (m.symbols, m.length, m.scale, m.free_output, m.W_Q.shape[1:], m.W_O.shape[1:], m.W_Q.dtype)
        for m in models
    ]
    if any(about != described[0] for about in described):
        raise ValueError(f"models must have one shape, scale and dtype, got {described}")
    return OneHotTransformer(
        *(torch.cat([getattr(m, n) for m in models]) for n in ("W_Q", "W_K", "W_V", "W_O")),
        symbols=first.symbols,
        length=first.length,
        scale=first.scale,
        free_output=first.free_output,
    )


# Weights set by hand


def content_design(
    symbols: int, *, beta: float, length: int | None = None, size: int = 8
) -> OneHotTransformer:
    r"""Look at the positions with your own symbol, and put out what they hold (hw10 2(a)).

    :math:`W_Q = \beta\sqrt D\, E` and :math:`W_K = W_V = E`, where E has a 1 for each symbol in a
    column of its own; the score is :math:`\beta` where symbols match and 0 elsewhere.

    Parameters
    ----------
    symbols
        T.
    beta
        The score of a match, as it enters the softmax.
    length
        Places with a row, all zero; see :class:`OneHotTransformer`.
    size
        D = M, at least T.

    Returns
    -------
    OneHotTransformer
        In float32, with one output for each symbol.

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import content_design
    >>> model = content_design(3, beta=9.0)
    >>> weights = model.trace(torch.tensor([[2, 0, 2]])).weights[0, 0, 0]
    >>> weights.detach().round(decimals=3)
    tensor([0.5000, 0.0000, 0.5000])
    """
    E, _, D = _blank(symbols, length, size, at_least=symbols)
    for symbol in range(symbols):
        E[symbol, symbol] = 1.0
    read = torch.eye(D, symbols)
    W_Q = positive("beta", beta) * D**0.5 * E
    return OneHotTransformer(W_Q, E, E, read, symbols=symbols, length=length)


def own_position_design(
    symbols: int, length: int, *, beta: float, size: int = 8
) -> OneHotTransformer:
    r"""Look at your own position, and put out what it holds: the other solution of copying.

    :math:`W_Q = \beta\sqrt D\, P` and :math:`W_K = P`, where P has a 1 for each place in a column
    of its own; values as in :func:`content_design`.

    Parameters
    ----------
    symbols, length
        T, and the places with a row.
    beta
        The score of the own position, as it enters the softmax.
    size
        D = M, at least T and at least `length`.

    Returns
    -------
    OneHotTransformer
        In float32, with one output for each symbol.

    Raises
    ------
    TypeError, ValueError
        As :func:`content_design`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import own_position_design
    >>> model = own_position_design(3, 4, beta=9.0)
    >>> weights = model.trace(torch.tensor([[2, 0, 2]])).weights[0, 0, 0]
    >>> weights.detach().round(decimals=3)
    tensor([1., 0., 0.])
    """
    length = integer("length", length, at_least=1)
    P, W_V, D = _blank(symbols, length, size, at_least=max(symbols, length))
    for place in range(length):
        P[symbols + place, place] = 1.0
    for symbol in range(symbols):
        W_V[symbol, symbol] = 1.0
    W_Q = positive("beta", beta) * D**0.5 * P
    return OneHotTransformer(W_Q, P, W_V, torch.eye(D, symbols), symbols=symbols, length=length)


def first_design(
    symbols: int,
    length: int,
    *,
    beta: float,
    size: int = 8,
    place: int = 0,
    first_row_by_content: bool = False,
) -> OneHotTransformer:
    r"""From every position look at the first one, and put out what it holds (hw10 2(b)).

    All places ask for the same: each row of a place in :math:`W_Q` is :math:`\beta\sqrt D\, e_1`,
    and in :math:`W_K` only that of the first place is :math:`e_1`.

    Parameters
    ----------
    symbols, length
        T, and the places with a row.
    beta
        By how much the first position's score exceeds all others.
    size
        D = M, at least T; one more for `first_row_by_content`.
    place
        Look at another place than the first, counted from 0.
    first_row_by_content
        Let the first position look at all positions with its own symbol instead, which holds the
        same. Then every query asks for its own symbol, too, with the score `beta`, and all but
        the first for the first place, with twice that. Only with the first `place`.

    Returns
    -------
    OneHotTransformer
        In float32, with one output for each symbol.

    Raises
    ------
    TypeError, ValueError
        As :func:`content_design`, and if `place` does not exist.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import first_design
    >>> model = first_design(3, 4, beta=9.0)
    >>> model(torch.tensor([[2, 0, 1, 1]])).argmax(-1).tolist()
    [[[2, 2, 2, 2]]]
    """
    length, place = integer("length", length, at_least=1), integer("place", place, at_least=0)
    by_content = flag("first_row_by_content", first_row_by_content)
    if place >= length or (by_content and place):
        allowed = 0 if by_content else length - 1
        raise ValueError(f"place must be at most {allowed} here, got {place}")
    W_Q, W_V, D = _blank(symbols, length, size, at_least=symbols + by_content)
    W_K, sharp = torch.zeros_like(W_Q), positive("beta", beta) * D**0.5
    for symbol in range(symbols):
        W_V[symbol, symbol] = 1.0
    last = D - 1 if by_content else 0
    W_Q[symbols + by_content :, last] = sharp * (1 + by_content)
    W_K[symbols + place, last] = 1.0
    if by_content:
        W_Q += sharp * W_V
        W_K += W_V
    return OneHotTransformer(W_Q, W_K, W_V, torch.eye(D, symbols), symbols=symbols, length=length)


def sign_design(
    symbols: int, length: int, *, beta: float, size: int = 8, places: Collection[int] = (0,)
) -> OneHotTransformer:
    r"""From every position look at some places, and put out the sign of what they hold (hw10 2(c)).

    Symbols of the first half count 1, those of the second half -1.

    Parameters
    ----------
    symbols, length
        T, an even number, and the places with a row.
    beta
        By how much the scores of `places` exceed all others.
    size
        D = M.
    places
        Where to look, counted from 0; each with the same score.

    Returns
    -------
    OneHotTransformer
        In float32, with one output.

    Raises
    ------
    TypeError, ValueError
        As :func:`content_design`, for an odd number of symbols, and if there are no places or some
        do not exist.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import sign_design
    >>> model = sign_design(4, 3, beta=6.0, places=(0, 2))
    >>> model(torch.tensor([[3, 0, 2]])).round(decimals=2).flatten().tolist()
    [-1.0, -1.0, -1.0]
    """
    symbols = _demand_even(symbols)
    length = integer("length", length, at_least=1)
    if not isinstance(places, Collection):
        raise TypeError(f"places must be a collection, got {type(places).__name__}")
    where = sorted({integer("places", place, at_least=0) for place in places})
    if not where or where[-1] >= length:
        raise ValueError(f"places must hold places below {length}, at least one, got {where}")
    W_Q, W_V, D = _blank(symbols, length, size, at_least=1)
    W_K = torch.zeros_like(W_Q)
    W_Q[symbols:, 0] = positive("beta", beta) * D**0.5
    for place in where:
        W_K[symbols + place, 0] = 1.0
    W_V[: symbols // 2, 0], W_V[symbols // 2 : symbols, 0] = 1.0, -1.0
    return OneHotTransformer(W_Q, W_K, W_V, torch.eye(D, 1), symbols=symbols, length=length)


def _blank(
    symbols: object, length: object, size: object, *, at_least: int
) -> tuple[Tensor, Tensor, int]:
    """Check the sizes of a design; return two matrices of zeros, ``(d, D)``, and D."""
    T = integer("symbols", symbols, at_least=2)
    P = 0 if length is None else integer("length", length, at_least=1)
    D = integer("size", size, at_least=at_least)
    return torch.zeros(T + P, D), torch.zeros(T + P, D), D


def _demand_even(symbols: object) -> int:
    count = integer("symbols", symbols, at_least=2)
    if count % 2:
        raise ValueError(f"symbols must be even, half for each sign, got {count}")
    return count


# How sharp the softmax has to be


def worst_missed_weight(beta: float, *, keys: int, selected: int = 1) -> float:
    r"""Weight that misses the selected keys if all others are `beta` behind.

    With N keys of which m are selected it is :math:`(N - m)/(N - m + m e^{\beta})`; others that
    are further behind get less.

    Parameters
    ----------
    beta
        Lead of the selected keys' scores over all others, as they enter the softmax; 0 is allowed.
    keys
        N, at least 2.
    selected
        m, from 1 to N - 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> from dlchecked.hand_designed import worst_missed_weight
    >>> round(worst_missed_weight(6.0, keys=6), 5)
    0.01224
    """
    N, m = _demand_keys(keys, selected)
    # A sigmoid; exp overflows beyond 709. No lead is allowed, too: needed_beta may ask for none.
    lead = 0.0 if beta == 0 and not isinstance(beta, bool) else positive("beta", beta)
    return 1 / (1 + m / (N - m) * math.exp(min(lead, 700.0)))


def needed_beta(error: float, *, keys: int, selected: int = 1) -> float:
    r"""The lead from which no more than `error` of the weight misses the selected keys.

    :math:`\log\bigl((N - m)(1 - \varepsilon)/(m\,\varepsilon)\bigr)`, the inverse of
    :func:`worst_missed_weight`; 0 if no lead is needed.

    Parameters
    ----------
    error
        Allowed missed weight, between 0 and 1.
    keys, selected
        As in :func:`worst_missed_weight`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> from dlchecked.hand_designed import needed_beta
    >>> round(needed_beta(0.01, keys=6), 3)
    6.205
    """
    N, m = _demand_keys(keys, selected)
    error = positive("error", error)
    if error >= 1:
        raise ValueError(f"error must be less than 1, got {error}")
    return max(0.0, math.log((N - m) / m) + math.log1p(-error) - math.log(error))


def _demand_keys(keys: object, selected: object) -> tuple[int, int]:
    N, m = integer("keys", keys, at_least=2), integer("selected", selected, at_least=1)
    if m >= N:
        raise ValueError(f"selected must be less than the number of keys, {N}, got {m}")
    return N, m


# Tasks


@dataclass(frozen=True)
class Task:
    """Sequences, and what each position of them should put out.

    Attributes
    ----------
    symbols, length, outputs
        T, N and C.
    draw
        Given a shape and a generator, sequences ``(*shape, N)``, int64.
    target
        Of sequences ``(..., N)``: what should come out, ``(..., N, C)``.
    loss
        Of outputs and targets ``(R, B, N, C)``: one number for each model, ``(R,)``.
    """

    symbols: int
    length: int
    outputs: int
    draw: Callable[[tuple[int, ...], torch.Generator], Tensor]
    target: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


def copy_task(symbols: int, length: int, *, hidden: int = 0) -> Task:
    """Each position puts out its own symbol, one-hot (the task of hw10 2(a)).

    Parameters
    ----------
    symbols, length
        T and N.
    hidden
        How many of the last symbols are never drawn.

    Returns
    -------
    Task
        With the squared error, summed over the outputs, averaged over positions.

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import copy_task
    >>> copy_task(3, 2).target(torch.tensor([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    T, N, draw = _uniform_sequences(symbols, length, hidden)
    return Task(T, N, T, draw, lambda tokens: _one_hot(tokens, T), _squared_error)


def first_task(symbols: int, length: int) -> Task:
    """Each position puts out the first position's symbol, one-hot (the task of hw10 2(b)).

    Parameters
    ----------
    symbols, length
        T and N.

    Returns
    -------
    Task
        With the squared error, as in :func:`copy_task`.

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import first_task
    >>> first_task(3, 2).target(torch.tensor([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    """
    T, N, draw = _uniform_sequences(symbols, length, 0)

    def target(tokens: Tensor) -> Tensor:
        return _one_hot(tokens[..., :1].expand_as(tokens), T)

    return Task(T, N, T, draw, target, _squared_error)


def sign_task(symbols: int, length: int, *, said_twice: bool = True) -> Task:
    """Each position puts out a number with the sign of the first symbol (for hw10 2(c)).

    Symbols of the first half are positive, the others negative. The data says the sign twice: the
    last symbol has the sign of the first. So there is more than one place to look at.

    Parameters
    ----------
    symbols, length
        T, an even number, and N, at least 2.
    said_twice
        Without it the last symbol always has the *other* sign, which tells the solutions apart.

    Returns
    -------
    Task
        With the hinge loss, the mean of what outputs lack to 1 on the right side.

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import sign_task
    >>> sign_task(4, 3).target(torch.tensor([3, 0, 2])).flatten().tolist()
    [-1.0, -1.0, -1.0]
    """
    T, half = _demand_even(symbols), symbols // 2
    N = integer("length", length, at_least=2)
    other = 0 if flag("said_twice", said_twice) else 1

    def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        options = {"generator": generator, "device": generator.device}
        tokens = torch.randint(T, (*shape, N), **options)  # type: ignore[call-overload]
        within = torch.randint(half, shape, **options)  # type: ignore[call-overload]
        sign = (tokens[..., 0] // half + other) % 2
        return torch.cat([tokens[..., :-1], (sign * half + within).unsqueeze(-1)], dim=-1)

    def target(tokens: Tensor) -> Tensor:
        sign = 1.0 - 2.0 * (tokens[..., :1] // half)
        return sign.expand_as(tokens).unsqueeze(-1)

    def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
        return (1 - outputs * targets).clamp_min(0).mean((-1, -2, -3))

    return Task(T, N, 1, draw, target, hinge)


def all_sequences(symbols: int, length: int) -> Tensor:
    """Every sequence of some length, in the order of counting.

    Parameters
    ----------
    symbols, length
        T and N; at most a million sequences in all.

    Returns
    -------
    Tensor
        ``(T^N, N)``, int64.

    Raises
    ------
    TypeError, ValueError
        For numbers of the wrong kind or out of range.

    Examples
    --------
    >>> from dlchecked.hand_designed import all_sequences
    >>> all_sequences(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    T, N = integer("symbols", symbols, at_least=1), integer("length", length, at_least=1)
    if T**N > 10**6:
        raise ValueError(f"symbols ** length must be at most a million, got {T}**{N}")
    return torch.cartesian_prod(*[torch.arange(T)] * N).reshape(T**N, N)


def _uniform_sequences(
    symbols: object, length: object, hidden: object
) -> tuple[int, int, Callable[[tuple[int, ...], torch.Generator], Tensor]]:
    T, N = integer("symbols", symbols, at_least=2), integer("length", length, at_least=1)
    unseen = integer("hidden", hidden, at_least=0)
    if unseen > T - 2:
        raise ValueError(f"hidden must leave two of the {T} symbols, got {unseen}")

    def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randint(T - unseen, (*shape, N), generator=generator, device=generator.device)

    return T, N, draw


def _one_hot(tokens: Tensor, symbols: int) -> Tensor:
    return nn.functional.one_hot(tokens, symbols).to(torch.float32)


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(-1).mean((-1, -2))


# Training


def train_task(
    task: Task,
    *,
    generator: torch.Generator,
    start: OneHotTransformer | None = None,
    replicas: int = 64,
    positions: bool = True,
    size: int = 8,
    value_size: int = 8,
    initial: float = 0.3,
    free_output: bool = True,
    steps: int = 800,
    batch_size: int = 16,
    learning_rate: float = 0.02,
    snapshot_at: Collection[int] = (),
) -> tuple[OneHotTransformer, History]:
    """Train by Adam, as many independent models at once as asked for.

    The loss is summed over the models, and Adam treats every number on its own, so each is trained
    as if it were alone, on sequences of its own.

    Parameters
    ----------
    task
        What to learn.
    generator
        Draws the initial weights, then the sequences.
    start
        Start from a copy of these models instead of random ones; the next arguments, up to
        `free_output`, are then not used.
    replicas
        How many models, R.
    positions
        Whether inputs hold the place; without it, symbols alone.
    size, value_size, initial, free_output
        As in :func:`drawn_transformer`.
    steps, batch_size, learning_rate
        Of Adam; each model has `batch_size` new sequences a step.
    snapshot_at
        After how many steps to keep a copy; see :meth:`OneHotTransformer.at`.

    Returns
    -------
    (OneHotTransformer, History)
        The loss in the history is the sum over the models; the metric ``"loss"``, of 256 further
        sequences, before and after, is ``(2, R)``.

    Raises
    ------
    TypeError, ValueError
        For arguments of the wrong kind or out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import copy_task, train_task
    >>> model, history = train_task(copy_task(3, 4), replicas=2, steps=5,
    ...                             generator=torch.Generator().manual_seed(0))
    >>> history.metrics["loss"].shape
    torch.Size([2, 2])
    """
    if not isinstance(task, Task):
        raise TypeError(f"task must be a Task, got {type(task).__name__}")
    random_generator("generator", generator)
    batch_size = integer("batch_size", batch_size, at_least=1)
    rate = positive("learning_rate", learning_rate)
    if start is None:
        model = drawn_transformer(
            task.symbols,
            task.outputs,
            length=task.length if flag("positions", positions) else None,
            size=size,
            value_size=value_size,
            replicas=replicas,
            initial=initial,
            free_output=free_output,
            generator=generator,
        )
    else:
        model = copy.deepcopy(_demand_start(start, task))
    test = task.draw((256,), generator)

    def batches(generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield task.draw((model.replicas, batch_size), generator)

    def losses(model: nn.Module, tokens: Tensor) -> Tensor:
        outputs = model(tokens)
        return task.loss(outputs, task.target(tokens).to(outputs.dtype).expand_as(outputs))

    def total(model: nn.Module, tokens: Any) -> Tensor:
        return losses(model, tokens).sum()

    history = train(
        model,
        torch.optim.Adam(model.parameters(), lr=rate),
        batches,
        total,
        steps=steps,
        generator=generator,
        evaluate=lambda model: {"loss": losses(model, test)},
        snapshot_at=snapshot_at,
    )
    return model, history


def _demand_start(start: object, task: Task) -> OneHotTransformer:
    if not isinstance(start, OneHotTransformer):
        raise TypeError(f"start must be a OneHotTransformer, got {type(start).__name__}")
    fits = start.symbols == task.symbols and start.W_O.shape[-1] == task.outputs
    if not fits or (start.length is not None and start.length < task.length):
        raise ValueError(
            f"start must have {task.symbols} symbols, {task.outputs} outputs and room for "
            f"{task.length} places, got {start.extra_repr()}, outputs={start.W_O.shape[-1]}"
        )
    return start


# The ladder


def visible_product(
    product: Tensor, *, symbols: int, length: int | None = None, of: str = "scores"
) -> Tensor:
    r"""The part of a product that any data can see.

    Every input x holds one symbol and one place, so :math:`x \cdot n = 0` for the vector n that is
    1 on symbols and -1 on places: what :math:`W_Q W_K^T` or :math:`W_V W_O` do to n never
    shows. Of the scores, what depends on the query alone never shows either, for the softmax
    ignores it. The rest, orthogonal to both, is returned.

    Parameters
    ----------
    product
        ``(..., d, d)`` for scores, ``(..., d, C)`` for values;
        see :meth:`OneHotTransformer.product`.
    symbols, length
        As in :class:`OneHotTransformer`.
    of
        ``"scores"`` or ``"values"``.

    Returns
    -------
    Tensor
        The shape and dtype of `product`.

    Raises
    ------
    TypeError, ValueError
        For a wrong kind, shape or name.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import visible_product
    >>> shift = torch.tensor([[3.0, 3.0], [5.0, 5.0]])
    >>> visible_product(shift, symbols=2).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    product = floating("product", product, at_least=2)
    T = integer("symbols", symbols, at_least=1)
    P = 0 if length is None else integer("length", length, at_least=1)
    if of not in ("scores", "values"):
        raise ValueError(f"of must be 'scores' or 'values', got {of!r}")
    expected = (T + P, T + P) if of == "scores" else (T + P, product.shape[-1])
    if tuple(product.shape[-2:]) != expected:
        raise ValueError(f"product must end in the shape {expected}, got {shape_of(product)}")
    wide = widened(product)
    if P:
        n = torch.cat([wide.new_ones(T), -wide.new_ones(P)]) / (T + P) ** 0.5
        wide = wide - n[:, None] * (n @ wide).unsqueeze(-2)
    if of == "scores":
        blocks = (wide[..., :T], wide[..., T:]) if P else (wide,)
        wide = torch.cat([block - block.mean(-1, keepdim=True) for block in blocks], dim=-1)
    return wide.to(product.dtype)


def relative_distance(a: Tensor, b: Tensor, *, up_to_scale: bool = False) -> Tensor:
    r"""How far two things are apart: :math:`|a - b| / \sqrt{|a|^2 + |b|^2}`.

    0 if they are equal, 1 if they are orthogonal (or one of them is zero), :math:`\sqrt 2` if they
    are opposite.

    Parameters
    ----------
    a, b
        ``(R, …)``, of one shape; norms are taken over all but the first dimension.
    up_to_scale
        Bring both to norm 1 first. Where their inner product is positive, this is the least
        distance that a positive factor in front of one of them allows.

    Returns
    -------
    Tensor
        ``(R,)``, in float32 at least.

    Raises
    ------
    TypeError, ValueError
        For something that is no floating-point tensor, shapes or dtypes that differ, or (see
        :func:`dlchecked.arguments.value_checks`) values that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import relative_distance
    >>> a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    >>> b = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> relative_distance(a, b, up_to_scale=True)
    tensor([0.0000, 1.0000, 1.4142])
    """
    a, b = floating("a", a, at_least=2), floating("b", b, at_least=2)
    same_kind(a=a, b=b)
    if a.shape != b.shape:
        raise ValueError(f"b must have the shape of a, {shape_of(a)}, got {shape_of(b)}")
    for name, x in (("a", a), ("b", b)):
        finite(name, x)
    first, second = (widened(x).flatten(1) for x in (a, b))
    if flag("up_to_scale", up_to_scale):
        first, second = (nn.functional.normalize(_at_most_one(x), dim=1) for x in (first, second))
    # Neither squares of tiny numbers may vanish, nor those of huge ones overflow.
    both = _at_most_one(torch.cat([first, second], dim=1))
    size = torch.linalg.vector_norm(both, dim=1)
    first, second = both.tensor_split(2, dim=1)
    apart: Tensor = torch.linalg.vector_norm(first - second, dim=1)
    return apart.div(size.masked_fill(size == 0, 1.0))


def _at_most_one(x: Tensor) -> Tensor:
    """Divide each row by its largest absolute value, unless that is zero."""
    if not x.shape[1]:
        return x
    largest = x.abs().amax(1, keepdim=True)
    return x.div(largest.masked_fill(largest == 0, 1.0))


def rungs(model: OneHotTransformer, tokens: Tensor) -> dict[str, Tensor]:
    """What :func:`ladder` compares, for each of the R models.

    Parameters
    ----------
    model
        R models.
    tokens
        The data, as in :meth:`OneHotTransformer.trace`.

    Returns
    -------
    dict
        By the names of :data:`RUNGS`. Scores are without the mean of their row, which the softmax
        ignores; patterns, the attention weights, are without 1/N, which every pattern has in
        common.
    """
    if not isinstance(model, OneHotTransformer):
        raise TypeError(f"model must be a OneHotTransformer, got {type(model).__name__}")
    with torch.no_grad():
        trace = model.trace(tokens)
        scores, values = model.product("scores"), model.product("values")
        sizes = {"symbols": model.symbols, "length": model.length}
        found = (
            *(getattr(model, name).detach() for name in RUNGS[:4]),
            scores,
            values,
            visible_product(scores, **sizes),  # type: ignore[arg-type]
            visible_product(values, of="values", **sizes),  # type: ignore[arg-type]
            trace.scores - trace.scores.mean(-1, keepdim=True),
            trace.weights - 1 / tokens.shape[-1],
            trace.outputs,
        )
    return dict(zip(RUNGS, found, strict=True))


def ladder(
    first: OneHotTransformer,
    second: OneHotTransformer,
    tokens: Tensor,
    *,
    up_to_scale: bool = False,
) -> dict[str, Tensor]:
    """How far models are apart, rung by rung, by one and the same distance.

    Parameters
    ----------
    first, second
        R models each, compared one by one; one of the two may be a single model, which is then
        compared with each of the other.
    tokens
        The data on which scores, patterns and outputs are compared.
    up_to_scale
        As in :func:`relative_distance`.

    Returns
    -------
    dict
        Rung -> distances ``(R,)``.

    Raises
    ------
    TypeError, ValueError
        For models whose sizes differ.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.hand_designed import content_design, ladder
    >>> soft, sharp = content_design(3, beta=4.0), content_design(3, beta=8.0)
    >>> apart = ladder(soft, sharp, torch.tensor([[0, 1, 2, 1]]), up_to_scale=True)
    >>> round(apart["W_Q"].item(), 6)
    0.0
    """
    left, right = rungs(first, tokens), rungs(second, tokens)
    if first.replicas != second.replicas and 1 not in (first.replicas, second.replicas):
        raise ValueError(
            f"second must hold {first.replicas} models as first does, or one of them a single "
            f"one, got {second.replicas}"
        )
    apart = {}
    for name in RUNGS:
        a, b = left[name], right[name]
        if a.shape[1:] != b.shape[1:]:
            raise ValueError(
                f"second must have the sizes of first, but {name} is {shape_of(b)}, not "
                f"{shape_of(a)}"
            )
        a, b = (x.expand(max(len(a), len(b)), *x.shape[1:]) for x in (a, b))
        apart[name] = relative_distance(a, b, up_to_scale=up_to_scale)
    return apart
