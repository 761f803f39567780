"""The training loop: what it computes, what it records, and what it leaves alone."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlchecked.arguments import value_checks
from dlchecked.training import DivergedError, History, cosine_schedule, minibatches, train


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def line(seed: int = 0) -> nn.Linear:
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1, 3, generator=source(seed)))
        layer.bias.zero_()
    return layer


def points(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        x = torch.randn(8, 3, generator=generator)
        yield x, x.sum(-1, keepdim=True) + 1


def squared_error(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


def run(model: nn.Module | None = None, *, lr: float = 0.1, **options: Any) -> History:
    model = line() if model is None else model
    given: dict[str, Any] = {"steps": 5, "generator": source(), **options}
    batches = given.pop("batches", points)
    loss = given.pop("loss", squared_error)
    optimizer = given.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=lr)
    return train(model, optimizer, batches, loss, **given)


# What it computes


def test_it_is_the_loop_written_out() -> None:
    model, twin = line(), line()
    history = run(model, lr=0.1, steps=4)
    stream = source()
    torch.randint(2**62, (), generator=stream)  # the seed for the model's own chance
    batches = points(stream)
    losses = []
    for _ in range(4):
        value = squared_error(twin, next(batches))
        twin.zero_grad()
        value.backward()
        losses.append(value.item())
        with torch.no_grad():
            for parameter in twin.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(history.losses, torch.tensor(losses, dtype=torch.float64))
    torch.testing.assert_close(model.weight, twin.weight)
    torch.testing.assert_close(model.bias, twin.bias)


def test_it_learns() -> None:
    model = line()
    history = run(model, steps=200)
    assert history.losses.shape == (200,)
    assert history.losses.dtype == torch.float64
    assert history.losses[-1] < 1e-6
    torch.testing.assert_close(model.weight.detach(), torch.ones(1, 3), atol=1e-3, rtol=0)


def test_no_steps_change_nothing() -> None:
    model = line()
    before = model.weight.detach().clone()
    history = run(model, steps=0, evaluate=lambda m: {"one": 1.0}, snapshot_at=[0])
    assert torch.equal(model.weight, before)
    assert history.losses.shape == (0,)
    assert history.evaluated_at == (0,)
    assert torch.equal(history.snapshots[0]["weight"], before)


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(0, 12), every=st.one_of(st.none(), st.integers(1, 15)))
def test_evaluations_stand_at_the_start_the_end_and_every_so_often(
    steps: int, every: int | None
) -> None:
    history = run(steps=steps, every=every, evaluate=lambda m: {"weight": m.weight.sum()})
    expected = sorted({0, steps, *(range(0, steps, every) if every else ())})
    assert list(history.evaluated_at) == expected
    assert history.metrics["weight"].shape == (len(expected),)


def test_metrics_may_be_tensors() -> None:
    history = run(steps=4, every=2, evaluate=lambda m: {"weights": m.weight[0]})
    assert history.metrics["weights"].shape == (3, 3)
    assert torch.equal(history.metrics["weights"][0], line().weight[0].detach().double())


def test_snapshots_are_copies() -> None:
    model = line()
    history = run(model, steps=3, snapshot_at=(0, 2))
    assert sorted(history.snapshots) == [0, 2]
    assert torch.equal(history.snapshots[0]["weight"], line().weight)
    assert not torch.equal(history.snapshots[2]["weight"], model.weight)
    model.load_state_dict(history.snapshots[0])
    assert torch.equal(model.weight, line().weight)


# Seeds


class Dropping(nn.Module):
    """A layer that draws from PyTorch's global random state."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.drop = line(), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.line(self.drop(x))
        return dropped


