r"""Attention from any similarity, and linear attention from any feature map (hw9 6).

Attention with a similarity :math:`\operatorname{sim}` averages the values,

.. math::

   V'_i = \frac{\sum_j \operatorname{sim}(q_i, k_j)\, v_j}{\sum_j \operatorname{sim}(q_i, k_j)} .

Where :math:`\operatorname{sim}(q, k) = \phi(q) \cdot \phi(k)`, both sums over the keys can be
formed once for all queries. Every function computes in float32 or better and returns the dtype it
was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    integer,
    same_kind,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.counting import Cost

__all__ = [
    "ZeroDenominatorError",
    "linear_attention",
    "linear_attention_cost",
    "linear_attention_saved",
    "quadratic_attention",
    "quadratic_attention_cost",
    "quadratic_attention_saved",
    "quadratic_crossover",
    "quadratic_feature_dimension",
    "quadratic_features",
    "quadratic_features_cost",
    "quadratic_similarity",
    "similarity_attention",
    "softmax_attention_cost",
    "softmax_attention_saved",
]


class ZeroDenominatorError(ValueError):
    """The similarities of a query add up to zero, so there is no average of the values.

    Raised also where the sum is not exactly 0 but so small, beside the numbers that it was added
    up from, that rounding alone explains it.
    """


# The general form


def similarity_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    similarity: Callable[[Tensor, Tensor], Tensor],
    attn_mask: Tensor | None = None,
) -> Tensor:
    r"""Average the values with weights proportional to a similarity (hw9 6, equation 3).

    This is the quadratic form: it builds all ``N x S`` similarities.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    v
        Values, ``(..., S, M)``.
    similarity
        Called with `q` and `k` in float32 or better; returns one number for each pair,
        ``(..., N, S)``. It may be negative and need not be symmetric.
    attn_mask
        Boolean, True where a key takes part. It must broadcast to ``(..., N, S)``. A hidden key is
        missing from the numerator and from the denominator.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`. If no similarity is negative, each row lies in the
        convex hull of the values. A query that the mask leaves no key gets zeros.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor, mixed dtypes, a `similarity` that is no
        function or returns no such tensor, a mask that is not boolean.
    ValueError
        For shapes or devices that do not fit, or (see :func:`dlchecked.arguments.value_checks`) an
        input, similarity or output that is not finite.
    ZeroDenominatorError
        If the similarities of a query add up to zero. With value checks off, such a query gets
        infinite values or NaN.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.kernel_attention import similarity_attention
    >>> q, k, v = torch.zeros(1, 2), torch.ones(2, 2), torch.tensor([[1.0], [3.0]])
    >>> similarity_attention(q, k, v, similarity=lambda q, k: torch.exp(q @ k.mT))
    tensor([[2.]])
    """
    q, k, v = attention_inputs(q, k, v)
    _demand_finite(q=q, k=k, v=v)
    weights = _similarities(similarity, widened(q), widened(k))
    empty = None
    if attn_mask is not None:
        mask = _bool_mask("attn_mask", attn_mask, weights)
        weights = weights.masked_fill(~mask, 0.0)
        empty = (~mask).all(-1, keepdim=True).expand(*weights.shape[:-1], 1)
    denominator = weights.sum(-1, keepdim=True)
    if values_are_checked():
        total = weights.detach().abs().sum(-1, keepdim=True)
        _demand_denominators(denominator.detach(), total, empty)
    return _ratio(weights @ widened(v), denominator, empty).to(q.dtype)


def _similarities(similarity: Callable[[Tensor, Tensor], Tensor], q: Tensor, k: Tensor) -> Tensor:
    """Call a similarity, and check what it returns."""
    if not callable(similarity):
        raise TypeError(f"similarity must be callable, got {type(similarity).__name__}")
    weights = similarity(q, k)
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"similarity must return a real floating-point tensor, got {kind}")
    expected = (*q.shape[:-1], k.shape[-2])
    if weights.shape != expected:
        raise ValueError(
            f"similarity must return one number for each pair, {tuple(expected)}, "
            f"got shape {shape_of(weights)}"
        )
    if weights.device != q.device:
        raise ValueError(f"similarity must stay on the device {q.device}, got {weights.device}")
    finite("similarity's result", weights)
    return weights.to(q.dtype)


def quadratic_similarity(q: Tensor, k: Tensor, *, offset: float = 1.0) -> Tensor:
    r"""Compute the quadratic kernel :math:`(q \cdot k + c)^2` of every pair (hw9 6(b)(i)).

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    offset
        The number c, at least 0. With 0 it is the homogeneous kernel.

    Returns
    -------
    Tensor
        One number of at least 0 for each pair, ``(..., N, S)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        For tensors that do not fit, an offset that is negative or not finite, or (see
        :func:`dlchecked.arguments.value_checks`) an input or result that is not finite: float16
        ends at 65504.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.kernel_attention import quadratic_similarity
    >>> quadratic_similarity(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
    tensor([[16.,  0.]])
    """
    q, k, _ = attention_inputs(q, k, k)
    _demand_finite(q=q, k=k)
    result = (widened(q) @ widened(k).mT + _offset(offset)).square().to(q.dtype)
    finite("the quadratic similarity", result)
    return result


# The feature map of the quadratic kernel


def quadratic_feature_dimension(
    dimension: int, *, offset: float = 1.0, symmetric: bool = True
) -> int:
    r"""Count the features of the quadratic kernel.

    With :math:`n = D + 1` for a positive offset and :math:`n = D` without one, the redundant map
    has :math:`n^2` features and the symmetric one :math:`n (n + 1) / 2`.

    Parameters
    ----------
    dimension
        The size D of queries and keys.
    offset
        The number c of the kernel :math:`(q \cdot k + c)^2`, at least 0.
    symmetric
        Whether each product of two coordinates is listed once.

    Returns
    -------
    int
        The length r of a feature vector.

    Raises
    ------
    TypeError, ValueError
        If `dimension` is no integer of at least 1, `offset` negative or not finite, or
        `symmetric` no bool.

    Examples
    --------
    >>> from dlchecked.kernel_attention import quadratic_feature_dimension
    >>> quadratic_feature_dimension(64), quadratic_feature_dimension(64, symmetric=False)
    (2145, 4225)
    """
    size = integer("dimension", dimension, at_least=1) + (_offset(offset) > 0)
    return size * (size + 1) // 2 if flag("symmetric", symmetric) else size**2


def quadratic_features(x: Tensor, *, offset: float = 1.0, symmetric: bool = True) -> Tensor:
    r"""Map queries or keys to the features of the quadratic kernel (hw9 6(b)(ii)).

    With :math:`u = (x_1, \dots, x_D, \sqrt c)`, or :math:`u = x` where :math:`c = 0`, the
    redundant features are all products :math:`u_i u_j`, and the symmetric ones are
    :math:`u_i^2` and :math:`\sqrt 2\, u_i u_j` for :math:`i < j`.

    Parameters
    ----------
    x
        Queries or keys, ``(..., N, D)``.
    offset
        The number c of the kernel :math:`(q \cdot k + c)^2`, at least 0.
    symmetric
        Whether each product of two coordinates is listed once, with the weight :math:`\sqrt 2`
        where the two differ.

    Returns
    -------
    Tensor
        ``(..., N, r)`` with r from :func:`quadratic_feature_dimension`, in the dtype of `x`. The
        redundant products come row by row. Of the symmetric ones the squares come first, then the
        pairs (1, 2), (1, 3), and so on. In memory the features of one kind lie together.

    Raises
    ------
    TypeError, ValueError
        If `x` is no floating-point tensor of at least one dimension and coordinate, `offset`
        negative or not finite, `symmetric` no bool, or (see
        :func:`dlchecked.arguments.value_checks`) an input or a feature not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.kernel_attention import quadratic_features
    >>> quadratic_features(torch.tensor([3.0, 2.0]))
    tensor([9.0000, 4.0000, 1.0000, 8.4853, 4.2426, 2.8284])
    >>> quadratic_features(torch.tensor([3.0, 2.0]), offset=0.0, symmetric=False)
    tensor([9., 6., 6., 4.])
    """
    x = floating("x", x)
    quadratic_feature_dimension(x.shape[-1], offset=offset, symmetric=symmetric)
    finite("x", x)
    rows = widened(x).unsqueeze(0) if x.dim() == 1 else widened(x)
    # One coordinate of all vectors lies together in memory: three to four times faster.
    u = rows.mT
    if offset > 0:
        root = math.sqrt(offset)
        root = root if root <= torch.finfo(u.dtype).max else math.inf
        u = torch.cat([u, u.new_full((*u.shape[:-2], 1, u.shape[-1]), root)], -2)
    u = u.contiguous()
    products = _each_product_once(u) if symmetric else _all_products(u)
    result = products.mT.to(x.dtype)
    finite("the quadratic features", result)
    return result.squeeze(0) if x.dim() == 1 else result


def _all_products(u: Tensor) -> Tensor:
    """Multiply each row of u with each, (..., n, N) to (..., n n, N)."""
    return (u.unsqueeze(-2) * u.unsqueeze(-3)).flatten(-3, -2)


def _each_product_once(u: Tensor) -> Tensor:
    """Square each row, and multiply each two different ones once, with the weight sqrt(2)."""
    weighted = math.sqrt(2) * u[..., :-1, :]
    mixed = (weighted[..., i : i + 1, :] * u[..., i + 1 :, :] for i in range(u.shape[-2] - 1))
    return torch.cat([u * u, *mixed], -2)


# Linear attention


def linear_attention(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    *,
    log_scale_k: Tensor | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    r"""Attention from features, in the associative order (hw9 6(d), equation 5).

    .. math::

       V'_i = \frac{\phi(q_i)^T \sum_j e^{s_j} \phi(k_j)\, v_j^T}
                   {\phi(q_i)^T \sum_j e^{s_j} \phi(k_j)}

    The two sums are formed once, so time and memory are linear in N and S.

    Parameters
    ----------
    phi_q
        Features of the queries, ``(..., N, r)``.
    phi_k
        Features of the keys, ``(..., S, r)``, with the leading dimensions of `phi_q`; S >= 1.
    v
        Values, ``(..., S, M)``.
    log_scale_k
        The exponents s, ``(..., S)``, of a real floating-point dtype; zeros if not given. Their
        largest is subtracted first, which cancels in the ratio, so that nothing overflows.
    key_mask
        Boolean, ``(..., S)``, True where a key takes part. A hidden key is missing from the
        numerator and from the denominator; its numbers must be finite all the same.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `v`. Negative denominators are allowed. Where the mask
        leaves no key, zeros.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor, mixed dtypes, a mask that is not boolean.
    ValueError
        For shapes or devices that do not fit, or (see :func:`dlchecked.arguments.value_checks`) an
        input or output that is not finite.
    ZeroDenominatorError
        If a denominator is zero, or so small that rounding alone explains it. With value checks
        off, such a query gets infinite values, NaN or noise.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.kernel_attention import linear_attention
    >>> phi_q, phi_k = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    >>> linear_attention(phi_q, phi_k, torch.tensor([[0.0], [1.0]]))
    tensor([[0.7500]])
    """
    phi_q, phi_k, v = _feature_inputs(phi_q, phi_k, v)
    scale = _key_scale(phi_k, log_scale_k, key_mask)
    features_q, features_k, values = widened(phi_q), widened(phi_k), widened(v)
    empty = None
    if scale is None:
        normaliser = features_k.sum(-2).unsqueeze(-1)
    else:
        # The values carry the scale, and not the features: M numbers a key instead of r.
        scale = scale.unsqueeze(-1)
        values, normaliser = values * scale, features_k.mT @ scale
    if key_mask is not None:
        none_left = (~key_mask).all(-1)[..., None, None]
        empty = none_left.expand(*phi_q.shape[:-1], 1)
    numerator = features_q @ (features_k.mT @ values)
    denominator = features_q @ normaliser
    if values_are_checked():
        with torch.no_grad():
            _demand_linear_denominators(denominator, features_q, features_k, scale, empty)
    return _ratio(numerator, denominator, empty).to(v.dtype)


def quadratic_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    offset: float = 1.0,
    symmetric: bool = True,
    key_mask: Tensor | None = None,
) -> Tensor:
    r"""Attention with the quadratic kernel, by its features, in time linear in N (hw9 6(d)).

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    v
        Values, ``(..., S, M)``.
    offset, symmetric
        As in :func:`quadratic_features`.
    key_mask
        As in :func:`linear_attention`.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`. Features and sums are in float32 or better.

    Raises
    ------
    TypeError, ValueError, ZeroDenominatorError
        As :func:`quadratic_features` and :func:`linear_attention` do.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.kernel_attention import quadratic_attention
    >>> q, k, v = torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> quadratic_attention(q, k, v)
    tensor([[0.8000]])
    """
    q, k, v = attention_inputs(q, k, v)
    _demand_finite(q=q, k=k)
    phi_q, phi_k = (
        quadratic_features(widened(x), offset=offset, symmetric=symmetric) for x in (q, k)
    )
    return linear_attention(phi_q, phi_k, widened(v), key_mask=key_mask).to(q.dtype)


def _feature_inputs(phi_q: object, phi_k: object, v: object) -> tuple[Tensor, Tensor, Tensor]:
    """Check features and values at the door of linear attention."""
    queries = floating("phi_q", phi_q, at_least=2)
    keys = floating("phi_k", phi_k, at_least=2)
    values = floating("v", v, at_least=2)
    same_kind(phi_q=queries, phi_k=keys, v=values)
    if keys.shape[:-2] != queries.shape[:-2]:
        raise ValueError(
            f"phi_k must have the leading dimensions of phi_q, {tuple(queries.shape[:-2])}, "
            f"got shape {shape_of(keys)}"
        )
    if keys.shape[-1] != queries.shape[-1]:
        raise ValueError(
            f"phi_k must have as many features as phi_q, r = {queries.shape[-1]}, "
            f"got shape {shape_of(keys)}"
        )
    if values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(
            f"v must have one row for each key, {tuple(keys.shape[:-1])}, "
            f"got shape {shape_of(values)}"
        )
    if keys.shape[-2] == 0:
        raise ValueError(f"phi_k must hold at least one key, got shape {shape_of(keys)}")
    if keys.shape[-1] == 0:
        raise ValueError(f"phi_q must have at least one feature, got shape {shape_of(queries)}")
    _demand_finite(phi_q=queries, phi_k=keys, v=values)
    return queries, keys, values


def _key_scale(phi_k: Tensor, log_scale_k: Tensor | None, key_mask: Tensor | None) -> Tensor | None:
    """Weigh each key: e to the power of its log scale less the largest one, and 0 if hidden."""
    dtype = torch.promote_types(phi_k.dtype, torch.float32)
    if key_mask is not None and not isinstance(key_mask, Tensor):
        raise TypeError(f"key_mask must be a torch.Tensor, got {type(key_mask).__name__}")
    if key_mask is not None:
        _demand_rows("key_mask", key_mask, phi_k)
        if key_mask.dtype != torch.bool:
            raise TypeError(f"key_mask must be boolean, got {key_mask.dtype}")
    if log_scale_k is None:
        return None if key_mask is None else key_mask.to(dtype)
    _demand_rows("log_scale_k", floating("log_scale_k", log_scale_k), phi_k)
    finite("log_scale_k", log_scale_k)
    exponents = widened(log_scale_k)
    if key_mask is not None:
        exponents = exponents.masked_fill(~key_mask, -math.inf)
    # The largest cancels in the ratio, so its derivative would be zero. Of no keys it is -inf.
    largest = exponents.detach().amax(-1, keepdim=True)
    largest = largest.masked_fill(largest.isneginf(), 0.0)
    return torch.exp(exponents - largest).to(dtype)


def _demand_rows(name: str, tensor: Tensor, phi_k: Tensor) -> None:
    """Demand one number for each key, on the keys' device."""
    if tensor.shape != phi_k.shape[:-1]:
        raise ValueError(
            f"{name} must have one entry for each key, {tuple(phi_k.shape[:-1])}, "
            f"got shape {shape_of(tensor)}"
        )
    if tensor.device != phi_k.device:
        raise ValueError(
            f"{name} must be on the device of phi_k, {phi_k.device}, got {tensor.device}"
        )


