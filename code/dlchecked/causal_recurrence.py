r"""Causal linear attention: masked sums, a recurrence, a scan and chunks (hw10 1(b)).

With features :math:`\phi_q, \phi_k` of length r and a log factor :math:`\ell_j` for each key,
output i is a weighted average of the values up to i:

.. math::

   o_i = \frac{\sum_{j \le i} \phi_q(i) \cdot \phi_k(j) \, e^{\ell_j} v_j}
              {\sum_{j \le i} \phi_q(i) \cdot \phi_k(j) \, e^{\ell_j}}
       = \frac{\phi_q(i) S_i}{\phi_q(i) \cdot Z_i},
   \qquad
   S_i = \sum_{j \le i} e^{\ell_j} \phi_k(j)^T v_j,
   \quad
   Z_i = \sum_{j \le i} e^{\ell_j} \phi_k(j)

The pair (S, Z) is all that the past can say to the future. It is kept in float32 or better,
whatever the inputs' dtype. Where there are log factors, both are kept divided by :math:`e^m`, with
m the greatest factor **so far**: nothing overflows, and nothing of the future is looked at.

One trick runs through the module. A denominator is what the numerator would be for a value of 1, so
every value gets a 1 appended, and [S, Z], r x (M + 1), is one matrix. Only the chunked form keeps
the two apart: products with a column more than a power of two are slower than that column is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil, isfinite, prod
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from dlchecked.arguments import (
    finite,
    floating,
    integer,
    same_kind,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.counting import Cost
from dlchecked.kernel_attention import ZeroDenominatorError

__all__ = [
    "CausalAttentionStream",
    "CausalState",
    "causal_attention_cost",
    "causal_linear_attention",
    "combine_states",
    "empty_state",
    "prefix_states",
    "read_state",
    "token_states",
]


# The state


class CausalState(NamedTuple):
    r"""All that the past can say to the future: two sums over the keys so far.

    ``S``
        :math:`\sum_j e^{\ell_j - m} \phi_k(j)^T v_j`, ``(..., r, M)``, in float32 or better.
    ``Z``
        :math:`\sum_j e^{\ell_j - m} \phi_k(j)`, ``(..., r)``.
    ``log_scale``
        m, the greatest log factor so far, ``(...)``; minus infinity before the first key. None
        stands for m = 0 and no log factors at all.
    """

    S: Tensor
    Z: Tensor
    log_scale: Tensor | None = None


def empty_state(phi_k: Tensor, v: Tensor, *, stabilised: bool = False) -> CausalState:
    """Return the state before the first key, the identity of :func:`combine_states`.

    Parameters
    ----------
    phi_k, v
        Keys' features ``(..., N, r)`` and values ``(..., N, M)``, for their sizes, dtype and device
        alone.
    stabilised
        Whether the state carries a running maximum of log factors, minus infinity so far.

    Returns
    -------
    CausalState
        Zeros.

    Raises
    ------
    TypeError, ValueError
        If the tensors do not fit together.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.causal_recurrence import empty_state
    >>> empty_state(torch.ones(5, 3), torch.ones(5, 2)).S.shape
    torch.Size([3, 2])
    """
    phi_k, v = _keys_and_values(phi_k, v)
    lead, r, M = phi_k.shape[:-2], phi_k.shape[-1], v.shape[-1]
    zeros = widened(v[..., :0]).new_zeros((*lead, r, M + 1))
    log_scale = zeros.new_full(lead, -torch.inf) if stabilised else None
    return _split(zeros, log_scale)


def token_states(phi_k: Tensor, v: Tensor, *, log_scale_k: Tensor | None = None) -> CausalState:
    """Return the state of each token alone: S is ``(..., N, r, M)``, an outer product for each.

    Parameters
    ----------
    phi_k, v, log_scale_k
        ``(..., N, r)``, ``(..., N, M)`` and ``(..., N)``, as in :func:`causal_linear_attention`.

    Returns
    -------
    CausalState
        With one more leading dimension, N.

    Raises
    ------
    TypeError, ValueError
        If the tensors do not fit together.
    """
    phi_k, v = _keys_and_values(phi_k, v)
    log_k = _log_factors(log_scale_k, phi_k)
    return _split(widened(phi_k)[..., :, None] * _append_one(widened(v))[..., None, :], log_k)


def combine_states(first: CausalState, second: CausalState) -> CausalState:
    r"""Return the state of one stretch of tokens after another, from the states of the two.

    The sums add up once both are divided by the same :math:`e^m`:

    .. math::

       m = \max(m_1, m_2), \qquad
       S = e^{m_1 - m} S_1 + e^{m_2 - m} S_2, \qquad
       Z = e^{m_1 - m} Z_1 + e^{m_2 - m} Z_2

    This is associative, and :func:`empty_state` is its identity: states are a monoid.

    Parameters
    ----------
    first, second
        States of the same shape.

    Returns
    -------
    CausalState
        With a log scale if one of the two has one.

    Raises
    ------
    TypeError, ValueError
        If one of them is no state, or the two do not fit together.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.causal_recurrence import CausalState, combine_states
    >>> first = CausalState(torch.ones(1, 1), torch.ones(1), torch.tensor(0.0))
    >>> second = CausalState(torch.ones(1, 1), torch.ones(1), torch.tensor(200.0))
    >>> combine_states(first, second).log_scale
    tensor(200.)
    """
    _check_state("first", first)
    _check_state("second", second)
    _check_state_fits("second", second, first, "first")
    return _combine(first, second)


def prefix_states(phi_k: Tensor, v: Tensor, *, log_scale_k: Tensor | None = None) -> CausalState:
    """Return the state after each token, by an associative scan of :func:`combine_states`.

    There are ``ceil(log2 N)`` rounds, each of which combines all positions at once. All N states
    are there at the end: N r (M + 1) numbers, which is why nothing else here works like this.

    Parameters
    ----------
    phi_k, v, log_scale_k
        As in :func:`token_states`.

    Returns
    -------
    CausalState
        S is ``(..., N, r, M)``.

    Raises
    ------
    TypeError, ValueError
        If the tensors do not fit together.
    """
    return _scan(token_states(phi_k, v, log_scale_k=log_scale_k))


def read_state(phi_q: Tensor, state: CausalState) -> Tensor:
    """Return what queries get that see all of a state: ``phi_q S / (phi_q . Z)``.

    Parameters
    ----------
    phi_q
        Features of the queries, ``(..., N, r)``.
    state
        With S ``(..., r, M)``.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `phi_q`. The log scale cancels.

    Raises
    ------
    TypeError, ValueError
        If the two do not fit together, or something is not finite.
    ZeroDenominatorError
        If ``phi_q . Z`` is zero, as before the first key.
    """
    _check_state("state", state)
    q = floating("phi_q", phi_q, at_least=2)
    if (*q.shape[:-2], q.shape[-1]) != tuple(state.Z.shape):
        raise ValueError(
            f"phi_q must fit the state's Z, {shape_of(state.Z)}, with N rows before the last "
            f"dimension, got shape {shape_of(q)}"
        )
    if state.S.dtype != _wide_dtype(q.dtype) or state.S.device != q.device:
        raise TypeError(
            f"state must be of {_wide_dtype(q.dtype)} on {q.device}, as phi_q asks, "
            f"got {state.S.dtype} on {state.S.device}"
        )
    out, _, denominators = _divided(widened(q) @ _join(state), state)
    _demand_denominators(denominators)
    out = out.to(q.dtype)
    finite("phi_q", q.detach())
    for name, x in (("state.S", state.S), ("state.Z", state.Z), ("the output", out)):
        finite(name, x.detach())
    finite("the denominators", denominators.detach())
    return out


def _join(state: CausalState) -> Tensor:
    """[S, Z], the state as one matrix."""
    return torch.cat([state.S, state.Z[..., None]], -1)


def _split(joined: Tensor, log_scale: Tensor | None) -> CausalState:
    return CausalState(joined[..., :-1], joined[..., -1], log_scale)


def _append_one(v: Tensor) -> Tensor:
    return torch.nn.functional.pad(v, (0, 1), value=1.0)


def _each(state: CausalState, change: Callable[[Tensor], Tensor]) -> CausalState:
    m = None if state.log_scale is None else change(state.log_scale)
    return CausalState(change(state.S), change(state.Z), m)


def _combine(first: CausalState, second: CausalState) -> CausalState:
    if first.log_scale is None and second.log_scale is None:
        return CausalState(first.S + second.S, first.Z + second.Z)
    m_1, m_2 = _log_scale(first), _log_scale(second)
    m = torch.maximum(m_1, m_2)
    a, b = _shrink(m_1, m)[..., None], _shrink(m_2, m)[..., None]
    S = a[..., None] * first.S + b[..., None] * second.S
    return CausalState(S, a * first.Z + b * second.Z, m)


def _log_scale(state: CausalState) -> Tensor:
    return state.Z.new_zeros(state.Z.shape[:-1]) if state.log_scale is None else state.log_scale


def _shrink(log_scale: Tensor, m: Tensor) -> Tensor:
    """exp(log_scale - m) where log_scale <= m, and 0 where both are minus infinity."""
    return (log_scale - m.clamp(min=torch.finfo(m.dtype).min)).exp()


def _scan(states: CausalState) -> CausalState:
    """Hillis and Steele's scan: after round t, a position holds the last 2^t tokens up to it."""
    length, step = states.Z.shape[-2], 1
    while step < length:
        earlier, later = _between(states, 0, length - step), _between(states, step, length)
        states = _concatenate(_between(states, 0, step), _combine(earlier, later))
        step *= 2
    return states


