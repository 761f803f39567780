"""Multi-head attention, the cutting and merging of heads, and what they cost."""

from __future__ import annotations

import copy
import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dlchecked.arguments import value_checks
from dlchecked.counting import cost_of
from dlchecked.multi_head import (
    MultiHeadAttention,
    merge_heads,
    multi_head_cost,
    multi_head_parameters,
    split_heads,
)
from dlchecked.scaled_dot_product import causal_mask

fused = nn.functional.scaled_dot_product_attention
INF = math.inf
DOUBLE = torch.float64


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=DOUBLE).to(dtype)


def inputs(B: int = 2, N: int = 4, S: int = 5, d: int = 12, seed: int = 0) -> list[Tensor]:
    return [normal(B, n, d, seed=seed + i) for i, n in enumerate((N, S, S))]


def build(d: int = 12, H: int = 3, **options: object) -> MultiHeadAttention:
    settings: dict[str, object] = {"dtype": DOUBLE, "generator": source(9), **options}
    return MultiHeadAttention(d, H, **settings)  # type: ignore[arg-type]


def padding(B: int = 2, S: int = 5) -> Tensor:
    """True where a key takes part: all of the first sequence, two of each other one."""
    return torch.arange(S)[None] < torch.tensor([S] + [2] * (B - 1))[:, None]


# Heads


@settings(max_examples=30, deadline=None)
@given(
    lead=st.sampled_from([(), (2,), (0,), (2, 3)]),
    N=st.integers(0, 5),
    H=st.integers(1, 4),
    D=st.integers(1, 4),
)
def test_split_and_merge_are_inverse(lead: tuple[int, ...], N: int, H: int, D: int) -> None:
    x = normal(*lead, N, H * D)
    heads = split_heads(x, H)
    assert heads.shape == (*lead, H, N, D)
    assert torch.equal(merge_heads(heads), x)
    for h in range(H):
        assert torch.equal(heads[..., h, :, :], x[..., h * D : (h + 1) * D])


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_splitting_is_a_view_whatever_the_strides(order: tuple[int, ...]) -> None:
    x = normal(6, 6, 6).permute(order)
    heads = split_heads(x, 3)
    assert heads.data_ptr() == x.data_ptr()
    assert torch.equal(heads[:, 1], x[..., 2:4])


@pytest.mark.parametrize(("N", "H", "D"), list(product((1, 2, 3), repeat=3)))
def test_merging_needs_no_copy_exactly_if_a_size_is_one(N: int, H: int, D: int) -> None:
    heads = normal(2, H, N, D)
    try:
        heads.transpose(1, 2).view(2, N, H * D)
        viewed = True
    except RuntimeError:
        viewed = False
    assert viewed == (1 in (N, H, D))
    merged = merge_heads(heads)
    assert (merged.data_ptr() == heads.data_ptr()) == viewed
    assert torch.equal(split_heads(merged, H), heads)


def test_split_and_merge_pass_gradients() -> None:
    x = normal(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: merge_heads(split_heads(x, 2).square()), x)


# Against PyTorch


def gradients(output: Tensor, module: nn.Module, given: list[Tensor]) -> list[Tensor]:
    loss = (output * normal(*output.shape, seed=77)).sum()
    found = torch.autograd.grad(loss, [*given, *module.parameters()], allow_unused=True)
    return [g for g in found if g is not None]


@pytest.mark.parametrize("M", [4, 8, 3])
@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float", "padding"])
def test_forward_and_gradients_are_those_of_the_fused_function(M: int, kind: str) -> None:
    ours = build(value_size=M)
    given = [x.requires_grad_() for x in inputs()]
    some = causal_mask(4, 5)
    additive = torch.where(some, normal(4, 5, seed=5), -INF)
    masks = {"none": None, "causal": some, "bool": some, "float": additive}
    kept = padding()
    mask = kept[:, None, None] if kind == "padding" else masks[kind]
    options: dict[str, object] = {
        "none": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": some},
        "float": {"attn_mask": additive},
        "padding": {"key_padding_mask": kept},
    }[kind]  # type: ignore[assignment]
    q, k, v = (
        f(x).unflatten(-1, (3, -1)).transpose(1, 2)
        for f, x in zip((ours.q_proj, ours.k_proj, ours.v_proj), given, strict=True)
    )
    expected = ours.out_proj(fused(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
    got = ours(*given, **options)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        gradients(got, ours, given), gradients(expected, ours, given), rtol=0, atol=1e-10
    )


def copied(theirs: nn.MultiheadAttention) -> MultiHeadAttention:
    ours = build(theirs.embed_dim, theirs.num_heads, bias=theirs.in_proj_bias is not None)
    maps = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        for i, linear in enumerate(maps):
            linear.weight.copy_(theirs.in_proj_weight.chunk(3)[i])
            if linear.bias is not None:
                linear.bias.copy_(theirs.in_proj_bias.chunk(3)[i])
        ours.out_proj.load_state_dict(theirs.out_proj.state_dict())
    return ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "padding", "both"])