# Denominators


def _ratio(numerator: Tensor, denominator: Tensor, empty: Tensor | None) -> Tensor:
    """Divide; zeros, with zero gradients, for queries without keys."""
    if empty is not None:
        denominator = denominator.masked_fill(empty, 1.0)
    # An infinite denominator alone would give zeros, and nobody would notice.
    finite("the denominator", denominator.detach())
    result = numerator / denominator
    finite("the output", result.detach())
    return result


def _demand_linear_denominators(
    denominator: Tensor,
    phi_q: Tensor,
    phi_k: Tensor,
    scale: Tensor | None,
    empty: Tensor | None,
) -> None:
    """Compare denominators with what they were added up from: the terms' absolute values."""
    slack: Tensor | None = None
    if scale is None:
        sums: Tensor = torch.linalg.vector_norm(phi_k, ord=1, dim=-2).unsqueeze(-1)
    else:
        sums = phi_k.abs().mT @ scale
        # A product adds up the keys one by one, and its rounding errors grow with their number; a
        # sum adds up halves. Where the two differ by as much as is left, nothing is left.
        by_halves = phi_q @ (phi_k * scale).sum(-2).unsqueeze(-1)
        slack = 2 * (denominator - by_halves).abs()
    # The Cauchy-Schwarz bound needs no copy of phi_q, and nearly always settles it.
    bound = torch.linalg.vector_norm(phi_q, dim=-1, keepdim=True)
    bound = bound * torch.linalg.vector_norm(sums, dim=-2, keepdim=True)
    left = denominator.abs() if slack is None else denominator.abs() - slack
    if not bool((left > _negligible(bound)).all()):
        _demand_denominators(denominator, phi_q.abs() @ sums, empty, slack)


