r"""Early exit: a residual network whose images may leave before its end (hw10 4(b)).

After some stages stands a head that classifies what is there (:class:`ExitResNet`). All heads are
trained at once (:func:`train_exits`). In use an image leaves at the first head whose prediction has
an entropy below a threshold (:func:`predict_early`, BranchyNet's rule), and its row leaves the
batch: what comes later is not computed for it. :func:`layer_formula`, :func:`layer_hooks` and
:func:`layer_counts` say in three ways what that costs, in multiply-adds.

Entropy is a confidence only if the probabilities are: :func:`reliability` and
:func:`calibration_error` say how far they are from it, :func:`fit_temperature` brings them nearer.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlchecked.arguments import (
    finite,
    floating,
    integer,
    positive,
    random_generator,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.counting import count_operations
from dlchecked.resnet import ResNet, drawn_convolution, drawn_linear
from dlchecked.scaled_dot_product import softmax_entropy
from dlchecked.training import History, cosine_schedule, minibatches, train

__all__ = [
    "SHEET",
    "Curve",
    "ExitCosts",
    "ExitResNet",
    "Exited",
    "Reliability",
    "accuracy_cost_curve",
    "all_logits",
    "calibration_error",
    "exit_costs",
    "exit_places",
    "fit_temperature",
    "joint_loss",
    "layer_counts",
    "layer_formula",
    "layer_hooks",
    "predict_early",
    "reliability",
    "train_exits",
]


class _Sheet(NamedTuple):
    """What hw10 4(b) prints, as whole numbers and shares."""

    regular: int = 3_336_213_504_000
    early: int = 2_305_700_339_712
    saved_at_least: float = 0.50
    largest_ratio_at_least: int = 3
    accuracy: float = 0.90
    points_down: float = 0.05


SHEET = _Sheet()
"""The figures that the solution to hw10 4(b) prints, of a test set, with the regular network and
with early exits."""


# The network


class ExitResNet(nn.Module):
    r"""A residual network with a classifier after some of its stages.

    Parameters
    ----------
    layout
        Blocks in each stage, as in :class:`dlchecked.resnet.ResNet`; ResNet-18 has (2, 2, 2, 2).
    exits
        The stages, counted from 0, after which there is an exit, in rising order. The network's own
        end is always the last exit and is not named. None at all make the plain network.
    hidden
        Channels of a 3 x 3 convolution of stride 2, with normalisation and a ReLU, in front of the
        average and the linear map of every early head; ``None`` for none.
    width, classes, channels, stem, dtype, device, generator
        As in :class:`dlchecked.resnet.ResNet`. The network is drawn first and the heads after it,
        so that the same generator gives the same network with and without exits.

    Attributes
    ----------
    resnet
        The network, with its own head.
    heads
        The early heads, in the order of `exits`.

    Raises
    ------
    TypeError, ValueError
        As :class:`dlchecked.resnet.ResNet`, and for stages that are not there, out of order or
        last.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1)
    >>> [tuple(logits.shape) for logits in model(torch.zeros(2, 1, 8, 8))]
    [(2, 3), (2, 3)]
    """

    def __init__(
        self,
        layout: Sequence[int] = (2, 2, 2, 2),
        *,
        exits: Sequence[int] = (0, 1, 2),
        hidden: int | None = None,
        width: int = 64,
        classes: int = 1000,
        channels: int = 3,
        stem: str = "small",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.resnet = ResNet(
            layout,
            width=width,
            classes=classes,
            channels=channels,
            stem=stem,
            dtype=dtype,
            device=device,
            generator=generator,
        )
        self.exits = _exit_stages(exits, len(self.resnet.layout))
        self.hidden = None if hidden is None else integer("hidden", hidden, at_least=1)
        self.width, self.classes, self.stem_kind = width, classes, stem

        def head(inputs: int) -> nn.Sequential:
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            if self.hidden is not None:
                parts["conv"] = drawn_convolution(
                    inputs,
                    self.hidden,
                    3,
                    stride=2,
                    dtype=dtype,
                    device=device,
                    generator=generator,
                )
                parts["norm"] = nn.BatchNorm2d(self.hidden, dtype=dtype, device=device)
                parts["relu"] = nn.ReLU()
                inputs = self.hidden
            parts["pool"] = nn.AdaptiveAvgPool2d(1)
            parts["flatten"] = nn.Flatten()
            parts["linear"] = drawn_linear(
                inputs, classes, dtype=dtype, device=device, generator=generator
            )
            return nn.Sequential(parts)

        self.heads = nn.ModuleList(head(self.resnet.stage_channels[s]) for s in self.exits)

    def segments(self) -> list[tuple[tuple[nn.Module, ...], nn.Module]]:
        """For each exit, in order: what runs between the exit before it and it, and its head."""
        ends = [*self.exits, len(self.resnet.layout) - 1]
        starts = [0, *(s + 1 for s in self.exits)]
        bodies: list[tuple[nn.Module, ...]] = []
        for start, end in zip(starts, ends, strict=True):
            stages = [self.resnet.stages[s] for s in range(start, end + 1)]
            bodies.append((self.resnet.stem, *stages) if start == 0 else tuple(stages))
        return list(zip(bodies, [*self.heads, self.resnet.head], strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the logits at every exit; nothing leaves.

        Parameters
        ----------
        x
            ``(B, channels, height, width)``, in the dtype of the parameters.

        Returns
        -------
        tuple of Tensor
            ``(B, classes)`` each, the network's own last.

        Raises
        ------
        TypeError, ValueError
            As :meth:`dlchecked.resnet.ResNet.forward`.
        """
        x = _images(self, x)
        logits = []
        for body, head in self.segments():
            for part in body:
                x = part(x)
            logits.append(head(x))
        return tuple(logits)


