"""Tests of dlchecked.causal_recurrence: agreement, causality, states, gradients, traps, errors."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlchecked.arguments import value_checks
from dlchecked.causal_recurrence import (
    CausalAttentionStream,
    CausalState,
    causal_attention_cost,
    causal_linear_attention,
    combine_states,
    empty_state,
    prefix_states,
    read_state,
    token_states,
)
from dlchecked.counting import cost_of, peak_bytes, saved_bytes
from dlchecked.kernel_attention import ZeroDenominatorError

DOUBLE = torch.float64
FORMS = ("masked", "recurrent", "scan", "chunked")
FAST = FORMS[1:]
#: Sums of a few hundred terms of about 1, in float64.
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
# Slow machines are no failure, and a run of the tests is to be like the one before.
checked = settings(deadline=None, derandomize=True, max_examples=40)


def case(*lead, N=37, r=5, M=4, seed=0, dtype=DOUBLE, log=True, spread=3.0):
    """Positive features, values, and log factors that climb and fall."""
    g = torch.Generator().manual_seed(seed)
    q, k = (torch.rand(*lead, N, r, generator=g, dtype=DOUBLE) + 0.1 for _ in range(2))
    v = torch.randn(*lead, N, M, generator=g, dtype=DOUBLE)
    log_k = spread * torch.randn(*lead, N, generator=g, dtype=DOUBLE) if log else None
    return q.to(dtype), k.to(dtype), v.to(dtype), None if log_k is None else log_k.to(dtype)


def run(q, k, v, log_k=None, **options):
    return causal_linear_attention(q, k, v, log_scale_k=log_k, **options)


def by_hand(q, k, v, log_k=None):
    """The definition, number by number, for one head."""
    rows = []
    for i in range(len(q)):
        w = [
            float(q[i] @ k[j]) * math.exp(0.0 if log_k is None else log_k[j]) for j in range(i + 1)
        ]
        rows.append(sum(a * v[j] for j, a in enumerate(w)) / sum(w))
    return torch.stack(rows)


def assert_states_agree(a, b, **tolerance):
    """Two states stand for the same sums, at whatever scale each is kept."""
    for x, y in ((a, b), (b, a)):
        both = combine_states(x, y)
        torch.testing.assert_close(both.S, combine_states(y, x).S, **tolerance)
    zero = torch.zeros_like(a.Z[..., 0])
    scale = [zero if s.log_scale is None else s.log_scale for s in (a, b)]
    torch.testing.assert_close(a.S, b.S * (scale[1] - scale[0]).exp()[..., None, None], **tolerance)
    torch.testing.assert_close(a.Z, b.Z * (scale[1] - scale[0]).exp()[..., None], **tolerance)


# The forms


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_the_definition(form, log):
    q, k, v, log_k = case(N=11, log=log)
    torch.testing.assert_close(run(q, k, v, log_k, form=form), by_hand(q, k, v, log_k), **TIGHT)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("form", FAST)
@pytest.mark.parametrize("N", [1, 2, 7, 8, 9, 24, 61])
def test_forms_agree_in_outputs_states_and_gradients(form, log, N):
    inputs = [x for x in case(2, 3, N=N, log=log) if x is not None]
    before = run(*case(2, 3, N=4, seed=9, log=log), output_final_state=True)[1]
    inputs = [x.requires_grad_() for x in (*inputs, *(x for x in before if x is not None))]

    def outputs(form):
        q, k, v, *rest = inputs
        log_k = rest.pop(0) if log else None
        state = CausalState(*rest)
        options = {"initial_state": state, "chunk_size": 8, "block_rows": 32}
        out, final = run(q, k, v, log_k, form=form, output_final_state=True, **options)
        return [out, *(x for x in final if x is not None)]

    expected, found = outputs("masked"), outputs(form)
    weights = [torch.randn(x.shape, dtype=DOUBLE) for x in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TIGHT)
    for a, b in zip(
        torch.autograd.grad(found, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **TIGHT)


@checked
@given(
    N=st.integers(1, 40),
    heads=st.integers(1, 6),
    chunk=st.integers(1, 50),
    block=st.none() | st.integers(1, 100),
    log=st.booleans(),
)
def test_any_chunk_and_block_size_gives_the_same(N, heads, chunk, block, log):
    inputs = case(heads, N=N, log=log)
    found = run(*inputs, chunk_size=chunk, block_rows=block)
    torch.testing.assert_close(found, run(*inputs, form="masked"), **TIGHT)


@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (2, 1, 3)])
def test_any_leading_dimensions(lead):
    inputs = case(*lead)
    out, state = run(*inputs, output_final_state=True, chunk_size=8)
    assert out.shape == (*lead, 37, 4)
    assert (state.S.shape, state.Z.shape) == ((*lead, 5, 4), (*lead, 5))
    assert state.log_scale.shape == lead
    torch.testing.assert_close(out, run(*inputs, form="masked"), **TIGHT)


def test_views_give_what_copies_give():
    q, k, v, log_k = case(2, 3)
    views = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    views = [x.mT.contiguous().mT for x in views]
    assert not any(x.is_contiguous() for x in views)
    torch.testing.assert_close(run(*views, log_k, chunk_size=8), run(q, k, v, log_k), **TIGHT)
    expanded = [x[:1, :1].expand_as(x) for x in (q, k, v)]
    copies = [x.contiguous() for x in expanded]
    torch.testing.assert_close(run(*expanded, chunk_size=8), run(*copies, chunk_size=8), **TIGHT)


def test_features_may_be_negative():
    q, k, v, _ = case(3, N=30, log=False)
    q, k = q - 0.4, k - 0.4
    assert bool((run(q, k, torch.ones_like(v)) - 1).abs().max() < 1e-8)
    torch.testing.assert_close(
        run(q, k, v, chunk_size=8), run(q, k, v, form="masked"), rtol=1e-7, atol=1e-7
    )


def test_chunked_does_not_touch_its_inputs():
    inputs = [x.requires_grad_() for x in case(2)]
    state = run(*case(2, seed=1), output_final_state=True)[1]
    kept = [x.detach().clone() for x in (*inputs, *state)]
    run(*inputs, initial_state=state, chunk_size=8).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(kept, (*inputs, *state), strict=True))


# Causality


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("i", [0, 6, 7, 8, 15, 19])
def test_no_output_has_a_derivative_in_the_future(form, i):
    inputs = [x.requires_grad_() for x in case(2, N=21)]
    out = run(*inputs, form=form, chunk_size=8, block_rows=32)
    for x in torch.autograd.grad(out[:, i].square().sum(), inputs):
        assert bool((x[:, i + 1 :] == 0).all())
        # The first output is the first value, whatever the weights.
        assert i == 0 or bool((x[:, i] != 0).any())


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_a_later_token_changes_no_bit(form, dtype):
    inputs = case(2, N=40, dtype=dtype)
    before = run(*inputs, form=form, chunk_size=8)
    for j in (1, 7, 8, 39):
        changed = [x.clone() for x in inputs]
        changed[1][:, j] *= 3
        changed[2][:, j] = -100
        changed[3][:, j] = 500
        after = run(*changed, form=form, chunk_size=8)
        assert torch.equal(after[:, :j], before[:, :j])
        assert not torch.equal(after[:, j], before[:, j])


# The state


def in_pieces(inputs, sizes, **options):
    outs, state = [], None
    for piece in zip(*(x.split(sizes, -1 if x.dim() == 2 else -2) for x in inputs), strict=True):
        q, k, v, *log_k = piece
        out, state = run(q, k, v, *log_k, initial_state=state, output_final_state=True, **options)
        outs.append(out)
    return torch.cat(outs, -2), state


@pytest.mark.parametrize("form", FORMS)
@checked
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6), log=st.booleans())
def test_any_split_gives_what_one_pass_gives(form, sizes, log):
    if sum(sizes) == 0:
        sizes = [*sizes, 1]
    inputs = [x for x in case(2, N=sum(sizes), log=log) if x is not None]
    whole, final = run(*inputs, output_final_state=True)
    out, state = in_pieces(inputs, sizes, form=form, chunk_size=4)
    torch.testing.assert_close(out, whole, **TIGHT)
    assert_states_agree(state, final, **TIGHT)


@pytest.mark.parametrize("log", [False, True])
def test_gradients_pass_through_the_state(log):
    inputs = [x.requires_grad_() for x in case(2, N=30, log=log) if x is not None]
    weights = torch.randn(2, 30, 4, dtype=DOUBLE)
    expected = torch.autograd.grad(run(*inputs, form="masked"), inputs, weights)
    out, _ = in_pieces(inputs, [11, 0, 1, 18], chunk_size=4)
    for a, b in zip(torch.autograd.grad(out, inputs, weights), expected, strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


@pytest.mark.parametrize("log", [False, True])
def test_streaming_gives_what_one_pass_gives(log):
    inputs = [x for x in case(2, 3, log=log) if x is not None]
    whole, final = run(*inputs, output_final_state=True)
    stream = CausalAttentionStream()
    assert stream.state is None
    tokens = zip(*(x.unbind(2) for x in inputs), strict=True)
    out = [stream.step(*token) for token in itertools.islice(tokens, 20)]
    q, k, v, *log_k = (x[:, :, 20:36] for x in inputs)
    out = [*out, *stream.extend(q, k, v, *log_k).unbind(2)]
    out.append(stream.step(*(x[:, :, 36] for x in inputs)))
    torch.testing.assert_close(torch.stack(out, 2), whole, **TIGHT)
    assert_states_agree(stream.state, final, **TIGHT)


def test_a_stream_goes_on_from_a_state_and_leaves_it_alone():
    q, k, v, _ = case(2, log=False)
    whole = run(q, k, v)
    _, state = run(q[:, :10], k[:, :10], v[:, :10], output_final_state=True)
    kept = state.S.clone()
    stream = CausalAttentionStream(state)
    seen = stream.state
    out = stream.step(q[:, 10], k[:, 10], v[:, 10])
    torch.testing.assert_close(out, whole[:, 10], **TIGHT)
    assert torch.equal(state.S, kept)
    assert torch.equal(seen.S, kept)
    assert not torch.equal(stream.state.S, kept)


def test_a_refused_token_leaves_the_stream_as_it_was():
    q, k, v, log_k = case(2, N=3)
    for log in (None, log_k):
        stream = CausalAttentionStream()
        stream.extend(q, k, v, log)
        kept = stream.state
        last = None if log is None else log[:, 0]
        with pytest.raises(ZeroDenominatorError):
            stream.step(torch.zeros_like(q[:, 0]), k[:, 0], v[:, 0], last)
        with pytest.raises(ValueError, match="v must be finite"):
            stream.step(q[:, 0], k[:, 0], v[:, 0] * math.nan, last)
        assert torch.equal(stream.state.S, kept.S)


def test_an_empty_block_changes_nothing():
    q, k, v, log_k = case(2, N=0)
    _, state = run(*case(2), output_final_state=True)
    for form in FORMS:
        out, same = run(q, k, v, log_k, initial_state=state, output_final_state=True, form=form)
        assert out.shape == (2, 0, 4)
        assert all(torch.equal(a, b) for a, b in zip(state, same, strict=True))
    out, empty = run(q, k, v, output_final_state=True)
    assert bool((empty.S == 0).all())
    assert empty.log_scale is None
    assert run(*(torch.zeros(0, 3, n) for n in (2, 2, 5))).shape == (0, 3, 5)


def test_a_state_without_log_factors_meets_log_factors():
    q, k, v, log_k = case(2)
    _, plain = run(q, k, v, output_final_state=True)
    zeros = torch.zeros_like(log_k)
    _, scaled = run(q, k, v, zeros, output_final_state=True)
    out = run(q, k, v, log_k, initial_state=plain)
    torch.testing.assert_close(out, run(q, k, v, log_k, initial_state=scaled), **TIGHT)
    out = run(q, k, v, initial_state=scaled)
    torch.testing.assert_close(out, run(q, k, v, initial_state=plain), **TIGHT)


# The monoid


@pytest.mark.parametrize("log", [False, True])
def test_states_are_a_monoid(log):
    parts = [run(*case(2, seed=s, log=log), output_final_state=True)[1] for s in range(3)]
    a, b, c = parts
    left, right = combine_states(combine_states(a, b), c), combine_states(a, combine_states(b, c))
    _, k, v, _ = case(2)
    nothing = empty_state(k, v, stabilised=log)
    for x, y in ((left, right), (combine_states(nothing, a), a), (combine_states(a, nothing), a)):
        for s, t in zip(x, y, strict=True):
            assert s is t is None or torch.allclose(s, t, **TIGHT)
    both = combine_states(nothing, nothing)
    assert bool((both.S == 0).all())


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("N", [1, 2, 7, 8, 9])
def test_the_scan_gives_every_prefix(log, N):
    q, k, v, log_k = case(2, N=N, log=log)
    states, tokens = prefix_states(k, v, log_scale_k=log_k), token_states(k, v, log_scale_k=log_k)
    assert states.S.shape == tokens.S.shape == (2, N, 5, 4)
    so_far = empty_state(k, v, stabilised=log)
    for i in range(N):
        here = CausalState(*(None if x is None else x[:, i] for x in tokens))
        so_far = combine_states(so_far, here)
        found = CausalState(*(None if x is None else x[:, i] for x in states))
        for a, b in zip(found, so_far, strict=True):
            assert a is b is None or torch.allclose(a, b, **TIGHT)
    torch.testing.assert_close(read_state(q[:, -1:], so_far), run(q, k, v, log_k)[:, -1:], **TIGHT)


# Gradients


def gradient_case(log, resumed):
    q, k, v, log_k = case(2, N=5, r=2, M=2, log=log)
    state = run(*case(2, N=2, r=2, M=2, seed=5, log=log), output_final_state=True)[1]
    given_ = [q, k, v, *([log_k] if log else []), *([x for x in state if x is not None] * resumed)]

    def function(*inputs):
        q, k, v, *rest = inputs
        log_k = rest.pop(0) if log else None
        start = CausalState(*rest) if resumed else None
        options = {"initial_state": start, "chunk_size": 2, "block_rows": 8}
        out, final = run(q, k, v, log_k, output_final_state=True, **options)
        return (out, *(x for x in final if x is not None))

    return function, [x.detach().requires_grad_() for x in given_]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_gradcheck_and_gradgradcheck(log, resumed):
    function, inputs = gradient_case(log, resumed)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_third_derivatives_agree_also_where_inputs_depend_on_each_other():
    q, _, v, log_k = (x.requires_grad_() for x in case(2, N=5))

    def third(form):
        value = run(q, q.sin() + 1, v, log_k * q[..., 0], form=form, chunk_size=2)
        for _ in range(3):
            (value,) = torch.autograd.grad(value.square().sum(), q, create_graph=True)
        return value

    torch.testing.assert_close(third("chunked"), third("masked"), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=4)))
def test_gradients_of_some_inputs_alone(wanted):
    inputs = [x.requires_grad_(w) for x, w in zip(case(2), wanted, strict=True)]
    out = run(*inputs, chunk_size=8)
    assert out.requires_grad == any(wanted)
    if any(wanted):
        of = [x for x in inputs if x.requires_grad]
        expected = torch.autograd.grad(run(*inputs, form="masked").sin().sum(), of)
        for a, b in zip(torch.autograd.grad(out.sin().sum(), of), expected, strict=True):
            torch.testing.assert_close(a, b, **TIGHT)


def test_func_grad_agrees():
    q, k, v, log_k = case(2)
    with value_checks(False):
        found = torch.func.grad(lambda q: run(q, k, v, log_k, chunk_size=8).sin().sum())(q)
    q.requires_grad_()
    expected = torch.autograd.grad(run(q, k, v, log_k, form="masked").sin().sum(), q)[0]
    torch.testing.assert_close(found, expected, **TIGHT)


# Numbers


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # A few roundings of the output, whose terms are all of its own size: float32 works with
    # 2^-24; a half rounds its inputs (2^-11, 2^-8) before anything is computed, and its output.
    [(DOUBLE, 1e-12), (torch.float32, 2e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)],
)
@pytest.mark.parametrize("form", FORMS)
def test_dtypes(form, dtype, tolerance):
    inputs = case(2, N=100, dtype=dtype)
    given_ = [x.requires_grad_() for x in inputs]
    out, state = run(*given_, form=form, output_final_state=True, chunk_size=16)
    wide = DOUBLE if dtype == DOUBLE else torch.float32
    assert out.dtype == dtype
    assert {x.dtype for x in state} == {wide}
    # The same numbers, so that only the arithmetic differs.
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = run(*exact, form="masked")
    assert float((out.double() - expected).detach().abs().max()) < tolerance * float(
        expected.detach().abs().max()
    )
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, given_, weights.to(dtype))
    for a, b in zip(found, torch.autograd.grad(expected, exact, weights.to(DOUBLE)), strict=True):
        assert a.dtype == dtype
        assert float((a.double() - b).abs().max()) < 4 * tolerance * float(b.abs().max())


def test_log_factors_may_be_wider_than_the_features():
    q, k, v, log_k = case(2, dtype=torch.bfloat16)
    wide = 156 + torch.randn(log_k.shape, generator=torch.Generator().manual_seed(0))
    out = run(q, k, v, wide)
    assert out.dtype == torch.bfloat16
    expected = run(q.double(), k.double(), v.double(), wide.double(), form="masked")
    assert float((out.double() - expected).abs().max()) < 0.02


def softmax_features(k, projection):
    """Positive features of exp(q.k / sqrt(D)), and the log factor |k|^2 / 2 sqrt(D)."""
    log_k = k.square().sum(-1) / (2 * k.shape[-1] ** 0.5)
    exponent = k @ projection.mT / k.shape[-1] ** 0.25
    largest = exponent.amax(-1, keepdim=True)
    # The stabiliser of each key is its own, so it leaks nothing; it goes into its log factor.
    return (exponent - largest).exp(), largest[..., 0] - log_k


@pytest.mark.parametrize("form", FORMS)
def test_large_norms(form):
    D, N = 64, 96
    g = torch.Generator().manual_seed(0)
    k, q = (torch.nn.functional.normalize(torch.randn(2, N, D, generator=g), dim=-1) for _ in "kq")
    k = k * torch.linspace(1, 50, N)[torch.randperm(N, generator=g), None]
    assert float((k.square().sum(-1) / 16).max()) == pytest.approx(156.25, rel=1e-4)
    projection, v = torch.randn(32, D, generator=g), torch.randn(2, N, 8, generator=g)
    inputs = []
    for dtype in (torch.float32, DOUBLE):
        phi_q, _ = softmax_features(50 * q.to(dtype), projection.to(dtype))
        # The sum of both signs of the exponent, the worse for overflow: e^(+156) and the features'.
        phi_k, log_k = softmax_features(k.to(dtype), projection.to(dtype))
        inputs.append((phi_q, phi_k, v.to(dtype), log_k + k.to(dtype).square().sum(-1) / 8))
    single = [x.requires_grad_() for x in inputs[0]]
    out = run(*single, form=form, chunk_size=16)
    exact = run(*(x.detach().double() for x in single), form="masked")
    torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(out.sum(), single)
    assert all(bool(x.isfinite().all()) for x in gradients)


@pytest.mark.parametrize("form", FORMS)
def test_log_factors_of_any_size(form):
    q, k, v, log_k = case(2, spread=1e4)
    assert float(log_k.max()) > 1e4
    torch.testing.assert_close(run(q, k, v, log_k, form=form), run(q, k, v, log_k), **TIGHT)
    shifted = run(q, k, v, log_k + 12345, form=form)
    torch.testing.assert_close(shifted, run(q, k, v, log_k, form=form), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_minus_infinity_leaves_a_key_out(form):
    q, k, v, log_k = case(2, N=20)
    out_of_it = torch.zeros(20, dtype=torch.bool)
    out_of_it[[3, 8, 9, 19]] = True
    log_k = log_k.masked_fill(out_of_it, -math.inf).requires_grad_()
    out = run(q, k, v, log_k, form=form, chunk_size=4)
    rest = [x[:, ~out_of_it] for x in (q, k, v, log_k)]
    torch.testing.assert_close(out[:, ~out_of_it], run(*rest, form="masked"), **TIGHT)
    gradient = torch.autograd.grad(out.sin().sum(), log_k)[0]
    assert bool((gradient[:, out_of_it] == 0).all())
    assert bool(gradient.isfinite().all())


# Traps that other implementations fell into


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", [0.0, 8.0, 16.0])
def test_values_of_one_average_to_one(form, norm):
    # No epsilon in the denominator, behind which an underflow could hide.
    q, k, v, log_k = case(2, N=50, dtype=torch.float32)
    log_k = -(norm**2) / 2 + log_k
    out = run(1e-12 * q, 1e-12 * k, torch.ones_like(v), 4 * log_k, form=form, chunk_size=8)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=2e-6, atol=0)


def test_a_maximum_over_the_whole_sequence_leaks():
    # The wrong version: it moves earlier outputs, and a key far above the rest erases them.
    q, k, v, log_k = case(N=20, dtype=torch.float32)

    def leaky(log_k):
        return run(q, k * (log_k - log_k.max()).exp()[..., None], v)

    later = log_k.clone()
    later[-1] += 30
    assert not torch.equal(leaky(later)[:-1], leaky(log_k)[:-1])
    assert torch.equal(run(q, k, v, later)[:-1], run(q, k, v, log_k)[:-1])
    later[-1] = 200
    with pytest.raises(ZeroDenominatorError):
        leaky(later)
    assert torch.equal(run(q, k, v, later)[:-1], run(q, k, v, log_k)[:-1])


@pytest.mark.parametrize("form", ["chunked", "masked"])
def test_sixteen_thousand_bfloat16_terms_are_not_lost(form):
    # A bfloat16 state stops growing at 256: it would have lost 97 % of this sum and more.
    N = 16384 if form == "chunked" else 2048
    ones = torch.ones(N, 1, dtype=torch.bfloat16)
    out, state = run(ones, ones, ones, output_final_state=True, form=form)
    assert float(state.Z[0]) == float(state.S[0, 0]) == N
    assert bool((out == 1).all())
    lossy = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(300):
        lossy = lossy + ones[0, 0]
    assert float(lossy) == 256


def test_a_state_is_not_whole_without_its_z():
    q, k, v, _ = case(2, log=False)
    _, state = run(q, k, v, output_final_state=True)
    forgotten = state._replace(Z=torch.zeros_like(state.Z))
    right = run(q, k, v, initial_state=state)
    assert float((run(q, k, v, initial_state=forgotten) - right).abs().max()) > 0.1
    with pytest.raises(TypeError, match="initial_state must be a CausalState"):
        run(q, k, v, initial_state=state.S)


def test_three_dimensions_are_heads_and_not_a_batch_of_tokens():
    q, k, v, log_k = case(3)
    for i, row in enumerate(run(q, k, v, log_k)):
        torch.testing.assert_close(row, by_hand(q[i], k[i], v[i], log_k[i]), **TIGHT)


def test_a_zero_denominator_is_an_error_and_names_its_row():
    q, k, v, _ = case(2, 3, log=False)
    q[1, 2, 5] = 0
    for form in FORMS:
        with pytest.raises(ZeroDenominatorError, match=r"row \(1, 2, 5\) is zero"):
            run(q, k, v, form=form)
        with value_checks(False):
            assert bool(run(q, k, v, form=form)[1, 2, 5].isnan().all())
    with pytest.raises(ZeroDenominatorError, match=r"\(2 of 3 rows\)"):
        run(torch.ones(3, 1), torch.tensor([[1.0], [-1.0], [0.0]]), torch.ones(3, 2))
    with pytest.raises(ZeroDenominatorError):
        read_state(q[0, 0], empty_state(k[0, 0], v[0, 0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["phi_q", "phi_k", "v"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_named(form, name, bad):
    inputs = dict(zip(("phi_q", "phi_k", "v"), case(2, log=False), strict=False))
    inputs[name][1, 30, 1] = bad
    with pytest.raises(ValueError, match=f"^{name} must be finite, but 1 of"):
        causal_linear_attention(**inputs, form=form, chunk_size=8)


def test_an_overflow_is_named():
    q, k, v, _ = case(2, log=False, dtype=torch.float32)
    with pytest.raises(ValueError, match="must be finite"):
        run(1e20 * q, k, 1e30 * v)
    # Large, but not too large to be added up: a false alarm of the check's own sum is none.
    assert bool(run(q, k, torch.full_like(v, 1e36)).isfinite().all())


# Costs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("N", [2, 13, 64, 130])
def test_the_cost_is_what_is_counted(form, N):
    q, k, v, _ = case(2, 3, N=N, log=False)
    with value_checks(False):
        counted = cost_of(run, q, k, v, form=form, chunk_size=16)
    assert counted == 6 * causal_attention_cost(N, 5, 4, form=form, chunk_size=16)


def test_a_token_costs_the_same_at_every_position():
    q, k, v, _ = (x if x is None else x[:, 0] for x in case(2, N=1, log=False))
    stream = CausalAttentionStream()
    stream.step(q, k, v)  # the first token makes the state
    costs = [cost_of(stream.step, q, k, v) for _ in range(50)]
    assert costs[1:] == costs[:-1]


def test_training_keeps_no_state_for_each_position():
    r, M, sizes = 32, 32, (256, 512)
    kept, alive = {}, {}
    for form, N in itertools.product(("scan", "chunked"), sizes):
        q, k, v, _ = (
            x if x is None else x.requires_grad_() for x in case(4, N=N, r=r, M=M, log=False)
        )
        kept[form, N] = saved_bytes(run, q, k, v, form=form)
        alive[form, N] = peak_bytes(run, q.detach(), k.detach(), v.detach(), form=form)
    per_token = {f: (kept[f, 512] - kept[f, 256]) / (256 * 4 * 8) for f in ("scan", "chunked")}
    # Inputs, outputs, denominators, and a state each 256 tokens.
    assert per_token["chunked"] <= 2 * r + 2 * M + 1 + r * (M + 1) / 256
    assert per_token["scan"] > r * M
    assert alive["scan", 512] > 10 * alive["chunked", 512]


# The door


def table():
    q, k, v, log_k = case(2, 3)
    state = run(q, k, v, log_k, output_final_state=True)[1]
    good = {"phi_q": q, "phi_k": k, "v": v}

    def bad(name, value, error=ValueError, message=None):
        return pytest.param({**good, name: value}, error, message or name, id=f"{name}-{message}")

    return [
        bad("phi_q", q.tolist(), TypeError, "phi_q must be a torch.Tensor"),
        bad("phi_q", q.int(), TypeError, "phi_q must have a real floating-point dtype"),
        bad("phi_k", k.to(torch.complex64), TypeError, "phi_k must have a real floating-point"),
        bad("phi_q", q[0, 0, 0], ValueError, "phi_q must have at least 2 dimensions"),
        bad("phi_q", q.float(), TypeError, "phi_k must have the dtype of phi_q"),
        bad("v", v.float(), TypeError, "v must have the dtype of phi_k"),
        bad("phi_q", q[:, :, :-1], ValueError, "phi_k must have the shape of phi_q"),
        bad("phi_q", q[..., :-1], ValueError, "phi_k must have the shape of phi_q"),
        bad("phi_q", q[:1], ValueError, "phi_k must have the shape of phi_q"),
        bad("v", v[:, :, :-1], ValueError, "v must have one row for each key"),
        bad("v", v[:, :1], ValueError, "v must have one row for each key"),
        bad("v", v[..., :0], ValueError, "v must have a size of at least 1"),
        bad("phi_k", k.to("meta"), ValueError, "must be on the device of"),
        bad("log_scale_k", 1.0, TypeError, "log_scale_k must be a torch.Tensor"),
        bad("log_scale_k", log_k.half(), TypeError, "log_scale_k must have the dtype"),
        bad("log_scale_k", log_k[..., :-1], ValueError, "log_scale_k must have one number"),
        bad("log_scale_k", log_k[..., None], ValueError, "log_scale_k must have one number"),
        bad("log_scale_k", log_k * math.nan, ValueError, "log_scale_k must be finite or -inf"),
        bad("log_scale_k", log_k.abs() + math.inf, ValueError, "log_scale_k must be finite or"),
        bad("initial_state", tuple(state), TypeError, "initial_state must be a CausalState"),
        bad("initial_state", state._replace(S=state.S[..., :-1]), ValueError, "initial_state.S"),
        bad("initial_state", state._replace(Z=state.Z[..., :-1]), ValueError, "initial_state.Z"),
        bad("initial_state", state._replace(Z=None), TypeError, "initial_state.Z must be a"),
        bad("initial_state", state._replace(log_scale=state.Z), ValueError, "state.log_scale"),
        bad("initial_state", state._replace(Z=state.Z.float()), TypeError, "initial_state.Z"),
        bad("initial_state", CausalState(state.S.float(), state.Z.float()), TypeError, "state.S"),
        bad(
            "initial_state", state._replace(S=state.S * math.nan), ValueError, "initial_state must"
        ),
        bad("form", "fast", ValueError, "form must be one of chunked, masked"),
        bad("form", None, ValueError, "form must be one of chunked, masked"),
        bad("chunk_size", 0, ValueError, "chunk_size must be at least 1"),
        bad("chunk_size", 8.0, TypeError, "chunk_size must be an integer"),
        bad("block_rows", 0, ValueError, "block_rows must be at least 1"),
    ]


@pytest.mark.parametrize(("arguments", "error", "message"), table())
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        causal_linear_attention(**arguments)


def test_no_features_are_refused():
    with pytest.raises(ValueError, match="phi_k must have at least one feature"):
        run(torch.ones(3, 0), torch.ones(3, 0), torch.ones(3, 2))


def test_bad_states_and_tokens_are_named():
    q, k, v, log_k = case(2)
    state = run(q, k, v, log_k, output_final_state=True)[1]
    other = run(q[..., :-1], k[..., :-1], v, output_final_state=True)[1]
    with pytest.raises(ValueError, match=r"second\.S must have shape \(2, 5, 4\)"):
        combine_states(state, other)
    with pytest.raises(TypeError, match="first must be a CausalState"):
        combine_states(None, state)
    with pytest.raises(ValueError, match="phi_q must fit the state's Z"):
        read_state(q, other)
    with pytest.raises(TypeError, match=r"state must be of torch.float32"):
        read_state(q.float(), state)
    with pytest.raises(TypeError, match="initial_state must be a CausalState"):
        CausalAttentionStream(state.S)
    stream = CausalAttentionStream(other)
    with pytest.raises(ValueError, match="fit the state's S"):
        stream.step(q[:, 0], k[:, 0], v[:, 0])
    with pytest.raises(ValueError, match="v must have the leading dimensions of phi_k"):
        stream.step(q[:, 0, :-1], k[:, 0, :-1], v[0, 0])
    with pytest.raises(TypeError, match="fit the state's dtype"):
        stream.step(q[:, 0, :-1].float(), k[:, 0, :-1].float(), v[:, 0].float())


@pytest.mark.parametrize("bad", [{"N": 0}, {"r": 1.5}, {"M": -1}, {"form": "x"}, {"chunk_size": 0}])
def test_a_cost_of_nothing_is_refused(bad):
    with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
        causal_attention_cost(**{"N": 4, "r": 3, "M": 2, **bad})


# What a sceptic broke


def single(*rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("form", FORMS)
def test_a_denominator_that_overflows_is_named_and_gives_no_zero(form):
    # Numerators stay in range, so that the output would be a finite, wrong 0.
    _, state = run(single([1.0]), single([1e30]), single([1e-30]), output_final_state=True)
    token = (single([1e30]), single([1e-30]), single([1e-30]))
    with pytest.raises(ValueError, match="the denominators must be finite"):
        run(*token, initial_state=state, form=form)
    with pytest.raises(ValueError, match="the denominators must be finite"):
        read_state(token[0], state)
    stream = CausalAttentionStream(state)
    with pytest.raises(ValueError, match="the denominators must be finite"):
        stream.step(*(x[0] for x in token))
    assert torch.equal(stream.state.S, state.S)


@pytest.mark.parametrize("form", FORMS)
def test_an_output_too_large_for_its_dtype_is_named(form):
    # Weights 3 and -2.5: the average is 11 times the values, too large for float16.
    k, v = single([1.0, 1, 1], [-0.5, -1, -1]).half(), single([6e4], [-6e4]).half()
    q = torch.ones_like(k)
    with pytest.raises(ValueError, match="the output must be finite, but 1 of 2"):
        run(q, k, v, form=form)
    stream = CausalAttentionStream()
    stream.step(q[0], k[0], v[0])
    with pytest.raises(ValueError, match="the output must be finite"):
        stream.step(q[1], k[1], v[1])
    assert float(stream.state.Z[0]) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("log", [False, True])
def test_a_product_with_the_future_may_overflow(form, log):
    q, k = single([1e20], [1e-20]).requires_grad_(), single([1.0], [1e20]).requires_grad_()
    out = run(q, k, torch.ones(2, 1), torch.zeros(2) if log else None, form=form)
    assert bool((out == 1).all())
    assert all(bool(x.isfinite().all()) for x in torch.autograd.grad(out.sum(), (q, k)))


def test_a_stream_outlives_inference_mode():
    q, k, v, _ = case(2, log=False)
    stream = CausalAttentionStream()
    with torch.inference_mode():
        out = [stream.step(q[:, i], k[:, i], v[:, i]) for i in range(3)]
        seen = stream.state
    out += [stream.step(q[:, i], k[:, i], v[:, i]) for i in range(3, 6)]
    torch.testing.assert_close(torch.stack(out, 1), run(q, k, v)[:, :6], **TIGHT)
    assert not seen.S.is_inference()


def test_what_is_not_finite_is_named_when_a_state_is_read():
    state = CausalState(torch.ones(1, 1), torch.ones(1))
    with pytest.raises(ValueError, match="phi_q must be finite"):
        read_state(single([math.nan]), state)
    with pytest.raises(ValueError, match=r"state\.S must be finite"):
        read_state(single([1.0]), state._replace(S=single([math.inf])))
    with value_checks(False):
        assert bool(read_state(single([math.nan]), state).isnan())


def test_a_stream_checks_what_differs_from_the_token_before():
    q, k, v, _ = (x if x is None else x[:, 0] for x in case(2, N=1, log=False))
    stream = CausalAttentionStream()
    for _ in range(3):
        stream.step(q, k, v)
    kept = stream.state.S
    for token in ((q[:1], k, v), (q, k[:1], v), (q, k, v[:1]), (q[:1], k[:1], v[:1])):
        with pytest.raises(ValueError, match="must"):
            stream.step(*token)
    for token in ((q.float(), k, v), (q, k, v.float()), (q.tolist(), k, v), (q, k, v.int())):
        with pytest.raises(TypeError, match="must"):
            stream.step(*token)
    with pytest.raises(ValueError, match="on the device"):
        stream.step(q, k, v.to("meta"))
    with pytest.raises(ValueError, match="on the state's device"):
        stream.step(*(x.to("meta") for x in (q, k, v)))
    with pytest.raises(ValueError, match="at least one feature"):
        CausalAttentionStream().step(q[:, :0], k[:, :0], v)
    assert torch.equal(stream.state.S, kept)


def test_an_overflow_of_the_streams_state_is_named_with_the_next_token():
    stream, one = CausalAttentionStream(), torch.ones(2)
    stream.step(one, one, one)
    stream.step(1e-30 * one, 1e20 * one, 1e20 * one)
    with pytest.raises(ValueError, match="initial_state must be finite"):
        stream.step(one, one, one)