@pytest.mark.parametrize("H", [1, 3])
def test_module_is_torchs_with_its_masks_inverted(bias: bool, kind: str, H: int) -> None:
    theirs = nn.MultiheadAttention(12, H, bias=bias, batch_first=True, dtype=DOUBLE)
    for i, parameter in enumerate(theirs.parameters()):
        nn.init.normal_(parameter, std=0.4, generator=source(i))
    ours = copied(theirs)
    given = [x.requires_grad_() for x in inputs()]
    some, kept = causal_mask(4, 5), padding()
    here: dict[str, Tensor] = {}
    there: dict[str, Tensor] = {}
    if kind in ("bool", "both"):
        here["attn_mask"], there["attn_mask"] = some, ~some
    if kind == "float":
        here["attn_mask"] = there["attn_mask"] = torch.where(some, 0.3, -INF).double()
    if kind in ("padding", "both"):
        here["key_padding_mask"], there["key_padding_mask"] = kept, ~kept
    got, weights = ours(*given, need_weights=True, **here)
    expected, known = theirs(*given, need_weights=True, average_attn_weights=False, **there)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(weights, known, rtol=0, atol=1e-10)
    mine = gradients(got, ours, given)
    yours = gradients(expected, theirs, given)
    torch.testing.assert_close(mine[:3], yours[:3], rtol=0, atol=1e-10)
    names = [name for name, _ in ours.named_parameters()]
    by_name = dict(zip(names, mine[3:], strict=True))
    for word in ("weight", "bias")[: 1 + bias]:
        parts = torch.cat([by_name[f"{x}_proj.{word}"] for x in "qkv"])
        known_parts = dict(zip([n for n, _ in theirs.named_parameters()], yours[3:], strict=True))
        torch.testing.assert_close(parts, known_parts[f"in_proj_{word}"], rtol=0, atol=1e-10)
        torch.testing.assert_close(
            by_name[f"out_proj.{word}"], known_parts[f"out_proj.{word}"], rtol=0, atol=1e-10
        )


# Its properties


@pytest.mark.parametrize("value_size", [None, 7])
def test_heads_alone_add_up_to_heads_together(value_size: int | None) -> None:
    together = build(value_size=value_size)
    D, M = together.key_size, together.value_size
    given = inputs()
    total = together.out_proj.bias.expand(2, 4, 12)
    for h in range(3):
        alone = build(12, 1, key_size=D, value_size=M)
        qk, v = slice(h * D, (h + 1) * D), slice(h * M, (h + 1) * M)
        state = {}
        for name, x in together.state_dict().items():
            if name.startswith("out"):
                state[name] = x[:, v] if x.dim() == 2 else torch.zeros_like(x)
            else:
                state[name] = x[v] if name.startswith("v") else x[qk]
        alone.load_state_dict(state)
        total = total + alone(*given)
    torch.testing.assert_close(together(*given), total, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), N=st.integers(1, 7))
def test_without_positions_it_follows_permutations(seed: int, N: int) -> None:
    attend, x = build(), normal(2, N, 12, seed=seed)
    order = torch.randperm(N, generator=source(seed))
    moved = x[:, order]
    torch.testing.assert_close(
        attend(moved, moved, moved), attend(x, x, x)[:, order], rtol=0, atol=1e-12
    )
    other = normal(2, 3, 12, seed=seed + 1)  # keys permuted, queries not: nothing changes
    torch.testing.assert_close(attend(other, moved, moved), attend(other, x, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16, torch.float16])