def _between(states: CausalState, start: int, stop: int) -> CausalState:
    """The states of the tokens from `start` to `stop`."""
    m = None if states.log_scale is None else states.log_scale[..., start:stop]
    return CausalState(states.S[..., start:stop, :, :], states.Z[..., start:stop, :], m)


def _concatenate(first: CausalState, second: CausalState) -> CausalState:
    """The states of two runs of tokens as one run."""
    m = None
    if first.log_scale is not None and second.log_scale is not None:
        m = torch.cat([first.log_scale, second.log_scale], -1)
    return CausalState(torch.cat([first.S, second.S], -3), torch.cat([first.Z, second.Z], -2), m)


# Attention


#: Outputs, the state after the last token, denominators.
_Result = tuple[Tensor, CausalState, Tensor]


class _Problem(NamedTuple):
    """What passed the door: all leading dimensions are one, the heads; the state is always there.

    Shapes: q and k ``(H, N, r)``, v ``(H, N, M)``, log_k ``(H, N)`` or None, state [S, Z]
    ``(H, r, M + 1)`` and its log scale m ``(H,)``, None together with log_k.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    log_k: Tensor | None
    state: Tensor
    m: Tensor | None

    def wide(self) -> _Problem:
        return self._replace(q=widened(self.q), k=widened(self.k), v=widened(self.v))


# What comes back depends on a flag, and type checkers can know it.
@overload
def causal_linear_attention(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    *,
    log_scale_k: Tensor | None = None,
    initial_state: CausalState | None = None,
    output_final_state: Literal[False] = False,
    form: str = "chunked",
    chunk_size: int = 64,
    block_rows: int | None = None,
) -> Tensor: ...


@overload
def causal_linear_attention(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    *,
    log_scale_k: Tensor | None = None,
    initial_state: CausalState | None = None,
    output_final_state: Literal[True],
    form: str = "chunked",
    chunk_size: int = 64,
    block_rows: int | None = None,
) -> tuple[Tensor, CausalState]: ...


def causal_linear_attention(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    *,
    log_scale_k: Tensor | None = None,
    initial_state: CausalState | None = None,
    output_final_state: bool = False,
    form: str = "chunked",
    chunk_size: int = 64,
    block_rows: int | None = None,
) -> Tensor | tuple[Tensor, CausalState]:
    r"""Causal attention with features in place of the exponential (hw10 1(b)).

    Four forms compute the same thing:

    ``"masked"``
        The definition: all N x N weights, those of the future set to zero. The reference.
    ``"recurrent"``
        Token after token, from the state alone.
    ``"scan"``
        The states of all positions at once, by an associative scan; N r M numbers.
    ``"chunked"``
        Weights inside chunks of tokens, the state between them: N / C steps in a row, and memory
        for N (r + M) numbers in training, since backward computes the states again.

    Parameters
    ----------
    phi_q, phi_k
        Features of queries and keys, ``(..., N, r)``. They may be negative.
    v
        Values, ``(..., N, M)``, with the same leading dimensions: nothing is broadcast.
    log_scale_k
        Log factors of the keys, ``(..., N)``, in the dtype of `phi_k` or in float32: key j weighs
        :math:`e^{\ell_j}` times as much. Minus infinity leaves a key out, of the denominator too.
    initial_state
        Where to go on from, as an earlier call returned it; empty if not given.
    output_final_state
        Whether to return the state after the last token as well.
    form
        See above.
    chunk_size
        C, for the chunked form.
    block_rows
        How many rows (tokens times heads) the chunked form works on at a time. By default so many
        that they stay in a CPU's cache, and all at once elsewhere.

    Returns
    -------
    Tensor or (Tensor, CausalState)
        ``(..., N, M)`` in the dtype of `v`; the state in float32 or better.

    Raises
    ------
    TypeError, ValueError
        If the arguments do not fit together, or something is not finite.
    ZeroDenominatorError
        If a denominator is exactly zero, as with minus infinity for all keys so far. One that
        rounding alone keeps from zero, as features of both signs can give, is not noticed.

    Notes
    -----
    The checks that read values are switched off by :func:`dlchecked.arguments.value_checks`.

    No output depends on a later key, value or log factor: its derivative is exactly zero, and so
    is its change, bit for bit, as long as the later ones are finite.

    All forms can be differentiated as often as you like. From the second time on the chunked one
    does it by way of plain autograd over the chunks, which is slower and keeps a state for each;
    forward mode (``jvp``) and ``vmap`` it does not know: put the batch into the leading dimensions.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.causal_recurrence import causal_linear_attention
    >>> ones = torch.ones(3, 4)
    >>> causal_linear_attention(ones, ones, torch.tensor([[1.0], [2.0], [6.0]]))
    tensor([[1.0000],
            [1.5000],
            [3.0000]])
    """
    problem = _checked_problem(phi_q, phi_k, v, log_scale_k, initial_state)
    chunk_size = integer("chunk_size", chunk_size, at_least=1)
    if block_rows is not None:
        integer("block_rows", block_rows, at_least=1)
    _check_form(form)
    if v.numel() == 0:
        out, final = v.clone(), _split(problem.state, problem.m)
    elif form == "chunked":
        out, final, denominators = _chunked(problem, chunk_size, block_rows)
    else:
        out, final, denominators = _OTHER_FORMS[form](problem.wide())
    out = out.to(v.dtype)
    if v.numel():
        _demand_denominators(denominators.view(v.shape[:-1]))
        _demand_finite(problem, out, final, denominators)
    out = out.view(v.shape)
    final = _each(final, lambda x: x.reshape((*v.shape[:-2], *x.shape[1:])))
    return (out, final) if output_final_state else out


def _masked(problem: _Problem) -> _Result:
    """The definition. The state adds one row of weights that every query has, its past."""
    q, k, v, log_k, state, m = problem
    weights, ones = q @ k.mT, _append_one(v)
    if log_k is None or m is None:
        return _divided(weights.tril() @ ones + q @ state, _split(state + k.mT @ ones, None))
    tops = torch.maximum(log_k.cummax(-1).values, m[:, None])
    last = torch.cat([m[:, None], tops], -1)[:, -1]
    past = _shrink(m[:, None], tops)[..., None] * (q @ state)
    # `tril` first: a weight of the future may be infinite, and infinity times 0 is NaN.
    sums = (weights.tril() * _pairs(log_k, tops)) @ ones + past
    kept = _shrink(m, last)[:, None, None] * state
    added = (k * _shrink(log_k, last[:, None])[..., None]).mT @ ones
    return _divided(sums, _split(kept + added, last))


def _pairs(log_k: Tensor, tops: Tensor) -> Tensor:
    """exp(log_k[j] - tops[i]) for j <= i, and 0 for j > i, where it could overflow."""
    gaps = log_k[..., None, :] - tops.clamp(min=torch.finfo(tops.dtype).min)[..., :, None]
    future = torch.ones_like(gaps, dtype=torch.bool).triu(1)
    return gaps.masked_fill(future, -torch.inf).exp()


def _recurrent(problem: _Problem) -> _Result:
    """The recurrence. `unbind` and not slices: a slice's backward fills a whole tensor."""
    state = _split(problem.state, problem.m)
    q, k, v = (x.unbind(-2) for x in (problem.q, problem.k, _append_one(problem.v)))
    logs = [None] * len(q) if problem.log_k is None else problem.log_k.unbind(-1)
    sums = []
    for q_i, k_i, v_i, log_i in zip(q, k, v, logs, strict=True):
        state = _combine(state, _split(k_i[..., :, None] * v_i[..., None, :], log_i))
        sums.append((q_i[..., None, :] @ _join(state))[..., 0, :])
    return _divided(torch.stack(sums, -2), state)