def test_the_generator_decides_dropout_too() -> None:
    first, again, other = (run(Dropping(), generator=source(s)).losses for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_random_state_is_left_alone_and_not_used() -> None:
    first_model, second_model = Dropping(), Dropping()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = run(first_model).losses
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(run(second_model).losses, first)


def test_evaluating_does_not_change_the_run() -> None:
    def careless(model: nn.Module) -> dict[str, float]:
        torch.rand(5)
        model.eval()
        return {"noise": torch.rand(()).item()}

    plain = run(Dropping(), steps=6).losses
    watched = run(Dropping(), steps=6, every=1, evaluate=careless).losses
    assert torch.equal(plain, watched)


def test_modes_while_training_while_evaluating_and_afterwards() -> None:
    model = Dropping()
    model.eval()
    model.line.train()
    seen: list[tuple[bool, bool, bool]] = []

    def evaluate(m: nn.Module) -> dict[str, float]:
        seen.append((m.training, model.drop.training, torch.is_grad_enabled()))
        return {}

    def loss(m: nn.Module, batch: Any) -> Tensor:
        assert m.training
        assert model.drop.training
        return squared_error(m, batch)

    run(model, evaluate=evaluate, loss=loss)
    assert seen == [(False, False, False)] * 2
    assert (model.training, model.line.training, model.drop.training) == (False, True, False)


# Clipping and learning rates


def test_clipping_scales_the_gradient_and_records_its_norm() -> None:
    model = line()
    before = model.weight.detach().clone(), model.bias.detach().clone()
    history = run(model, steps=1, lr=1.0, max_norm=0.01)
    moved = torch.cat([(model.weight - before[0]).ravel(), model.bias - before[1]])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert history.gradient_norms.shape == (1,)
    assert history.gradient_norms[0] > 1
    assert run(steps=2).gradient_norms.shape == (0,)


def test_a_generous_norm_clips_nothing() -> None:
    assert torch.equal(run(max_norm=1e9).losses, run().losses)


def test_the_schedule_multiplies_each_groups_rate_and_leaves_it() -> None:
    model = line()
    groups = [{"params": [model.weight], "lr": 0.2}, {"params": [model.bias], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    seen: list[list[float]] = []
    real = optimizer.step
    optimizer.step = lambda *a, **k: (  # type: ignore[method-assign]
        seen.append([g["lr"] for g in optimizer.param_groups]),
        real(*a, **k),
    )[1]
    run(model, optimizer=optimizer, steps=2, schedule=lambda step: 1 / (step + 1))
    assert seen == [[0.2, 0.1], [0.1, 0.05]]
    assert [g["lr"] for g in optimizer.param_groups] == [0.2, 0.1]


def test_rates_are_put_back_after_an_error() -> None:
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def fails(m: nn.Module, batch: Any) -> Tensor:
        if optimizer.param_groups[0]["lr"] != 0.5:
            raise RuntimeError("on the way")
        return squared_error(m, batch)

    with pytest.raises(RuntimeError, match="on the way"):
        run(model, optimizer=optimizer, loss=fails, schedule=lambda step: 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.5


@settings(max_examples=40, deadline=None)
@given(data=st.data(), steps=st.integers(1, 50), floor=st.floats(0, 1))
def test_cosine_schedule(data: st.DataObject, steps: int, floor: float) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    factor = cosine_schedule(steps, warmup=warmup, floor=floor)
    values = [factor(t) for t in range(steps + 1)]
    assert values[warmup] == pytest.approx(1)
    assert values[-1] == pytest.approx(floor)
    assert values[: warmup + 1] == sorted(values[: warmup + 1])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    assert all(v > 0 for v in values[:warmup])


# Batches


def test_minibatches_cover_an_epoch_without_repeats() -> None:
    x = torch.arange(10)
    batches = minibatches(x, 2 * x, batch_size=3)
    stream = source()
    first, second = list(batches(stream)), list(batches(stream))
    seen = torch.cat([a for a, _ in first])
    assert len(first) == 3
    assert len(seen.unique()) == 9
    assert all(torch.equal(b, 2 * a) for a, b in first)
    assert not torch.equal(seen, torch.cat([a for a, _ in second]))


def test_epochs_follow_each_other() -> None:
    calls = []

    def epoch(generator: torch.Generator) -> Iterator[Any]:
        calls.append(1)
        yield from [next(points(generator)) for _ in range(2)]

    assert run(steps=5, batches=epoch).losses.shape == (5,)
    assert len(calls) == 3


def test_a_data_loader_is_a_source() -> None:
    x = torch.randn(16, 3, generator=source())
    data = TensorDataset(x, x.sum(-1, keepdim=True))

    def loader(generator: torch.Generator) -> Any:
        return DataLoader(data, batch_size=4, shuffle=True, generator=generator)

    losses = [run(batches=loader, generator=source(4)).losses for _ in range(2)]
    assert torch.equal(*losses)


# Trouble


def poisoned(at: int, value: float) -> Callable[[nn.Module, Any], Tensor]:
    steps = iter(range(100))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return squared_error(model, batch) * (value if next(steps) == at else 1.0)

    return loss


@pytest.mark.parametrize(("value", "word"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_names_its_step(value: float, word: str) -> None:
    model = line()
    with pytest.raises(DivergedError, match=f"the loss is {word} at step 3") as caught:
        run(model, steps=9, loss=poisoned(3, value), snapshot_at=[0])
    assert caught.value.step == 3
    assert caught.value.history.losses.shape == (4,)
    assert 0 in caught.value.history.snapshots
    assert bool(torch.isfinite(model.weight).all())


def test_a_gradient_that_is_not_finite_names_its_step() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]) * 0).sum().sqrt()  # zero, with the derivative inf times zero

    with pytest.raises(DivergedError, match="the gradient's norm is nan at step 0"):
        run(loss=loss, max_norm=1.0)


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        history = run(steps=5, loss=poisoned(3, math.nan))
    assert torch.isfinite(history.losses).tolist() == [True, True, True, False, False]


def test_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(steps=3)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_run_may_be_resumed() -> None:
    model, twin = line(), line()
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1) for m in (model, twin)]
    batch = next(points(source()))

    def constant(generator: torch.Generator) -> Iterator[Any]:
        yield batch

    run(model, optimizer=optimizers[0], batches=constant, steps=6)
    for _ in range(2):
        run(twin, optimizer=optimizers[1], batches=constant, steps=3)
    assert torch.equal(model.weight, twin.weight)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    run(steps=3, description="a short run")
    assert "a short run" in screen.getvalue()
    assert "0/3" in screen.getvalue()


X = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: run(steps=-1), ValueError, "steps must be at least 0"),
        (lambda: run(steps=2.0), TypeError, "steps must be an integer"),
        (lambda: run(generator=0), TypeError, "generator must be a torch.Generator, got int"),
        (
            lambda: train(squared_error, None, points, squared_error, steps=1, generator=source()),  # type: ignore[arg-type]
            TypeError,
            "model must be a torch.nn.Module, got function",
        ),
        (lambda: run(optimizer="adam"), TypeError, "optimizer must be a torch.optim.Optimizer"),
        (lambda: run(every=0, evaluate=lambda m: {}), ValueError, "every must be at least 1"),
        (lambda: run(every=2), ValueError, "every must be None"),
        (lambda: run(max_norm=0), ValueError, "max_norm must be positive"),
        (lambda: run(max_norm="1"), TypeError, "max_norm must be a real number"),
        (lambda: run(snapshot_at=[6]), ValueError, "snapshot_at must name steps up to 5, got 6"),
        (lambda: run(snapshot_at=[-1]), ValueError, "snapshot_at must be at least 0"),
        (lambda: run(batches=[1, 2]), TypeError, "batches must be callable, got list"),
        (lambda: run(loss=0.5), TypeError, "loss must be callable, got float"),
        (lambda: run(batches=lambda g: []), ValueError, "batches must yield at least one batch"),
        (lambda: run(loss=lambda m, b: 1.0), TypeError, "loss must return a torch.Tensor"),
        (lambda: run(loss=lambda m, b: m.weight), ValueError, r"one number, got shape \(1, 3\)"),
        (lambda: run(loss=lambda m, b: torch.ones(())), ValueError, "depend on a parameter"),
        (
            lambda: run(evaluate=lambda m, seen=[]: (seen.append(1), {str(len(seen)): 0.0})[1]),
            ValueError,
            "evaluate must return the same names",
        ),
        (
            lambda: run(
                evaluate=lambda m, seen=[]: (seen.append(1), {"x": torch.ones(len(seen))})[1]
            ),
            ValueError,
            r"same shapes each time, x had \(1,\), got \(2,\)",
        ),
        (lambda: minibatches(batch_size=1), ValueError, "tensors must hold at least one"),
        (lambda: minibatches([1, 2], batch_size=1), TypeError, "tensors must be torch.Tensors"),
        (lambda: minibatches(X, X[:3], batch_size=1), ValueError, "one first dimension"),
        (lambda: minibatches(X, batch_size=5), ValueError, "batch_size must be at most 4"),
        (lambda: minibatches(X, batch_size=0), ValueError, "batch_size must be at least 1"),
        (lambda: cosine_schedule(0), ValueError, "steps must be at least 1"),
        (lambda: cosine_schedule(5, warmup=5), ValueError, "warmup must be less than steps, 5"),
        (lambda: cosine_schedule(5, floor=2), ValueError, "floor must lie between 0 and 1"),
        (lambda: cosine_schedule(5, floor=True), TypeError, "floor must be a number"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