def _exit_stages(exits: object, stages: int) -> tuple[int, ...]:
    if isinstance(exits, str) or not isinstance(exits, Sequence):
        raise TypeError(f"exits must be a sequence of integers, got {type(exits).__name__}")
    found = tuple(integer("exits", s, at_least=0) for s in exits)
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"exits must rise, got {found}")
    if found and found[-1] > stages - 2:
        raise ValueError(f"exits must name stages before the last, {stages - 1}, got {found}")
    return found


def _images(model: ExitResNet, x: object) -> Tensor:
    images = floating("x", x, exactly=4)
    if images.shape[1] != model.resnet.channels:
        raise ValueError(
            f"x must have {model.resnet.channels} channels, got shape {shape_of(images)}"
        )
    return images


def _network(model: object) -> ExitResNet:
    if not isinstance(model, ExitResNet):
        raise TypeError(f"model must be an ExitResNet, got {type(model).__name__}")
    return model


# Inference that stops


class Exited(NamedTuple):
    """Of every image: ``logits`` ``(B, classes)`` at its exit, and ``places`` ``(B,)``, int64."""

    logits: Tensor
    places: Tensor


@torch.no_grad()
def predict_early(
    model: ExitResNet,
    x: Tensor,
    *,
    threshold: float | Sequence[float],
    temperatures: Sequence[float] | None = None,
) -> Exited:
    r"""Classify each image at the first exit that is sure of it, and compute nothing after that.

    An image leaves at an early exit if the entropy of its prediction there, in nats, is *below* the
    threshold (Teerapittayanon et al. 2016). Its row is taken out of the batch; when no row is left,
    the rest of the network does not run at all. So at 0 nothing leaves early, and above
    :math:`\log C`, for C classes, everything leaves at the first exit.

    Parameters
    ----------
    model
        In evaluation mode.
    x
        ``(B, channels, height, width)``; B may be 0.
    threshold
        From 0 to infinity: one for all early exits, or one each.
    temperatures
        One for each exit, the last included, by which its logits are divided first; see
        :func:`fit_temperature`.

    Returns
    -------
    Exited
        Exits are counted from 0.

    Raises
    ------
    TypeError, ValueError
        For a model in training mode, or a part of it (rows of a batch would change each other's
        normalisation), images or logits that do not fit or are not finite, thresholds that are
        negative or NaN, or not one number for each exit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet, predict_early
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1).eval()
    >>> predict_early(model, torch.zeros(2, 1, 8, 8), threshold=2.0).places.tolist()
    [0, 0]
    """
    model = _network(model)
    if any(part.training for part in model.modules()):
        raise ValueError("model must be in evaluation mode, all of it: call model.eval()")
    x = _images(model, x)
    finite("x", x)
    thresholds = _thresholds(threshold, len(model.exits))
    divisors = _temperatures(temperatures, len(model.exits) + 1)
    rows = torch.arange(len(x), device=x.device)
    logits = x.new_empty(len(x), model.classes)
    places = torch.empty_like(rows)
    for place, (body, head) in enumerate(model.segments()):
        if len(rows) == 0:
            break
        for part in body:
            x = part(x)
        here = head(x) if temperatures is None else head(x) / divisors[place]
        here = here.to(logits.dtype)  # under autocast a head may answer in another
        finite(f"the model's logits at exit {place}", here)
        if place == len(thresholds):
            logits[rows], places[rows] = here, place
            break
        leaves = _sure(here, thresholds[place])
        gone = leaves.nonzero()[:, 0]
        if len(gone) > 0:
            logits[rows[gone]], places[rows[gone]] = here[gone], place
            x, rows = x[~leaves], rows[~leaves]
    return Exited(logits, places)


