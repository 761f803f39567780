r"""Scaled dot-product attention, and why its scores are divided by :math:`\sqrt D` (hw9 1).

The module has four parts, in the order of the chapter: exact expectations with SymPy, the
distribution of a dot product, what a softmax passes on, and attention itself.

In this module, and in no other of the book, ``sigma`` is the standard deviation of one coordinate
of a query or key, as in the problem sheet. Elsewhere it is the width of a Gaussian kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import sympy
import torch
from sympy import Expr, Symbol
from torch import Tensor

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    integer,
    positive,
    random_generator,
    same_kind,
    score_rows,
    shape_of,
    values_are_checked,
    widened,
)

__all__ = [
    "Moments",
    "attention_weights",
    "causal_mask",
    "dot_product_density",
    "dot_product_log_density",
    "dot_product_moments",
    "expected_value",
    "masked_softmax",
    "normal_moment",
    "partner_scores",
    "random_scores",
    "scaled_dot_product_attention",
    "softmax_entropy",
    "softmax_jacobian",
    "softmax_jacobian_norm",
    "softmax_jacobian_trace",
]


# Expectations, exactly


def normal_moment(order: int, *, mu: Expr, sigma: Expr) -> Expr:
    r"""Moment of a normal coordinate, :math:`E[x^n]` for :math:`x \sim N(\mu, \sigma^2)`.

    With :math:`x = \mu + \sigma z` and the binomial theorem, only even powers of the standard
    normal :math:`z` are left, and :math:`E[z^j] = (j - 1)!!`.

    Parameters
    ----------
    order
        The power :math:`n`, from 0 on.
    mu, sigma
        Mean and standard deviation, as SymPy expressions.

    Returns
    -------
    sympy.Expr
        A polynomial in `mu` and `sigma`.

    Raises
    ------
    TypeError, ValueError
        If `order` is no whole number from 0 on.

    Examples
    --------
    >>> from sympy import symbols
    >>> from dlchecked.scaled_dot_product import normal_moment
    >>> mu, sigma = symbols("mu sigma")
    >>> normal_moment(2, mu=mu, sigma=sigma)
    mu**2 + sigma**2
    """
    order = integer("order", order, at_least=0)
    terms = [
        sympy.binomial(order, j) * sympy.factorial2(j - 1) * sigma**j * mu ** (order - j)
        for j in range(0, order + 1, 2)
    ]
    return sympy.expand(sympy.Add(*terms))


def expected_value(polynomial: Expr, moments: Mapping[Symbol, Callable[[int], Expr]]) -> Expr:
    """Take the expected value of a polynomial in independent random coordinates.

    The expected value of a sum is the sum of the expected values, and that of a product of
    *independent* factors is the product of theirs. So each monomial turns into a product of
    moments, and nothing else about the distributions is used.

    Parameters
    ----------
    polynomial
        A SymPy expression, polynomial in the random symbols.
    moments
        For each random symbol, the function that gives its moment of a whole order. Symbols that
        are not named here count as constants.

    Returns
    -------
    sympy.Expr
        The expected value, expanded.

    Raises
    ------
    ValueError
        If `moments` is empty, or `polynomial` is none in the symbols named there.

    Examples
    --------
    >>> from sympy import symbols
    >>> from dlchecked.scaled_dot_product import expected_value, normal_moment
    >>> x, y, mu, sigma = symbols("x y mu sigma")
    >>> normal = lambda order: normal_moment(order, mu=mu, sigma=sigma)
    >>> expected_value((x - y) ** 2, {x: normal, y: normal})
    2*sigma**2
    """
    if not moments:
        raise ValueError("moments must name at least one random symbol, got an empty mapping")
    try:
        terms = sympy.Poly(sympy.sympify(polynomial), *moments).terms()
    except sympy.PolynomialError as error:
        raise ValueError(
            f"polynomial must be a polynomial in {', '.join(map(str, moments))}, got {polynomial}"
        ) from error
    total = sympy.Add(
        *(
            coefficient * sympy.prod([m(n) for m, n in zip(moments.values(), powers, strict=True)])
            for powers, coefficient in terms
        )
    )
    return sympy.expand(total)


# The dot product of random vectors


class Moments(NamedTuple):
    """Mean and variance of a random number."""

    mean: Tensor
    variance: Tensor


def dot_product_moments(mu_q: Tensor, mu_k: Tensor, *, sigma: float = 1.0) -> Moments:
    r"""Mean and variance of :math:`q \cdot k` for independent coordinates (hw9 1(a), (b)).

    The mean is :math:`\mu_q \cdot \mu_k`, the variance
    :math:`D \sigma^4 + \sigma^2 (|\mu_q|^2 + |\mu_k|^2)`. Only means and variances enter: the
    coordinates need not be normal.

    Parameters
    ----------
    mu_q, mu_k
        Means of query and key, both ``(..., D)``.
    sigma
        Standard deviation of every coordinate.

    Returns
    -------
    Moments
        Mean and variance, each of shape ``(...)``, in the dtype of `mu_q`.

    Raises
    ------
    TypeError, ValueError
        For anything but two floating-point tensors of one shape, or `sigma` not above zero.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import dot_product_moments
    >>> mean, variance = dot_product_moments(torch.zeros(64), torch.zeros(64))
    >>> mean.item(), variance.item()
    (0.0, 64.0)
    """
    mu_q, mu_k = floating("mu_q", mu_q), floating("mu_k", mu_k)
    same_kind(mu_q=mu_q, mu_k=mu_k)
    if mu_k.shape != mu_q.shape:
        raise ValueError(f"mu_k must have shape {shape_of(mu_q)}, got {shape_of(mu_k)}")
    sigma = positive("sigma", sigma)
    q, k = widened(mu_q), widened(mu_k)
    mean = (q * k).sum(-1)
    squares = (q * q).sum(-1) + (k * k).sum(-1)
    variance = mu_q.shape[-1] * sigma**4 + sigma**2 * squares
    return Moments(mean.to(mu_q.dtype), variance.to(mu_q.dtype))


def random_scores(rows: int, keys: int, *, size: int, generator: torch.Generator) -> Tensor:
    """Unscaled scores of random queries, each against random keys of its own.

    All coordinates are independent standard normal numbers. The queries are drawn; given a query,
    its scores are independent normal numbers with the query's norm as their deviation, and are
    drawn as such. That is the same distribution as that of drawn and multiplied keys, for a D-th
    of the work.

    Parameters
    ----------
    rows
        How many queries; the rows of the result are independent of each other.
    keys
        How many keys each query meets.
    size
        Length D of queries and keys.
    generator
        Where the random numbers come from; the result is on its device.

    Returns
    -------
    Tensor
        The dot products, ``(rows, keys)``, float32.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer of at least 1, or `generator` is no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import random_scores
    >>> random_scores(2, 3, size=4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    rows, keys = integer("rows", rows, at_least=1), integer("keys", keys, at_least=1)
    size = integer("size", size, at_least=1)
    queries = _standard_normal((rows, size), generator)
    norms: Tensor = torch.linalg.vector_norm(queries, dim=-1, keepdim=True)
    return norms * _standard_normal((rows, keys), generator)


def dot_product_log_density(x: Tensor, *, size: int, sigma: float = 1.0) -> Tensor:
    r"""Logarithm of the density of :math:`q \cdot k`, for zero means.

    For :math:`q, k \sim N(0, \sigma^2 I)` of length D the dot product is variance-gamma
    distributed. With :math:`\nu = (D - 1)/2`, :math:`z = |x| / \sigma^2` and the modified Bessel
    function :math:`K_\nu`,

    .. math:: f(x) = \frac{z^\nu K_\nu(z)}{\sqrt\pi\, 2^\nu\, \Gamma(D/2)\, \sigma^2} .

    Everything stays in logarithms, so that no D is too large.

    Parameters
    ----------
    x
        Where to evaluate; any shape, finite.
    size
        Length D of the vectors.
    sigma
        Standard deviation of every coordinate.

    Returns
    -------
    Tensor
        Log-densities with the shape and dtype of `x`, computed in float64. For D = 1 the density
        grows without bound at 0, and the value there is infinite.

    Raises
    ------
    TypeError, ValueError
        If `x` is no floating-point tensor or not finite, `size` no integer of at least 1, or
        `sigma` not above zero.

    Examples
    --------
    For D = 2 the density is Laplace's, :math:`e^{-|x|}/2`:

    >>> import torch
    >>> from dlchecked.scaled_dot_product import dot_product_log_density
    >>> dot_product_log_density(torch.tensor(0.0), size=2).exp()
    tensor(0.5000)
    """
    return _log_density(x, size, sigma).to(x.dtype)


def dot_product_density(x: Tensor, *, size: int, sigma: float = 1.0) -> Tensor:
    r"""Density of :math:`q \cdot k`, for zero means (see :func:`dot_product_log_density`).

    Parameters
    ----------
    x
        Where to evaluate; any shape, finite.
    size
        Length D of the vectors.
    sigma
        Standard deviation of every coordinate.

    Returns
    -------
    Tensor
        Densities with the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`dot_product_log_density`.
    """
    return _log_density(x, size, sigma).exp().to(x.dtype)


def _log_density(x: Tensor, size: int, sigma: float) -> Tensor:
    """Check the arguments at the door, and compute the log-density in float64."""
    x = floating("x", x, at_least=0)
    finite("x", x)
    size, sigma = integer("size", size, at_least=1), positive("sigma", sigma)
    order = (size - 1) / 2
    # At 0 the product of z^v and K_v(z) is 0 times infinity; so near to 0 it has its limit.
    z = (x.double().abs() / sigma**2).clamp_min(1e-100)
    constant = math.log(math.pi) / 2 + order * math.log(2) + math.lgamma(size / 2)
    result = order * z.log() + _log_bessel_k(size - 1, z) - constant - 2 * math.log(sigma)
    return result.masked_fill(x == 0, math.inf) if size == 1 else result


def _log_bessel_k(twice_order: int, z: Tensor) -> Tensor:
    """Logarithm of the modified Bessel function of order `twice_order` / 2, for z > 0.

    Upwards, K[v+1] = K[v-1] + (2 v / z) K[v] adds positive numbers only and is stable; followed
    for the ratios K[v+1] / K[v], it neither overflows nor underflows.
    """
    if twice_order % 2:
        order = 0.5
        log_k = 0.5 * torch.log(math.pi / (2 * z)) - z
        ratio = 1 + 1 / z
    else:
        order = 0.0
        k0 = torch.special.scaled_modified_bessel_k0(z)
        log_k = k0.log() - z
        ratio = torch.special.scaled_modified_bessel_k1(z) / k0
    while 2 * order < twice_order:
        log_k = log_k + ratio.log()
        order += 1
        ratio = 1 / ratio + 2 * order / z
    return log_k


# What a softmax passes on


def softmax_entropy(scores: Tensor) -> Tensor:
    r"""Entropy of the softmax over the last dimension, in nats.

    0 for weights on one key alone, :math:`\log N` for equal weights on N keys; its exponential
    counts the keys that a row effectively attends to.

    Parameters
    ----------
    scores
        ``(..., N)``; ``-inf`` stands for a masked key.

    Returns
    -------
    Tensor
        ``(...)``, in the dtype of `scores`, computed in float32 at least.

    Raises
    ------
    TypeError
        If `scores` is no floating-point tensor.
    ValueError
        If there are no keys, a score is NaN or ``+inf``, or a whole row is masked.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import softmax_entropy
    >>> softmax_entropy(torch.zeros(8)).exp()
    tensor(8.0000)
    """
    wide = widened(score_rows(scores))
    log_weights = wide.log_softmax(-1)
    weights = log_weights.exp()
    # 0 log 0 is 0, and its derivative with respect to the score is 0, too.
    entropy = -(weights * log_weights.masked_fill(weights == 0, 0.0)).sum(-1)
    return entropy.to(scores.dtype)


def softmax_jacobian(scores: Tensor) -> Tensor:
    r"""Jacobian of the softmax over the last dimension, :math:`\operatorname{diag}(p) - p\,p^T`.

    Parameters
    ----------
    scores
        ``(..., N)``; ``-inf`` stands for a masked key.

    Returns
    -------
    Tensor
        ``(..., N, N)``, in the dtype of `scores`. Symmetric, without negative eigenvalues, and
        each row adds up to zero.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax_entropy`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import softmax_jacobian
    >>> softmax_jacobian(torch.zeros(2))
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])
    """
    p = widened(score_rows(scores)).softmax(-1)
    jacobian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    return jacobian.to(scores.dtype)


def softmax_jacobian_norm(scores: Tensor) -> Tensor:
    r"""Frobenius norm of the softmax's Jacobian, without building the matrix.

    Its square is :math:`\sum_i p_i^2 (1 - p_i)^2 + \sum_{i \ne j} p_i^2 p_j^2`. Near a one-hot row
    :math:`1 - p_i` would cancel; the largest weight is therefore treated apart, and the norm
    keeps its relative accuracy down to the smallest weights.

    Parameters
    ----------
    scores
        ``(..., N)``; ``-inf`` stands for a masked key.

    Returns
    -------
    Tensor
        ``(...)``, in the dtype of `scores`. A figure to look at: at a norm of exactly zero its
        own derivative does not exist.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax_entropy`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import softmax_jacobian_norm
    >>> softmax_jacobian_norm(torch.zeros(2))
    tensor(0.5000)
    """
    largest, others, rest = _largest_and_others(widened(score_rows(scores)))
    squares = others.square().sum(-1)
    from_largest = largest.square() * (rest.square() + squares)
    without_me = (largest.square() + squares).unsqueeze(-1) - others.square()
    from_others = (others.square() * ((1 - others).square() + without_me)).sum(-1)
    return (from_largest + from_others).sqrt().to(scores.dtype)


def softmax_jacobian_trace(scores: Tensor) -> Tensor:
    r"""Trace of the softmax's Jacobian, :math:`\sum_i p_i (1 - p_i) = 1 - |p|^2`.

    As the Jacobian has no negative eigenvalue, this is the sum of its singular values, and no
    other common norm of it is larger. It is also the chance that two keys drawn by the weights
    differ.

    Parameters
    ----------
    scores
        ``(..., N)``; ``-inf`` stands for a masked key.

    Returns
    -------
    Tensor
        ``(...)``, in the dtype of `scores`, between 0 and :math:`1 - 1/N`.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax_entropy`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import softmax_jacobian_trace
    >>> softmax_jacobian_trace(torch.zeros(4))
    tensor(0.7500)
    """
    largest, others, rest = _largest_and_others(widened(score_rows(scores)))
    return (largest * rest + (others * (1 - others)).sum(-1)).to(scores.dtype)


def _largest_and_others(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest weight, the weights with a zero in its place, and the sum of those."""
    weights = scores.softmax(-1)
    others = weights.scatter(-1, weights.argmax(-1, keepdim=True), 0.0)
    rest = others.sum(-1)
    return 1 - rest, others, rest


# Attention


def causal_mask(queries: int, keys: int, *, device: torch.device | str | None = None) -> Tensor:
    """Which keys a query may look at when none may look ahead: True where key <= query.

    The positions count from the top left corner, as in PyTorch: query 0 sees key 0 alone, however
    many keys there are. (When the queries are the *last* ones of a longer sequence, as in decoding
    with a cache, that is not what is wanted.)

    Parameters
    ----------
    queries, keys
        How many there are of each.
    device
        Where the mask is made.

    Returns
    -------
    Tensor
        ``(queries, keys)``, boolean.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer from 0 on.

    Examples
    --------
    >>> from dlchecked.scaled_dot_product import causal_mask
    >>> causal_mask(2, 3)
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    queries = integer("queries", queries, at_least=0)
    keys = integer("keys", keys, at_least=0)
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    r"""Attention weights, :math:`\operatorname{softmax}(q k^T / \sqrt D)`.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``.
    attn_mask, is_causal, scale
        As in :func:`scaled_dot_product_attention`.

    Returns
    -------
    Tensor
        ``(..., N, S)``, in the dtype of `q`. Each row adds up to one, or is all zero where the
        mask leaves it no key.

    Raises
    ------
    TypeError, ValueError
        As :func:`scaled_dot_product_attention`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import attention_weights
    >>> attention_weights(torch.zeros(2, 4), torch.zeros(2, 4), is_causal=True)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    q, k, _ = attention_inputs(q, k, k)
    return _weights(q, k, attn_mask, is_causal, scale).to(q.dtype)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    r"""Scaled dot-product attention, :math:`\operatorname{softmax}(q k^T / \sqrt D)\, v`.

    The scale is that of hw9 1(c). The arguments mean what they mean in PyTorch's function of the
    same name; there is no dropout, and no grouping of heads. This one is written to be read: it
    builds all ``N x S`` weights, in float32 at least, where PyTorch's may run in one fused kernel.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``.
    v
        Values, ``(..., S, M)``.
    attn_mask
        Boolean, True where a key takes part; or of the dtype of `q` or float32, added to the
        scaled scores, where ``-inf`` hides a key. Its shape must broadcast to the scores' shape
        ``(..., N, S)``, so that one ``(N, S)`` mask serves all heads; nothing else is broadcast.
    is_causal
        Hide from each query the keys after its own position, counted from the top left corner
        (:func:`causal_mask`). Not together with `attn_mask`.
    scale
        What the dot products are multiplied by; :math:`1/\sqrt D` if not given.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`. A query that the mask leaves no key gets zeros, the
        sum over no values, and passes back zero gradients, as in PyTorch since version 2.5.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor, mixed dtypes, a mask of integers.
    ValueError
        For shapes or devices that do not fit, `scale` not above zero, `attn_mask` together with
        `is_causal`, or (see :func:`dlchecked.arguments.value_checks`) an input or a product of
        query and key that is not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import scaled_dot_product_attention
    >>> q, k, v = torch.zeros(1, 4), torch.zeros(2, 4), torch.tensor([[1.0], [3.0]])
    >>> scaled_dot_product_attention(q, k, v)
    tensor([[2.]])
    """
    q, k, v = attention_inputs(q, k, v)
    finite("v", v)
    weights = _weights(q, k, attn_mask, is_causal, scale)
    return (weights @ widened(v)).to(q.dtype)


def _weights(
    q: Tensor, k: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    """Attention weights in float32 at least, from tensors whose shapes are known to fit."""
    finite("q", q)
    finite("k", k)
    scale = q.shape[-1] ** -0.5 if scale is None else positive("scale", scale)
    # The query is scaled, not the product: a product that overflows cannot be scaled back.
    scores = (widened(q) * scale) @ widened(k).mT
    finite("the scaled product of q and k", scores)
    return masked_softmax(scores, attn_mask=attn_mask, is_causal=is_causal, dtype=q.dtype)


def masked_softmax(
    scores: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Turn scores into weights: a softmax over the last dimension, behind a mask.

    Parameters
    ----------
    scores
        ``(..., N, S)``.
    attn_mask, is_causal
        As in :func:`scaled_dot_product_attention`.
    dtype
        A dtype that a float mask may have beside float32: that of the queries. By default that of
        `scores`.

    Returns
    -------
    Tensor
        The shape and dtype of `scores`. Each row adds up to one, or is all zero where the mask
        leaves it no key.

    Raises
    ------
    TypeError, ValueError
        For a mask of the wrong kind, shape or device, for NaN or +inf in it, and for a mask given
        together with `is_causal`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import masked_softmax
    >>> masked_softmax(torch.zeros(2, 3), attn_mask=torch.tensor([[True, True, False]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.5000, 0.5000, 0.0000]])
    """
    floating("scores", scores, at_least=2)
    mask = _mask_for(scores, dtype or scores.dtype, attn_mask, is_causal)
    if mask is None:
        return scores.softmax(-1)
    hidden = mask.dtype == torch.bool
    return _softmax_or_zeros(scores.masked_fill(~mask, -math.inf) if hidden else scores + mask)


def _softmax_or_zeros(scores: Tensor) -> Tensor:
    """Softmax over the last dimension; zeros where a whole row is masked.

    Such a row is replaced *before* the softmax: zeroing the NaN behind it would keep the NaN in
    the gradient.
    """
    nothing_left = scores.isneginf().all(-1, keepdim=True)
    weights = scores.masked_fill(nothing_left, 0.0).softmax(-1)
    return weights.masked_fill(nothing_left, 0.0)


def _mask_for(
    scores: Tensor, dtype: torch.dtype, attn_mask: Tensor | None, is_causal: bool
) -> Tensor | None:
    """Check the mask for `scores` at the door; `dtype` is that of the queries."""
    flag("is_causal", is_causal)
    if attn_mask is None:
        return causal_mask(*scores.shape[-2:], device=scores.device) if is_causal else None
    if is_causal:
        raise ValueError("attn_mask must be None when is_causal is True: combine the two yourself")
    if not isinstance(attn_mask, Tensor):
        raise TypeError(f"attn_mask must be a torch.Tensor, got {type(attn_mask).__name__}")
    if attn_mask.dtype not in (torch.bool, torch.float32, dtype):
        raise TypeError(
            f"attn_mask must be boolean, float32 or of the dtype of q, {dtype}, "
            f"got {attn_mask.dtype}"
        )
    _demand_mask_fits(attn_mask, scores)
    return attn_mask


def _demand_mask_fits(mask: Tensor, scores: Tensor) -> None:
    if mask.device != scores.device:
        raise ValueError(
            f"attn_mask must be on the device of q, {scores.device}, got {mask.device}"
        )
    sizes = zip(reversed(mask.shape), reversed(scores.shape), strict=False)
    if mask.dim() > scores.dim() or any(m not in (1, s) for m, s in sizes):
        raise ValueError(
            f"attn_mask must broadcast to the scores' shape {shape_of(scores)}, "
            f"got {shape_of(mask)}"
        )
    checked = mask.dtype != torch.bool and values_are_checked()
    if checked and bool((mask.isnan() | mask.isposinf()).any()):
        raise ValueError("attn_mask must be finite or -inf, but some of it is NaN or +inf")


# One head in training


def partner_scores(
    size: int,
    *,
    scale: float,
    generator: torch.Generator,
    steps: int = 5,
    tokens: int = 16,
    learning_rate: float = 0.05,
) -> Tensor:
    r"""Train one attention head to find each token's partner, and watch the partners' scores.

    The tokens are standard normal vectors of length D, their partners a random permutation;
    queries and keys are linear maps of the tokens. The maps start with variance 1/D and are
    trained by Adam, on the cross-entropy of the attention weights, with a learning rate
    proportional to 1/D, so that each step moves the coordinates of queries and keys by the same
    amount whatever D is.

    Parameters
    ----------
    size
        Length D of tokens, queries and keys.
    scale
        What the scores are multiplied by in training.
    generator
        Draws tokens, partners and initial maps.
    steps
        Training steps.
    tokens
        Number of tokens, at least 2.
    learning_rate
        Adam's learning rate times D.

    Returns
    -------
    Tensor
        ``(steps + 1,)``: the mean of :math:`q \cdot k` over the partners, unscaled, before
        training and after each step.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.scaled_dot_product import partner_scores
    >>> seen = partner_scores(32, scale=32**-0.5, generator=torch.Generator().manual_seed(0))
    >>> bool(seen[-1] > seen[0])
    True
    """
    size, steps = integer("size", size, at_least=1), integer("steps", steps, at_least=0)
    tokens, scale = integer("tokens", tokens, at_least=2), positive("scale", scale)
    rate = positive("learning_rate", learning_rate) / size
    x = _standard_normal((tokens, size), generator)
    partner = torch.randperm(tokens, generator=generator, device=x.device)
    maps = [_standard_normal((size, size), generator) / size**0.5 for _ in range(2)]
    optimizer = torch.optim.Adam([w.requires_grad_() for w in maps], lr=rate)
    seen = []
    for _ in range(steps + 1):
        scores = (x @ maps[0]) @ (x @ maps[1]).mT
        seen.append(scores.detach().gather(1, partner[:, None]).mean())
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores * scale, partner).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.stack(seen)


def _standard_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    random_generator("generator", generator)
    return torch.randn(shape, generator=generator, device=generator.device)