def _demand_denominators(
    denominator: Tensor, total: Tensor, empty: Tensor | None, slack: Tensor | None = None
) -> None:
    """Raise for the first row whose denominator is lost beside the sum of absolute values."""
    rounding = _negligible(total) if slack is None else _negligible(total) + slack
    lost = (denominator.abs() <= rounding) & total.isfinite()
    if empty is not None:
        lost = lost & ~empty
    if not bool(lost.any()):
        return
    where = lost.squeeze(-1).nonzero()
    first = tuple(where[0].tolist())
    value, size = (float(t.squeeze(-1)[first]) for t in (denominator, total))
    row = f"row {first[0]}" if len(first) == 1 else f"row {first}"
    raise ZeroDenominatorError(
        f"the denominator of {row} is {value:.3g}, the sum of terms whose absolute values add up "
        f"to {size:.3g}: zero up to rounding, so there is no average of the values "
        f"({len(where)} of {lost.numel()} rows)"
    )


def _negligible(total: Tensor) -> Tensor:
    """Return what rounding alone can leave of a sum of terms that cancel."""
    return 4 * torch.finfo(total.dtype).eps * total


# What it costs


def softmax_attention_cost(N: int, D: int, M: int, *, S: int | None = None) -> Cost:
    r"""Count the operations of softmax attention, written out (hw9 6(c)).

    Counted is :func:`dlchecked.scaled_dot_product.scaled_dot_product_attention` without value
    checks: queries scaled, scores, softmax, average. Multiply-adds: :math:`N S (D + M)`.

    Parameters
    ----------
    N
        Queries.
    D, M
        Sizes of a key and of a value.
    S
        Keys; N if not given.

    Returns
    -------
    Cost
        For one head and one sequence; they add up.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.kernel_attention import softmax_attention_cost
    >>> softmax_attention_cost(1024, 64, 64).multiply_adds
    134217728
    """
    N, D, M, S = _sizes(N=N, D=D, M=M, S=S)
    return Cost(N * S * (D + M), N * D + 4 * N * S, N * S)


