"""Decoding one token at a time: a key-value cache, grouped heads, and what a step costs (hw9 4).

The module has three parts. :class:`KeyValueCache` holds the keys and values of the positions seen
so far. :class:`GroupedQueryAttention` attends with it: ``G`` groups of heads share keys and values,
so that ``G = H`` is multi-head and ``G = 1`` multi-query attention. :class:`DecodingStep` says
exactly what one step computes and moves, and :class:`Roofline` which of the two takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as fused_attention

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    value_checks,
)
from dlchecked.counting import Cost
from dlchecked.multi_head import merge_heads, split_heads
from dlchecked.scaled_dot_product import masked_softmax

__all__ = [
    "DecodingStep",
    "GroupedQueryAttention",
    "KeyValueCache",
    "Roofline",
    "Traffic",
    "cache_bytes",
    "grouped_query_attention",
]


# The cache


class KeyValueCache:
    """The keys and values of the positions seen so far, for one attention layer.

    Without `capacity` it grows by concatenation, as in hw9 4: every append copies all that is
    there. With `capacity` the room is reserved once, and an append writes the new positions only.

    Parameters
    ----------
    B
        Sequences in the batch.
    G
        Groups that keys and values are kept for: as many as heads in multi-head attention, one in
        multi-query attention.
    D, M
        Sizes of a key and of a value.
    capacity
        The number of positions to reserve room for; None to grow.
    dtype, device
        Of keys and values.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer of at least 1, or `dtype` no floating-point dtype.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.decoding import KeyValueCache
    >>> cache = KeyValueCache(1, 2, 4, 4, capacity=8)
    >>> keys, values = cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    >>> keys.shape, len(cache)
    (torch.Size([1, 2, 3, 4]), 3)
    """

    def __init__(
        self,
        B: int,
        G: int,
        D: int,
        M: int,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        sizes = {"B": B, "G": G, "D": D, "M": M}
        self.B, self.G, self.D, self.M = (
            integer(name, size, at_least=1) for name, size in sizes.items()
        )
        floating_dtype("dtype", dtype)
        self.capacity = None if capacity is None else integer("capacity", capacity, at_least=1)
        room = self.capacity or 0
        self._keys = torch.empty(self.B, self.G, room, self.D, dtype=dtype, device=device)
        self._values = torch.empty(self.B, self.G, room, self.M, dtype=dtype, device=device)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def keys(self) -> Tensor:
        """The keys so far, ``(B, G, N, D)``, a view of the room where it is reserved."""
        return self._keys[:, :, : self._length]

    @property
    def values(self) -> Tensor:
        """The values so far, ``(B, G, N, M)``."""
        return self._values[:, :, : self._length]

    @property
    def nbytes(self) -> int:
        """The bytes of all positions so far, or of all that there is room for."""
        return sum(x.numel() * x.element_size() for x in (self._keys, self._values))

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of further positions, and return all of them.

        Parameters
        ----------
        k
            ``(B, G, T, D)``, for T new positions.
        v
            ``(B, G, T, M)``.

        Returns
        -------
        tuple of Tensor
            All keys ``(B, G, N + T, D)`` and all values ``(B, G, N + T, M)``.

        Raises
        ------
        TypeError
            For something that is no tensor, or another dtype than the cache's.
        ValueError
            For shapes or devices that do not fit, values that are not finite, a cache that has no
            room left, or a gradient asked of one with a capacity. The cache is then as it was.
        """
        self._demand_fit(k, v)
        T = int(k.shape[2])
        if self.capacity is None:
            self._keys = torch.cat([self._keys, k], dim=2)
            self._values = torch.cat([self._values, v], dim=2)
        else:
            self._demand_room(T)
            if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
                raise ValueError(
                    "k and v must not require a gradient: a cache with a capacity is overwritten "
                    "in place; use torch.no_grad(), or a cache that grows"
                )
            new = slice(self._length, self._length + T)
            self._keys[:, :, new] = k
            self._values[:, :, new] = v
        self._length += T
        return self.keys, self.values

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on, as when proposed tokens are rejected.

        Parameters
        ----------
        length
            How many positions stay.

        Raises
        ------
        TypeError, ValueError
            If it is no integer from 0 to the present length.
        """
        length = integer("length", length, at_least=0)
        if length > self._length:
            raise ValueError(f"length must be at most {self._length}, got {length}")
        self._length = length
        if self.capacity is None:
            self._keys, self._values = self.keys, self.values

    def _demand_fit(self, k: Tensor, v: Tensor) -> None:
        floating("k", k, exactly=4)
        floating("v", v, exactly=4)
        same_kind(cache=self._keys, k=k, v=v)
        T = k.shape[2]
        for name, x, size in (("k", k, self.D), ("v", v, self.M)):
            if tuple(x.shape) != (self.B, self.G, T, size):
                raise ValueError(
                    f"{name} must have shape (B, G, T, size) = {(self.B, self.G, T, size)} "
                    f"for this cache, got {shape_of(x)}"
                )
        finite("k", k)
        finite("v", v)

    def _demand_room(self, T: int) -> None:
        assert self.capacity is not None
        if self._length + T > self.capacity:
            raise ValueError(
                f"the cache is full: capacity = {self.capacity}, it holds {self._length} positions "
                f"and was given {T} more"
            )


# Attention with grouped heads


def grouped_query_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    fused: bool = False,
) -> Tensor:
    r"""Scaled dot-product attention whose heads share keys and values in groups.

    Head ``h`` uses group ``h // (H / G)``: neighbouring heads share. No key or value is repeated in
    memory; the heads of a group become further queries of one product.

    Parameters
    ----------
    q
        Queries of the *last* T of S positions, ``(B, H, T, D)``.
    k
        Keys, ``(B, G, S, D)``, where G divides H.
    v
        Values, ``(B, G, S, M)``.
    is_causal
        Hide from each query the keys after its own position. Unlike in PyTorch's function the
        *last* query sees all keys, however many there are: it stands at the end.
    scale
        What the dot products are multiplied by; :math:`1/\sqrt D` if not given (hw9 1(c)).
    fused
        Use PyTorch's function, whose kernels keep scores out of memory (on a CPU it has one for
        D = M only). Otherwise the scores are written out, and 16-bit keys and values are first
        copied to float32.

    Returns
    -------
    Tensor
        ``(B, H, T, M)``, in the dtype of `q`.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor, mixed dtypes, or a flag that is no bool.
    ValueError
        For shapes or devices that do not fit, T > S with `is_causal`, `scale` not above zero, or
        an input that is not finite (:func:`dlchecked.arguments.value_checks` switches that off).

    Examples
    --------
    >>> import torch
    >>> from dlchecked.decoding import grouped_query_attention
    >>> q, k, v = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 3, 8), torch.ones(1, 2, 3, 5)
    >>> grouped_query_attention(q, k, v).shape
    torch.Size([1, 4, 1, 5])
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        floating(name, x, exactly=4)
    flag("is_causal", is_causal)
    flag("fused", fused)
    H, T, G, S = q.shape[1], q.shape[2], k.shape[1], k.shape[2]
    _demand_groups("k", H, G)
    if is_causal and T > S:
        raise ValueError(f"q must be the last of S = {S} positions, got shape {shape_of(q)}")
    # Everything else that can be wrong with shapes shows in one head of each group.
    attention_inputs(q[:, :: H // G], k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else positive("scale", scale)
    for name, x in (("q", q), ("k", k), ("v", v)):
        finite(name, x)
    out = _attend(q, k, v, is_causal, scale, fused)
    finite("the scaled product of q and k", out)
    return out


def _demand_groups(name: str, H: int, G: int) -> None:
    if G < 1 or H < 1 or H % G:
        raise ValueError(f"{name} must have a number of groups that divides H = {H}, got G = {G}")


def _attend(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float, fused: bool) -> Tensor:
    """Attend with tensors that fit; reads each cached key and value once, where it lies."""
    B, H, T, D = q.shape
    G, S = k.shape[1], k.shape[2]
    # The heads of a group, and the queries of each, become the queries of one product.
    q = q.reshape(B, G, H // G * T, D)
    mask = None
    if is_causal and T > 1:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T).repeat(H // G, 1)
    if fused:
        out = fused_attention(q, k, v, attn_mask=mask, scale=scale)
    else:
        wide = torch.promote_types(q.dtype, torch.float32)
        rows, keys, values = (x.flatten(0, 1).to(wide) for x in (q, k, v))
        scores = torch.bmm(rows * scale, keys.mT)
        weights = masked_softmax(scores, attn_mask=mask, dtype=wide)
        out = torch.bmm(weights, values).to(q.dtype)
    return out.reshape(B, H, T, v.shape[-1])


class GroupedQueryAttention(nn.Module):
    r"""Causal self-attention with H heads and G groups, for whole sequences and step by step.

    With ``num_groups = num_heads`` it is the multi-head attention of hw9 4, with ``num_groups = 1``
    multi-query attention, both with the scale :math:`1/\sqrt D` of hw9 1, which the sheet's
    listings leave out. As there, the projections have no biases.

    Parameters
    ----------
    d_model
        Width of inputs and outputs.
    num_heads
        Number H of query heads.
    num_groups
        Number G of groups, a divisor of H; H if not given.
    key_size, value_size
        Sizes D and M per head; by default ``d_model // num_heads`` and D.
    scale, fused
        As in :func:`grouped_query_attention`.
    generator
        Draws the weights, with variance one over the number of inputs; the module is on its device.
    dtype
        Of the weights.

    Attributes
    ----------
    q_proj, k_proj, v_proj, out_proj
        The maps ``d_model -> H D``, ``d_model -> G D``, ``d_model -> G M`` and ``H M -> d_model``,
        named as in :class:`~dlchecked.multi_head.MultiHeadAttention`.
    H, G, D, M
        The sizes.

    Raises
    ------
    TypeError, ValueError
        For sizes out of range or that do not divide, no generator, or no floating-point `dtype`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.decoding import GroupedQueryAttention
    >>> source = torch.Generator().manual_seed(0)
    >>> attention = GroupedQueryAttention(12, 6, num_groups=2, generator=source)
    >>> cache = attention.new_cache(3, capacity=10)
    >>> with torch.no_grad():
    ...     attention.step(torch.zeros(3, 12), cache).shape
    torch.Size([3, 12])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_groups: int | None = None,
        key_size: int | None = None,
        value_size: int | None = None,
        scale: float | None = None,
        fused: bool = False,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        random_generator("generator", generator)
        self.d_model = integer("d_model", d_model, at_least=1)
        self.H = integer("num_heads", num_heads, at_least=1)
        self.G = self.H if num_groups is None else integer("num_groups", num_groups, at_least=1)
        if self.H % self.G:
            raise ValueError(f"num_groups must divide num_heads = {self.H}, got {self.G}")
        if key_size is None and self.d_model % self.H:
            raise ValueError(
                f"num_heads must divide d_model = {self.d_model} where key_size is not given, "
                f"got {self.H}"
            )
        default = self.d_model // self.H
        self.D = default if key_size is None else integer("key_size", key_size, at_least=1)
        self.M = self.D if value_size is None else integer("value_size", value_size, at_least=1)
        self.scale = self.D**-0.5 if scale is None else positive("scale", scale)
        self.fused = flag("fused", fused)
        floating_dtype("dtype", dtype)

        def drawn(inputs: int, outputs: int) -> nn.Linear:
            return _drawn(inputs, outputs, generator, dtype)

        self.q_proj = drawn(self.d_model, self.H * self.D)
        self.k_proj = drawn(self.d_model, self.G * self.D)
        self.v_proj = drawn(self.d_model, self.G * self.M)
        self.out_proj = drawn(self.H * self.M, self.d_model)

    @classmethod
    def from_heads(
        cls,
        W_q: Tensor,
        W_k: Tensor,
        W_v: Tensor,
        W_o: Tensor,
        *,
        scale: float | None = None,
        fused: bool = False,
    ) -> GroupedQueryAttention:
        """Make one from weights in the sheet's layout, a matrix for each head (hw9 4).

        Parameters
        ----------
        W_q
            ``(H, d_model, D)``.
        W_k, W_v
            ``(G, d_model, D)`` and ``(G, d_model, M)``.
        W_o
            ``(H, M, d_model)``.
        scale, fused
            As in the class.

        Returns
        -------
        GroupedQueryAttention
            With copies of the weights.

        Raises
        ------
        TypeError, ValueError
            For tensors that do not fit each other.
        """
        given = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_o": W_o}
        for name, weight in given.items():
            floating(name, weight, exactly=3)
        same_kind(**given)
        (H, d_model, D), G, M = W_q.shape, W_k.shape[0], W_v.shape[2]
        fitting = {"W_k": (G, d_model, D), "W_v": (G, d_model, M), "W_o": (H, M, d_model)}
        for name, shape in fitting.items():
            if tuple(given[name].shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {shape_of(given[name])}")
        _demand_groups("W_k", H, G)
        made = cls(
            d_model,
            H,
            num_groups=G,
            key_size=D,
            value_size=M,
            scale=scale,
            fused=fused,
            generator=torch.Generator(device=W_q.device),
            dtype=W_q.dtype,
        )
        into = {made.q_proj: W_q, made.k_proj: W_k, made.v_proj: W_v}
        with torch.no_grad():
            for projection, weight in into.items():
                projection.weight.copy_(weight.transpose(1, 2).flatten(0, 1))
            made.out_proj.weight.copy_(W_o.flatten(0, 1).T)
        return made

    def new_cache(self, B: int, *, capacity: int | None = None) -> KeyValueCache:
        """Make an empty cache that fits this layer (see :class:`KeyValueCache`)."""
        weight = self.k_proj.weight
        return KeyValueCache(
            B,
            self.G,
            self.D,
            self.M,
            capacity=capacity,
            dtype=weight.dtype,
            device=weight.device,
        )

    def forward(self, x: Tensor, *, cache: KeyValueCache | None = None) -> Tensor:
        """Attend causally from T new positions to themselves and to those in the cache.

        Parameters
        ----------
        x
            The new positions, ``(B, T, d_model)``.
        cache
            The positions before them; the new ones are appended. None for a sequence from its
            start, with nothing kept.

        Returns
        -------
        Tensor
            ``(B, T, d_model)``, in the dtype of `x`.

        Raises
        ------
        TypeError, ValueError
            For an input or a cache that does not fit, one that is full, or (see
            :func:`dlchecked.arguments.value_checks`) an input, or a product on the way, that is not
            finite. The cache is then as it was.
        """
        self._demand_input(x, 3)
        if x.shape[1] == 0:
            raise ValueError(f"x must hold at least one position, got shape {shape_of(x)}")
        if cache is not None and not isinstance(cache, KeyValueCache):
            raise TypeError(f"cache must be a KeyValueCache, got {type(cache).__name__}")
        q, k, v = (
            split_heads(_by_rows(projection, x), heads)
            for projection, heads in (
                (self.q_proj, self.H),
                (self.k_proj, self.G),
                (self.v_proj, self.G),
            )
        )
        for name, projected in (("q_proj(x)", q), ("k_proj(x)", k), ("v_proj(x)", v)):
            finite(name, projected)
        if cache is not None:
            with value_checks(False):  # they have just been checked
                k, v = cache.append(k, v)
        heads = _attend(q, k, v, True, self.scale, self.fused)
        try:
            finite("the scaled product of queries and keys", heads)
        except ValueError:
            if cache is not None:  # a refused step leaves it as it was
                cache.truncate(len(cache) - x.shape[1])
            raise
        return _by_rows(self.out_proj, merge_heads(heads))

    def step(self, x: Tensor, cache: KeyValueCache) -> Tensor:
        """Decode one token for each sequence of the batch (hw9 4).

        Parameters
        ----------
        x
            The tokens, ``(B, d_model)``.
        cache
            The positions before them; these are appended.

        Returns
        -------
        Tensor
            ``(B, d_model)``, in the dtype of `x`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`forward`.
        """
        self._demand_input(x, 2)
        if not isinstance(cache, KeyValueCache):
            raise TypeError(f"cache must be a KeyValueCache, got {type(cache).__name__}")
        return self.forward(x.unsqueeze(1), cache=cache).squeeze(1)

    def extra_repr(self) -> str:
        """Return the sizes, for the module's printed form."""
        return f"d_model={self.d_model}, H={self.H}, G={self.G}, D={self.D}, M={self.M}"

    def _demand_input(self, x: Tensor, rank: int) -> None:
        floating("x", x, exactly=rank)
        same_kind(**{"the weights": self.q_proj.weight, "x": x})
        if x.shape[-1] != self.d_model:
            raise ValueError(f"x must have the width d_model = {self.d_model}, got {shape_of(x)}")
        if x.shape[0] == 0:
            raise ValueError(f"x must hold at least one sequence, got shape {shape_of(x)}")
        finite("x", x)


def _by_rows(projection: nn.Linear, x: Tensor) -> Tensor:
    """Apply a projection to all positions as one matrix product."""
    rows: Tensor = projection(x.flatten(0, 1))
    return rows.unflatten(0, x.shape[:2])  # type: ignore[no-untyped-call, no-any-return]


def _drawn(inputs: int, outputs: int, generator: torch.Generator, dtype: torch.dtype) -> nn.Linear:
    """Return nn.Linear with normal weights; skip_init leaves the global generator alone."""
    projection: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs, bias=False, dtype=dtype, device=generator.device
    )
    nn.init.normal_(projection.weight, std=inputs**-0.5, generator=generator)
    return projection


# What a step costs


class Traffic(NamedTuple):
    """Numbers moved between memory and the processor, read and written, by what they are."""

    weights: int
    cache: int
    scores: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


@dataclass(frozen=True)
class DecodingStep:
    r"""What :meth:`GroupedQueryAttention.step` computes and moves, exactly (hw9 4(f), (g)).

    Attributes
    ----------
    B
        Sequences in the batch.
    N
        Positions in the cache before the step; the step attends to N + 1.
    d_model
        Width of the model.
    H, G
        Heads and groups.
    D, M
        Sizes of a key and of a value.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer of at least 1 (N: 0), or G does not divide H.

    Examples
    --------
    >>> from dlchecked.decoding import DecodingStep
    >>> step = DecodingStep(B=1, N=1023, d_model=512, H=8, G=1, D=64, M=64)
    >>> step.cost().multiply_adds, step.traffic(fused=True).cache
    (1638400, 131200)
    """

    B: int
    N: int
    d_model: int
    H: int
    G: int
    D: int
    M: int

    def __post_init__(self) -> None:
        for name in ("B", "N", "d_model", "H", "G", "D", "M"):
            integer(name, getattr(self, name), at_least=int(name != "N"))
        _demand_groups("G", self.H, self.G)

    def cost(self) -> Cost:
        """Operations of the step, value checks not included.

        Returns
        -------
        Cost
            The multiply-adds of four projections and two products with the cache; scaling the
            queries and the softmax's four elementwise operations and one exponential a score.
        """
        scores = self.B * self.H * (self.N + 1)
        projections = self.B * self._weights()
        scaling = self.B * self.H * self.D
        return Cost(projections + scores * (self.D + self.M), scaling + 4 * scores, scores)

    def traffic(self, *, fused: bool = False, grown: bool = False) -> Traffic:
        """Numbers read and written, each operation fetching its arguments and storing its results.

        Parameters
        ----------
        fused
            The scores never reach memory. Otherwise they are written, read and written by the
            softmax, and read again. (A fused kernel also writes one number for each head, the
            logarithm of the softmax's denominator.)
        grown
            The cache grows by concatenation, which reads and writes all of it.

        Returns
        -------
        Traffic
            Numbers, not bytes: multiply by the size of one.
        """
        position = self.B * self.G * (self.D + self.M)
        cache = position * (self.N + 2) + grown * position * 2 * self.N
        queries, outputs = self.B * self.H * self.D, self.B * self.H * self.M
        # x for three projections and y; q written and read, new keys and values written and read,
        # the heads' outputs written and read.
        activations = 4 * self.B * self.d_model + 2 * (queries + position + outputs)
        activations += self.B * self.H if fused else 2 * queries  # the scaled queries
        scores = 0 if fused else 4 * self.B * self.H * (self.N + 1)
        return Traffic(self._weights(), cache, scores, activations)

    def intensity(self, *, fused: bool = True, grown: bool = False) -> float:
        """Multiply-adds for each number moved.

        With 2-byte numbers, and two operations (FLOP) a multiply-add, it is also the FLOP per byte
        that datasheets use.
        """
        return self.cost().multiply_adds / self.traffic(fused=fused, grown=grown).total

    def overtaking_length(self) -> Fraction:
        """The N at which reading N cached positions moves as much as reading the weights."""
        return Fraction(self._weights(), self.B * self.G * (self.D + self.M))

    def _weights(self) -> int:
        return self.d_model * (self.H + self.G) * (self.D + self.M)


def cache_bytes(
    *, layers: int, G: int, D: int, M: int | None = None, B: int = 1, N: int = 1, itemsize: int = 2
) -> int:
    """Bytes of a whole model's key-value cache; by default those of one token.

    Parameters
    ----------
    layers
        Attention layers that keep a cache.
    G
        Groups a layer, which is H for multi-head and 1 for multi-query attention.
    D, M
        Sizes of a key and of a value; M is D if not given.
    B, N
        Sequences and positions.
    itemsize
        Bytes a number; 2 for bfloat16 and float16.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer of at least 1.

    Examples
    --------
    >>> from dlchecked.decoding import cache_bytes
    >>> cache_bytes(layers=32, G=8, D=128)
    131072
    """
    M = D if M is None else M
    sizes = {"layers": layers, "G": G, "D": D, "M": M, "B": B, "N": N, "itemsize": itemsize}
    for name, size in sizes.items():
        integer(name, size, at_least=1)
    return layers * G * (D + M) * B * N * itemsize


@dataclass(frozen=True)
class Roofline:
    """The simplest model of a machine: it computes at one rate, and moves at another.

    Attributes
    ----------
    flops
        Operations a second; a multiply-add is two.
    bandwidth
        Bytes a second.

    Raises
    ------
    TypeError, ValueError
        If one of them is no positive, finite number.

    Examples
    --------
    >>> from dlchecked.decoding import Roofline
    >>> Roofline(flops=100e12, bandwidth=1e12).ridge
    100.0
    """

    flops: float
    bandwidth: float

    def __post_init__(self) -> None:
        positive("flops", self.flops)
        positive("bandwidth", self.bandwidth)

    @property
    def ridge(self) -> float:
        """The operations a byte from which on the machine waits for arithmetic, not for memory."""
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Operations a second that an intensity, in operations a byte, allows at most."""
        return min(self.flops, positive("intensity", intensity) * self.bandwidth)

    def seconds(self, step: DecodingStep, *, itemsize: int = 2, fused: bool = True) -> float:
        """The least time of a step: the longer of computing and moving, which may overlap."""
        if not isinstance(step, DecodingStep):
            raise TypeError(f"step must be a DecodingStep, got {type(step).__name__}")
        moved = integer("itemsize", itemsize, at_least=1) * step.traffic(fused=fused).total
        return max(2 * step.cost().multiply_adds / self.flops, moved / self.bandwidth)