def _sure(logits: Tensor, threshold: float) -> Tensor:
    """Whether entropies are below the threshold; 16 bits would be too coarse to tell."""
    return softmax_entropy(widened(logits)) < threshold


def _thresholds(threshold: object, exits: int) -> tuple[float, ...]:
    several = isinstance(threshold, Sequence) and not isinstance(threshold, str)
    given = [*threshold] if isinstance(threshold, Sequence) and several else [threshold]
    numbers = []
    for number in given:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(f"threshold must be a real number, got {type(number).__name__}")
        if not float(number) >= 0:
            raise ValueError(f"threshold must not be negative or NaN, got {number}")
        numbers.append(float(number))
    if several and len(numbers) != exits:
        raise ValueError(f"threshold must be one number for each early exit, {exits}, got {given}")
    return tuple(numbers) if several else tuple(numbers * exits)


def _temperatures(temperatures: object, exits: int) -> tuple[float, ...]:
    if temperatures is None:
        return (1.0,) * exits
    if isinstance(temperatures, str) or not isinstance(temperatures, Sequence):
        raise TypeError(
            f"temperatures must be a sequence of numbers, got {type(temperatures).__name__}"
        )
    if len(temperatures) != exits:
        raise ValueError(
            f"temperatures must be one number for each exit, {exits}, got {len(temperatures)}"
        )
    return tuple(positive("temperatures", number) for number in temperatures)


@torch.no_grad()
def all_logits(model: ExitResNet, images: Tensor, *, batch_size: int = 500) -> Tensor:
    """Logits of every image at every exit, in evaluation mode; the mode is put back.

    Parameters
    ----------
    model
        A network with or without exits.
    images
        ``(n, channels, height, width)``, n at least 1.
    batch_size
        Images at a time.

    Returns
    -------
    Tensor
        ``(exits, n, classes)``.

    Raises
    ------
    TypeError, ValueError
        For another model, or images that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet, all_logits
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1)
    >>> all_logits(model, torch.zeros(5, 1, 8, 8)).shape
    torch.Size([2, 5, 3])
    """
    model = _network(model)
    images = _images(model, images)
    batch_size = integer("batch_size", batch_size, at_least=1)
    if len(images) == 0:
        raise ValueError(f"images must hold at least one image, got shape {shape_of(images)}")
    before = {part: part.training for part in model.modules()}
    model.eval()
    try:
        parts = [torch.stack(model(part)) for part in torch.split(images, batch_size)]
    finally:
        for part, mode in before.items():
            part.training = mode
    return torch.cat(parts, dim=1)