def test_padding_has_no_influence_and_gets_no_gradient(causal: bool, dtype: torch.dtype) -> None:
    attend = build(dtype=dtype)
    x = normal(2, 5, 12, dtype=dtype).requires_grad_()
    kept = padding()
    out = attend(x, x, x, key_padding_mask=kept, is_causal=causal)
    (gradient,) = torch.autograd.grad(out[kept].float().square().sum(), x)
    assert bool((gradient[~kept] == 0).all())
    assert bool((gradient[kept] != 0).any())
    other = torch.where(kept[..., None], x, torch.full_like(x, 50.0))
    again = attend(other, other, other, key_padding_mask=kept, is_causal=causal)
    assert torch.equal(again[kept], out[kept])
    alone = attend(*[x[1:, :2]] * 3, is_causal=causal)
    eps = 8 * torch.finfo(dtype).eps  # sums of another length may add up in another order
    torch.testing.assert_close(out[1:, :2], alone, rtol=0, atol=eps)


def test_a_row_without_keys_gets_the_output_bias_and_sends_nothing_back() -> None:
    attend = build()
    x = normal(2, 5, 12).requires_grad_()
    kept = torch.tensor([[True] * 5, [False] * 5])
    out, weights = attend(x, x, x, key_padding_mask=kept, need_weights=True)
    assert torch.equal(out[1], attend.out_proj.bias.expand(5, 12))
    assert torch.equal(weights[1], torch.zeros(3, 5, 5, dtype=DOUBLE))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient[1], torch.zeros(5, 12, dtype=DOUBLE))
    assert bool(torch.isfinite(gradient).all())
    without = build(bias=False)(x, x, x, key_padding_mask=kept)
    assert torch.equal(without[1], torch.zeros(5, 12, dtype=DOUBLE))


def test_gradients_of_every_parameter() -> None:
    attend = build(4, 2, key_size=3, value_size=1)
    given = [x.requires_grad_() for x in inputs(2, 2, 3, 4)]
    names = [name for name, _ in attend.named_parameters()]

    def run(*tensors: Tensor) -> Tensor:
        parameters = dict(zip(names, tensors[3:], strict=True))
        masks = {"key_padding_mask": padding(2, 3), "is_causal": True}
        return torch.func.functional_call(attend, parameters, tensors[:3], masks)

    assert torch.autograd.gradcheck(run, (*given, *attend.parameters()))


def test_masks_combine() -> None:
    attend, given, kept = build(), inputs(), padding()
    some = causal_mask(4, 5)
    both = kept[:, None, None] & some
    expected = attend(*given, attn_mask=both)
    additive = torch.where(some, 0.0, -INF)
    for options in (
        {"attn_mask": some},
        {"attn_mask": additive},
        {"attn_mask": additive.double().expand(2, 3, 4, 5)},
        {"is_causal": True},
    ):
        got = attend(*given, key_padding_mask=kept, **options)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(attend(*given, attn_mask=some), expected)
    assert not torch.allclose(attend(*given, key_padding_mask=kept), expected)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (1, 1, 4, 5), (2, 1, 1, 5), (1, 3, 4, 1)])
def test_a_size_of_one_in_a_mask_stands_for_all(shape: tuple[int, ...]) -> None:
    attend, given = build(), inputs()
    mask = torch.rand(shape, generator=source(3)) > 0.4
    for known in (mask, torch.where(mask, 0.0, -INF)):
        got = attend(*given, attn_mask=known)
        assert torch.equal(got, attend(*given, attn_mask=known.expand(2, 3, 4, 5)))