def linear_attention_cost(N: int, r: int, M: int, *, S: int | None = None) -> Cost:
    r"""Count the operations of :func:`linear_attention`, the features given (hw9 6(d)).

    Without value checks, scale and mask. Multiply-adds: :math:`S r M` for the state,
    :math:`N r M` for the numerators, :math:`N r` for the denominators.

    Parameters
    ----------
    N
        Queries.
    r, M
        Length of a feature vector, size of a value.
    S
        Keys; N if not given.

    Returns
    -------
    Cost
        For one head and one sequence.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.kernel_attention import linear_attention_cost
    >>> linear_attention_cost(1024, 64, 64).multiply_adds
    8454144
    """
    N, r, M, S = _sizes(N=N, r=r, M=M, S=S)
    return Cost(r * (S * M + N * M + N), S * r + N * M)


def quadratic_features_cost(N: int, D: int, *, offset: float = 1.0, symmetric: bool = True) -> Cost:
    """Count the operations of :func:`quadratic_features`: no product of matrices among them.

    Parameters
    ----------
    N
        Vectors.
    D
        Their size.
    offset, symmetric
        As in :func:`quadratic_features`.

    Returns
    -------
    Cost
        One elementwise operation a feature, and for the symmetric map one for each coordinate that
        is multiplied by the square root of 2.

    Raises
    ------
    TypeError, ValueError
        As :func:`quadratic_features` does, and if a number is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.kernel_attention import quadratic_features_cost
    >>> quadratic_features_cost(10, 64)
    Cost(multiply_adds=0, elementwise=22090, transcendental=0)
    """
    r = quadratic_feature_dimension(D, offset=offset, symmetric=symmetric)
    weighted = D + (offset > 0) - 1 if symmetric else 0
    return Cost(elementwise=integer("N", N, at_least=1) * (r + weighted))