def exit_places(logits: Tensor, *, threshold: float | Sequence[float]) -> Tensor:
    """Where each image would leave, from its logits at every exit.

    The rule of :func:`predict_early`, applied after everything has been computed: to try many
    thresholds, this runs the network once.

    Parameters
    ----------
    logits
        ``(exits, n, classes)``, from :func:`all_logits`.
    threshold
        As in :func:`predict_early`.

    Returns
    -------
    Tensor
        ``(n,)``, int64: exits counted from 0.

    Raises
    ------
    TypeError, ValueError
        For logits of another shape or with NaN or +inf, or thresholds as in :func:`predict_early`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import exit_places
    >>> sure, unsure = [9.0, 0.0], [0.1, 0.0]
    >>> exit_places(torch.tensor([[sure, unsure], [sure, sure]]), threshold=0.5).tolist()
    [0, 1]
    """
    logits = _every_exit(logits)
    thresholds = _thresholds(threshold, len(logits) - 1)
    places = torch.full(logits.shape[1:2], len(logits) - 1, device=logits.device)
    for place in reversed(range(len(logits) - 1)):
        places[_sure(logits[place], thresholds[place])] = place
    return places


# What it costs


def layer_formula(model: ExitResNet, *, pixels: int) -> dict[str, int]:
    r"""Multiply-adds of every layer for one image, by formula: from the description alone.

    A convolution of size k from c to o channels runs :math:`k^2 c\, o` of them at each place of its
    output, a linear map :math:`c\, o`. A stride of 2 halves a side and rounds up. Nothing is
    run, and no layer is looked at.

    Parameters
    ----------
    model
        Only its layout, width, classes, channels, stem, exits and hidden channels are read.
    pixels
        Height and width of the image.

    Returns
    -------
    dict
        Name of the layer -> multiply-adds, in the order in which they run.

    Raises
    ------
    TypeError, ValueError
        For another model, or pixels below 1.

    Examples
    --------
    >>> from dlchecked.early_exit import ExitResNet, layer_formula
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1, device="meta")
    >>> layer_formula(model, pixels=8)["heads.0.linear"]
    12
    """
    model = _network(model)
    side = integer("pixels", pixels, at_least=1)
    layers: dict[str, int] = {}

    def convolution(name: str, size: int, inputs: int, outputs: int, side: int) -> None:
        layers[name] = size**2 * inputs * outputs * side**2

    def head(name: str, inputs: int, side: int, hidden: int | None) -> None:
        if hidden is not None:
            convolution(f"{name}.conv", 3, inputs, hidden, _halved(side))
            inputs = hidden
        layers[f"{name}.linear"] = inputs * model.classes

    size, times = (7, 2) if model.stem_kind == "imagenet" else (3, 1)
    side = _halved(side) if times == 2 else side
    convolution("resnet.stem.conv", size, model.resnet.channels, model.width, side)
    side = _halved(side) if times == 2 else side
    before = model.width
    for s, blocks in enumerate(model.resnet.layout):
        outputs = model.width * 2**s
        side = _halved(side) if s else side
        for b in range(blocks):
            name = f"resnet.stages.{s}.{b}"
            if before != outputs:
                convolution(f"{name}.shortcut.conv", 1, before, outputs, side)
            convolution(f"{name}.residual.conv1", 3, before, outputs, side)
            convolution(f"{name}.residual.conv2", 3, outputs, outputs, side)
            before = outputs
        if s in model.exits:
            head(f"heads.{model.exits.index(s)}", outputs, side, model.hidden)
    head("resnet.head", before, side, None)
    return layers


