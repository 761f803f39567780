r"""Multi-head attention: several small attentions side by side, and a linear map on top (hw9 3).

Throughout the package a boolean mask says True where a key *takes part*, as in
:func:`torch.nn.functional.scaled_dot_product_attention`. The masks of
:class:`torch.nn.MultiheadAttention` say the opposite: True where a key is *left out*. Invert a mask
(``~mask``) on its way from the one to the other.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor, nn

from dlchecked.arguments import (
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    random_generator,
    same_kind,
    shape_of,
)
from dlchecked.counting import Cost
from dlchecked.scaled_dot_product import (
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)

__all__ = [
    "MultiHeadAttention",
    "merge_heads",
    "multi_head_cost",
    "multi_head_parameters",
    "split_heads",
]


# Heads apart, and together again


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Cut each row into heads, and put the heads in front of the positions (hw9 3(a)).

    Head h gets the coordinates from ``h D`` to ``(h + 1) D - 1`` of every row. Cutting one
    dimension into two needs no copy whatever the strides are, and neither does a transposition:
    the result is a view.

    Parameters
    ----------
    x
        ``(B, N, H D)``, or with any leading dimensions before the last two.
    heads
        How many heads H.

    Returns
    -------
    Tensor
        ``(B, H, N, D)``, a view of `x`.

    Raises
    ------
    TypeError
        If `x` is no floating-point tensor, or `heads` no integer.
    ValueError
        If `x` has fewer than two dimensions, or `heads` does not divide its last one.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.multi_head import split_heads
    >>> split_heads(torch.zeros(2, 5, 12), 3).shape
    torch.Size([2, 3, 5, 4])
    """
    x = floating("x", x, at_least=2)
    heads = integer("heads", heads, at_least=1)
    if x.shape[-1] % heads:
        raise ValueError(
            f"heads must divide the last dimension of x, {x.shape[-1]}, got {heads} heads"
        )
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of each position side by side into one row; the inverse of `split_heads`.

    After the transposition the coordinates of a row lie ``N D`` numbers apart from head to head and
    1 apart within a head. No single stride reaches them all unless N, H or D is 1, so in
    general this makes a copy, and ``view`` would raise.

    Parameters
    ----------
    x
        ``(B, H, N, D)``, or with any leading dimensions before the last three.

    Returns
    -------
    Tensor
        ``(B, N, H D)``.

    Raises
    ------
    TypeError
        If `x` is no floating-point tensor.
    ValueError
        If it has fewer than three dimensions.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.multi_head import merge_heads, split_heads
    >>> x = torch.arange(24.0).reshape(1, 2, 12)
    >>> torch.equal(merge_heads(split_heads(x, 3)), x)
    True
    """
    return floating("x", x, at_least=3).transpose(-3, -2).flatten(-2)


# What it costs


def multi_head_parameters(
    d_model: int,
    num_heads: int,
    *,
    key_size: int | None = None,
    value_size: int | None = None,
    bias: bool = True,
) -> int:
    r"""Parameters of multi-head attention, :math:`2 d H (D + M)` weights and the biases.

    With :math:`d = d_\text{model}`, queries and keys take :math:`d \cdot H D` weights each, values
    and output :math:`d \cdot H M` each; the biases are :math:`2 H D + H M + d` numbers.

    Parameters
    ----------
    d_model, num_heads, key_size, value_size, bias
        As in :class:`MultiHeadAttention`.

    Returns
    -------
    int
        The number of parameters.

    Raises
    ------
    TypeError, ValueError
        As :class:`MultiHeadAttention`.

    Examples
    --------
    >>> from dlchecked.multi_head import multi_head_parameters
    >>> multi_head_parameters(512, 8)
    1050624
    """
    d, H, D, M = _sizes(d_model, num_heads, key_size, value_size)
    weights = 2 * d * H * (D + M)
    return weights + (2 * H * D + H * M + d if flag("bias", bias) else 0)


def multi_head_cost(
    d_model: int,
    num_heads: int,
    *,
    batch: int,
    queries: int,
    keys: int | None = None,
    key_size: int | None = None,
    value_size: int | None = None,
    bias: bool = True,
) -> Cost:
    r"""Operations of one forward pass without a mask, in three totals.

    With :math:`d = d_\text{model}`, the four maps take :math:`B d H (D + M) (N + S)` multiply-adds
    and the attention :math:`B H N S (D + M)`. Elementwise operations: each bias is added once to
    each output, each query coordinate scaled once, and the softmax takes four for each score. There
    is one exponential for each score. (Checks of values are not counted: see
    :func:`dlchecked.arguments.value_checks`.)

    Parameters
    ----------
    d_model, num_heads, key_size, value_size, bias
        As in :class:`MultiHeadAttention`.
    batch
        Sequences B.
    queries
        Positions N of each.
    keys
        Positions S that they look at; as many as `queries` if not given.

    Returns
    -------
    Cost
        Multiply-adds, elementwise operations, evaluations of exp.

    Raises
    ------
    TypeError, ValueError
        As :class:`MultiHeadAttention`, and for counts that are no integers of at least 1.

    Examples
    --------
    >>> from dlchecked.multi_head import multi_head_cost
    >>> multi_head_cost(512, 8, batch=1, queries=100).multiply_adds
    115097600
    """
    d, H, D, M = _sizes(d_model, num_heads, key_size, value_size)
    B, N = integer("batch", batch, at_least=1), integer("queries", queries, at_least=1)
    S = N if keys is None else integer("keys", keys, at_least=1)
    scores = B * H * N * S
    added = B * (N * H * D + S * H * D + S * H * M + N * d) if flag("bias", bias) else 0
    return Cost(
        multiply_adds=B * d * H * (D + M) * (N + S) + scores * (D + M),
        elementwise=added + B * N * H * D + 4 * scores,
        transcendental=scores,
    )


def _sizes(
    d_model: object, num_heads: object, key_size: object, value_size: object
) -> tuple[int, int, int, int]:
    """Check the sizes at the door; return d_model, H, D and M."""
    d = integer("d_model", d_model, at_least=1)
    heads = integer("num_heads", num_heads, at_least=1)
    if d % heads and (key_size is None or value_size is None):
        raise ValueError(
            f"num_heads must divide d_model, {d}, unless key_size and value_size are both given, "
            f"got {heads} heads"
        )
    D = d // heads if key_size is None else integer("key_size", key_size, at_least=1)
    M = d // heads if value_size is None else integer("value_size", value_size, at_least=1)
    return d, heads, D, M


# Multi-head attention


class MultiHeadAttention(nn.Module):
    r"""Multi-head attention with a linear map on top (hw9 3).

    Queries, keys and values are linear maps of the inputs, cut into H heads; each head attends for
    itself (:func:`~dlchecked.scaled_dot_product.scaled_dot_product_attention`, scale
    :math:`1/\sqrt D`); the results are put side by side and mapped back to :math:`d_\text{model}`,
    so that they can be added to the input. There is no dropout.

    Parameters
    ----------
    d_model
        Width of the inputs and of the output.
    num_heads
        Heads H.
    key_size
        Size D of queries and keys per head; ``d_model / num_heads`` if not given.
    value_size
        Size M of values per head, independent of D; ``d_model / num_heads`` if not given.
    bias
        Whether the four maps have one.
    dtype, device
        Of the parameters; torch's defaults if not given.
    generator
        Draws the parameters, from the law that :class:`torch.nn.Linear` uses: uniform between
        :math:`\pm 1/\sqrt{\text{inputs}}`. The same generator gives the same parameters in every
        dtype (up to rounding) and on every device. Without one, torch's global generator.

    Attributes
    ----------
    q_proj, k_proj, v_proj
        The maps ``d_model -> H D``, ``d_model -> H D`` and ``d_model -> H M``.
    out_proj
        The map ``H M -> d_model``.

    Raises
    ------
    TypeError
        For sizes that are no integers, a `dtype` that is none of floating point, a `bias` that is
        no bool, or a `generator` that is none.
    ValueError
        For sizes below 1, or if `num_heads` does not divide `d_model` where it has to.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.multi_head import MultiHeadAttention
    >>> attend = MultiHeadAttention(12, 3, value_size=8)
    >>> x = torch.zeros(2, 5, 12)
    >>> attend(x, x, x, is_causal=True).shape
    torch.Size([2, 5, 12])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        key_size: int | None = None,
        value_size: int | None = None,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        d, H, D, M = _sizes(d_model, num_heads, key_size, value_size)
        self.d_model, self.num_heads, self.key_size, self.value_size = d, H, D, M
        flag("bias", bias)
        if dtype is not None:
            floating_dtype("dtype", dtype)
        if generator is not None:
            random_generator("generator", generator)

        def linear(inputs: int, outputs: int) -> nn.Linear:
            return _linear(inputs, outputs, bias, dtype, device, generator)

        self.q_proj, self.k_proj = linear(d, H * D), linear(d, H * D)
        self.v_proj, self.out_proj = linear(d, H * M), linear(H * M, d)

    def extra_repr(self) -> str:
        """Return the sizes, for the module's printed form."""
        return (
            f"{self.d_model}, {self.num_heads}, key_size={self.key_size}, "
            f"value_size={self.value_size}"
        )

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Tensor | None = ...,
        key_padding_mask: Tensor | None = ...,
        is_causal: bool = ...,
        need_weights: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Tensor | None = ...,
        key_padding_mask: Tensor | None = ...,
        is_causal: bool = ...,
        need_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from each position of `query` to the positions of `key`.

        Parameters
        ----------
        query
            ``(B, N, d_model)``. For self-attention pass the same tensor three times.
        key, value
            ``(B, S, d_model)``: what keys and values are computed from.
        attn_mask
            Boolean, True where a key takes part; or floating point, added to the scaled scores,
            where ``-inf`` hides a key. ``(N, S)`` for all sequences and heads, or four dimensions
            that broadcast to ``(B, H, N, S)``; in either form a size may be 1 instead. Three
            are refused: they could mean one mask for each sequence or one for each head.
        key_padding_mask
            ``(B, S)``, boolean, True where a position is a token that takes part and False where it
            is padding. (In :class:`torch.nn.MultiheadAttention` it is the other way round.) May be
            combined with the other two.
        is_causal
            Hide from each query the keys after its own position, counted from the top left corner.
            Not together with `attn_mask`.
        need_weights
            Return the attention weights as well.

        Returns
        -------
        Tensor or (Tensor, Tensor)
            ``(B, N, d_model)``, in the dtype of the parameters; with `need_weights` also
            ``(B, H, N, S)``, one set of weights for each head. A query that the masks leave no key
            gets zeros from every head, so that its output is the bias of `out_proj`; its
            weights are zero, and it passes back zero gradients.

        Raises
        ------
        TypeError
            For something that is no floating-point tensor, a dtype that is not the parameters', a
            mask of the wrong dtype.
        ValueError
            For shapes or devices that do not fit, `attn_mask` together with `is_causal`, or (see
            :func:`dlchecked.arguments.value_checks`) an input that is not finite. Padding must
            be finite, too: a weight of zero times NaN is NaN.
        """
        self._demand_inputs(query, key, value)
        flag("need_weights", need_weights)
        B, N, S = query.shape[0], query.shape[1], key.shape[1]
        mask, is_causal = _combined_mask(
            (B, self.num_heads, N, S), query.device, attn_mask, key_padding_mask, is_causal
        )
        q = split_heads(self.q_proj(query), self.num_heads)
        k = split_heads(self.k_proj(key), self.num_heads)
        v = split_heads(self.v_proj(value), self.num_heads)
        heads = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
        output: Tensor = self.out_proj(merge_heads(heads))
        if not need_weights:
            return output
        return output, attention_weights(q, k, attn_mask=mask, is_causal=is_causal)

    def _demand_inputs(self, query: object, key: object, value: object) -> None:
        given = {"query": query, "key": key, "value": value}
        inputs = {name: floating(name, x, exactly=3) for name, x in given.items()}
        same_kind(**{"the parameters": self.q_proj.weight}, **inputs)
        for name, x in inputs.items():
            if x.shape[-1] != self.d_model:
                raise ValueError(
                    f"{name} must have the width d_model = {self.d_model}, got shape {shape_of(x)}"
                )
            finite(name, x)
        batch, keys = inputs["query"].shape[0], inputs["key"].shape[:2]
        if keys[0] != batch or keys[1] == 0:
            raise ValueError(
                f"key must hold {batch} sequences, as query does, of at least one position, "
                f"got shape {shape_of(inputs['key'])}"
            )
        if inputs["value"].shape[:2] != keys:
            raise ValueError(
                f"value must have one row for each key, {tuple(keys)}, "
                f"got shape {shape_of(inputs['value'])}"
            )


def _linear(
    inputs: int,
    outputs: int,
    bias: bool,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> nn.Linear:
    """Return nn.Linear with its own law of initial values, drawn from a generator in float32."""
    # nn.Linear would draw from the global generator; skip_init leaves that one alone.
    home = torch.get_default_device() if device is None else device
    linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs, bias=bias, dtype=dtype, device=home
    )
    bound, where = inputs**-0.5, generator.device if generator is not None else "cpu"
    with torch.no_grad():
        for parameter in linear.parameters():
            drawn = torch.rand(
                parameter.shape, generator=generator, device=where, dtype=torch.float32
            )
            parameter.copy_(bound * (2 * drawn - 1))
    return linear


def _combined_mask(
    scores: tuple[int, int, int, int],
    device: torch.device,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    is_causal: bool,
) -> tuple[Tensor | None, bool]:
    """Check the masks against the scores' shape; return one mask and whether it is causal still."""
    if attn_mask is not None:
        _demand_attn_mask(attn_mask, scores, device)
    if flag("is_causal", is_causal) and attn_mask is not None:
        raise ValueError("attn_mask must be None when is_causal is True: combine the two yourself")
    if key_padding_mask is None:
        return attn_mask, is_causal
    B, _, N, S = scores
    _demand_padding_mask(key_padding_mask, (B, S), device)
    # A dimension for the heads and one for the queries: (B, S) alone would be read as (N, S).
    kept = key_padding_mask[:, None, None, :]
    if is_causal:
        return kept & causal_mask(N, S, device=device), False
    if attn_mask is None:
        return kept, False
    if attn_mask.dtype == torch.bool:
        return kept & attn_mask, False
    return torch.where(kept, attn_mask, -math.inf), False


def _demand_attn_mask(
    mask: object, scores: tuple[int, int, int, int], device: torch.device
) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"attn_mask must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"attn_mask must be boolean or of floating point, got {mask.dtype}")
    _demand_device("attn_mask", mask, device)
    expected = scores[2:] if mask.dim() == 2 else scores
    fits = mask.dim() in (2, 4) and all(
        m in (1, s) for m, s in zip(mask.shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"attn_mask must have the shape (N, S) = {scores[2:]}, or broadcast to "
            f"(B, H, N, S) = {scores} with four dimensions, got {shape_of(mask)}"
        )


def _demand_padding_mask(mask: object, shape: tuple[int, int], device: torch.device) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"key_padding_mask must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(
            f"key_padding_mask must be boolean, True where a key takes part, got {mask.dtype}"
        )
    _demand_device("key_padding_mask", mask, device)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"key_padding_mask must have the shape (B, S) = {shape}, got {shape_of(mask)}"
        )


def _demand_device(name: str, mask: Tensor, device: torch.device) -> None:
    if mask.device != device:
        raise ValueError(f"{name} must be on the device of query, {device}, got {mask.device}")