def _scanned(problem: _Problem) -> _Result:
    """The recurrence's states, all at once; the initial state is the token before the first."""
    tokens = problem.k[..., :, None] * _append_one(problem.v)[..., None, :]
    m = None if problem.m is None else problem.m[:, None]
    before = _split(problem.state[:, None], m)
    states = _scan(_concatenate(before, _split(tokens, problem.log_k)))
    last = states.Z.shape[1] - 1
    sums = problem.q[..., None, :] @ _join(_between(states, 1, last + 1))
    final = _each(states, lambda x: x[:, last])
    return _divided(sums[..., 0, :], final)


_OTHER_FORMS: dict[str, Callable[[_Problem], _Result]] = {
    "masked": _masked,
    "recurrent": _recurrent,
    "scan": _scanned,
}


def _divided(sums: Tensor, final: CausalState) -> _Result:
    """Divide numerators by denominators, which stand side by side."""
    return sums[..., :-1] / sums[..., -1:], final, sums[..., -1]


# The chunked form


def _chunked(problem: _Problem, chunk_size: int, block_rows: int | None) -> _Result:
    """Weights inside each chunk, the state between chunks."""
    q, k, v, log_k, state, m = problem
    last = None
    if log_k is not None and m is not None:
        last = torch.maximum(m, log_k.amax(-1))
    differentiable = (x for x in problem if x is not None)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in differentiable)
    layout = _layout(q, chunk_size, block_rows, keep)
    out, final, denominators, _ = _Chunked.apply(q, k, v, log_k, state, m, last, layout)  # type: ignore[no-untyped-call]
    return out, _split(final, last), denominators[..., 0]


class _Layout(NamedTuple):
    """How the rows are cut: so many heads and tokens make a block, which is read as chunks."""

    heads: int
    tokens: int
    chunk: int
    keep: bool  # whether a backward pass may come, which needs the state before each block

    def blocks(self, x: Tensor) -> Iterator[tuple[slice, list[slice]]]:
        """Groups of heads, each with its runs of tokens from first to last."""
        for head in range(0, x.shape[0], self.heads):
            starts = range(0, x.shape[1], self.tokens)
            yield slice(head, head + self.heads), [slice(s, s + self.tokens) for s in starts]