def _halved(side: int) -> int:
    """A side after a stride of 2, rounded up."""
    return -(-side // 2)


def layer_hooks(model: ExitResNet, x: Tensor) -> dict[str, int]:
    """Multiply-adds of every layer, by forward hooks: from the shapes that come out.

    Each output of a convolution or a linear map is a sum of as many products as one of its filters
    has weights. The hooks are removed again.

    Parameters
    ----------
    model
        Runs once, in its own mode; on the device ``"meta"`` it computes nothing.
    x
        ``(B, channels, height, width)``.

    Returns
    -------
    dict
        Name -> multiply-adds of the whole batch, for every convolution and linear map.

    Raises
    ------
    TypeError, ValueError
        For another model, or images that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet, layer_formula, layer_hooks
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1, device="meta")
    >>> layer_hooks(model, torch.zeros(1, 1, 8, 8, device="meta")) == layer_formula(model, pixels=8)
    True
    """
    found: dict[str, int] = {}

    def watch(name: str, layer: Any) -> tuple[None, Callable[..., None]]:
        def after(_: nn.Module, inputs: Any, out: Tensor) -> None:
            found[name] = out.numel() * layer.weight[0].numel()

        return None, after

    _watched(model, x, watch)
    return found


def layer_counts(model: ExitResNet, x: Tensor) -> dict[str, int]:
    """Multiply-adds of every layer, counted while the operations run.

    :func:`dlchecked.counting.count_operations` sees every operation; hooks before and after each
    layer only read how far its total has come.

    Parameters
    ----------
    model, x
        As in :func:`layer_hooks`.

    Returns
    -------
    dict
        As :func:`layer_hooks`, and under ``"elsewhere"`` what ran outside of these layers.

    Raises
    ------
    TypeError, ValueError
        For another model, or images that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet, layer_counts
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1, device="meta")
    >>> layer_counts(model, torch.zeros(2, 1, 8, 8, device="meta"))["heads.0.linear"]
    24
    """
    counter = count_operations()
    found: dict[str, int] = {}

    def watch(name: str, layer: Any) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_: nn.Module, inputs: Any) -> None:
            found[name] = -counter.total.multiply_adds

        def after(_: nn.Module, inputs: Any, out: Tensor) -> None:
            found[name] += counter.total.multiply_adds

        return before, after

    with counter:
        _watched(model, x, watch)
    return {**found, "elsewhere": counter.total.multiply_adds - sum(found.values())}


@torch.no_grad()
def _watched(model: object, x: Tensor, watch: Callable[[str, Any], tuple[Any, Any]]) -> None:
    """Run the network once with hooks on its convolutions and linear maps, and remove them."""
    model = _network(model)
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            before, after = watch(name, layer)
            if before is not None:
                handles.append(layer.register_forward_pre_hook(before))
            handles.append(layer.register_forward_hook(after))
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()


class ExitCosts(NamedTuple):
    """Multiply-adds of one image: ``bodies``, of what runs between exits, and ``heads``, by exit.

    The network's own head is the last.
    """

    bodies: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def leaving(self) -> tuple[int, ...]:
        """The cost of an image that leaves here, with all bodies *and all heads* up to here."""
        sums = (b + h for b, h in zip(self.bodies, self.heads, strict=True))
        return tuple(itertools.accumulate(sums))

    @property
    def cut(self) -> tuple[int, ...]:
        """The cost of a network that ends here, with all bodies up to here and one head."""
        return tuple(
            body + head
            for body, head in zip(itertools.accumulate(self.bodies), self.heads, strict=True)
        )

    @property
    def plain(self) -> int:
        """What the network costs without its early exits."""
        return self.cut[-1]


def exit_costs(model: ExitResNet, *, pixels: int) -> ExitCosts:
    """Sum :func:`layer_formula` up from exit to exit.

    Parameters
    ----------
    model, pixels
        As in :func:`layer_formula`.

    Returns
    -------
    ExitCosts

    Raises
    ------
    TypeError, ValueError
        As :func:`layer_formula`.

    Examples
    --------
    >>> from dlchecked.early_exit import ExitResNet, exit_costs
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=3, channels=1, device="meta")
    >>> costs = exit_costs(model, pixels=8)
    >>> costs.leaving[-1] - costs.plain, costs.heads
    (12, (12, 24))
    """
    layers = layer_formula(model, pixels=pixels)
    ends = [*model.exits, len(model.resnet.layout) - 1]
    bodies, heads = [0] * len(ends), [0] * len(ends)
    for name, cost in layers.items():
        match name.split("."):
            case ["heads", place, *_]:
                heads[int(place)] += cost
            case ["resnet", "head", *_]:
                heads[-1] += cost
            case ["resnet", "stages", stage, *_]:
                bodies[next(i for i, end in enumerate(ends) if int(stage) <= end)] += cost
            case _:
                bodies[0] += cost
    return ExitCosts(tuple(bodies), tuple(heads))


class Curve(NamedTuple):
    """Accuracy and mean multiply-adds at each threshold; ``(thresholds,)``, float64."""

    thresholds: Tensor
    accuracy: Tensor
    multiply_adds: Tensor


