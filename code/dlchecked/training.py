"""The one training loop of the book: seeded, recorded, with a progress bar on a terminal.

:func:`train` takes a model, an optimiser, a source of batches and a loss. All chance comes from one
explicit generator: it draws the batches, and it seeds what layers such as dropout draw inside the
model. So a run is repeated by repeating its generator, and evaluating a run does not change it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from dlchecked.arguments import integer, positive, shape_of, values_are_checked

__all__ = ["Batches", "DivergedError", "History", "cosine_schedule", "minibatches", "train"]

Batches = Callable[[torch.Generator], Iterable[Any]]
"""A source of batches. Given a generator, it yields them; when it ends, it is called again."""


@dataclass(frozen=True)
class History:
    """What was recorded of a run.

    Attributes
    ----------
    losses
        ``(steps,)``, float64, on the CPU: the loss of each step, before its update.
    gradient_norms
        ``(steps,)``: the norm of the gradient before clipping; empty where nothing was clipped.
    evaluated_at
        After how many steps `metrics` were taken; the first is 0, before training.
    metrics
        Name -> ``(evaluations, …)``: what `evaluate` returned, stacked.
    snapshots
        Number of steps -> the model's state then, as a copy.
    """

    losses: Tensor
    gradient_norms: Tensor
    evaluated_at: tuple[int, ...]
    metrics: dict[str, Tensor]
    snapshots: dict[int, dict[str, Tensor]]


class DivergedError(FloatingPointError):
    """The loss, or the norm of its gradient, is not finite.

    Attributes
    ----------
    step
        The step at which it happened, counted from 0; its update was not made.
    history
        What was recorded up to there, that step's loss included.
    """

    def __init__(self, message: str, *, step: int, history: History) -> None:
        super().__init__(message)
        self.step = step
        self.history = history


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Batches,
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    steps: int,
    generator: torch.Generator,
    schedule: Callable[[int], float] | None = None,
    max_norm: float | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float | Tensor]] | None = None,
    every: int | None = None,
    snapshot_at: Collection[int] = (),
    description: str = "training",
) -> History:
    """Train a model for a number of steps, and record how it went.

    A step takes a batch, computes the loss, clips the gradient if asked to, sets the learning rate
    and lets the optimiser update. The model is in training mode meanwhile and back in its own mode
    afterwards. PyTorch's global random state is the same before and after.

    Parameters
    ----------
    model
        What is trained.
    optimizer
        Holds the parameters to update and their learning rates.
    batches
        Called with `generator`; yields batches of any kind, and is called again when they run out
        (an epoch is over): :func:`minibatches`, a generator function that never ends, or
        ``lambda generator: DataLoader(…, generator=generator)``.
    loss
        Called with the model and a batch; returns the loss, a tensor of one number.
    steps
        How many updates, from 0 on.
    generator
        The source of all chance, on the CPU.
    schedule
        Called with the step, from 0 on; returns the factor by which the optimiser's learning rates
        are multiplied for this step. They are back at their own values afterwards.
    max_norm
        Scale the gradient of each step down to this norm where it is longer.
    evaluate
        Called with the model in evaluation mode, without gradients; returns numbers or tensors by
        name, the same names and shapes each time.
    every
        After how many steps to evaluate; always before the first and after the last step, too.
    snapshot_at
        After how many steps to copy the model's state; 0 is before the first.
    description
        What the progress bar says. There is none where standard error is no terminal.

    Returns
    -------
    History

    Raises
    ------
    DivergedError
        If a loss, or with `max_norm` a gradient's norm, is not finite; it names the step. Such
        checks read values and can be switched off by
        :func:`dlchecked.arguments.value_checks`; then nothing waits for a GPU between evaluations.
    TypeError, ValueError
        For arguments of the wrong kind or out of range, a loss that is not one number or does not
        depend on any parameter, and a source without batches.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.training import train
    >>> line = torch.nn.Linear(1, 1)
    >>> def points(generator):
    ...     while True:
    ...         x = torch.rand(16, 1, generator=generator)
    ...         yield x, 2 * x + 1
    >>> def squared_error(model, batch):
    ...     return (model(batch[0]) - batch[1]).square().mean()
    >>> history = train(line, torch.optim.SGD(line.parameters(), lr=0.3), points, squared_error,
    ...                 steps=200, generator=torch.Generator().manual_seed(0))
    >>> bool(history.losses[-1] < 0.001)
    True
    """
    steps = integer("steps", steps, at_least=0)
    _check_parts(model, optimizer, generator)
    for name, part in (("batches", batches), ("loss", loss)):
        if not callable(part):
            raise TypeError(f"{name} must be callable, got {type(part).__name__}")
    every = None if every is None else integer("every", every, at_least=1)
    if every is not None and evaluate is None:
        raise ValueError("every must be None where there is no evaluate to call")
    max_norm = None if max_norm is None else positive("max_norm", max_norm)
    wanted = {integer("snapshot_at", at, at_least=0) for at in snapshot_at}
    if any(at > steps for at in wanted):
        raise ValueError(f"snapshot_at must name steps up to {steps}, got {max(wanted)}")

    record = _Record()
    with (
        _seeded(model, generator),
        _mode(model, training=True),
        _own_rates(optimizer) as rates,
        tqdm(total=steps, desc=description, disable=None, leave=False) as bar,
    ):
        source = _endless(batches, generator)
        for step in range(steps + 1):
            last = step == steps
            if evaluate is not None and (last or step % (every or max(steps, 1)) == 0):
                record.evaluation(step, _evaluated(model, evaluate))
            if step in wanted:
                record.snapshots[step] = _state(model)
            if last:
                break
            optimizer.zero_grad()
            value = _checked_loss(loss(model, next(source)))
            record.losses.append(value.detach())
            _demand_finite("loss", value, step, record)
            value.backward()  # type: ignore[no-untyped-call]
            if max_norm is not None:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                norm = nn.utils.clip_grad_norm_(parameters, max_norm)
                record.norms.append(norm.detach())
                _demand_finite("gradient's norm", norm, step, record)
            if schedule is not None:
                _set_rates(optimizer, rates, float(schedule(step)))
            optimizer.step()
            bar.update()
    return record.history()


def minibatches(*tensors: Tensor, batch_size: int) -> Batches:
    """A source of batches from tensors in memory: each epoch shuffled anew, the rest left out.

    Parameters
    ----------
    *tensors
        At least one; all with the same first dimension, the examples.
    batch_size
        Examples in a batch. Where it does not divide their number, an epoch leaves out as many as
        remain, other ones each time.

    Returns
    -------
    Batches
        For :func:`train`; a batch is a tuple of tensors.

    Raises
    ------
    TypeError, ValueError
        For something that is no tensor, lengths that differ, or a batch larger than the data.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.training import minibatches
    >>> epoch = minibatches(torch.arange(7), batch_size=3)(torch.Generator().manual_seed(0))
    >>> [tuple(batch.shape) for (batch,) in epoch]
    [(3,), (3,)]
    """
    if not tensors:
        raise ValueError("tensors must hold at least one tensor")
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tensors must be torch.Tensors, got {type(tensor).__name__}")
        if tensor.dim() == 0 or tensor.shape[0] != tensors[0].shape[0]:
            raise ValueError(
                f"tensors must have one first dimension, got shapes "
                f"{', '.join(map(shape_of, tensors))}"
            )
    batch_size = integer("batch_size", batch_size, at_least=1)
    examples = tensors[0].shape[0]
    if batch_size > examples:
        raise ValueError(f"batch_size must be at most {examples}, got {batch_size}")

    def epoch(generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        order = torch.randperm(examples, generator=generator)
        for start in range(0, examples - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield tuple(tensor[chosen.to(tensor.device)] for tensor in tensors)

    return epoch


def cosine_schedule(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Callable[[int], float]:
    r"""A learning rate that rises for `warmup` steps and then falls like a cosine.

    The factor is :math:`(t + 1)/(w + 1)` at step :math:`t < w`, 1 at step :math:`w`, and falls
    along half a cosine towards `floor`, which it would reach at step `steps`.

    Parameters
    ----------
    steps
        Length of the run.
    warmup
        Steps of rising, fewer than `steps`.
    floor
        The factor at the end, from 0 to 1.

    Returns
    -------
    callable
        Step -> factor, for the `schedule` of :func:`train`.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range.

    Examples
    --------
    >>> from dlchecked.training import cosine_schedule
    >>> factor = cosine_schedule(10, warmup=4)
    >>> [round(factor(t), 2) for t in (0, 3, 4, 7, 9)]
    [0.2, 0.8, 1.0, 0.5, 0.07]
    """
    steps = integer("steps", steps, at_least=1)
    warmup = integer("warmup", warmup, at_least=0)
    if warmup >= steps:
        raise ValueError(f"warmup must be less than steps, {steps}, got {warmup}")
    if isinstance(floor, bool) or not isinstance(floor, int | float):
        raise TypeError(f"floor must be a number, got {type(floor).__name__}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        turned = (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
        return floor + (1 - floor) * turned

    return factor


# What train is made of


class _Record:
    """A history in the making; numbers stay on their device until the end."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.evaluated_at: list[int] = []
        self.metrics: dict[str, list[Tensor]] = {}
        self.snapshots: dict[int, dict[str, Tensor]] = {}

    def evaluation(self, step: int, found: Mapping[str, float | Tensor]) -> None:
        if self.evaluated_at and set(found) != set(self.metrics):
            raise ValueError(
                f"evaluate must return the same names each time, {sorted(self.metrics)}, "
                f"got {sorted(found)}"
            )
        kept = {
            name: torch.as_tensor(value, dtype=torch.float64).detach().cpu().clone()
            for name, value in found.items()
        }
        for name, value in kept.items():
            before = self.metrics.setdefault(name, [])
            if before and value.shape != before[0].shape:
                raise ValueError(
                    f"evaluate must return the same shapes each time, {name} had "
                    f"{shape_of(before[0])}, got {shape_of(value)}"
                )
            before.append(value)
        self.evaluated_at.append(step)

    def history(self) -> History:
        return History(
            losses=_stacked(self.losses),
            gradient_norms=_stacked(self.norms),
            evaluated_at=tuple(self.evaluated_at),
            metrics={name: torch.stack(values) for name, values in self.metrics.items()},
            snapshots=self.snapshots,
        )


