"""Decoding with a cache: agreement with full attention, exact costs, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlchecked.arguments import value_checks
from dlchecked.counting import count_operations, peak_bytes
from dlchecked.decoding import (
    DecodingStep,
    GroupedQueryAttention,
    KeyValueCache,
    Roofline,
    cache_bytes,
    grouped_query_attention,
)
from dlchecked.multi_head import MultiHeadAttention

theirs = torch.nn.functional.scaled_dot_product_attention
F64 = torch.float64


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=F64).to(dtype)


def layer(
    H: int = 6,
    G: int = 3,
    *,
    d_model: int = 20,
    D: int = 5,
    M: int = 3,
    fused: bool = False,
    dtype: torch.dtype = F64,
) -> GroupedQueryAttention:
    made = GroupedQueryAttention(
        d_model,
        H,
        num_groups=G,
        key_size=D,
        value_size=M,
        fused=fused,
        generator=source(7),
        dtype=dtype,
    )
    return made.requires_grad_(False)


def decoded(attention: GroupedQueryAttention, x: Tensor, cache: KeyValueCache) -> Tensor:
    return torch.stack([attention.step(token, cache) for token in x.unbind(1)], dim=1)


# Attention with groups


@settings(max_examples=40, deadline=None)
@given(
    B=st.integers(1, 3),
    G=st.integers(1, 3),
    share=st.integers(1, 3),
    T=st.integers(1, 4),
    before=st.integers(0, 4),
    D=st.integers(1, 5),
    M=st.integers(1, 5),
    causal=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
    fused=st.booleans(),
)
def test_groups_are_heads_with_repeated_keys(
    B: int,
    G: int,
    share: int,
    T: int,
    before: int,
    D: int,
    M: int,
    causal: bool,
    scale: float | None,
    fused: bool,
) -> None:
    S = T + before
    q, k, v = normal(B, G * share, T, D), normal(B, G, S, D, seed=1), normal(B, G, S, M, seed=2)
    got = grouped_query_attention(q, k, v, is_causal=causal, scale=scale, fused=fused)
    keys, values = (x.repeat_interleave(share, dim=1) for x in (k, v))
    mask = torch.ones(T, S, dtype=torch.bool).tril(before) if causal else None
    expected = theirs(q, keys, values, attn_mask=mask, scale=scale)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_the_last_query_sees_every_key_and_no_query_a_later_one() -> None:
    q, k, v = normal(1, 4, 3, 5), normal(1, 2, 6, 5, seed=1), normal(1, 2, 6, 5, seed=2)
    before = grouped_query_attention(q, k, v, is_causal=True)
    k[:, :, -1] += 3
    after = grouped_query_attention(q, k, v, is_causal=True)
    assert torch.equal(before[:, :, :-1], after[:, :, :-1])
    assert not torch.equal(before[:, :, -1], after[:, :, -1])


@pytest.mark.parametrize("fused", [False, True])
def test_gradients(fused: bool) -> None:
    tensors = [
        x.requires_grad_()
        for x in (normal(1, 4, 2, 3), normal(1, 2, 3, 3, seed=1), normal(1, 2, 3, 3, seed=2))
    ]
    assert torch.autograd.gradcheck(
        lambda q, k, v: grouped_query_attention(q, k, v, is_causal=True, fused=fused), tensors
    )


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Sums of some tens of terms of size one in float32.
        (torch.float32, 5e-6),
        # Exact inputs, float32 inside, one rounding of results below four. PyTorch's fused kernel
        # also rounds the weights before it multiplies them with the values.
        (torch.float16, 4 * torch.finfo(torch.float16).eps),
        (torch.bfloat16, 4 * torch.finfo(torch.bfloat16).eps),
    ],
)
def test_dtypes(dtype: torch.dtype, tolerance: float, fused: bool) -> None:
    q, k, v = (
        normal(*s, seed=i).to(dtype) for i, s in enumerate([(2, 4, 1, 16)] + [(2, 2, 9, 16)] * 2)
    )
    got = grouped_query_attention(q, k, v, fused=fused)
    exact = grouped_query_attention(q.double(), k.double(), v.double())
    assert got.dtype == dtype
    assert (got.double() - exact).abs().max().item() <= tolerance


# The layer


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("capacity", [None, 9, 14])
@pytest.mark.parametrize(("H", "G"), [(6, 1), (6, 2), (6, 3), (6, 6), (1, 1), (5, 5)])
def test_step_by_step_is_all_at_once(H: int, G: int, capacity: int | None, fused: bool) -> None:
    attention, x = layer(H, G, fused=fused), normal(2, 9, 20, seed=3)
    got = decoded(attention, x, attention.new_cache(2, capacity=capacity))
    torch.testing.assert_close(got, attention(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("capacity", [None, 9])
@pytest.mark.parametrize("cuts", [(9,), (1, 8), (4, 1, 4), (2, 3, 4)])
def test_any_pieces_make_the_whole(cuts: tuple[int, ...], capacity: int | None) -> None:
    attention, x = layer(), normal(2, 9, 20, seed=3)
    cache = attention.new_cache(2, capacity=capacity)
    got = torch.cat([attention(piece, cache=cache) for piece in x.split(cuts, dim=1)], dim=1)
    torch.testing.assert_close(got, attention(x), rtol=0, atol=1e-10)
    assert len(cache) == 9


def test_with_as_many_groups_as_heads_it_is_multi_head_attention() -> None:
    known = MultiHeadAttention(
        20, 6, key_size=5, value_size=3, bias=False, dtype=F64, generator=source()
    )
    attention = layer(6, 6)
    attention.load_state_dict(known.state_dict())
    x = normal(2, 9, 20, seed=3)
    torch.testing.assert_close(
        decoded(attention, x, attention.new_cache(2)),
        known(x, x, x, is_causal=True).detach(),
        rtol=0,
        atol=1e-10,
    )


def test_weights_by_heads() -> None:
    H, G, d_model, D, M = 6, 3, 20, 5, 3
    shapes = ((H, d_model, D), (G, d_model, D), (G, d_model, M), (H, M, d_model))
    W_q, W_k, W_v, W_o = (normal(*shape, seed=i) for i, shape in enumerate(shapes))
    attention = GroupedQueryAttention.from_heads(W_q, W_k, W_v, W_o)
    x = normal(2, 9, d_model, seed=9)
    q = torch.einsum("bnd,hdk->bhnk", x, W_q)
    k = torch.einsum("bnd,gdk->bgnk", x, W_k)
    v = torch.einsum("bnd,gdv->bgnv", x, W_v)
    heads = theirs(q, k, v, is_causal=True, enable_gqa=True)
    expected = torch.einsum("bhnv,hvd->bnd", heads, W_o)
    torch.testing.assert_close(attention(x).detach(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_narrow_layer_stays_close(dtype: torch.dtype) -> None:
    wide = layer(dtype=F64)
    narrow = layer(dtype=F64).to(dtype)
    x = normal(2, 9, 20, seed=3)
    got = decoded(narrow, x.to(dtype), narrow.new_cache(2, capacity=9))
    assert got.dtype == dtype
    # Four rounded stages (inputs and weights, projections, heads, output) of numbers below ten.
    assert (got.double() - wide(x)).abs().max().item() < 40 * torch.finfo(dtype).eps


def test_training_goes_through_a_growing_cache() -> None:
    attention = layer().requires_grad_()
    x = normal(1, 3, 20)
    decoded(attention, x, attention.new_cache(1)).sum().backward()
    by_step = [p.grad.clone() for p in attention.parameters() if p.grad is not None]
    attention.zero_grad()
    attention(x).sum().backward()
    at_once = [p.grad for p in attention.parameters()]
    torch.testing.assert_close(by_step, at_once, rtol=0, atol=1e-10)


def test_weights_leave_the_global_generator_alone_and_repeat() -> None:
    state = torch.random.get_rng_state()
    first, again = layer(), layer()
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.q_proj.weight, again.q_proj.weight)
    assert first.q_proj.weight.std().item() == pytest.approx(20**-0.5, rel=0.1)
    assert "H=6, G=3" in repr(first)


# The cache


@pytest.mark.parametrize("capacity", [None, 5])
def test_the_cache_holds_what_it_was_given(capacity: int | None) -> None:
    cache = KeyValueCache(2, 3, 4, 5, capacity=capacity, dtype=F64)
    k, v = normal(2, 3, 5, 4), normal(2, 3, 5, 5, seed=1)
    assert len(cache) == 0
    assert cache.keys.shape == (2, 3, 0, 4)
    for piece in (slice(0, 2), slice(2, 2), slice(2, 5)):
        keys, values = cache.append(k[:, :, piece], v[:, :, piece])
        assert torch.equal(keys, k[:, :, : piece.stop])
        assert torch.equal(values, v[:, :, : piece.stop])
    assert len(cache) == 5
    assert cache.nbytes == 2 * 3 * 5 * (4 + 5) * 8


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_truncated_cache_goes_on_from_there(capacity: int | None) -> None:
    attention, x = layer(), normal(1, 5, 20)
    cache = attention.new_cache(1, capacity=capacity)
    decoded(attention, x, cache)
    cache.truncate(2)
    got = decoded(attention, x[:, 2:], cache)
    torch.testing.assert_close(got, attention(x)[:, 2:], rtol=0, atol=1e-10)


def test_a_full_cache_says_so_and_stays_as_it_was() -> None:
    cache = KeyValueCache(1, 1, 2, 2, capacity=3)
    ones = torch.ones(1, 1, 2, 2)
    cache.append(ones, ones)
    with pytest.raises(
        ValueError, match="full: capacity = 3, it holds 2 positions and was given 2"
    ):
        cache.append(ones, ones)
    assert len(cache) == 2


def test_only_a_growing_cache_is_copied() -> None:
    def most(capacity: int | None) -> int:
        attention = layer()
        cache = attention.new_cache(1, capacity=capacity)
        attention(normal(1, 500, 20), cache=cache)
        # The meter takes a storage that it is not given for one that was made inside.
        given = (cache.keys, cache.values, *attention.parameters())
        return peak_bytes(lambda x, *_: attention.step(x, cache), normal(1, 20), *given)

    assert most(None) > 8 * 501 * 3 * (5 + 3)
    assert most(501) < 8 * 501 * (2 * 6 + 2)  # scores and weights, and little more


# Costs


@pytest.mark.parametrize(
    ("fused", "grown"), [(False, False), (False, True), (True, False), (True, True)]
)
@pytest.mark.parametrize(
    "sizes",
    [
        (2, 7, 24, 6, 2, 4, 4),
        (3, 5, 20, 4, 1, 6, 6),
        (1, 9, 16, 4, 4, 3, 3),
        (2, 0, 12, 3, 3, 4, 4),
        (1, 3, 8, 1, 1, 2, 2),
        (2, 5, 12, 6, 3, 4, 7),
    ],
)
def test_a_step_costs_what_is_said(
    sizes: tuple[int, int, int, int, int, int, int], fused: bool, grown: bool
) -> None:
    step = DecodingStep(*sizes)
    B, N, d_model, H, G, D, M = sizes
    fused = fused and D == M  # PyTorch has no other fused kernel on a CPU
    attention = layer(H, G, d_model=d_model, D=D, M=M, fused=fused, dtype=torch.float32)
    cache = attention.new_cache(B, capacity=None if grown else N + 2)
    with value_checks(False):
        if N:
            attention(normal(B, N, d_model).float(), cache=cache)
        x = normal(B, d_model).float()
        with count_operations() as counter:
            attention.step(x, cache)
    moved = counter.bytes_read + counter.bytes_written
    assert moved == 4 * step.traffic(fused=fused, grown=grown).total
    assert counter.total.multiply_adds == step.cost().multiply_adds
    if not fused:
        assert counter.total == step.cost()


def test_where_the_cache_overtakes_the_weights() -> None:
    step = DecodingStep(B=4, N=1, d_model=64, H=8, G=2, D=8, M=8)
    assert step.overtaking_length() == Fraction(64 * 10 * 16, 4 * 2 * 16)
    assert DecodingStep(2, 5, 64, 8, 8, 8, 8).overtaking_length() == Fraction(2 * 64, 2)


def test_intensity_tends_to_the_heads_a_group_has() -> None:
    long = DecodingStep(B=3, N=10**9, d_model=64, H=8, G=2, D=8, M=8)
    assert long.intensity() == pytest.approx(4, rel=1e-5)
    assert long.intensity(grown=True) == pytest.approx(4 / 3, rel=1e-5)
    assert long.intensity(fused=False) == pytest.approx(8 * 16 / (2 * 16 + 4 * 8), rel=1e-5)


def test_cache_bytes_are_those_of_a_cache() -> None:
    cache = KeyValueCache(2, 3, 4, 5, capacity=7, dtype=torch.bfloat16)
    assert cache_bytes(layers=11, G=3, D=4, M=5, B=2, N=7) == 11 * cache.nbytes


def test_roofline() -> None:
    machine = Roofline(flops=100.0, bandwidth=10.0)
    assert machine.ridge == 10
    assert machine.attainable(2) == 20
    assert machine.attainable(50) == 100
    step = DecodingStep(B=1, N=3, d_model=4, H=2, G=1, D=2, M=2)
    assert machine.seconds(step) == 2 * step.traffic(fused=True).total / 10
    assert Roofline(1.0, 1e9).seconds(step) == 2 * step.cost().multiply_adds


# What is refused

Q, K, V = torch.zeros(1, 4, 1, 3), torch.zeros(1, 2, 5, 3), torch.zeros(1, 2, 5, 2)
X = torch.zeros(2, 20, dtype=F64)
ATTENTION = layer()
CACHE = ATTENTION.new_cache(2)
W = [torch.zeros(s) for s in ((4, 6, 3), (2, 6, 3), (2, 6, 5), (4, 5, 6))]
KV = torch.zeros(1, 2, 1, 3)
attend, Layer, from_heads = grouped_query_attention, GroupedQueryAttention, layer().from_heads


def small() -> KeyValueCache:
    return KeyValueCache(1, 2, 3, 3, capacity=4)


SIZES = {"B": 1, "N": 1, "d_model": 4, "H": 4, "G": 2, "D": 2, "M": 2}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: attend(Q[0], K, V), ValueError, "q must have 4 dimensions"),
        (lambda: attend(Q, [1], V), TypeError, r"k must be a torch\.Tensor"),
        (lambda: attend(Q, K, V.long()), TypeError, "v must have a real floating-point dtype"),
        (lambda: attend(Q, K.double(), V), TypeError, "k must have the dtype of q"),
        (lambda: attend(Q[:, :3], K, V), ValueError, "k must have a number of groups that divides"),
        (lambda: attend(Q, K[:, :0], V), ValueError, "k must have a number of groups that divides"),
        (lambda: attend(Q, K[..., :2], V), ValueError, "k must have the size of q"),
        (lambda: attend(Q, K, V[:, :, :4]), ValueError, "v must have one row for each key"),
        (lambda: attend(Q, K, V[:, :1]), ValueError, "v must have one row for each key"),
        (lambda: attend(Q, K.expand(2, -1, -1, -1), V), ValueError, "k must have the leading"),
        (lambda: attend(Q, K[:, :, :0], V[:, :, :0]), ValueError, "k must hold at least one key"),
        (
            lambda: attend(Q.expand(-1, -1, 6, -1), K, V, is_causal=True),
            ValueError,
            "q must be the last of S = 5 positions",
        ),
        (lambda: attend(Q, K, V, is_causal=1), TypeError, "is_causal must be True or False"),
        (lambda: attend(Q, K, V, fused="yes"), TypeError, "fused must be True or False"),
        (lambda: attend(Q, K, V, scale=0), ValueError, "scale must be positive"),
        (lambda: attend(Q / 0, K, V), ValueError, "q must be finite"),
        (lambda: attend(Q, K / 0, V), ValueError, "k must be finite"),
        (lambda: attend(Q + 1e30, K - 1e30, V), ValueError, "product of q and k must be finite"),
        (lambda: Layer(20, 6, generator=source()), ValueError, "num_heads must divide d_model"),
        (
            lambda: Layer(24, 6, num_groups=4, generator=source()),
            ValueError,
            "num_groups must divide num_heads = 6, got 4",
        ),
        (lambda: Layer(24, 6, num_groups=0, generator=source()), ValueError, "num_groups must be"),
        (lambda: Layer(24, 6.0, generator=source()), TypeError, "num_heads must be an integer"),
        (lambda: Layer(24, 6, generator=3), TypeError, r"generator must be a torch\.Generator"),
        (lambda: Layer(24, 6, fused=1, generator=source()), TypeError, "fused must be True"),
        (
            lambda: Layer(24, 6, generator=source(), dtype=torch.int32),
            TypeError,
            "dtype must be a real",
        ),
        (
            lambda: Layer(24, 6, generator=source(), dtype=torch.complex64),
            TypeError,
            "dtype must be a real",
        ),
        (lambda: Layer(24, 6, scale=-1, generator=source()), ValueError, "scale must be positive"),
        (lambda: Layer(24, 6, key_size=0, generator=source()), ValueError, "key_size must be"),
        (lambda: from_heads(W[0][0], *W[1:]), ValueError, "W_q must have 3 dimensions"),
        (lambda: from_heads(*W[:3], W[3].double()), TypeError, "W_o must have the dtype of W_q"),
        (lambda: from_heads(*W[:3], W[3].mT), ValueError, r"W_o must have shape \(4, 5, 6\)"),
        (
            lambda: from_heads(W[0], W[1][:, :5], *W[2:]),
            ValueError,
            r"W_k must have shape \(2, 6, 3\)",
        ),
        (
            lambda: from_heads(W[0][:3], W[1], W[2], W[3][:3]),
            ValueError,
            "W_k must have a number of groups that divides H = 3",
        ),
        (lambda: ATTENTION(X), ValueError, "x must have 3 dimensions"),
        (lambda: ATTENTION(X[:, None, :4]), ValueError, "x must have the width d_model = 20"),
        (lambda: ATTENTION(X[:, None].float()), TypeError, "x must have the dtype of the weights"),
        (lambda: ATTENTION(X[:0, None]), ValueError, "x must hold at least one sequence"),
        (lambda: ATTENTION(X[:, None][:, :0]), ValueError, "x must hold at least one position"),
        (lambda: ATTENTION(X[:, None], cache=[]), TypeError, "cache must be a KeyValueCache"),
        (lambda: ATTENTION.step(X, None), TypeError, "cache must be a KeyValueCache"),
        (lambda: ATTENTION.step(X / 0, CACHE), ValueError, "x must be finite"),
        (lambda: ATTENTION.step(X[:1], CACHE), ValueError, r"k must have shape \(B, G, T, size\)"),
        (lambda: KeyValueCache(0, 1, 1, 1), ValueError, "B must be at least 1"),
        (lambda: KeyValueCache(1, 1, 1, 1.5), TypeError, "M must be an integer"),
        (lambda: KeyValueCache(1, 1, 1, 1, capacity=0), ValueError, "capacity must be at least 1"),
        (lambda: KeyValueCache(1, 1, 1, 1, dtype=torch.int8), TypeError, "dtype must be a real"),
        (lambda: small().append(KV[0], KV), ValueError, "k must have 4 dimensions"),
        (lambda: small().append(KV, KV[:, :1]), ValueError, "v must have shape"),
        (lambda: small().append(KV, KV.double()), TypeError, "v must have the dtype of cache"),
        (lambda: small().append(KV / 0, KV), ValueError, "k must be finite"),
        (lambda: small().append(KV, KV - torch.inf), ValueError, "v must be finite"),
        (
            lambda: small().append(KV.clone().requires_grad_(), KV),
            ValueError,
            "k and v must not require a gradient",
        ),
        (lambda: small().truncate(1), ValueError, "length must be at most 0, got 1"),
        (lambda: small().truncate(-1), ValueError, "length must be at least 0"),
        (lambda: DecodingStep(**{**SIZES, "G": 3}), ValueError, "G must have a number of groups"),
        (lambda: DecodingStep(**{**SIZES, "N": -1}), ValueError, "N must be at least 0"),
        (lambda: DecodingStep(**{**SIZES, "D": 0}), ValueError, "D must be at least 1"),
        (lambda: DecodingStep(**{**SIZES, "M": 2.0}), TypeError, "M must be an integer"),
        (lambda: cache_bytes(layers=0, G=1, D=1), ValueError, "layers must be at least 1"),
        (lambda: cache_bytes(layers=1, G=1, D=1, itemsize=0), ValueError, "itemsize must be"),
        (lambda: Roofline(flops=0, bandwidth=1), ValueError, "flops must be positive"),
        (lambda: Roofline(flops=1, bandwidth="1"), TypeError, "bandwidth must be a real number"),
        (lambda: Roofline(1, 1).attainable(-1), ValueError, "intensity must be positive"),
        (lambda: Roofline(1, 1).seconds(3), TypeError, "step must be a DecodingStep"),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


def test_a_refused_step_leaves_the_cache_as_it_was() -> None:
    cache = ATTENTION.new_cache(2)
    with pytest.raises(ValueError, match="x must be finite"):
        ATTENTION.step(X / 0, cache)
    assert len(cache) == 0


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_step_refused_for_its_scores_leaves_the_cache_too(capacity: int | None) -> None:
    attention, x = layer(), normal(2, 5, 20)
    cache = attention.new_cache(2, capacity=capacity)
    attention(x[:, :3], cache=cache)
    with pytest.raises(ValueError, match="scaled product of queries and keys must be finite"):
        attention(x[:, 3:] * 1e200, cache=cache)
    assert len(cache) == 3
    torch.testing.assert_close(
        attention(x[:, 3:], cache=cache), attention(x)[:, 3:], rtol=0, atol=1e-10
    )


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        assert bool(attend(Q / 0, K, V).isnan().all())