@pytest.mark.parametrize(("B", "N", "S"), [(0, 4, 5), (2, 0, 5), (2, 1, 5), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.bfloat16])
def test_no_sequences_no_queries_and_one_of_each(
    B: int, N: int, S: int, dtype: torch.dtype
) -> None:
    attend, given = build(dtype=dtype), inputs(B, N, S)
    x, y = (t.to(dtype).requires_grad_() for t in given[:2])
    kept = torch.arange(S).expand(B, S) < 1
    for options in ({"is_causal": True}, {"attn_mask": causal_mask(N, S)}, {}):
        out, weights = attend(x, y, y, key_padding_mask=kept, need_weights=True, **options)
        assert out.shape == (B, N, 12)
        assert weights.shape == (B, 3, N, S)
        assert out.dtype == weights.dtype == dtype
        grads = torch.autograd.grad(out.float().sum(), (x, y))
        assert all(bool(torch.isfinite(g).all()) for g in grads)
        with value_checks(False):
            assert torch.equal(attend(x, y, y, key_padding_mask=kept, **options), out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_takes_every_mask(dtype: torch.dtype) -> None:
    attend = build(dtype=torch.float32)
    given = [x.float() for x in inputs()]
    some, kept = causal_mask(4, 5), padding()
    for mask in (some, torch.where(some, 0.0, -INF)):
        expected = attend(*given, attn_mask=mask, key_padding_mask=kept)
        with torch.autocast("cpu", dtype=dtype):
            got = attend(*given, attn_mask=mask, key_padding_mask=kept)
        # Every product rounds its result to 16 bits, six times on the way: a few eps.
        off = (got.float() - expected).abs().max().item()
        assert got.dtype == dtype
        assert off <= 16 * torch.finfo(dtype).eps


def test_a_mask_for_each_head_reaches_its_head() -> None:
    attend, given = build(), inputs()
    mask = torch.ones(1, 3, 1, 5, dtype=torch.bool)
    mask[:, 1, :, 2:] = False
    _, weights = attend(*given, attn_mask=mask, need_weights=True)
    assert bool((weights[:, 1, :, 2:] == 0).all())
    assert bool((weights[:, [0, 2]] > 0).all())


def test_wider_values_keep_the_width_of_the_output() -> None:
    for M in (1, 4, 8, 11):
        attend = build(value_size=M)
        assert attend.v_proj.weight.shape == (3 * M, 12)
        assert attend.out_proj.weight.shape == (12, 3 * M)
        assert attend(*inputs()).shape == (2, 4, 12)
    assert build(10, 3, key_size=2, value_size=5)(*inputs(d=10)).shape == (2, 4, 10)


# Parameters, and what they are drawn from


def test_parameters_are_drawn_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = build(), build(), build(generator=source(10))
    assert torch.equal(before, torch.get_rng_state())
    state, same, differs = (m.state_dict() for m in (first, again, other))
    assert all(torch.equal(state[n], same[n]) for n in state)
    assert not any(torch.equal(state[n], differs[n]) for n in state)
    narrow = build(dtype=torch.float32).state_dict()
    assert all(torch.equal(state[n].float(), narrow[n]) for n in state)
    torch.manual_seed(3)
    loose = MultiHeadAttention(12, 3)
    torch.manual_seed(3)
    assert torch.equal(loose.q_proj.weight, MultiHeadAttention(12, 3).q_proj.weight)


def test_parameters_have_the_law_of_linear_maps() -> None:
    attend = MultiHeadAttention(64, 4, value_size=64, generator=source(1))
    for linear in (attend.q_proj, attend.k_proj, attend.v_proj, attend.out_proj):
        bound = linear.in_features**-0.5
        for parameter in (linear.weight, linear.bias):
            assert parameter.abs().max().item() <= bound
            assert parameter.requires_grad
        # The standard deviation of a uniform number, within five standard errors.
        n = linear.weight.numel()
        assert abs(linear.weight.std().item() * math.sqrt(3) / bound - 1) < 5 / math.sqrt(n)


def test_it_is_a_module_like_others() -> None:
    attend = build()
    assert "12, 3, key_size=4, value_size=4" in repr(attend)
    twin = copy.deepcopy(attend)
    assert torch.equal(twin(*inputs()), attend(*inputs()))
    # The graph must not depend on reading values: on the meta device there are none.
    with value_checks(False):
        far = MultiHeadAttention(12, 3, device="meta")
        x = torch.zeros(2, 4, 12, device="meta")
        assert far(x, x, x, is_causal=True).shape == (2, 4, 12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Four products in a row, sums of twelve or so terms of size about one.
        (torch.float32, 1e-5),
        # The maps round their results to 16 bits, four times on the way: a few eps.
        (torch.float16, 8 * torch.finfo(torch.float16).eps),
        (torch.bfloat16, 8 * torch.finfo(torch.bfloat16).eps),
    ],
)
def test_dtypes(dtype: torch.dtype, tolerance: float) -> None:
    exact = build(dtype=dtype).double()
    narrow = copy.deepcopy(exact).to(dtype)
    given = [x.to(dtype) for x in inputs()]
    mask = causal_mask(4, 5)
    got, weights = narrow(*given, attn_mask=mask, need_weights=True)
    assert got.dtype == weights.dtype == dtype
    expected = exact(*[x.double() for x in given], attn_mask=mask)
    assert (got.double() - expected).abs().max().item() <= tolerance
    additive = torch.where(mask, 0.0, -INF)
    for known in (additive, additive.to(dtype)):
        assert torch.equal(narrow(*given, attn_mask=known), got)


