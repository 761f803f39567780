"""Weights set by hand, how sharp they must be, training, and the ladder between models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlchecked.argmax_attention import missed_weight_bounds
from dlchecked.arguments import value_checks
from dlchecked.hand_designed import (
    RUNGS,
    OneHotTransformer,
    all_sequences,
    content_design,
    copy_task,
    drawn_transformer,
    first_design,
    first_task,
    ladder,
    needed_beta,
    own_position_design,
    relative_distance,
    rungs,
    sign_design,
    sign_task,
    stacked,
    train_task,
    visible_product,
    worst_missed_weight,
)

T, N, D = 4, 5, 8


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def drawn(replicas: int = 3, *, seed: int = 0, length: int | None = N, **options: Any) -> Any:
    model = drawn_transformer(
        T, T, replicas=replicas, length=length, generator=source(seed), **options
    )
    return model.double()


def sequences(*lead: int, seed: int = 1, length: int = N) -> Tensor:
    return torch.randint(T, (*lead, length), generator=source(seed))


# The model


@pytest.mark.parametrize("length", [None, N])
def test_the_model_is_pytorchs_attention_on_one_hot_inputs(length: int | None) -> None:
    model, tokens = drawn(length=length), sequences(7)
    x = torch.nn.functional.one_hot(tokens, T).double()
    if length:
        x = torch.cat([x, torch.eye(N, dtype=torch.float64).expand(7, N, N)], -1)
    for r in range(3):
        q, k, v = (x @ w[r] for w in (model.W_Q, model.W_K, model.W_V))
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v) @ model.W_O[r]
        torch.testing.assert_close(model(tokens)[r], expected)


def test_models_side_by_side_do_not_touch_each_other() -> None:
    model, tokens = drawn(), sequences(3, 6)
    alone = [model.picked(r)(tokens[r]) for r in range(3)]
    torch.testing.assert_close(model(tokens), torch.cat(alone))
    grads = torch.autograd.grad(model(tokens)[1].sum(), model.W_Q)[0]
    assert grads[0].abs().max() == 0 == grads[2].abs().max()
    assert grads[1].abs().max() > 0


def test_the_trace_fits_together() -> None:
    model, tokens = drawn(), sequences(6)
    trace = model.trace(tokens)
    torch.testing.assert_close(trace.scores, trace.queries @ trace.keys.mT * model.scale)
    torch.testing.assert_close(trace.weights.sum(-1), torch.ones(3, 6, N, dtype=torch.float64))
    torch.testing.assert_close(trace.outputs, trace.weights @ trace.values @ model.W_O[:, None])


def test_scores_are_the_product_between_inputs() -> None:
    model, tokens = drawn(1), sequences(6)
    table = model.product("scores")[0]
    places = torch.arange(N)
    for a, b in ((0, 3), (2, 2), (4, 1)):
        t, u = tokens[:, a], tokens[:, b]
        i, j = places[a] + T, places[b] + T
        expected = table[t, u] + table[t, j] + table[i, u] + table[i, j]
        torch.testing.assert_close(model.trace(tokens).scores[0, :, a, b], expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_a_change_of_gauge_changes_no_function(seed: int) -> None:
    model, tokens = drawn(2, seed=seed), sequences(5, seed=seed)
    A, B = normal(2, D, D, seed=seed), normal(D, D, seed=seed + 1)
    other = model.regauged(A, B)
    before, after = model.trace(tokens), other.trace(tokens)
    for name in ("scores", "weights", "outputs"):
        torch.testing.assert_close(
            getattr(before, name), getattr(after, name), rtol=1e-6, atol=1e-6
        )
    for which in ("scores", "values"):
        torch.testing.assert_close(model.product(which), other.product(which), rtol=1e-6, atol=1e-6)
    assert (before.queries - after.queries).abs().max() > 1e-3


def test_gradients_by_finite_differences() -> None:
    tokens = sequences(2)

    def outputs(*weights: Tensor) -> Tensor:
        scores = weights[0] @ weights[1].mT
        model = OneHotTransformer(*weights, symbols=T, length=N)
        # The constructor copies; so the weights are put in from outside.
        return (
            torch.func.functional_call(
                model, dict(zip(("W_Q", "W_K", "W_V", "W_O"), weights, strict=True)), (tokens,)
            )
            + 0 * scores.sum()
        )

    shapes = ((1, T + N, 3), (1, T + N, 3), (1, T + N, 2), (1, 2, 2))
    weights = [normal(*s, seed=i).requires_grad_() for i, s in enumerate(shapes)]
    assert torch.autograd.gradcheck(outputs, weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_go_through(dtype: torch.dtype) -> None:
    exact = content_design(T, beta=6.0).double()
    tokens = sequences(9)
    outputs = content_design(T, beta=6.0).to(dtype)(tokens)
    assert outputs.dtype == dtype
    # One-hot rows: the only rounding is that of beta sqrt(D), of the weights and of their sums.
    allowed = 40 * torch.finfo(dtype).eps
    torch.testing.assert_close(outputs.double(), exact(tokens), atol=allowed, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gauge_keeps_the_dtype_and_what_may_move(dtype: torch.dtype) -> None:
    model = drawn(2, value_size=T, free_output=False).to(dtype)
    # Powers of two: no rounding in any dtype.
    A, B = 2 * torch.eye(D, dtype=dtype), torch.eye(T, dtype=dtype).flip(0) / 4
    other, tokens = model.regauged(A, B), sequences(5)
    assert other.W_Q.dtype == dtype
    assert not other.free_output
    assert torch.equal(other(tokens), model(tokens))


def test_a_fixed_output_is_no_parameter_and_is_kept() -> None:
    model = drawn(free_output=False, value_size=T)
    assert [name for name, _ in model.named_parameters()] == ["W_Q", "W_K", "W_V"]
    assert torch.equal(model.W_O, torch.eye(T, dtype=torch.float64).expand(3, T, T))
    assert "W_O" in model.state_dict()
    assert not model.picked(0).free_output


def test_without_places_a_sequence_may_have_any_length() -> None:
    assert drawn(length=None)(sequences(2, length=50)).shape == (3, 2, 50, T)


def test_picked_and_stacked_undo_each_other() -> None:
    model, tokens = drawn(), sequences(4)
    again = stacked([model.picked(r) for r in range(3)])
    assert torch.equal(model(tokens), again(tokens))
    assert torch.equal(model.picked([2, 0])(tokens), model(tokens)[[2, 0]])
    assert torch.equal(model.picked(slice(1, None))(tokens), model(tokens)[1:])


def test_the_weights_given_are_copied() -> None:
    eye = torch.eye(3)
    model = OneHotTransformer(eye, eye, eye, eye, symbols=3)
    eye.zero_()
    assert model.W_Q.abs().sum() == 3


# Designs


@pytest.mark.parametrize("length", [None, N])
@pytest.mark.parametrize("beta", [0.5, 3.0, 9.0])
def test_content_looks_at_matches(beta: float, length: int | None) -> None:
    tokens = all_sequences(T, N)
    model = content_design(T, beta=beta, length=length).double()
    trace = model.trace(tokens)
    match = (tokens[:, :, None] == tokens[:, None, :]).double()
    torch.testing.assert_close(trace.scores[0], beta * match, atol=1e-6, rtol=1e-6)
    mass = (trace.weights[0] * match).sum(-1)
    worst = worst_missed_weight(beta, keys=N)
    assert (1 - mass).max().item() == pytest.approx(worst, rel=1e-6)
    error = (trace.outputs[0] - copy_task(T, N).target(tokens)).abs().amax()
    assert error.item() == pytest.approx(worst, rel=1e-6)


def test_own_position_looks_at_itself() -> None:
    tokens = all_sequences(T, N)
    weights = own_position_design(T, N, beta=4.0).double().trace(tokens).weights[0]
    missed = 1 - weights.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(missed, torch.full_like(missed, worst_missed_weight(4.0, keys=N)))


@pytest.mark.parametrize("place", [0, 2, N - 1])
def test_first_looks_at_its_place(place: int) -> None:
    tokens = all_sequences(T, N)
    weights = first_design(T, N, beta=4.0, place=place).double().trace(tokens).weights[0]
    missed = 1 - weights[..., place]
    torch.testing.assert_close(missed, torch.full_like(missed, worst_missed_weight(4.0, keys=N)))


def test_the_first_row_may_look_by_content() -> None:
    tokens, beta = all_sequences(T, N), 7.0
    plain, other = (
        first_design(T, N, beta=beta, first_row_by_content=flag).double() for flag in (False, True)
    )
    target = first_task(T, N).target(tokens)
    allowed = worst_missed_weight(beta, keys=N) * (1 + 1e-6)
    for model in (plain, other):
        assert (model(tokens)[0] - target).abs().max() <= allowed
    weights = other.trace(tokens).weights[0]
    assert (weights[:, 1:, 0] >= 1 - allowed).all()
    constant = torch.zeros(1, N, dtype=torch.int64)
    expected = torch.full((N,), 1 / N, dtype=torch.float64)
    torch.testing.assert_close(other.trace(constant).weights[0, 0, 0], expected)


@pytest.mark.parametrize("places", [(0,), (N - 1,), (0, N - 1)])
def test_the_sign_is_right_from_a_threshold_on(places: tuple[int, ...]) -> None:
    m = len(places)
    task, tokens = sign_task(T, N), all_sequences(T, N)
    kept = tokens[tokens[:, 0] // 2 == tokens[:, -1] // 2]
    # The sign is said at two places: those not looked at vote right as well.
    threshold = math.log((N - 4 + m) / m)
    for beta, right in ((threshold * 0.99, False), (threshold * 1.01, True)):
        outputs = sign_design(T, N, beta=beta, places=places).double()(kept)[0]
        assert bool((outputs * task.target(kept) > 0).all()) is right


def test_hidden_symbols_are_never_drawn() -> None:
    assert copy_task(6, 7, hidden=2).draw((500,), source()).max() == 3
    assert copy_task(6, 7).draw((500,), source()).max() == 5


@pytest.mark.parametrize("said_twice", [True, False])
def test_the_sign_is_said_twice_or_contradicted(said_twice: bool) -> None:
    task = sign_task(6, 4, said_twice=said_twice)
    tokens = task.draw((3, 500), source())
    assert tokens.shape == (3, 500, 4)
    same = tokens[..., 0] // 3 == tokens[..., -1] // 3
    assert bool((same == said_twice).all())
    assert set(tokens[..., -1].flatten().tolist()) == set(range(6))
    loss = task.loss(task.target(tokens), task.target(tokens))
    assert loss.tolist() == [0, 0, 0]
    assert task.loss(-task.target(tokens), task.target(tokens)).tolist() == [2, 2, 2]


def test_all_sequences_are_all() -> None:
    found = all_sequences(3, 4)
    assert found.shape == (81, 4)
    assert len({tuple(row) for row in found.tolist()}) == 81
    assert all_sequences(3, 1).shape == (3, 1)


# How sharp


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.floats(-12, -0.5),
    keys=st.integers(2, 400),
    selected=st.integers(1, 3),
)
def test_needed_beta_is_the_inverse(exponent: float, keys: int, selected: int) -> None:
    keys, error = keys + selected, 10.0**exponent
    beta = needed_beta(error, keys=keys, selected=selected)
    found = worst_missed_weight(beta, keys=keys, selected=selected)
    if beta > 0:
        assert found == pytest.approx(error, rel=1e-9)
    else:
        assert found == pytest.approx((keys - selected) / keys)
        assert found <= error * (1 + 1e-9)


def test_the_worst_missed_weight_is_the_bound_of_the_argmax_chapter() -> None:
    for gap in (0.5, 3.0, 30.0, 100.0):
        high = missed_weight_bounds(torch.tensor(gap, dtype=torch.float64), keys=9).high.item()
        assert worst_missed_weight(gap, keys=9) == pytest.approx(high, rel=1e-12)
    assert 0 < worst_missed_weight(1e6, keys=9) < 1e-300


# The ladder


def test_the_distance_on_examples() -> None:
    a = normal(5, 3, 4)
    same, opposite = relative_distance(a, a), relative_distance(a, -a)
    torch.testing.assert_close(same, torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(opposite, torch.full((5,), math.sqrt(2), dtype=torch.float64))
    zero = torch.zeros_like(a)
    assert relative_distance(zero, zero).tolist() == [0] * 5
    for up_to_scale in (False, True):
        torch.testing.assert_close(
            relative_distance(a, zero, up_to_scale=up_to_scale),
            torch.ones(5, dtype=torch.float64),
        )


@pytest.mark.parametrize("up_to_scale", [True, False])
@pytest.mark.parametrize("size", [1e-30, 1e-13, 1.0, 1e30])
def test_the_distance_knows_no_size(size: float, up_to_scale: bool) -> None:
    a = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]) * size
    b = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * size
    torch.testing.assert_close(
        relative_distance(a, b, up_to_scale=up_to_scale), torch.tensor([0.0, 1.0, math.sqrt(2)])
    )
    if up_to_scale:
        assert relative_distance(a, b / size, up_to_scale=True)[0] < 1e-6


def test_the_distance_of_nothing_and_of_nan() -> None:
    assert relative_distance(torch.ones(0, 2), torch.ones(0, 2)).shape == (0,)
    assert relative_distance(torch.ones(2, 0), torch.ones(2, 0)).tolist() == [0, 0]
    with value_checks(False):
        apart = relative_distance(torch.tensor([[math.nan], [1.0]]), torch.ones(2, 1))
    assert math.isnan(apart[0])
    assert apart[1] == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), factor=st.floats(0.01, 100))
def test_the_distance_is_symmetric_and_its_scale_the_best(seed: int, factor: float) -> None:
    a, b = normal(1, 6, seed=seed), normal(1, 6, seed=seed + 1)
    b = b if (a * b).sum() > 0 else -b
    torch.testing.assert_close(relative_distance(a, b), relative_distance(b, a))
    best = relative_distance(a, b, up_to_scale=True)
    torch.testing.assert_close(relative_distance(a, factor * b, up_to_scale=True), best)
    assert relative_distance(a, factor * b) >= best - 1e-12
    balanced = a.norm() / b.norm() * b
    torch.testing.assert_close(relative_distance(a, balanced), best)


@pytest.mark.parametrize("length", [None, N])
def test_what_is_taken_away_from_a_product_does_not_show(length: int | None) -> None:
    model, tokens = drawn(2, length=length), sequences(30)
    sizes = {"symbols": T, "length": length}
    for which in ("scores", "values"):
        product = model.product(which)
        seen = visible_product(product, of=which, **sizes)
        torch.testing.assert_close(visible_product(seen, of=which, **sizes), seen)
        torch.testing.assert_close(
            ((product - seen) * seen).sum((1, 2)),
            torch.zeros(2, dtype=torch.float64),
            atol=1e-12,
            rtol=0,
        )
    seen = visible_product(model.product("scores"), **sizes)
    eye = torch.eye(seen.shape[-1], dtype=torch.float64).expand_as(seen)
    other = OneHotTransformer(
        seen, eye, model.product("values"), torch.eye(T).double().expand(2, T, T),
        scale=1.0, **sizes,
    )  # fmt: skip
    torch.testing.assert_close(other.trace(tokens).weights, model.trace(tokens).weights)
    torch.testing.assert_close(other(tokens), model(tokens))


@pytest.mark.parametrize(("length", "invisible"), [(None, T), (N, 3 * (T + N) - 2)])
def test_no_more_than_that_is_invisible(length: int | None, invisible: int) -> None:
    d = T + (length or 0)
    basis = torch.eye(d * d, dtype=torch.float64).reshape(d * d, d, d)
    seen = visible_product(basis, symbols=T, length=length)
    assert torch.linalg.matrix_rank(seen.flatten(1)).item() == d * d - invisible


def test_the_ladder_of_a_model_with_itself_and_with_its_gauge() -> None:
    model, tokens = drawn(2), sequences(30)
    apart = ladder(model, model, tokens)
    assert list(apart) == list(RUNGS)
    assert all(d.tolist() == [0, 0] for d in apart.values())
    other = ladder(model, model.regauged(normal(D, D), normal(D, D, seed=3)), tokens)
    assert min(other[name].min() for name in RUNGS[:4]) > 0.1
    assert max(other[name].max() for name in RUNGS[4:]) < 1e-6


def test_one_model_is_compared_with_each_of_the_others() -> None:
    many, one, tokens = drawn(3), drawn(1, seed=9), sequences(30)
    apart = ladder(many, one, tokens)
    for r in range(3):
        alone = ladder(many.picked(r), one, tokens)
        for name in RUNGS:
            torch.testing.assert_close(apart[name][r : r + 1], alone[name])
    torch.testing.assert_close(ladder(one, many, tokens)["scores"], apart["scores"])


def test_the_rungs_are_without_what_all_have_in_common() -> None:
    found = rungs(drawn(2), sequences(30))
    for name in ("scores", "patterns"):
        assert found[name].sum(-1).abs().max() < 1e-12
    assert not any(x.requires_grad for x in found.values())


# Training


def test_training_learns_and_is_reproducible() -> None:
    def run() -> tuple[OneHotTransformer, Any]:
        return train_task(
            first_task(3, 4), generator=source(), replicas=4, steps=200, snapshot_at={0, 200}
        )

    (model, history), (again, _) = run(), run()
    assert torch.equal(model.W_Q, again.W_Q)
    assert (history.metrics["loss"][-1] < 0.01).all()
    assert (history.metrics["loss"][0] > 0.5).all()
    then = model.at(history, 0)
    assert not torch.equal(then.W_Q, model.W_Q)
    assert torch.equal(model.at(history, 200).W_Q, model.W_Q)


def test_training_from_a_design_leaves_the_design_alone() -> None:
    design = first_design(3, 4, beta=1.0, place=1)
    before = design.W_Q.clone()
    model, _ = train_task(first_task(3, 4), start=design, steps=5, generator=source())
    assert torch.equal(design.W_Q, before)
    assert not torch.equal(model.W_Q, before)


def test_rows_of_symbols_never_seen_stay_bit_for_bit() -> None:
    _, history = train_task(
        copy_task(4, 5, hidden=1), replicas=2, steps=20, generator=source(), snapshot_at=(0, 20)
    )
    before, after = history.snapshots[0], history.snapshots[20]
    for name in ("W_Q", "W_K", "W_V"):
        assert torch.equal(before[name][:, 3], after[name][:, 3])
        assert not torch.equal(before[name][:, 2], after[name][:, 2])


def test_a_model_may_have_places_that_the_task_does_not_use() -> None:
    start = drawn_transformer(3, 3, length=9, generator=source())
    model, _ = train_task(first_task(3, 4), start=start, steps=3, generator=source())
    assert torch.equal(model.W_Q[:, 3 + 4 :], start.W_Q[:, 3 + 4 :])


# Bad inputs


def design(**changes: Any) -> OneHotTransformer:
    return content_design(**{"symbols": 3, "beta": 2.0, **changes})


def made(**changes: Any) -> OneHotTransformer:
    eye = torch.eye(3)
    weights = {"W_Q": eye, "W_K": eye, "W_V": eye, "W_O": eye}
    options = {k: v for k, v in changes.items() if k not in weights}
    given_weights = [changes.get(name, w) for name, w in weights.items()]
    return OneHotTransformer(*given_weights, **{"symbols": 3, **options})


def trained(**changes: Any) -> Any:
    arguments = {"generator": source(), "steps": 1, "replicas": 2, **changes}
    return train_task(arguments.pop("task", copy_task(3, 4)), **arguments)


A = torch.eye(8)
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: made(W_Q=[[1.0]]), TypeError, "W_Q must be a torch.Tensor"),
    (lambda: made(W_K=torch.eye(3).double()), TypeError, "W_K must have the dtype of W_Q"),
    (lambda: made(W_V=torch.ones(2, 3)), ValueError, "W_V must have the shape"),
    (lambda: made(W_O=torch.ones(1, 3, 3)), ValueError, "W_O must have as many dimensions"),
    (lambda: made(W_Q=torch.ones(1, 1, 3, 3)), ValueError, "W_Q must have 2 or 3 dimensions"),
    (lambda: made(W_Q=torch.eye(3) / 0), ValueError, "W_Q must be finite"),
    (lambda: made(symbols=2), ValueError, "W_Q must have the shape"),
    (lambda: made(scale=0.0), ValueError, "scale must be positive"),
    (lambda: made(free_output=1), TypeError, "free_output must be True or False"),
    (lambda: design()(torch.zeros(1, 2)), TypeError, "tokens must have the dtype torch.int64"),
    (lambda: design()([[0]]), TypeError, "tokens must be a torch.Tensor"),
    (lambda: design()(torch.zeros(2, dtype=torch.int64)), ValueError, "tokens must have the shape"),
    (lambda: design()(torch.zeros(2, 1, 4).long()), ValueError, "tokens must have the shape"),
    (lambda: design()(torch.zeros(1, 0).long()), ValueError, "N of at least 1"),
    (lambda: design()(torch.tensor([[3]])), ValueError, "tokens must lie between 0 and 2"),
    (lambda: design(length=2)(torch.zeros(1, 3).long()), ValueError, "no longer than the model's"),
    (lambda: design().product("keys"), ValueError, "which must be 'scores' or 'values'"),
    (lambda: design().regauged(torch.eye(3), A), ValueError, "A must have the shape"),
    (lambda: design().regauged(A, torch.zeros(8, 8)), ValueError, "B must be invertible"),
    (lambda: design().regauged(A.double(), A), TypeError, "A must have the dtype"),
    (lambda: design(beta=-1.0), ValueError, "beta must be positive"),
    (lambda: design(size=2), ValueError, "size must be at least 3"),
    (lambda: design(symbols=True), TypeError, "symbols must be an integer"),
    (lambda: own_position_design(3, 9, beta=1.0), ValueError, "size must be at least 9"),
    (lambda: first_design(3, 4, beta=1.0, place=4), ValueError, "place must be at most 3"),
    (
        lambda: first_design(3, 4, beta=1.0, place=1, first_row_by_content=True),
        ValueError,
        "place must be at most 0",
    ),
    (lambda: sign_design(3, 4, beta=1.0), ValueError, "symbols must be even"),
    (lambda: sign_design(4, 4, beta=1.0, places=()), ValueError, "places must hold places"),
    (lambda: sign_design(4, 4, beta=1.0, places=(4,)), ValueError, "places must hold places"),
    (lambda: stacked([]), ValueError, "models must hold at least one"),
    (lambda: stacked([design(), None]), TypeError, "models must be OneHotTransformers"),
    (lambda: sign_design(4, 4, beta=1.0, places=0), TypeError, "places must be a collection"),
    (lambda: stacked([design(), design(size=9)]), ValueError, "models must have one shape"),
    (lambda: stacked([design(), design().double()]), ValueError, "models must have one shape"),
    (
        lambda: stacked([made(scale=1.0), made(W_Q=A[:3], W_K=A[:3], scale=1.0)]),
        ValueError,
        "models must have one shape",
    ),
    (lambda: design().picked([]), ValueError, "which must keep at least one model"),
    (lambda: drawn_transformer(3, 3, generator=None), TypeError, "generator must be"),
    (
        lambda: drawn_transformer(3, 3, generator=source(), initial=0.0),
        ValueError,
        "initial must be positive",
    ),
    (lambda: needed_beta(1.0, keys=3), ValueError, "error must be less than 1"),
    (lambda: needed_beta(0.1, keys=3, selected=3), ValueError, "selected must be less"),
    (lambda: worst_missed_weight(1.0, keys=1), ValueError, "keys must be at least 2"),
    (lambda: worst_missed_weight(-1.0, keys=3), ValueError, "beta must be positive"),
    (lambda: worst_missed_weight(False, keys=3), TypeError, "beta must be a real number"),
    (lambda: copy_task(3, 4, hidden=2), ValueError, "hidden must leave two"),
    (lambda: sign_task(3, 4), ValueError, "symbols must be even"),
    (lambda: sign_task(4, 1), ValueError, "length must be at least 2"),
    (lambda: all_sequences(10, 7), ValueError, "at most a million"),
    (lambda: trained(task="copy"), TypeError, "task must be a Task"),
    (lambda: trained(generator=0), TypeError, "generator must be"),
    (lambda: trained(start=design(symbols=4)), ValueError, "start must have 3 symbols"),
    (lambda: trained(start=design(length=2)), ValueError, "room for 4 places"),
    (lambda: trained(start=3), TypeError, "start must be a OneHotTransformer"),
    (lambda: trained(learning_rate=0.0), ValueError, "learning_rate must be positive"),
    (lambda: trained(positions=1), TypeError, "positions must be True or False"),
    (lambda: design().at(trained()[1], 7), ValueError, "steps must be one of the snapshots"),
    (lambda: visible_product(torch.eye(3), symbols=2), ValueError, "product must end in"),
    (lambda: visible_product(A, symbols=8, of="x"), ValueError, "of must be"),
    (lambda: relative_distance(A, A.double()), TypeError, "b must have the dtype of a"),
    (lambda: relative_distance(A, A / 0), ValueError, "b must be finite"),
    (lambda: relative_distance(A, A[:2]), ValueError, "b must have the shape of a"),
    (lambda: relative_distance(A, A, up_to_scale=1), TypeError, "up_to_scale must be"),
    (
        lambda: ladder(drawn(2, length=None), drawn(3, length=None), sequences(2)),
        ValueError,
        "second must hold 2 models",
    ),
    (
        lambda: ladder(design(), design(size=9), torch.tensor([[0, 1]])),
        ValueError,
        "second must have the sizes of first, but W_Q",
    ),
    (lambda: rungs("model", torch.tensor([[0]])), TypeError, "model must be a OneHotTransformer"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_inputs_are_named(
    call: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text.replace("(", r"\(")):
        call()


def test_reading_of_values_can_be_switched_off() -> None:
    with value_checks(False):
        made(W_Q=torch.full((3, 3), math.nan))
    with pytest.raises(ValueError, match="W_Q must be finite"):
        made(W_Q=torch.full((3, 3), math.nan))