def quadratic_attention_cost(
    N: int, D: int, M: int, *, S: int | None = None, offset: float = 1.0, symmetric: bool = True
) -> Cost:
    """Count the operations of :func:`quadratic_attention`, features included (hw9 6(d)).

    Parameters
    ----------
    N
        Queries.
    D, M
        Sizes of a key and of a value.
    S
        Keys; N if not given.
    offset, symmetric
        As in :func:`quadratic_features`.

    Returns
    -------
    Cost
        For one head and one sequence, without value checks.

    Raises
    ------
    TypeError, ValueError
        As :func:`quadratic_features_cost` does.

    Examples
    --------
    >>> from dlchecked.kernel_attention import quadratic_attention_cost
    >>> quadratic_attention_cost(1024, 64, 64).multiply_adds
    283345920
    """
    N, D, M, S = _sizes(N=N, D=D, M=M, S=S)
    r = quadratic_feature_dimension(D, offset=offset, symmetric=symmetric)
    features = quadratic_features_cost(N + S, D, offset=offset, symmetric=symmetric)
    return features + linear_attention_cost(N, r, M, S=S)


def softmax_attention_saved(N: int, D: int, M: int, *, S: int | None = None) -> int:
    r"""Count the numbers that softmax attention, written out, keeps for backward (hw9 6(c)).

    Parameters
    ----------
    N
        Queries.
    D, M
        Sizes of a key and of a value.
    S
        Keys; N if not given.

    Returns
    -------
    int
        :math:`N D + S D + S M + N S`: scaled queries, keys, values and weights.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.kernel_attention import softmax_attention_saved
    >>> softmax_attention_saved(1024, 64, 64)
    1245184
    """
    N, D, M, S = _sizes(N=N, D=D, M=M, S=S)
    return N * D + S * D + S * M + N * S