# Costs


@settings(max_examples=25, deadline=None)
@given(
    d=st.integers(1, 9),
    H=st.integers(1, 4),
    D=st.integers(1, 5),
    M=st.integers(1, 5),
    B=st.integers(1, 3),
    N=st.integers(1, 5),
    S=st.integers(1, 5),
    bias=st.booleans(),
)
def test_formulas_are_what_is_counted(
    d: int, H: int, D: int, M: int, B: int, N: int, S: int, bias: bool
) -> None:
    sizes = {"key_size": D, "value_size": M, "bias": bias}
    attend = build(d, H, **sizes)
    found = sum(p.numel() for p in attend.parameters())
    assert multi_head_parameters(d, H, **sizes) == found
    with value_checks(False):
        counted = cost_of(attend, *inputs(B, N, S, d))
    assert counted == multi_head_cost(d, H, batch=B, queries=N, keys=S, **sizes)


@pytest.mark.parametrize("H", [1, 2, 4, 8])
def test_heads_at_a_fixed_width_cost_no_multiply_adds(H: int) -> None:
    assert multi_head_parameters(16, H) == 4 * 16**2 + 4 * 16
    cost = multi_head_cost(16, H, batch=2, queries=5)
    assert cost.multiply_adds == 4 * 2 * 5 * 16**2 + 2 * 2 * 5 * 5 * 16
    assert cost.transcendental == 2 * H * 25


# What is refused

X = torch.zeros(2, 3, 12)
MASK = torch.ones(3, 3, dtype=torch.bool)
KEPT = torch.ones(2, 3, dtype=torch.bool)
SMALL = MultiHeadAttention(12, 3, generator=source())