def _layout(q: Tensor, chunk_size: int, block_rows: int | None, keep: bool) -> _Layout:
    """Choose how much to work on at a time.

    A CPU wants what it works on in its cache, about 2^19 features at a time, and one head where
    that has rows enough. A GPU wants everything at once.
    """
    heads, length, r = q.shape
    chunk = min(chunk_size, length)
    if block_rows is None:
        on_cpu = min(max(2**19 // max(r, 1), 2048), 4096)
        block_rows = on_cpu if q.device.type == "cpu" else heads * length
    together = max(1, min(heads, block_rows // length))
    tokens = ceil(block_rows / (together * chunk)) * chunk
    return _Layout(together, tokens, chunk, keep)


class _Scratch:
    """Buffers that serve one block after another: fresh memory costs a page fault per 4 KiB."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.kept = like, dict[str, Tensor]()

    def empty(self, name: str, *shape: int) -> Tensor:
        size = prod(shape)
        if name not in self.kept or self.kept[name].numel() < size:
            self.kept[name] = self.like.new_empty(size)
        return self.kept[name][:size].view(shape)


class _Blocks:
    """Reads blocks of rows as chunks ``(chunks * heads, C, width)``, the last filled up with zeros.

    The chunk comes first, so that one chunk of all heads lies in one piece. Rows of one head, in
    whole chunks and already wide, are read where they lie, and written where they belong; all
    others are copied in and out.
    """

    def __init__(self, layout: _Layout, state: Tensor) -> None:
        self.chunk, self.dtype, self.scratch = layout.chunk, state.dtype, _Scratch(state)

    def load(self, name: str, x: Tensor, *, fill: float = 0.0) -> Tensor:
        """Rows of ``(heads, tokens, width)`` as chunks."""
        if self._in_place(x):
            return x.view(-1, self.chunk, x.shape[2])
        block = self.room(name, x)
        missing = -x.shape[1] % self.chunk
        if missing:
            x = torch.nn.functional.pad(x, (0, 0, 0, missing), value=fill)
        self._as_chunks(block, x.shape[0]).copy_(x.view(x.shape[0], -1, *block.shape[1:]))
        return block

    def room(self, name: str, into: Tensor) -> Tensor:
        """Room for the chunks of what :meth:`store` puts into rows ``(heads, tokens, width)``."""
        heads, tokens, width = into.shape
        if self._in_place(into):
            return into.view(-1, self.chunk, width)
        return self.scratch.empty(name, ceil(tokens / self.chunk) * heads, self.chunk, width)

    def store(self, block: Tensor, into: Tensor) -> None:
        """Copy chunks to rows ``(heads, tokens, width)``, if they are not there already."""
        if not self._in_place(into):
            heads, tokens, _ = into.shape
            into.copy_(self._as_chunks(block, heads).flatten(1, 2)[:, :tokens])

    def product(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Multiply the chunks of a and b."""
        out = self.scratch.empty(name, a.shape[0], a.shape[1], b.shape[2])
        return torch.bmm(a, b, out=out)

    def row_products(self, a: Tensor, b: Tensor) -> Tensor:
        """Dot products of rows, ``(chunks * heads, C, 1)``."""
        return torch.mul(a, b, out=self.scratch.empty("rows", *a.shape)).sum(-1, keepdim=True)

    def _in_place(self, x: Tensor) -> bool:
        return x.shape[0] == 1 and x.shape[1] % self.chunk == 0 and x.dtype == self.dtype

    def _as_chunks(self, block: Tensor, heads: int) -> Tensor:
        """``(heads, chunks, C, width)``."""
        return block.view(-1, heads, *block.shape[1:]).transpose(0, 1)


class _Decay(NamedTuple):
    """What the running maximum does to a block's sums: four factors, none of them above 1.

    With m at the start of a chunk, ``tops`` at each of its tokens and M at its end:
    ``pairs`` exp(log_k[j] - tops[i]) inside the chunk; ``read`` exp(m - tops[i]) for what token i
    reads from the state; ``write`` exp(log_k[j] - M) for what token j adds to it; ``carry``
    exp(m - M) for the state itself.
    """

    log_k: Tensor  # (heads, chunks, C), as are the next three
    tops: Tensor
    read: Tensor
    write: Tensor
    carry: Tensor  # (heads, chunks)

    def block(self, heads: slice, tokens: slice) -> _Decay:
        """The factors of a block, ``(chunks * heads, C, 1)``, and ``(chunks, heads, 1, 1)``."""
        size = self.tops.shape[-1]
        chunks = slice(tokens.start // size, ceil(tokens.stop / size))
        log_k, tops, read, write, carry = (x[heads, chunks].transpose(0, 1) for x in self)
        log_k, tops, read, write = (x.flatten(0, 1)[..., None] for x in (log_k, tops, read, write))
        return _Decay(log_k, tops, read, write, carry[..., None, None])

    def weigh(self, weights: Tensor) -> Tensor:
        """Apply the pairs' factors to ``(chunks * heads, C, C)`` weights. The future overflows."""
        gaps = self.log_k.mT - self.tops
        return weights.mul_(gaps.exp_())


def _decay(log_k: Tensor | None, m: Tensor | None, size: int) -> _Decay | None:
    """The factors of all heads and tokens; what fills up the last chunk weighs nothing."""
    if log_k is None or m is None:
        return None
    missing = -log_k.shape[1] % size
    log_k = torch.nn.functional.pad(log_k, (0, missing), value=-torch.inf)
    tops = torch.maximum(log_k.cummax(-1).values, m[:, None])
    log_k, tops = (x.view(len(x), -1, size) for x in (log_k, tops))
    ends = tops[..., -1]
    starts = torch.cat([m[:, None], ends[:, :-1]], 1)
    return _Decay(
        log_k=log_k,
        tops=tops.clamp(min=torch.finfo(tops.dtype).min),
        read=_shrink(starts[..., None], tops),
        write=_shrink(log_k, ends[..., None]),
        carry=_shrink(starts, ends),
    )


def _weights(blocks: _Blocks, q: Tensor, k: Tensor, decay: _Decay | None) -> Tensor:
    """Return q @ k^T of the chunks, decayed; the future is overwritten by zeros, not multiplied."""
    weights = blocks.product("weights", q, k.mT)
    return (weights if decay is None else decay.weigh(weights)).tril_()


class _Run(NamedTuple):
    """The two halves of a state, or of its gradient, that moves along a head's chunks."""

    S: Tensor  # (heads, r, M)
    Z: Tensor  # (heads, r, 1)

    @classmethod
    def of(cls, joined: Tensor) -> _Run:
        """A copy of a state [S, Z]."""
        return cls(joined[..., :-1].contiguous(), joined[..., -1:].contiguous())

    def joined(self) -> Tensor:
        return torch.cat(self, -1)

    def select(self, heads: slice) -> _Run:
        return _Run(self.S[heads], self.Z[heads])


def _sweep(
    blocks: _Blocks,
    rows: tuple[Tensor, Tensor, Tensor | None],
    run: _Run,
    carry: Tensor | None,
    *,
    backwards: bool = False,
) -> _Run:
    """The states that a block's chunks start from, ``(chunks * heads, r, M)`` and ``(…, r, 1)``.

    From chunk to chunk, a state goes over into ``carry * state + a^T [b, c]`` for the `rows` a, b
    and c (a column, or None for ones), and `run` itself moves on to the block's other end. The
    products of all chunks are one call: made one after the other, each would wait for its slowest
    thread. Adding up is cheap.
    """
    a, b, c = rows
    heads, r, M = run.S.shape
    S = blocks.scratch.empty("S", len(a) + heads, r, M)
    Z = blocks.scratch.empty("Z", len(a) + heads, r, 1)
    chunks, starts, first, last = slice(heads, None), slice(-heads), 0, -1
    if backwards:
        chunks, starts, first, last = starts, chunks, last, first
    torch.bmm(a.mT, b, out=S[chunks])
    each = a if c is None else torch.mul(a, c, out=blocks.scratch.empty("rows", *a.shape))
    torch.sum(each, 1, out=Z[chunks, :, 0])
    for flat, state in ((S, run.S), (Z, run.Z)):
        states = flat.view(-1, *state.shape)
        states[first] = state
        _add_up(states, carry, backwards=backwards)
        state.copy_(states[last])
    return _Run(S[starts], Z[starts])


def _add_up(states: Tensor, carry: Tensor | None, *, backwards: bool) -> None:
    """Add to each state the one before it, or after it, times the chunk's carry."""
    factors = [None] * (len(states) - 1) if carry is None else carry.unbind()
    steps = list(zip(pairwise(states.unbind()), factors, strict=True))
    for (left, right), factor in reversed(steps) if backwards else steps:
        earlier, later = (right, left) if backwards else (left, right)
        if factor is None:
            later.add_(earlier)
        else:
            later.addcmul_(earlier, factor)


class _Chunked(torch.autograd.Function):
    """The fast forward pass, on flattened heads, with its own backward pass.

    Kept for backward: inputs, outputs, denominators, and the state before each *block*. With
    blocks of T tokens these are N r (M + 1) / T numbers, less than the features' N r once T > M.
    """

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_k: Tensor | None,
        state: Tensor,
        m: Tensor | None,
        last: Tensor | None,
        layout: _Layout,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return outputs, final state, denominators, and the state before each block."""
        decay, blocks = _decay(log_k, m, layout.chunk), _Blocks(layout, state)
        out = torch.empty_like(v, memory_format=torch.contiguous_format)
        denominators = state.new_empty(*v.shape[:2], 1)
        kept = ceil(q.shape[1] / layout.tokens) if layout.keep else 0
        before, run = state.new_empty(kept, *state.shape), _Run.of(state)
        for heads, runs in layout.blocks(q):
            here = run.select(heads)
            for number, rows in enumerate(runs):
                if layout.keep:
                    before[number, heads] = here.joined()
                part = None if decay is None else decay.block(heads, rows)
                block = _Block(*(x[heads, rows] for x in (q, k, v, out, denominators)))
                _read_block(blocks, block, here, part)
        return out, run.joined(), denominators, before

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.layout = inputs
        ctx.mark_non_differentiable(output[2], output[3])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, d_final: Tensor, *_: Tensor) -> tuple[Any, ...]:
        grads = _ChunkedGradient.apply(d_out, d_final, *ctx.saved_tensors, ctx.layout)  # type: ignore[no-untyped-call]
        return (*grads, None)


class _Block(NamedTuple):
    """The rows of a block of tokens, ``(heads, tokens, width)``."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    denominators: Tensor


def _read_block(blocks: _Blocks, rows: _Block, run: _Run, decay: _Decay | None) -> None:
    """Put in a block's outputs and denominators; the state moves on to its end."""
    q, k, v = (blocks.load(name, x) for name, x in zip("qkv", rows[:3], strict=True))
    weights = _weights(blocks, q, k, decay)
    starts = _sweep(blocks, _written(k, v, decay), run, None if decay is None else decay.carry)
    averages = torch.bmm(q, starts.S, out=blocks.room("out", rows.out))
    sums = blocks.row_products(q, starts.Z.mT)
    if decay is not None:
        averages *= decay.read
        sums *= decay.read
    sums += weights.sum(-1, keepdim=True)
    averages.baddbmm_(weights, v).div_(sums)
    blocks.store(averages, rows.out)
    blocks.store(blocks.room("sums", rows.denominators).copy_(sums), rows.denominators)


def _written(k: Tensor, v: Tensor, decay: _Decay | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows whose products a block adds to the state: keys, and values with a 1 beside them."""
    return (k, v, None) if decay is None else (k, v * decay.write, decay.write)


class _ChunkedGradient(torch.autograd.Function):
    """The backward pass of :class:`_Chunked`; and, for second derivatives, plain autograd."""

    @staticmethod
    def forward(d_out: Tensor, d_final: Tensor, *saved: Any) -> tuple[Tensor | None, ...]:
        """Sweep over the blocks from last to first; return the inputs' gradients."""
        q, k, v, log_k, state, m, last, out, final, denominators, before, layout = saved
        decay, blocks = _decay(log_k, m, layout.chunk), _Blocks(layout, state)
        d_run = _Run.of(d_final)
        grads = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]
        d_log = None if log_k is None else torch.empty_like(log_k)
        for heads, runs in layout.blocks(q):
            d_here = d_run.select(heads)
            for number, run in reversed(list(enumerate(runs))):
                part = None if decay is None else decay.block(heads, run)
                rows = _Block(*(x[heads, run] for x in (q, k, v, out, denominators)))
                d_q, d_k, d_v = (x[heads, run] for x in grads)
                into = _Into(d_q, d_k, d_v, None if d_log is None else d_log[heads, run, None])
                start = _Run.of(before[number, heads])
                _block_gradient(blocks, rows, d_out[heads, run], start, d_here, part, into)
        d_state = d_run.joined()
        d_m = None if m is None else (d_state * state).sum((1, 2))
        d_last = None if last is None else -(d_final * final).sum((1, 2))
        return (*grads, d_log, d_state, d_m, d_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.layout = inputs
        ctx.save_for_backward(*tensors[:9])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            saved = [None if x is None else _alias(x) for x in ctx.saved_tensors]
            d_outputs, inputs = saved[:2], saved[2:]
            present = [x for x in inputs if x is not None]
            outputs = _differentiable(ctx.layout.chunk, *inputs)  # type: ignore[arg-type]
            first = iter(torch.autograd.grad(outputs, present, d_outputs, create_graph=True))
            found = [None if x is None else next(first) for x in inputs]
        pairs = [(x, g) for x, g in zip(found, gradients, strict=True) if x is not None]
        firsts, weights = zip(*pairs, strict=True)
        over = [x for x in saved if x is not None]
        second = iter(
            torch.autograd.grad(firsts, over, weights, create_graph=further, allow_unused=True)
        )
        return (*(None if x is None else next(second) for x in saved), *[None] * 5)


def _alias(x: Tensor) -> Tensor:
    """The same numbers as a tensor of its own, so that no input is reached by way of another."""
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


class _Into(NamedTuple):
    """Where a block's gradients go."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_k: Tensor | None


def _block_gradient(
    blocks: _Blocks,
    rows: _Block,
    d_out: Tensor,
    run: _Run,
    d_run: _Run,
    decay: _Decay | None,
    into: _Into,
) -> None:
    """Put in the gradients of a block's q, k, v (and log_k).

    `run` is the state before the block. It moves on to the block's end, chunk by chunk, and d_run
    comes back, so that each is at hand where it is needed and nowhere else.
    """
    q, k, v = (blocks.load(name, x) for name, x in zip("qkv", rows[:3], strict=True))
    d, d_sums = _sums_gradient(blocks, rows, d_out)
    read, read_sums = (d, d_sums) if decay is None else (d * decay.read, d_sums * decay.read)
    carry = None if decay is None else decay.carry
    k, added, one = _written(k, v, decay)
    starts = _sweep(blocks, (k, added, one), run, carry)
    d_q = torch.bmm(read, starts.S.mT, out=blocks.room("d_q", into.q))
    d_q.addcmul_(read_sums, starts.Z.mT)
    # The states before the chunks have been read: their gradients take their place.
    d_ends = _sweep(blocks, (q, read, read_sums), d_run, carry, backwards=True)
    d_k = torch.bmm(added, d_ends.S.mT, out=blocks.room("d_k", into.k))
    d_k.add_(d_ends.Z.mT if one is None else one * d_ends.Z.mT)
    d_v = torch.bmm(k, d_ends.S, out=blocks.room("d_v", into.v))
    if decay is not None:
        d_v *= decay.write
    d_v.baddbmm_(_weights(blocks, q, k, decay).mT, d)
    # The denominator's gradient is that of a value of 1 beside each value.
    d_weights = blocks.product("weights", d, v.mT).add_(d_sums)
    d_weights = (d_weights if decay is None else decay.weigh(d_weights)).tril_()
    d_q.baddbmm_(d_weights, k)
    d_k.baddbmm_(d_weights.mT, q)
    for found, rows_of in ((d_q, into.q), (d_k, into.k), (d_v, into.v)):
        blocks.store(found, rows_of)
    if into.log_k is not None:
        # A log factor multiplies its key wherever that key appears.
        found = blocks.room("d_log", into.log_k).copy_(blocks.row_products(d_k, k))
        blocks.store(found, into.log_k)


def _sums_gradient(blocks: _Blocks, rows: _Block, d_out: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of numerators and denominator, from that of their ratio."""
    denominators = blocks.load("denominators", rows.denominators, fill=1.0)
    d = blocks.scratch.empty("d", *denominators.shape[:-1], d_out.shape[-1])
    torch.div(blocks.load("d_out", d_out), denominators, out=d)
    return d, blocks.row_products(d, blocks.load("out", rows.out)).neg_()


def _differentiable(
    chunk: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_k: Tensor | None,
    state: Tensor,
    m: Tensor | None,
    last: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What :class:`_Chunked` computes, by plain autograd: the masked form chunk after chunk."""
    pieces = [torch.split(x, chunk, 1) for x in (q, k, v)]
    logs = [None] * len(pieces[0]) if log_k is None else torch.split(log_k, chunk, 1)
    outs, top = [], m
    # `split` and not slices: a slice's backward fills a whole tensor.
    for q_c, k_c, v_c, log_c in zip(*pieces, logs, strict=True):
        out, final, _ = _masked(_Problem(q_c, k_c, v_c, log_c, state, top).wide())
        state, top = _join(final), final.log_scale
        outs.append(out.to(v.dtype))
    if top is not None and last is not None:
        state = state * (top - last).nan_to_num().exp()[:, None, None]
    return torch.cat(outs, 1), state


# Streaming


class CausalAttentionStream:
    """Causal attention one token, or one block of tokens, at a time: all that is kept is the state.

    A token costs the same at every position. The stream is for generation: it records nothing for
    backward (:func:`causal_linear_attention` with an `initial_state` does).

    Parameters
    ----------
    initial_state
        Where to go on from; empty if not given. It is copied.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.causal_recurrence import CausalAttentionStream
    >>> stream = CausalAttentionStream()
    >>> one = torch.ones(4)
    >>> [float(stream.step(one, one, torch.tensor([x]))) for x in (1.0, 2.0, 6.0)]
    [1.0, 1.5, 3.0]
    """

    def __init__(self, initial_state: CausalState | None = None) -> None:
        if initial_state is not None:
            _check_state("initial_state", initial_state)
        self._state = None if initial_state is None else _copied(initial_state)
        self._checked_kind: _Kind | None = None

    @property
    def state(self) -> CausalState | None:
        """The state so far, a copy that later steps leave alone; None before the first token."""
        return None if self._state is None else _copied(self._state)

    @torch.no_grad()
    def step(
        self, phi_q: Tensor, phi_k: Tensor, v: Tensor, log_scale_k: Tensor | None = None
    ) -> Tensor:
        """Take in one token, and return its output.

        Parameters
        ----------
        phi_q, phi_k, v, log_scale_k
            ``(..., r)``, ``(..., r)``, ``(..., M)`` and, where there are log factors, ``(...)``.

        Returns
        -------
        Tensor
            ``(..., M)``.

        Raises
        ------
        TypeError, ValueError, ZeroDenominatorError
            As :func:`causal_linear_attention` does. The state is then what it was. Only where a
            product of key and value itself overflows is it the next token that is refused.
        """
        # Descriptions that passed once need no second look: the state's stays what it is.
        kind = _kind(phi_q, phi_k, v)
        if kind is None or kind != self._checked_kind:
            self._check_token(phi_q, phi_k, v)
            self._checked_kind = None if self._state is None else kind
        log_k = None
        if log_scale_k is not None:
            log_k = floating("log_scale_k", log_scale_k, at_least=0)[..., None]
        state = self._state
        if state is None or log_k is not None or state.log_scale is not None:
            rows = [x[..., None, :] for x in (phi_q, phi_k, v)]
            return self.extend(rows[0], rows[1], rows[2], log_k)[..., 0, :]
        # The plain case by hand, since one call of `extend` costs as much as several tokens.
        q, k, v_ = phi_q, phi_k, v
        if k.dtype != state.S.dtype:
            q, k, v_ = widened(q), widened(k), widened(v)
        weight = (q * k).sum(-1, keepdim=True)
        numerator = (q[..., None, :] @ state.S)[..., 0, :] + weight * v_
        denominator = (q * state.Z).sum(-1, keepdim=True) + weight
        out = (numerator / denominator).to(v.dtype)
        if values_are_checked():
            total = out.sum(dtype=k.dtype) + denominator.sum()
            if not isfinite(total.item()):
                # Whatever it is, `extend` finds it and says so.
                rows = [x[..., None, :] for x in (phi_q, phi_k, v)]
                return self.extend(rows[0], rows[1], rows[2])[..., 0, :]
        state.S.addcmul_(k[..., :, None], v_[..., None, :])
        state.Z.add_(k)
        return out

    def _check_token(self, phi_q: Tensor, phi_k: Tensor, v: Tensor) -> None:
        """Check what `extend` would not get to see."""
        q, k, v = floating("phi_q", phi_q), floating("phi_k", phi_k), floating("v", v)
        same_kind(phi_q=q, phi_k=k, v=v)
        if q.shape != k.shape:
            raise ValueError(
                f"phi_k must have the shape of phi_q, {shape_of(q)}, got shape {shape_of(k)}"
            )
        if v.shape[:-1] != k.shape[:-1]:
            raise ValueError(
                f"v must have the leading dimensions of phi_k, {tuple(k.shape[:-1])}, "
                f"got shape {shape_of(v)}"
            )
        state = self._state
        if state is not None and (*k.shape, v.shape[-1]) != tuple(state.S.shape):
            raise ValueError(
                f"phi_k and v must fit the state's S, {shape_of(state.S)}, "
                f"got shapes {shape_of(k)} and {shape_of(v)}"
            )
        if state is not None and _wide_dtype(k.dtype) != state.S.dtype:
            raise TypeError(f"phi_k must fit the state's dtype, {state.S.dtype}, got {k.dtype}")
        if state is not None and k.device != state.S.device:
            raise ValueError(f"phi_k must be on the state's device, {state.S.device}")
        if k.shape[-1] == 0:
            raise ValueError(f"phi_k must have at least one feature, got shape {shape_of(k)}")

    @torch.no_grad()
    def extend(
        self, phi_q: Tensor, phi_k: Tensor, v: Tensor, log_scale_k: Tensor | None = None
    ) -> Tensor:
        """Take in a block of tokens, which may be empty, and return their outputs.

        Parameters
        ----------
        phi_q, phi_k, v, log_scale_k
            ``(..., N, r)``, ``(..., N, r)``, ``(..., N, M)`` and, where there are log factors,
            ``(..., N)``.

        Returns
        -------
        Tensor
            ``(..., N, M)``.

        Raises
        ------
        TypeError, ValueError, ZeroDenominatorError
            As :func:`causal_linear_attention` does. The state is then what it was.
        """
        result = causal_linear_attention(
            phi_q,
            phi_k,
            v,
            log_scale_k=log_scale_k,
            initial_state=self._state,
            output_final_state=True,
        )
        assert isinstance(result, tuple)
        # Copied, so that [S, Z] comes apart into two tensors that `step` can change in place.
        self._state = _copied(result[1])
        return result[0]


#: What the description of a token's tensors tells: shape, dtype and device of each.
_Kind = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


def _kind(*tensors: object) -> _Kind | None:
    """The description of tensors, all that :meth:`CausalAttentionStream._check_token` looks at."""
    found = [(x.shape, x.dtype, x.device) for x in tensors if isinstance(x, Tensor)]
    return tuple(found) if len(found) == len(tensors) else None


def _copied(state: CausalState) -> CausalState:
    # What inference mode makes could not be changed in place after it.
    with torch.inference_mode(False):
        return _each(state, lambda x: x.detach().clone())


# What it costs


def causal_attention_cost(
    N: int, r: int, M: int, *, form: str = "chunked", chunk_size: int = 64
) -> Cost:
    r"""Count the operations of :func:`causal_linear_attention`, the features given.

    Without value checks and log factors; the state after the last token included. Multiply-adds:

    - masked :math:`N^2 (r + M + 1) + 2 N r (M + 1)`;
    - recurrent and scan :math:`N r (M + 1)`, and as many elementwise products for the states;
    - chunked :math:`N [C (r + M) + 2 r M]`, with N rounded up to whole chunks, of
      :math:`\min(C, N)` tokens. Denominators are sums apart, elementwise operations.

    Parameters
    ----------
    N
        Tokens.
    r, M
        Length of a feature vector, size of a value.
    form, chunk_size
        As in :func:`causal_linear_attention`.

    Returns
    -------
    Cost
        For one head and one sequence.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1, or there is no such form.

    Examples
    --------
    >>> from dlchecked.causal_recurrence import causal_attention_cost
    >>> causal_attention_cost(1024, 64, 64, form="recurrent").multiply_adds
    4259840
    """
    N, r, M = (integer(name, x, at_least=1) for name, x in (("N", N), ("r", r), ("M", M)))
    C = min(integer("chunk_size", chunk_size, at_least=1), N)
    _check_form(form)
    state = r * (M + 1)
    if form == "masked":
        products = N * N * (r + M + 1) + 2 * N * state
        return Cost(products, N * (M + 1) + state + N * M)
    if form == "chunked":
        chunks = ceil(N / C)
        rows = chunks * C
        sums = rows * (C + 3 * r + 1)
        return Cost(rows * (C * (r + M) + 2 * r * M), sums + 2 * rows * M + chunks * state)
    # A product for each token's state, an addition for each state combined with another.
    combined = N if form == "recurrent" else _combined_in_scan(N + 1)
    return Cost(N * state, (N + combined) * state + N * M)


def _combined_in_scan(length: int) -> int:
    """How many states the scan combines in its ceil(log2 length) rounds."""
    return sum(length - 2**t for t in range((length - 1).bit_length()))


# The door


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _checked_problem(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    log_scale_k: Tensor | None,
    initial_state: CausalState | None,
) -> _Problem:
    """Check everything, and make one dimension of all the leading ones."""
    q = floating("phi_q", phi_q, at_least=2)
    k, v = _keys_and_values(phi_k, v)
    same_kind(phi_q=q, phi_k=k)
    if q.shape != k.shape:
        raise ValueError(
            f"phi_k must have the shape of phi_q, {shape_of(q)}, got shape {shape_of(k)}"
        )
    log_k, state = _log_factors(log_scale_k, k), initial_state
    if state is None:
        state = empty_state(k, v, stabilised=log_k is not None)
    else:
        _check_state("initial_state", state)
        _check_state_fits("initial_state", state, empty_state(k, v), "phi_k and v")
    if log_k is None and state.log_scale is not None:
        log_k = state.Z.new_zeros(k.shape[:-1])
    m = None if log_k is None else _log_scale(state)
    heads, N = prod(q.shape[:-2]), q.shape[-2]
    q, k, v = (x.reshape(heads, N, x.shape[-1]) for x in (q, k, v))
    return _Problem(
        q,
        k,
        v,
        None if log_k is None else log_k.reshape(heads, N),
        _join(state).reshape(heads, q.shape[-1], v.shape[-1] + 1),
        None if m is None else m.reshape(heads),
    )


def _check_form(form: object) -> None:
    forms = ["chunked", *_OTHER_FORMS]
    if form not in forms:
        raise ValueError(f"form must be one of {', '.join(forms)}, got {form!r}")


def _keys_and_values(phi_k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    k, v = floating("phi_k", phi_k, at_least=2), floating("v", v, at_least=2)
    same_kind(phi_k=k, v=v)
    if v.shape[:-1] != k.shape[:-1]:
        rows = tuple(k.shape[:-1])
        raise ValueError(f"v must have one row for each key, {rows}, got shape {shape_of(v)}")
    if k.shape[-1] == 0:
        raise ValueError(f"phi_k must have at least one feature, got shape {shape_of(k)}")
    if v.shape[-1] == 0:
        raise ValueError(f"v must have a size of at least 1, got shape {shape_of(v)}")
    return k, v


def _log_factors(log_scale_k: Tensor | None, k: Tensor) -> Tensor | None:
    """Check the log factors; return them in float32 at least."""
    if log_scale_k is None:
        return None
    log_k = floating("log_scale_k", log_scale_k)
    if log_k.dtype not in (k.dtype, _wide_dtype(k.dtype)):
        raise TypeError(
            f"log_scale_k must have the dtype of phi_k, {k.dtype}, or {_wide_dtype(k.dtype)}, "
            f"got {log_k.dtype}"
        )
    if log_k.device != k.device:
        raise ValueError(
            f"log_scale_k must be on the device of phi_k, {k.device}, got {log_k.device}"
        )
    if log_k.shape != k.shape[:-1]:
        raise ValueError(
            f"log_scale_k must have one number for each key, {tuple(k.shape[:-1])}, "
            f"got shape {shape_of(log_k)}"
        )
    if values_are_checked() and bool((log_k.isnan() | log_k.isposinf()).any()):
        raise ValueError("log_scale_k must be finite or -inf, but some of it is NaN or +inf")
    return widened(log_k)


def _check_state(name: str, state: object) -> None:
    """Demand a state whose parts fit together."""
    if not isinstance(state, CausalState):
        raise TypeError(f"{name} must be a CausalState, got {type(state).__name__}")
    parts = {f"{name}.S": floating(f"{name}.S", state.S, at_least=2)}
    parts[f"{name}.Z"] = floating(f"{name}.Z", state.Z)
    if state.Z.shape != state.S.shape[:-1]:
        raise ValueError(
            f"{name}.Z must have shape {tuple(state.S.shape[:-1])}, got {shape_of(state.Z)}"
        )
    if state.log_scale is not None:
        log_scale = floating(f"{name}.log_scale", state.log_scale, at_least=0)
        parts[f"{name}.log_scale"] = log_scale
        if log_scale.shape != state.S.shape[:-2]:
            raise ValueError(
                f"{name}.log_scale must have shape {tuple(state.S.shape[:-2])}, "
                f"got {shape_of(log_scale)}"
            )
    same_kind(**parts)


def _check_state_fits(name: str, state: CausalState, like: CausalState, what: str) -> None:
    """Demand the shape, dtype and device that `like` has."""
    if state.S.shape != like.S.shape:
        raise ValueError(
            f"{name}.S must have shape {shape_of(like.S)}, to fit {what}, got {shape_of(state.S)}"
        )
    if state.S.dtype != like.S.dtype:
        raise TypeError(
            f"{name}.S must have dtype {like.S.dtype}, to fit {what}, got {state.S.dtype}"
        )
    if state.S.device != like.S.device:
        raise ValueError(f"{name}.S must be on {like.S.device}, got {state.S.device}")


def _demand_denominators(denominators: Tensor) -> None:
    """Raise for the first denominator ``(..., N)`` that is zero."""
    if not values_are_checked():
        return
    zero = denominators == 0
    if bool(zero.any()):
        first = tuple(zero.nonzero()[0].tolist())
        row = f"row {first[0]}" if len(first) == 1 else f"row {first}"
        raise ZeroDenominatorError(
            f"the denominator of {row} is zero, so there is no average of the values "
            f"({int(zero.sum())} of {zero.numel()} rows)"
        )


def _demand_finite(
    problem: _Problem, out: Tensor, final: CausalState, denominators: Tensor
) -> None:
    """Find out what is not finite, if anything; one sum tells whether to look."""
    if not values_are_checked():
        return
    wide = final.S.dtype
    total = out.detach().sum(dtype=wide) + final.S.detach().sum() + final.Z.detach().sum()
    # An output is finite, and 0, where its denominator alone has overflown.
    if isfinite((total + denominators.detach().sum()).item()):
        return
    for name, x in zip(("phi_q", "phi_k", "v"), problem, strict=False):
        finite(name, x)  # type: ignore[arg-type]
    finite("initial_state", problem.state)
    if problem.m is not None and bool((problem.m.isnan() | problem.m.isposinf()).any()):
        raise ValueError("initial_state.log_scale must be finite or -inf")
    finite("the output", out.detach())
    finite("the denominators", denominators.detach())
    finite("the final state", final.S.detach())
    finite("the final state", final.Z.detach())