def accuracy_cost_curve(
    logits: Tensor, labels: Tensor, *, costs: Sequence[int], thresholds: Tensor
) -> Curve:
    """How accuracy and cost move with the threshold.

    Parameters
    ----------
    logits
        ``(exits, n, classes)``, from :func:`all_logits`.
    labels
        ``(n,)``, int64.
    costs
        What an image costs that leaves at each exit, such as :attr:`ExitCosts.leaving`.
    thresholds
        ``(m,)``, each for all early exits.

    Returns
    -------
    Curve

    Raises
    ------
    TypeError, ValueError
        For shapes or dtypes that do not fit, nothing to average, logits with NaN or +inf, costs
        that are not positive, or thresholds that are negative or NaN.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import accuracy_cost_curve
    >>> logits = torch.tensor([[[9.0, 0.0], [0.1, 0.0]], [[9.0, 0.0], [0.0, 9.0]]])
    >>> curve = accuracy_cost_curve(logits, torch.tensor([0, 1]), costs=(10, 30),
    ...                             thresholds=torch.tensor([0.0, 0.5, 1.0]))
    >>> curve.accuracy.tolist(), curve.multiply_adds.tolist()
    ([1.0, 1.0, 0.5], [30.0, 20.0, 10.0])
    """
    logits = _every_exit(logits)
    if logits.shape[1] == 0:
        raise ValueError(f"logits must hold at least one image, got shape {shape_of(logits)}")
    labels = _labels(labels, logits.shape[1], logits.shape[2])
    thresholds = floating("thresholds", thresholds, exactly=1).double()
    if len(thresholds) == 0:
        raise ValueError("thresholds must hold at least one")
    if len(costs) != len(logits):
        raise ValueError(f"costs must be one for each exit, {len(logits)}, got {len(costs)}")
    of_exit = torch.tensor([positive("costs", c) for c in costs], dtype=torch.float64)
    entropies = softmax_entropy(widened(logits[:-1]))
    right = (logits.argmax(-1) == labels).double()
    accuracy, cost = [], []
    for threshold in thresholds.tolist():
        _thresholds(threshold, len(logits) - 1)
        # The first exit below the threshold; the last one is always there.
        sure = torch.cat([entropies < threshold, torch.ones_like(right[:1], dtype=torch.bool)])
        place = sure.int().argmax(0)
        accuracy.append(right.gather(0, place[None]).mean())
        cost.append(of_exit.to(place.device)[place].mean())
    return Curve(thresholds, torch.stack(accuracy), torch.stack(cost))


# Training


def joint_loss(
    logits: Sequence[Tensor], labels: Tensor, *, weights: Sequence[float] | None = None
) -> Tensor:
    r"""Cross-entropy at every exit, weighted and summed: :math:`\sum_l w_l L_l` (BranchyNet).

    Parameters
    ----------
    logits
        ``(B, classes)`` at every exit.
    labels
        ``(B,)``, int64.
    weights
        One for each exit, not negative, not all zero; all 1 if not given.

    Returns
    -------
    Tensor
        A number.

    Raises
    ------
    TypeError, ValueError
        For weights or shapes that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import joint_loss
    >>> even = torch.zeros(3, 4)
    >>> float(joint_loss([even, even], torch.tensor([0, 1, 2]), weights=(1, 0.5)) / even[0].exp(
    ...     ).sum().log())
    1.5
    """
    if isinstance(logits, Tensor) or not isinstance(logits, Sequence) or not logits:
        raise TypeError("logits must be a sequence of at least one tensor, one for each exit")
    factors = _weights(weights, len(logits))
    first = floating("logits", logits[0], exactly=2)
    if 0 in first.shape:
        raise ValueError(f"logits must not be empty, got shape {shape_of(first)}")
    labels = _labels(labels, *first.shape)
    for rows in logits:
        if floating("logits", rows, exactly=2).shape != first.shape:
            raise ValueError(
                f"logits must have one shape, got {shape_of(first)} and {shape_of(rows)}"
            )
    losses = [w * cross_entropy(widened(z), labels) for w, z in zip(factors, logits, strict=True)]
    return torch.stack(losses).sum()