def linear_attention_saved(N: int, r: int, M: int, *, S: int | None = None) -> int:
    r"""Count the numbers that :func:`linear_attention` keeps for backward (hw9 6(d)).

    Parameters
    ----------
    N
        Queries.
    r, M
        Length of a feature vector, size of a value.
    S
        Keys; N if not given.

    Returns
    -------
    int
        :math:`(N + S) r` for the features, :math:`S M` for the values, :math:`r (M + 1)` for the
        two sums over the keys, :math:`N (M + 1)` for numerators and denominators.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.kernel_attention import linear_attention_saved
    >>> linear_attention_saved(1024, 64, 64)
    267328
    """
    N, r, M, S = _sizes(N=N, r=r, M=M, S=S)
    return (N + S) * r + S * M + r * (M + 1) + N * (M + 1)


def quadratic_attention_saved(
    N: int, D: int, M: int, *, S: int | None = None, offset: float = 1.0, symmetric: bool = True
) -> int:
    """Count the numbers that :func:`quadratic_attention` keeps for backward (hw9 6(d)).

    Parameters
    ----------
    N
        Queries.
    D, M
        Sizes of a key and of a value.
    S
        Keys; N if not given.
    offset, symmetric
        As in :func:`quadratic_features`.

    Returns
    -------
    int
        What :func:`linear_attention_saved` says, and the coordinates that the features are products
        of: for the symmetric map also those multiplied by the square root of 2.

    Raises
    ------
    TypeError, ValueError
        As :func:`quadratic_features_cost` does.

    Examples
    --------
    >>> from dlchecked.kernel_attention import quadratic_attention_saved
    >>> quadratic_attention_saved(1024, 64, 64)
    4928673
    """
    N, D, M, S = _sizes(N=N, D=D, M=M, S=S)
    r = quadratic_feature_dimension(D, offset=offset, symmetric=symmetric)
    size = D + (offset > 0)
    coordinates = 2 * size - 1 if symmetric else size
    return (N + S) * coordinates + linear_attention_saved(N, r, M, S=S)