def _stacked(numbers: list[Tensor]) -> Tensor:
    if not numbers:
        return torch.empty(0, dtype=torch.float64)
    return torch.stack(numbers).to("cpu", torch.float64)


def _check_parts(model: object, optimizer: object, generator: object) -> None:
    parts = (
        ("model", model, nn.Module, "torch.nn.Module"),
        ("optimizer", optimizer, Optimizer, "torch.optim.Optimizer"),
        ("generator", generator, torch.Generator, "torch.Generator"),
    )
    for name, part, kind, called in parts:
        if not isinstance(part, kind):
            raise TypeError(f"{name} must be a {called}, got {type(part).__name__}")


@contextmanager
def _seeded(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Seed the global random state, from which dropout draws, and put it back afterwards."""
    with torch.random.fork_rng(devices=_gpus(model)):
        torch.manual_seed(
            int(torch.randint(2**62, (), generator=generator, device=generator.device))
        )
        yield


def _gpus(model: nn.Module) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the whole model into one mode, and each of its parts back into its own afterwards."""
    before = {part: part.training for part in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode


def _endless(batches: Batches, generator: torch.Generator) -> Iterator[Any]:
    while True:
        empty = True
        for batch in batches(generator):
            empty = False
            yield batch
        if empty:
            raise ValueError("batches must yield at least one batch, got none")


def _evaluated(
    model: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, float | Tensor]]
) -> Mapping[str, float | Tensor]:
    forked = torch.random.fork_rng(devices=_gpus(model))
    with forked, _mode(model, training=False), torch.no_grad():
        return evaluate(model)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _checked_loss(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss must return a torch.Tensor, got {type(value).__name__}")
    if value.numel() != 1:
        raise ValueError(f"loss must return one number, got shape {shape_of(value)}")
    if not value.requires_grad:
        raise ValueError("loss must depend on a parameter, but nothing requires a gradient")
    return value.reshape(())


def _demand_finite(name: str, value: Tensor, step: int, record: _Record) -> None:
    if values_are_checked() and not bool(torch.isfinite(value)):
        message = f"the {name} is {value.item()} at step {step}; the update was not made"
        raise DivergedError(message, step=step, history=record.history())


@contextmanager
def _own_rates(optimizer: Optimizer) -> Iterator[list[float]]:
    """Give the optimiser's learning rates, and put them back afterwards."""
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        yield rates
    finally:
        _set_rates(optimizer, rates, 1.0)


def _set_rates(optimizer: Optimizer, rates: list[float], factor: float) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
