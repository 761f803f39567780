r"""Softmax attention through the Gaussian kernel (hw10 1(a)(i)).

The one identity behind this module, with :math:`\sigma^2 = \sqrt D`:

.. math::

   e^{q \cdot k / \sqrt D} =
   e^{\lvert q \rvert^2 / 2 \sigma^2} \; e^{-\lvert q - k \rvert^2 / 2 \sigma^2} \;
   e^{\lvert k \rvert^2 / 2 \sigma^2}

A query is a row of ``q`` of shape ``(..., N, D)``, a key a row of ``k`` of shape ``(..., S, D)``.
Every function computes in float32 or better and returns the dtype it was given, except
:func:`factored_softmax_similarity`, which is here to show what goes wrong otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    same_kind,
    shape_of,
    widened,
)
from dlchecked.scaled_dot_product import masked_softmax

__all__ = [
    "append_norm_gap",
    "append_norm_penalty",
    "factored_softmax_similarity",
    "gaussian_kernel",
    "gaussian_kernel_attention",
    "gaussian_kernel_weights",
    "log_gaussian_kernel",
    "log_softmax_similarity",
    "multi_indices",
    "norm_exponent",
    "overflow_norm",
    "softmax_similarity",
    "softmax_width",
    "taylor_degree",
    "taylor_error_bound",
    "taylor_feature_dimension",
    "taylor_features",
    "taylor_kernel",
    "underflow_distance",
]


def softmax_width(dimension: int) -> float:
    r"""Compute the width at which the Gaussian kernel fits softmax attention.

    It is :math:`\sigma = D^{1/4}`, so that :math:`\sigma^2 = \sqrt D` (hw10 1(a)(i)).

    Parameters
    ----------
    dimension
        The size D of queries and keys.

    Returns
    -------
    float
        The width, in the units of a coordinate of a query.

    Raises
    ------
    TypeError, ValueError
        If `dimension` is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.gaussian_kernel import softmax_width
    >>> softmax_width(16)
    2.0
    """
    return float(integer("dimension", dimension, at_least=1) ** 0.25)


def log_gaussian_kernel(q: Tensor, k: Tensor, *, sigma: float) -> Tensor:
    r"""Compute the logarithm of the Gaussian kernel, :math:`-\lvert q - k \rvert^2 / 2\sigma^2`.

    The distance is taken from the differences of coordinates. The expanded form
    :math:`\lvert q \rvert^2 - 2 q \cdot k + \lvert k \rvert^2` needs only a matrix product, but
    subtracts large numbers from each other when q and k are close together and far from zero.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width, in the units of a coordinate.

    Returns
    -------
    Tensor
        One number at most 0 for each pair, ``(..., N, S)``, in the dtype of `q`. First derivatives
        are exact, also where q = k; PyTorch offers no second ones here.

    Raises
    ------
    TypeError
        If `q` or `k` is no floating-point tensor, their dtypes differ, or `sigma` is no number.
    ValueError
        If the shapes do not fit, `sigma` is not positive and finite, or (see
        :func:`dlchecked.arguments.value_checks`) an element of `q` or `k` is not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import log_gaussian_kernel
    >>> log_gaussian_kernel(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), sigma=5.0)
    tensor([[-0.5000]])
    """
    q, k = _pair(q, k)
    return _log_kernel(q, k, positive("sigma", sigma)).to(q.dtype)


def gaussian_kernel(q: Tensor, k: Tensor, *, sigma: float) -> Tensor:
    r"""Compute the Gaussian kernel :math:`e^{-\lvert q - k \rvert^2 / 2\sigma^2}` of every pair.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width, in the units of a coordinate.

    Returns
    -------
    Tensor
        One number from 0 to 1 for each pair, ``(..., N, S)``, in the dtype of `q`. It is 0 beyond
        :func:`underflow_distance`.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import gaussian_kernel
    >>> gaussian_kernel(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [3.0, 4.0]]), sigma=5.0)
    tensor([[1.0000, 0.6065]])
    """
    q, k = _pair(q, k)
    return _log_kernel(q, k, positive("sigma", sigma)).exp().to(q.dtype)


def norm_exponent(x: Tensor, *, sigma: float) -> Tensor:
    r"""Compute the exponent :math:`\lvert x \rvert^2 / 2\sigma^2` of a query's or key's factor.

    Parameters
    ----------
    x
        Queries or keys, ``(..., N, D)``.
    sigma
        The kernel's width, in the units of a coordinate.

    Returns
    -------
    Tensor
        One number of at least 0 for each row, ``(..., N)``, in the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        If `x` is no floating-point tensor of at least one dimension, or `sigma` not positive.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import norm_exponent
    >>> norm_exponent(torch.tensor([[3.0, 4.0]]), sigma=5.0)
    tensor([0.5000])
    """
    x = floating("x", x)
    finite("x", x)
    return _norm_exponent(x, positive("sigma", sigma)).to(x.dtype)


def log_softmax_similarity(q: Tensor, k: Tensor, *, sigma: float | None = None) -> Tensor:
    r"""Add up the three exponents of the identity: the logarithm of the softmax similarity.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width; by default that of softmax attention, :func:`softmax_width`.

    Returns
    -------
    Tensor
        :math:`q \cdot k / \sigma^2` for each pair, ``(..., N, S)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import log_softmax_similarity
    >>> log_softmax_similarity(torch.full((1, 4), 3.0), torch.full((1, 4), 2.0))
    tensor([[12.]])
    """
    q, k = _pair(q, k)
    return _log_similarity(q, k, _width(q, sigma)).to(q.dtype)


def softmax_similarity(q: Tensor, k: Tensor, *, sigma: float | None = None) -> Tensor:
    r"""Compute :math:`e^{q \cdot k / \sigma^2}`, adding exponents before one exponential.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width; by default that of softmax attention, :func:`softmax_width`.

    Returns
    -------
    Tensor
        One positive number for each pair, ``(..., N, S)``, in the dtype of `q`. It is infinite only
        where the similarity itself is beyond the dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import softmax_similarity
    >>> softmax_similarity(torch.full((1, 4), 1.0), torch.full((1, 4), 0.5))
    tensor([[2.7183]])
    """
    q, k = _pair(q, k)
    return _log_similarity(q, k, _width(q, sigma)).exp().to(q.dtype)


def factored_softmax_similarity(q: Tensor, k: Tensor, *, sigma: float | None = None) -> Tensor:
    r"""Multiply the three factors of the identity, in the inputs' own dtype (hw10 1(a)(i)).

    This is the formula as a sheet prints it, and it fails long before the similarity itself
    does: see :func:`overflow_norm` and :func:`underflow_distance`. Use
    :func:`softmax_similarity`, or better its logarithm.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width; by default that of softmax attention, :func:`softmax_width`.

    Returns
    -------
    Tensor
        ``(..., N, S)``, infinite where a factor overflows, NaN where the kernel underflows as well.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import factored_softmax_similarity, softmax_similarity
    >>> q, k = torch.tensor([[15.0, 0, 0, 0]]), torch.tensor([[0, 15.0, 0, 0]])
    >>> softmax_similarity(q, k), factored_softmax_similarity(q, k)
    (tensor([[1.]]), tensor([[0.]]))
    >>> softmax_similarity(2 * q, 2 * k), factored_softmax_similarity(2 * q, 2 * k)
    (tensor([[1.]]), tensor([[nan]]))
    """
    q, k = _pair(q, k)
    width = _width(q, sigma)
    query_factor = torch.exp(q.square().sum(-1) / (2 * width**2))
    key_factor = torch.exp(k.square().sum(-1) / (2 * width**2))
    distance2 = (q.unsqueeze(-2) - k.unsqueeze(-3)).square().sum(-1)
    kernel = torch.exp(-distance2 / (2 * width**2))
    return query_factor.unsqueeze(-1) * kernel * key_factor.unsqueeze(-2)


def gaussian_kernel_weights(
    q: Tensor,
    k: Tensor,
    *,
    sigma: float | None = None,
    key_factor: bool = False,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    r"""Compute the weights of Gaussian-kernel attention, by a softmax over log weights.

    Without the key's factor the weight of key j is proportional to
    :math:`e^{-\lvert q - k_j \rvert^2 / 2\sigma^2}`. With it, to that times
    :math:`e^{\lvert k_j \rvert^2 / 2\sigma^2}`, which is softmax attention. The query's factor
    cancels and is never computed.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    sigma
        The kernel's width; by default that of softmax attention, :func:`softmax_width`.
    key_factor
        Whether key j counts :math:`e^{\lvert k_j \rvert^2 / 2\sigma^2}` times.
    attn_mask, is_causal
        As in :func:`dlchecked.scaled_dot_product.scaled_dot_product_attention`; what is added goes
        to the log weights.

    Returns
    -------
    Tensor
        ``(..., N, S)``, in the dtype of `q`. Each row adds up to one, however far apart q and k, as
        long as their squared distance is a float32; or is all zero where the mask leaves it no key.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does, for a flag that is no bool, and for a mask as
        :func:`dlchecked.scaled_dot_product.scaled_dot_product_attention` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import gaussian_kernel_weights
    >>> keys = torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    >>> gaussian_kernel_weights(keys[:1], keys)
    tensor([[0.7311, 0.2689]])
    >>> gaussian_kernel_weights(keys[:1], keys, key_factor=True)
    tensor([[0.2689, 0.7311]])
    """
    q, k = _pair(q, k)
    return _weights(q, k, _width(q, sigma), key_factor, attn_mask, is_causal).to(q.dtype)


def gaussian_kernel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    sigma: float | None = None,
    key_factor: bool = False,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    r"""Average the values with the weights of :func:`gaussian_kernel_weights`.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    v
        Values, ``(..., S, M)``, one row for each key.
    sigma
        The kernel's width; by default that of softmax attention, :func:`softmax_width`.
    key_factor
        ``True`` makes it softmax attention with the scale :math:`1/\sigma^2`.
    attn_mask, is_causal
        As in :func:`gaussian_kernel_weights`.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`; zeros for a query that the mask leaves no key.

    Raises
    ------
    TypeError, ValueError
        As :func:`gaussian_kernel_weights` does, and for values that do not fit the keys.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import gaussian_kernel_attention
    >>> keys = torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    >>> values = torch.tensor([[0.0], [1.0]])
    >>> gaussian_kernel_attention(keys[:1], keys, values)
    tensor([[0.2689]])
    """
    q, k, v = attention_inputs(q, k, v)
    _pair(q, k)
    finite("v", v)
    weights = _weights(q, k, _width(q, sigma), key_factor, attn_mask, is_causal)
    return (weights @ widened(v)).to(q.dtype)


def append_norm_gap(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    r"""Append a coordinate that makes all keys equally long and leaves every q·k as it is.

    With :math:`q' = (q, 0)` and :math:`k' = (k, \sqrt{L^2 - \lvert k \rvert^2})`, Gaussian-kernel
    attention on q', k' is softmax attention on q, k, for the same width. The reduction of
    largest products to nearest neighbours is that of Bachrach et al. (2014).

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.

    Returns
    -------
    tuple of Tensor
        ``(..., N, D + 1)`` and ``(..., S, D + 1)``, in the dtype of `q`. :math:`L^2` is 1 more
        than 5/4 of the largest squared norm, since the square root has no derivative at 0. In
        bfloat16 or float16 the rounding of that coordinate alone moves the weights.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import append_norm_gap
    >>> append_norm_gap(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))[1].norm(dim=-1)
    tensor([2.4495, 2.4495])
    """
    q, k = _pair(q, k)
    norms2 = widened(k).square().sum(-1, keepdim=True)
    # A margin of 1 alone would be rounded away when norms are large. L itself cancels.
    length2 = 1.25 * norms2.detach().amax(-2, keepdim=True) + 1
    gap = torch.sqrt(length2 - norms2).to(k.dtype)
    return torch.cat([q, torch.zeros_like(q[..., :1])], -1), torch.cat([k, gap], -1)


def append_norm_penalty(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    r"""Append a coordinate with which softmax attention becomes Gaussian-kernel attention.

    With :math:`q' = (q, 1)` and :math:`k' = (k, -\lvert k \rvert^2 / 2)`, softmax attention on
    q', k' with the scale :math:`1/\sigma^2` is Gaussian-kernel attention on q, k. So any fused
    softmax kernel computes it.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.

    Returns
    -------
    tuple of Tensor
        ``(..., N, D + 1)`` and ``(..., S, D + 1)``, in the dtype of `q`. In bfloat16 or float16
        the rounding of that coordinate alone moves the weights.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import append_norm_penalty
    >>> append_norm_penalty(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))[1]
    tensor([[ 0., -0.],
            [ 2., -2.]])
    """
    q, k = _pair(q, k)
    penalty = (-widened(k).square().sum(-1, keepdim=True) / 2).to(k.dtype)
    return torch.cat([q, torch.ones_like(q[..., :1])], -1), torch.cat([k, penalty], -1)


def multi_indices(dimension: int, degree: int) -> list[tuple[int, ...]]:
    r"""List the multi-indices :math:`\alpha` of D entries that add up to at most `degree`.

    Parameters
    ----------
    dimension
        The number D of entries.
    degree
        The largest total degree p.

    Returns
    -------
    list of tuple of int
        By rising degree; their number is :func:`taylor_feature_dimension`.

    Raises
    ------
    TypeError, ValueError
        If `dimension` is no integer of at least 1, or `degree` none of at least 0.

    Examples
    --------
    >>> from dlchecked.gaussian_kernel import multi_indices
    >>> multi_indices(2, 2)
    [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    """
    size = integer("dimension", dimension, at_least=1)
    words = (
        word
        for total in range(integer("degree", degree, at_least=0) + 1)
        for word in combinations_with_replacement(range(size), total)
    )
    return [tuple(word.count(i) for i in range(size)) for word in words]


def taylor_feature_dimension(dimension: int, degree: int) -> int:
    r"""Count the Taylor features: :math:`\binom{D + p}{p}`.

    Parameters
    ----------
    dimension
        The size D of queries and keys.
    degree
        The degree p of the last term kept.

    Returns
    -------
    int
        The length r of a feature vector.

    Raises
    ------
    TypeError, ValueError
        If `dimension` is no integer of at least 1, or `degree` none of at least 0.

    Examples
    --------
    >>> from dlchecked.gaussian_kernel import taylor_feature_dimension
    >>> taylor_feature_dimension(64, 2)
    2145
    """
    size = integer("dimension", dimension, at_least=1)
    return math.comb(size + integer("degree", degree, at_least=0), size)


def taylor_features(x: Tensor, *, sigma: float, degree: int) -> Tensor:
    r"""Map queries or keys to the Taylor features of the Gaussian kernel.

    .. math::

       \phi_\alpha(x) = e^{-\lvert x \rvert^2 / 2\sigma^2}
       \frac{(x / \sigma)^\alpha}{\sqrt{\alpha!}}, \qquad \lvert \alpha \rvert \le p.

    Parameters
    ----------
    x
        Queries or keys, ``(..., N, D)``.
    sigma
        The kernel's width, in the units of a coordinate.
    degree
        The largest total degree p.

    Returns
    -------
    Tensor
        ``(..., N, r)`` with r from :func:`taylor_feature_dimension`, in the dtype of `x` and in
        the order of :func:`multi_indices`.

    Raises
    ------
    TypeError, ValueError
        If `x` is no floating-point tensor with D of at least 1, `sigma` not positive, or
        `degree` no integer of at least 0.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import taylor_features
    >>> taylor_features(torch.tensor([[1.0, 0.0]]), sigma=1.0, degree=2)
    tensor([[0.6065, 0.6065, 0.0000, 0.4289, 0.0000, 0.0000]])
    """
    x = floating("x", x)
    finite("x", x)
    width = positive("sigma", sigma)
    exponents = multi_indices(x.shape[-1], degree)
    scaled = widened(x) / width
    exponent = scaled.square().sum(-1, keepdim=True) / 2
    # Each of the factors of a product takes its share of the damping, so that no product overflows.
    terms = [torch.exp(-exponent)]
    for total in range(1, degree + 1):
        terms.append(_monomials(scaled * torch.exp(-exponent / total), total))
    roots = [math.sqrt(math.prod(map(math.factorial, alpha))) for alpha in exponents]
    return (torch.cat(terms, -1) / scaled.new_tensor(roots)).to(x.dtype)


def taylor_kernel(q: Tensor, k: Tensor, *, sigma: float, degree: int) -> Tensor:
    r"""Compute what Taylor features of some degree make of the kernel, without the features.

    It is :math:`e^{-(\lvert q \rvert^2 + \lvert k \rvert^2) / 2\sigma^2}
    \sum_{n \le p} t^n / n!` with :math:`t = q \cdot k / \sigma^2`.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`.
    sigma
        The kernel's width, in the units of a coordinate.
    degree
        The degree p of the last term kept.

    Returns
    -------
    Tensor
        ``(..., N, S)``, in the dtype of `q`. An odd degree can make it negative.

    Raises
    ------
    TypeError, ValueError
        As :func:`log_gaussian_kernel` does, and for a degree that is no integer of at least 0.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import taylor_kernel
    >>> taylor_kernel(torch.tensor([[1.0]]), torch.tensor([[1.0]]), sigma=1.0, degree=2)
    tensor([[0.9197]])
    """
    q, k = _pair(q, k)
    width = positive("sigma", sigma)
    degree = integer("degree", degree, at_least=0)
    outer = _norm_exponent(q, width).unsqueeze(-1) + _norm_exponent(k, width).unsqueeze(-2)
    if degree == 0:
        return torch.exp(-outer).to(q.dtype)
    # Horner's rule; each step takes its share of the damping, so that no power of t overflows.
    share = torch.exp(-outer / degree)
    damped_t = widened(q) @ widened(k).mT / width**2 * share
    damping = series = torch.ones_like(outer)
    for n in range(degree, 0, -1):
        damping = damping * share
        series = damping + damped_t * series / n
    return series.to(q.dtype)


def taylor_error_bound(q_norm: Tensor, k_norm: Tensor, *, sigma: float, degree: int) -> Tensor:
    r"""Compute the largest error of :func:`taylor_kernel` for given norms; it is attained.

    With :math:`\lambda = \lvert q \rvert \lvert k \rvert / \sigma^2` it is

    .. math::

       e^{-(\lvert q \rvert^2 + \lvert k \rvert^2) / 2\sigma^2} \sum_{n > p} \frac{\lambda^n}{n!}
       = e^{-(\lvert q \rvert - \lvert k \rvert)^2 / 2\sigma^2} \Pr[X > p],
       \qquad X \sim \mathrm{Poisson}(\lambda).

    Parameters
    ----------
    q_norm
        Norms of queries, any shape.
    k_norm
        Norms of keys, the shape of `q_norm`.
    sigma
        The kernel's width, in the units of the norms.
    degree
        The degree p of the last term kept.

    Returns
    -------
    Tensor
        The bound for each pair of norms, in their shape and dtype.

    Raises
    ------
    TypeError
        If a norm is no floating-point tensor, or the two dtypes differ.
    ValueError
        If the shapes differ, `sigma` is not positive, or `degree` below 0.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import softmax_width, taylor_error_bound
    >>> norm = torch.tensor(8.0)
    >>> taylor_error_bound(norm, norm, sigma=softmax_width(64), degree=15)
    tensor(0.0082)
    """
    q_norm = floating("q_norm", q_norm, at_least=0)
    k_norm = floating("k_norm", k_norm, at_least=0)
    same_kind(q_norm=q_norm, k_norm=k_norm)
    if q_norm.shape != k_norm.shape:
        raise ValueError(
            f"k_norm must have the shape of q_norm, {shape_of(q_norm)}, got {shape_of(k_norm)}"
        )
    width = positive("sigma", sigma)
    in_widths, others = widened(q_norm) / width, widened(k_norm) / width
    above = torch.full_like(in_widths, integer("degree", degree, at_least=0) + 1)
    # The regularised lower incomplete gamma function is the Poisson distribution's tail.
    tail: Tensor = torch.special.gammainc(above, in_widths * others)
    return (torch.exp(-((in_widths - others) ** 2) / 2) * tail).to(q_norm.dtype)


def taylor_degree(norm: float, *, sigma: float, tolerance: float) -> int:
    r"""Find the least degree whose error is within `tolerance` for all q, k up to some norm.

    Parameters
    ----------
    norm
        The largest norm of a query or key.
    sigma
        The kernel's width, in the units of the norm.
    tolerance
        The largest error allowed, below 1.

    Returns
    -------
    int
        The least p with :math:`\Pr[X > p]` at most the tolerance,
        :math:`X \sim \mathrm{Poisson}(\mathrm{norm}^2 / \sigma^2)`.

    Raises
    ------
    TypeError, ValueError
        If an argument is no positive finite number, or `tolerance` not below 1.

    Examples
    --------
    >>> from dlchecked.gaussian_kernel import softmax_width, taylor_degree
    >>> taylor_degree(8.0, sigma=softmax_width(64), tolerance=0.01)
    15
    """
    if positive("tolerance", tolerance) >= 1:
        raise ValueError(f"tolerance must be below 1, got {tolerance}")
    reach = torch.tensor(positive("norm", norm), dtype=torch.float64)

    def suffices(degree: int) -> bool:
        return bool(taylor_error_bound(reach, reach, sigma=sigma, degree=degree) <= tolerance)

    enough = 1
    while not suffices(enough):
        enough *= 2
    return bisect_left(range(enough), True, key=suffices)


def overflow_norm(dtype: torch.dtype, *, sigma: float) -> float:
    r"""Predict the norm beyond which the factor of a query or key is infinite.

    :math:`e^{\lvert x \rvert^2 / 2\sigma^2}` exceeds the dtype's largest number when
    :math:`\lvert x \rvert > \sigma \sqrt{2 \ln(\mathrm{max})}`.

    Parameters
    ----------
    dtype
        A real floating-point dtype.
    sigma
        The kernel's width, in the units of a coordinate.

    Returns
    -------
    float
        The norm, in the units of a coordinate.

    Raises
    ------
    TypeError, ValueError
        If `dtype` is no real floating-point dtype, or `sigma` not positive.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import overflow_norm, softmax_width
    >>> round(overflow_norm(torch.float16, sigma=softmax_width(64)), 2)
    13.32
    """
    return positive("sigma", sigma) * math.sqrt(2 * math.log(_limits(dtype).max))


def underflow_distance(dtype: torch.dtype, *, sigma: float) -> float:
    r"""Predict the distance of q and k beyond which their kernel is exactly 0.

    Rounding to nearest turns into 0 what is below half the smallest positive number of the dtype,
    subnormal numbers included. Where a device flushes subnormal numbers, it happens sooner.

    Parameters
    ----------
    dtype
        A real floating-point dtype.
    sigma
        The kernel's width, in the units of a coordinate.

    Returns
    -------
    float
        The distance, in the units of a coordinate.

    Raises
    ------
    TypeError, ValueError
        If `dtype` is no real floating-point dtype, or `sigma` not positive.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.gaussian_kernel import softmax_width, underflow_distance
    >>> round(underflow_distance(torch.float32, sigma=softmax_width(64)), 2)
    40.79
    """
    limits = _limits(dtype)
    # Taken apart, since half the smallest float64 is itself not a float64.
    log_least = math.log(limits.tiny) + math.log(limits.eps) - math.log(2)
    return positive("sigma", sigma) * math.sqrt(-2 * log_least)


def _pair(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Check queries and keys by the door of attention, the keys standing in for values."""
    q, k, _ = attention_inputs(q, k, k)
    finite("q", q)
    finite("k", k)
    return q, k