def attend(query: object = X, key: object = X, value: object = X, **options: object) -> object:
    return SMALL(query, key, value, **options)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: split_heads([1.0], 1), TypeError, "x must be a torch.Tensor, got list"),
        (lambda: split_heads(X.long(), 3), TypeError, "x must have a real floating-point dtype"),
        (lambda: split_heads(X[0, 0], 3), ValueError, "x must have at least 2 dimensions"),
        (
            lambda: split_heads(X, 5),
            ValueError,
            "heads must divide the last dimension of x, 12, got 5",
        ),
        (lambda: split_heads(X, 0), ValueError, "heads must be at least 1"),
        (lambda: split_heads(X, 2.0), TypeError, "heads must be an integer"),
        (lambda: merge_heads(None), TypeError, "x must be a torch.Tensor"),
        (lambda: merge_heads(X[0]), ValueError, "x must have at least 3 dimensions"),
        (lambda: MultiHeadAttention(0, 1), ValueError, "d_model must be at least 1"),
        (lambda: MultiHeadAttention(12, 0), ValueError, "num_heads must be at least 1"),
        (lambda: MultiHeadAttention(12.0, 3), TypeError, "d_model must be an integer"),
        (
            lambda: MultiHeadAttention(12, 5),
            ValueError,
            "num_heads must divide d_model, 12, unless .* got 5",
        ),
        (lambda: MultiHeadAttention(12, 5, key_size=3), ValueError, "num_heads must divide"),
        (lambda: MultiHeadAttention(12, 3, key_size=0), ValueError, "key_size must be at least"),
        (lambda: MultiHeadAttention(12, 3, value_size=-1), ValueError, "value_size must be at"),
        (lambda: MultiHeadAttention(12, 3, value_size=1.5), TypeError, "value_size must be an"),
        (lambda: MultiHeadAttention(12, 3, bias=1), TypeError, "bias must be True or False"),
        (lambda: MultiHeadAttention(12, 3, dtype=torch.int8), TypeError, "dtype must be a real"),
        (lambda: MultiHeadAttention(12, 3, dtype="half"), TypeError, "dtype must be a real"),
        (lambda: MultiHeadAttention(12, 3, generator=0), TypeError, "generator must be a torch"),
        (lambda: attend(query=[1]), TypeError, "query must be a torch.Tensor"),
        (lambda: attend(query=X[0]), ValueError, "query must have 3 dimensions"),
        (lambda: attend(key=X.double()), TypeError, "key must have the dtype of the parameters"),
        (lambda: attend(value=X.half()), TypeError, "value must have the dtype of the parameters"),
        (lambda: attend(query=X[..., :9]), ValueError, "query must have the width d_model = 12"),
        (lambda: attend(value=X[..., :9]), ValueError, "value must have the width d_model = 12"),
        (lambda: attend(key=X[:1], value=X[:1]), ValueError, "key must hold 2 sequences"),
        (lambda: attend(key=X[:, :0], value=X[:, :0]), ValueError, "of at least one position"),
        (lambda: attend(value=X[:, :2]), ValueError, "value must have one row for each key"),
        (lambda: attend(query=X / 0), ValueError, "query must be finite"),
        (lambda: attend(value=X + INF), ValueError, "value must be finite"),
        (lambda: attend(need_weights=1), TypeError, "need_weights must be True or False"),
        (lambda: attend(is_causal=1), TypeError, "is_causal must be True or False"),
        (lambda: attend(is_causal=True, attn_mask=MASK), ValueError, "attn_mask must be None when"),
        (lambda: attend(attn_mask=[[1]]), TypeError, "attn_mask must be a torch.Tensor"),
        (lambda: attend(attn_mask=MASK.long()), TypeError, "attn_mask must be boolean or of"),
        (
            lambda: attend(attn_mask=MASK.long(), key_padding_mask=KEPT),
            TypeError,
            "attn_mask must be boolean or of",
        ),
        (
            lambda: attend(attn_mask=MASK.expand(2, 3, 3)),
            ValueError,
            r"attn_mask must have the shape \(N, S\) = \(3, 3\), or .* got \(2, 3, 3\)",
        ),
        (lambda: attend(attn_mask=MASK[:2]), ValueError, "attn_mask must have the shape"),
        (lambda: attend(attn_mask=MASK[None, None, None]), ValueError, "attn_mask must have the"),
        (lambda: attend(attn_mask=MASK.expand(2, 2, 3, 3)), ValueError, "attn_mask must have"),
        (lambda: attend(attn_mask=MASK * math.nan), ValueError, "attn_mask must be finite or -inf"),
        (lambda: attend(attn_mask=MASK.double()), TypeError, "attn_mask must be boolean, float32"),
        (lambda: attend(key_padding_mask=[True]), TypeError, "key_padding_mask must be a torch"),
        (
            lambda: attend(key_padding_mask=KEPT.float()),
            TypeError,
            "key_padding_mask must be boolean, True where a key takes part",
        ),
        (
            lambda: attend(key_padding_mask=KEPT.T),
            ValueError,
            r"key_padding_mask must have the shape \(B, S\) = \(2, 3\), got \(3, 2\)",
        ),
        (
            lambda: attend(key_padding_mask=KEPT.to("meta")),
            ValueError,
            "key_padding_mask must be on the device of query",
        ),
        (lambda: attend(attn_mask=MASK.to("meta")), ValueError, "attn_mask must be on the device"),
        (lambda: multi_head_parameters(12, 5), ValueError, "num_heads must divide d_model"),
        (lambda: multi_head_parameters(12, 3, bias=None), TypeError, "bias must be True or False"),
        (lambda: multi_head_cost(12, 3, batch=0, queries=1), ValueError, "batch must be at least"),
        (lambda: multi_head_cost(12, 3, batch=1, queries=0), ValueError, "queries must be at"),
        (
            lambda: multi_head_cost(12, 3, batch=1, queries=1, keys=0),
            ValueError,
            "keys must be at least 1",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], words: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=words):
        call()


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        out = SMALL(X / 0, X, X)
    assert bool(out.isnan().all())