def quadratic_crossover(D: int, M: int, *, offset: float = 1.0, symmetric: bool = True) -> int:
    r"""Find the sequence length from which the quadratic kernel needs fewer multiply-adds.

    :math:`N^2 (D + M) > N r (2 M + 1)` when :math:`N > r (2 M + 1) / (D + M)`.

    Parameters
    ----------
    D, M
        Sizes of a key and of a value.
    offset, symmetric
        As in :func:`quadratic_features`.

    Returns
    -------
    int
        The least N, queries and keys alike, at which :func:`quadratic_attention` needs fewer
        multiply-adds than softmax attention; so it does at every larger one.

    Raises
    ------
    TypeError, ValueError
        As :func:`quadratic_features_cost` does.

    Examples
    --------
    >>> from dlchecked.kernel_attention import quadratic_crossover
    >>> quadratic_crossover(64, 64), quadratic_crossover(64, 64, symmetric=False)
    (2162, 4259)
    """
    D, M = integer("D", D, at_least=1), integer("M", M, at_least=1)
    r = quadratic_feature_dimension(D, offset=offset, symmetric=symmetric)
    return r * (2 * M + 1) // (D + M) + 1


def _sizes(*, N: int, M: int, S: int | None, **key: int) -> tuple[int, int, int, int]:
    """Check sizes: queries, a key's or its features', a value's, and keys (as many as queries)."""
    ((name, size),) = key.items()
    N = integer("N", N, at_least=1)
    size, M = integer(name, size, at_least=1), integer("M", M, at_least=1)
    return N, size, M, N if S is None else integer("S", S, at_least=1)


# At the door


def _offset(offset: object) -> float:
    if isinstance(offset, bool) or not isinstance(offset, Real):
        raise TypeError(f"offset must be a real number, got {type(offset).__name__}")
    number = float(offset)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"offset must be finite and not negative, got {number}")
    return number


def _bool_mask(name: str, mask: object, like: Tensor) -> Tensor:
    """Check a boolean mask that must broadcast to the shape of `like`."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be boolean, got {mask.dtype}")
    if mask.device != like.device:
        raise ValueError(f"{name} must be on the device {like.device}, got {mask.device}")
    sizes = zip(reversed(mask.shape), reversed(like.shape), strict=False)
    if mask.dim() > like.dim() or any(m not in (1, s) for m, s in sizes):
        raise ValueError(
            f"{name} must broadcast to the similarities' shape {shape_of(like)}, "
            f"got {shape_of(mask)}"
        )
    return mask


def _demand_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        finite(name, tensor)