def _width(q: Tensor, sigma: float | None) -> float:
    return softmax_width(q.shape[-1]) if sigma is None else positive("sigma", sigma)


def _limits(dtype: torch.dtype) -> torch.finfo:
    return torch.finfo(floating_dtype("dtype", dtype))


def _norm_exponent(x: Tensor, width: float) -> Tensor:
    return widened(x).square().sum(-1) / (2 * width**2)


def _log_kernel(q: Tensor, k: Tensor, width: float) -> Tensor:
    # Above 25 rows torch.cdist would otherwise expand the square and lose the digits.
    mode = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(widened(q), widened(k), compute_mode=mode)
    return -distance.square() / (2 * width**2)


def _log_similarity(q: Tensor, k: Tensor, width: float) -> Tensor:
    from_query = _norm_exponent(q, width).unsqueeze(-1)
    from_key = _norm_exponent(k, width).unsqueeze(-2)
    return from_query + _log_kernel(q, k, width) + from_key


def _weights(
    q: Tensor,
    k: Tensor,
    width: float,
    key_factor: bool,
    attn_mask: Tensor | None,
    is_causal: bool,
) -> Tensor:
    flag("key_factor", key_factor)
    log_weights = _log_kernel(q, k, width)
    if key_factor:
        log_weights = log_weights + _norm_exponent(k, width).unsqueeze(-2)
    return masked_softmax(log_weights, attn_mask=attn_mask, is_causal=is_causal, dtype=q.dtype)


def _monomials(x: Tensor, total: int) -> Tensor:
    """Multiply coordinates of x, `total` at a time: one product for each multiset of them."""
    words = list(combinations_with_replacement(range(x.shape[-1]), total))
    index = torch.tensor(words, dtype=torch.long, device=x.device).reshape(len(words), total)
    return x[..., index].prod(-1)