def _weights(weights: object, exits: int) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * exits
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise TypeError(f"weights must be a sequence of numbers, got {type(weights).__name__}")
    if len(weights) != exits:
        raise ValueError(f"weights must be one for each exit, {exits}, got {len(weights)}")
    for number in weights:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(f"weights must be real numbers, got {type(number).__name__}")
        if not (math.isfinite(number) and float(number) >= 0):
            raise ValueError(f"weights must be finite and not negative, got {number}")
    if not any(weights):
        raise ValueError("weights must not all be zero")
    return tuple(float(number) for number in weights)


def train_exits(
    model: ExitResNet,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 0.02,
    weight_decay: float = 1e-4,
    weights: Sequence[float] | None = None,
) -> History:
    """Train all exits of a network at once, in place, by :func:`joint_loss`.

    AdamW, whose rate rises for a tenth of the steps and then falls along a cosine. A network
    without early exits is trained by the same loop.

    Parameters
    ----------
    model
        Its parameters change.
    images
        ``(n, channels, height, width)``.
    labels
        ``(n,)``, int64.
    generator
        Draws the batches.
    epochs
        How often the data are gone through; what is left of an epoch after the last whole batch is
        left out.
    batch_size, learning_rate, weight_decay
        Of the optimiser.
    weights
        As in :func:`joint_loss`.

    Returns
    -------
    dlchecked.training.History

    Raises
    ------
    TypeError, ValueError
        For arguments of the wrong kind, out of range, or that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import ExitResNet, train_exits
    >>> source = torch.Generator().manual_seed(0)
    >>> model = ExitResNet((1, 1), exits=(0,), width=4, classes=2, channels=1, generator=source)
    >>> images, labels = torch.rand(64, 1, 8, 8, generator=source), torch.arange(64) % 2
    >>> history = train_exits(model, images, labels, generator=source, epochs=2, batch_size=16)
    >>> len(history.losses)
    8
    """
    model = _network(model)
    images = _images(model, images)
    labels = _labels(labels, len(images), model.classes)
    epochs = integer("epochs", epochs, at_least=1)
    batch_size = integer("batch_size", batch_size, at_least=1)
    factors = _weights(weights, len(model.exits) + 1)
    random_generator("generator", generator)
    batches = minibatches(images, labels, batch_size=batch_size)
    steps = epochs * (len(images) // batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=positive("learning_rate", learning_rate),
        weight_decay=weight_decay,
        fused=True,
    )

    def loss(network: nn.Module, batch: Any) -> Tensor:
        return joint_loss(network(batch[0]), batch[1], weights=factors)

    return train(
        model,
        optimizer,
        batches,
        loss,
        steps=steps,
        generator=generator,
        schedule=cosine_schedule(steps, warmup=steps // 10),
    )


# Calibration


class Reliability(NamedTuple):
    """Of each bin: the mean ``confidence``, the ``accuracy``, and the ``share`` of predictions.

    An empty bin has the share 0, and NaN for the others.
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor


def reliability(logits: Tensor, labels: Tensor, *, bins: int = 15) -> Reliability:
    r"""Accuracy of the predictions in bins of equal width by their confidence (Guo et al. 2017).

    The confidence is the largest probability. Bin i of m holds those above :math:`i/m` and up to
    :math:`(i + 1)/m`.

    Parameters
    ----------
    logits
        ``(n, classes)``, n at least 1.
    labels
        ``(n,)``, int64.
    bins
        m.

    Returns
    -------
    Reliability
        ``(bins,)`` each, float64.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or numbers that do not fit.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import reliability
    >>> logits = torch.tensor([[4.0, 1.0], [0.8, 0.4]], dtype=torch.float64).log()
    >>> [part.tolist() for part in reliability(logits, torch.tensor([0, 1]), bins=4)][1:]
    [[nan, nan, 0.0, 1.0], [0.0, 0.0, 0.5, 0.5]]
    """
    logits, labels = _predictions(logits, labels)
    bins = integer("bins", bins, at_least=1)
    confidence, predicted = logits.softmax(-1).max(-1)
    right = (predicted == labels).double()
    chosen = (confidence * bins).ceil().long().clamp(1, bins) - 1
    empty = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    count = empty.index_add(0, chosen, torch.ones_like(right))
    return Reliability(
        empty.index_add(0, chosen, confidence) / count,
        empty.index_add(0, chosen, right) / count,
        count / len(labels),
    )


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    r"""Expected calibration error (ECE): :math:`\sum_i n_i / n \,|\text{acc}_i - \text{conf}_i|`.

    The mean over bins, weighted by their share, of the distance between accuracy and confidence.
    It is biased: the absolute value turns chance into error, the more so the fewer predictions a
    bin holds.

    Parameters
    ----------
    logits, labels, bins
        As in :func:`reliability`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As :func:`reliability`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import calibration_error
    >>> four = torch.tensor([[3.0, 1.0]] * 4, dtype=torch.float64).log()
    >>> round(calibration_error(four, torch.tensor([0, 0, 0, 1])), 6)  # three of four, as it says
    0.0
    """
    confidence, accuracy, share = reliability(logits, labels, bins=bins)
    return float((share * (accuracy - confidence).abs()).nansum())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    r"""Find the temperature T whose :math:`\operatorname{softmax}(z/T)` fits the labels best.

    It minimises the mean cross-entropy, which is convex in :math:`1/T`, by L-BFGS in float64. Take
    data that were not trained on (Guo et al. 2017).

    Parameters
    ----------
    logits
        ``(n, classes)``.
    labels
        ``(n,)``, int64.

    Returns
    -------
    float
        Above 1 for a network that is too sure of itself.

    Raises
    ------
    TypeError, ValueError
        For shapes or dtypes that do not fit; or if no temperature is best, since every label has
        the largest logit (then ever smaller ones are) or the labels' logits are no larger than
        the others on average (then ever larger ones are).

    Examples
    --------
    >>> import torch
    >>> from dlchecked.early_exit import fit_temperature
    >>> logits = torch.tensor([[6.0, 0.0]] * 4, dtype=torch.float64)
    >>> T = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))  # then 6 / T = log 3
    >>> round(6 / T, 4) == round(torch.tensor(3.0).log().item(), 4)
    True
    """
    logits, labels = _predictions(logits, labels)
    if values_are_checked():
        of_label = logits.gather(-1, labels[:, None])[:, 0]
        if bool((of_label >= logits.amax(-1)).all()):
            raise ValueError("labels must not all have the largest logit: no temperature is best")
        if float((of_label - logits.mean(-1)).mean()) <= 0:
            raise ValueError(
                "labels must have larger logits than others on average: no temperature is best"
            )
    centred = logits - logits.mean(-1, keepdim=True)
    scale = float(centred.square().mean().sqrt())  # steps start from 1, whatever the logits' size
    with torch.inference_mode(False), torch.enable_grad():
        centred, labels = centred.clone() / scale, labels.clone()
        inverse = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [inverse],
            max_iter=200,
            tolerance_grad=1e-12,
            tolerance_change=1e-15,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            value = cross_entropy(centred * inverse.exp(), labels)
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return scale * math.exp(-float(inverse.detach()))


# The door


def _every_exit(logits: object) -> Tensor:
    rows = floating("logits", logits, exactly=3)
    if len(rows) == 0 or rows.shape[2] == 0:
        raise ValueError(f"logits must have an exit and a class, got shape {shape_of(rows)}")
    if values_are_checked() and bool((rows.isnan() | rows.isposinf()).any()):
        raise ValueError("logits must be finite or -inf, but some are NaN or +inf")
    return rows


def _labels(labels: object, rows: int, classes: int) -> Tensor:
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a torch.Tensor, got {type(labels).__name__}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must have dtype torch.int64, got {labels.dtype}")
    if labels.shape != (rows,):
        raise ValueError(f"labels must have shape ({rows},), got {shape_of(labels)}")
    if values_are_checked() and rows:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(f"labels must lie from 0 to {classes - 1}, got {low} to {high}")
    return labels


def _predictions(logits: object, labels: object) -> tuple[Tensor, Tensor]:
    rows = floating("logits", logits, exactly=2)
    if 0 in rows.shape:
        raise ValueError(f"logits must not be empty, got shape {shape_of(rows)}")
    finite("logits", rows)
    return rows.detach().double(), _labels(labels, *rows.shape)
