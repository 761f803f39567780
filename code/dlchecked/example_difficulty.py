r"""Example difficulty: images of shapes, hooks, k-nearest-neighbour probes and prediction depth.

The experiment of hw10 4(a), after Baldock, Maennel and Neyshabur (2021). A data set whose images
come with all that made them (:class:`ShapeImages`); a network trained on it; a hook on every block
(:class:`Activations`); at each of them a vote of the nearest training images (:func:`knn_votes`);
and the probe from which on all votes are the network's own answer (:func:`prediction_depth`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torch.utils.hooks import RemovableHandle

from dlchecked.arguments import (
    finite,
    floating,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.ledger import Estimate
from dlchecked.resnet import ResNet, resnet18
from dlchecked.training import History, cosine_schedule, minibatches, train

__all__ = [
    "SHAPES",
    "Activations",
    "Features",
    "ShapeImages",
    "difference_of_means",
    "first_confident_depth",
    "knn_votes",
    "pooled",
    "prediction_depth",
    "probe",
    "probe_features",
    "rank_correlation",
    "shape_coverage",
    "snapshot_of",
    "train_shapes",
]


# Images of shapes


def _polygon(
    sides: int, first: float, nearest: float, which: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """A distance from the lines of a regular polygon: the `which`-th largest of them all.

    The largest makes the polygon; the second largest of five makes a star, whose points are where a
    place lies outside of one line alone.
    """
    angles = [first + 2 * math.pi * i / sides for i in range(sides)]

    def distance(x: Tensor, y: Tensor) -> Tensor:
        planes = torch.stack([math.cos(a) * x + math.sin(a) * y - nearest for a in angles])
        return planes.topk(which, dim=0).values[-1]

    return distance


def _box(x: Tensor, y: Tensor, across: float, down: float) -> Tensor:
    return torch.maximum(x.abs() - across, y.abs() - down)


# Name -> distance from the edge, negative inside, for a shape in a circle of radius 1; y points
# down. Near edges these are distances, far away only their sign counts.
_OUTLINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y: torch.hypot(x, y) - 1,
    "ring": lambda x, y: (torch.hypot(x, y) - 0.78).abs() - 0.22,
    "square": lambda x, y: _box(x, y, 0.7, 0.7),
    "frame": lambda x, y: (_box(x, y, 0.0, 0.0) - 0.54).abs() - 0.16,
    "triangle": _polygon(3, math.pi / 2, 0.5, 1),
    "star": _polygon(5, -math.pi / 2, math.cos(2 * math.pi / 5), 2),
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.3, 0.95), _box(x, y, 0.95, 0.3)),
    "bar": lambda x, y: _box(x, y, 0.3, 0.95),
}

SHAPES = tuple(_OUTLINES)
"""The classes of :class:`ShapeImages`, in the order of their labels."""


def shape_coverage(labels: Tensor, radius: Tensor, centre: Tensor, *, pixels: int) -> Tensor:
    """How much of each pixel a shape covers: 1 inside, 0 outside, in between along the edge.

    Parameters
    ----------
    labels
        ``(n,)``, int64: indices into :data:`SHAPES`.
    radius
        ``(n,)``: of the circle around the shape, in pixels.
    centre
        ``(n, 2)``: row and column of that circle's centre; pixel (i, j) has its own centre at
        (i + 1/2, j + 1/2).
    pixels
        Height and width.

    Returns
    -------
    Tensor
        ``(n, pixels, pixels)``, in the dtype of `radius`.

    Raises
    ------
    TypeError, ValueError
        For something that is no tensor, shapes or labels that do not fit, or a radius or centre
        that is none.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import SHAPES, shape_coverage
    >>> bar = torch.tensor([SHAPES.index("bar")])
    >>> shape_coverage(bar, torch.tensor([2.0]), torch.tensor([[2.5, 1.5]]), pixels=5)[0].round()
    tensor([[0., 0., 0., 0., 0.],
            [0., 1., 0., 0., 0.],
            [0., 1., 0., 0., 0.],
            [0., 1., 0., 0., 0.],
            [0., 0., 0., 0., 0.]])
    """
    pixels = integer("pixels", pixels, at_least=1)
    labels = _classes("labels", labels, None, len(SHAPES))
    for name, value, shape in (
        ("radius", radius, (len(labels),)),
        ("centre", centre, (len(labels), 2)),
    ):
        if floating(name, value).shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {shape_of(value)}")
    same_kind(radius=radius, centre=centre)
    finite("radius", radius)
    finite("centre", centre)
    if values_are_checked() and len(radius) and float(radius.detach().min()) <= 0:
        raise ValueError(f"radius must be positive, got {float(radius.detach().min())}")
    at = torch.arange(pixels, dtype=radius.dtype, device=radius.device) + 0.5
    covered = radius.new_zeros(len(labels), pixels, pixels)
    for label, distance in enumerate(_OUTLINES.values()):
        chosen = (labels == label).nonzero()[:, 0]
        r, (row, column) = radius[chosen, None, None], centre[chosen].T[..., None, None]
        down, across = (at[:, None] - row) / r, (at - column) / r
        covered[chosen] = (0.5 - r * distance(across, down)).clamp(0, 1)
    return covered


class ShapeImages(Dataset[tuple[Tensor, Tensor]]):
    r"""Images of one shape each, with everything that made them on record.

    An image is :math:`c\, S + s\, \varepsilon`: the share S of each pixel that the shape covers
    (:func:`shape_coverage`) times a contrast c, on a black ground, and normal noise of standard
    deviation s. Values are not cut off. Class, radius, contrast and noise are drawn independently
    and evenly; then the place, evenly among those where the circle around the shape fits in, which
    are more for a small one.

    Parameters
    ----------
    count
        How many images.
    pixels
        Height and width.
    radius
        Least and largest radius of the circle around a shape, in pixels.
    noise, contrast
        The same for the noise's standard deviation and for the contrast.
    generator
        Draws everything; the images are on its device.

    Attributes
    ----------
    images
        ``(count, 1, pixels, pixels)``, float32.
    labels
        ``(count,)``, int64: indices into :data:`SHAPES`.
    radius, noise, contrast
        ``(count,)``, float32.
    centre
        ``(count, 2)``, float32: row and column.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, a range that is none, shapes too large for the image, or no
        generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import SHAPES, ShapeImages
    >>> data = ShapeImages(3, generator=torch.Generator().manual_seed(0))
    >>> image, label = data[0]
    >>> len(data), image.shape, SHAPES[label] in SHAPES
    (3, torch.Size([1, 24, 24]), True)
    """

    def __init__(
        self,
        count: int,
        *,
        pixels: int = 24,
        radius: tuple[float, float] = (3.0, 8.0),
        noise: tuple[float, float] = (0.0, 0.4),
        contrast: tuple[float, float] = (0.3, 1.0),
        generator: torch.Generator,
    ) -> None:
        count = integer("count", count, at_least=1)
        self.pixels = integer("pixels", pixels, at_least=4)
        ranges = {
            "radius": _range("radius", radius),
            "noise": _range("noise", noise, zero=True),
            "contrast": _range("contrast", contrast),
        }
        if 2 * ranges["radius"][1] > pixels:
            raise ValueError(
                f"radius must be at most half of {pixels} pixels, got {ranges['radius'][1]}"
            )
        source = random_generator("generator", generator)
        self.labels = torch.randint(
            len(SHAPES), (count,), generator=source, device=source.device, dtype=torch.int64
        )
        drawn = torch.rand(5, count, generator=source, device=source.device)
        self.radius, self.noise, self.contrast = (
            low + (high - low) * u for (low, high), u in zip(ranges.values(), drawn, strict=False)
        )
        self.centre = self.radius[:, None] + (pixels - 2 * self.radius[:, None]) * drawn[3:].T
        covered = shape_coverage(self.labels, self.radius, self.centre, pixels=pixels)
        grain = torch.randn(covered.shape, generator=source, device=source.device)
        wide = (slice(None), None, None)
        self.images = (self.contrast[wide] * covered + self.noise[wide] * grain)[:, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image ``(1, pixels, pixels)`` and label ``()``."""
        return self.images[index], self.labels[index]


def _range(name: str, value: object, *, zero: bool = False) -> tuple[float, float]:
    """Two numbers, the second no smaller than the first; above zero, or from zero on."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (low, high), got {value!r}")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(f"{name} must be a pair of real numbers, got {value!r}")
    low, high = float(value[0]), float(value[1])
    enough = low >= 0 if zero else low > 0
    if not (enough and low <= high and math.isfinite(high)):
        least = "0" if zero else "more than 0"
        raise ValueError(f"{name} must rise from {least}, low to high, got {value!r}")
    return low, high


# Hooks


class Activations:
    """Record what parts of a model put out while a ``with`` block runs, by forward hooks.

    The hooks are registered on entering the block and removed on leaving it, also when an error
    leaves it. What is kept is cut off from the graph and copied: a tensor that a hook merely holds
    can be overwritten by a later operation in place, and keeps the graph behind it alive.

    Parameters
    ----------
    model
        Any module.
    names
        Of its parts, as :meth:`torch.nn.Module.get_submodule` takes them; different ones.
    keep
        Applied to each output before it is kept, such as a pooling.

    Attributes
    ----------
    fired
        Names of the parts, in the order in which their hooks fired.

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, or `names` are none, given twice, or not parts of it; or, when it
        runs, if a part puts out something else than a tensor.
    RuntimeError
        On entering a block within the block.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import Activations
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> with Activations(model, ["0", "1"]) as seen:
    ...     output = model(torch.ones(4, 3))
    >>> seen.fired, bool((seen["1"] == output).all())
    (['0', '1'], True)
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        *,
        keep: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        _module("model", model)
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise TypeError(f"names must be a sequence of str, got {type(names).__name__}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"names must hold different names, at least one, got {list(names)}")
        parts = dict(model.named_modules())
        for name in names:
            if name not in parts:
                raise ValueError(f"names must be parts of the model, got {name!r}")
        self._parts = {name: parts[name] for name in names}
        self._keep = keep
        self._handles: list[RemovableHandle] = []
        self._outputs: dict[str, list[Tensor]] = {}
        self.fired: list[str] = []

    def __enter__(self) -> Activations:
        if self._handles:
            raise RuntimeError("the hooks are registered already")
        self._outputs, self.fired = {name: [] for name in self._parts}, []
        for name, part in self._parts.items():
            self._handles.append(part.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *problem: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
            if not isinstance(output, Tensor):
                kind = type(output).__name__
                raise TypeError(f"{name!r} must put out a torch.Tensor, got {kind}")
            kept = output.detach() if self._keep is None else self._keep(output.detach())
            self._outputs[name].append(kept.clone())
            self.fired.append(name)

        return hook

    def __getitem__(self, name: str) -> Tensor:
        """All outputs of a part, joined along their first dimension."""
        if not self._outputs.get(name):
            raise KeyError(f"{name!r} has put out nothing")
        return torch.cat(self._outputs[name])


def pooled(x: Tensor, *, at_most: int = 576) -> Tensor:
    """Average maps over squares, so that an image keeps at most so many numbers, as a row.

    Height and width become the largest number s, no larger than they are, for which channels times
    s squared is within bounds. A map that is small enough stays as it is.

    Parameters
    ----------
    x
        ``(n, channels, height, width)``.
    at_most
        How many numbers; at least as many as channels.

    Returns
    -------
    Tensor
        ``(n, channels * s * s)``; without averaging ``(n, channels * height * width)``.

    Raises
    ------
    TypeError, ValueError
        If `x` is no floating-point tensor with four dimensions, or `at_most` too small.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import pooled
    >>> pooled(torch.zeros(5, 8, 24, 24)).shape, pooled(torch.zeros(5, 64, 3, 3)).shape
    (torch.Size([5, 512]), torch.Size([5, 576]))
    """
    x = floating("x", x, exactly=4)
    channels, height, width = x.shape[1:]
    at_most = integer("at_most", at_most, at_least=max(channels, 1))
    if channels * height * width > at_most:
        side = min(math.isqrt(at_most // channels), height, width)
        x = functional.adaptive_avg_pool2d(x, side)
    return x.flatten(1)


# Probes


class Features(NamedTuple):
    """What the probes see of some images, and what the network says in the end."""

    layers: tuple[Tensor, ...]
    """For each probe ``(n, d)``; the first is the image itself."""
    predictions: Tensor
    """``(n,)``, int64: the network's classes."""


def probe_features(
    model: ResNet,
    images: Tensor,
    *,
    names: Sequence[str] | None = None,
    at_most: int = 576,
    batch_size: int = 250,
) -> Features:
    """Take down what the input and each block of a network show of some images.

    The network is in evaluation mode meanwhile, and each part back in its own afterwards.

    Parameters
    ----------
    model
        A network of :mod:`dlchecked.resnet`.
    images
        ``(n, channels, height, width)``.
    names
        Parts to look at; without, the stem and every block.
    at_most
        Numbers of each image at each probe, see :func:`pooled`.
    batch_size
        Images at once; nothing but memory depends on it.

    Returns
    -------
    Features
        One more layer than names, for the image itself comes first.

    Raises
    ------
    TypeError, ValueError
        As :class:`Activations`, :func:`pooled` and the network do, for no images, and for numbers
        that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import probe_features
    >>> from dlchecked.resnet import resnet18
    >>> model = resnet18(width=2, classes=3, channels=1, stem="small")
    >>> found = probe_features(model, torch.zeros(4, 1, 16, 16))
    >>> len(found.layers), found.predictions.shape
    (10, torch.Size([4]))
    """
    _module("model", model)
    images = floating("images", images, exactly=4)
    if len(images) == 0:
        raise ValueError(f"images must hold at least one, got shape {shape_of(images)}")
    finite("images", images)
    batch_size = integer("batch_size", batch_size, at_least=1)
    names = model.block_names[:-1] if names is None else names
    modes, logits = [(part, part.training) for part in model.modules()], []
    model.eval()
    try:
        with torch.no_grad(), Activations(model, names, keep=partial(pooled, at_most=at_most)) as a:
            starts = range(0, len(images), batch_size)
            logits = [model(images[i : i + batch_size]) for i in starts]
    finally:
        for part, training in modes:
            part.training = training
    layers = (pooled(images, at_most=at_most), *(a[name] for name in names))
    return Features(layers, torch.cat(logits).argmax(-1))


def knn_votes(
    seen: Tensor,
    labels: Tensor,
    asked: Tensor | None = None,
    *,
    classes: int,
    k: int = 30,
) -> Tensor:
    """Let the k nearest training images vote on the class of each image.

    Parameters
    ----------
    seen
        ``(n, d)``: training images as a probe sees them.
    labels
        ``(n,)``, int64, from 0 to ``classes - 1``.
    asked
        ``(m, d)``: the images to be classified. Without them, the training images themselves, and
        none of them votes on itself (leave-one-out).
    classes
        How many.
    k
        Voters, by Euclidean distance.

    Returns
    -------
    Tensor
        ``(m, classes)``, int64: votes. Their argmax is the probe's answer, the first of equals.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or labels that do not fit, nothing to vote on, numbers that are not
        finite, or more voters than there are images.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import knn_votes
    >>> seen, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
    >>> knn_votes(seen, labels, torch.tensor([[4.0]]), classes=2, k=1)
    tensor([[0, 1]])
    >>> knn_votes(seen, labels, classes=2, k=1)
    tensor([[1, 0],
            [1, 0],
            [1, 0]])
    """
    seen = floating("seen", seen, exactly=2)
    classes = integer("classes", classes, at_least=2)
    labels = _classes("labels", labels, len(seen), classes)
    k = integer("k", k, at_least=1)
    for name, rows in (("seen", seen), ("asked", asked)):
        if isinstance(rows, Tensor) and 0 in rows.shape:
            raise ValueError(f"{name} must hold at least one number, got shape {shape_of(rows)}")
    finite("seen", seen)
    voters = len(seen) - (asked is None)
    if k > voters:
        raise ValueError(f"k must be at most {voters}, the images that can vote, got {k}")
    if asked is not None:
        asked = floating("asked", asked, exactly=2)
        same_kind(seen=seen, asked=asked)
        if asked.shape[1] != seen.shape[1]:
            raise ValueError(
                f"asked must have rows of {seen.shape[1]} numbers, got shape {shape_of(asked)}"
            )
        finite("asked", asked)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(_array(seen))
    nearest = search.kneighbors(None if asked is None else _array(asked), return_distance=False)
    chosen = labels[torch.from_numpy(nearest).to(labels.device)]
    return functional.one_hot(chosen, classes).sum(1)


def probe(
    seen: Features, labels: Tensor, asked: Features | None = None, *, classes: int, k: int = 30
) -> Tensor:
    """Let every probe vote: :func:`knn_votes` layer by layer.

    Parameters
    ----------
    seen, labels
        The training images' features, and their labels ``(n,)``.
    asked
        Features of the images to be classified, at the same probes; without them, the training
        images, left out one by one.
    classes, k
        As in :func:`knn_votes`.

    Returns
    -------
    Tensor
        ``(probes, m, classes)``, int64.

    Raises
    ------
    TypeError, ValueError
        As :func:`knn_votes`, and if there are no probes or their numbers differ.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import Features, probe
    >>> layers = (torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[5.0], [0.0], [4.0]]))
    >>> seen = Features(layers, torch.tensor([0, 0, 1]))
    >>> probe(seen, torch.tensor([0, 0, 1]), classes=2, k=1).argmax(-1)
    tensor([[0, 0, 0],
            [1, 1, 0]])
    """
    for name, features in (("seen", seen), ("asked", asked)):
        if not isinstance(features, Features) and not (name == "asked" and features is None):
            raise TypeError(f"{name} must be Features, got {type(features).__name__}")
    if not seen.layers:
        raise ValueError("seen must have at least one layer, got none")
    others: Sequence[Tensor | None] = (None,) * len(seen.layers) if asked is None else asked.layers
    if len(others) != len(seen.layers):
        raise ValueError(f"asked must have {len(seen.layers)} layers, got {len(others)}")
    return torch.stack(
        [
            knn_votes(one, labels, other, classes=classes, k=k)
            for one, other in zip(seen.layers, others, strict=True)
        ]
    )


# Depths


def prediction_depth(answers: Tensor, predictions: Tensor) -> Tensor:
    """The first probe from which on all probes give the network's own prediction.

    Whether that prediction is *right* does not matter (Baldock et al. 2021, section 2).

    Parameters
    ----------
    answers
        ``(probes, n)``, int64: what each probe answers, the input first.
    predictions
        ``(n,)``, int64: what the network predicts in the end.

    Returns
    -------
    Tensor
        ``(n,)``, int64, from 0 (all probes agree, the input, too) to the number of probes (the last
        one does not: the decision falls behind it).

    Raises
    ------
    TypeError, ValueError
        For tensors of another dtype or shape, or no probes.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import prediction_depth
    >>> answers = torch.tensor([[3, 3, 3], [3, 7, 3], [3, 3, 5]])
    >>> prediction_depth(answers, torch.tensor([3, 3, 3]))
    tensor([0, 2, 3])
    """
    agrees = _answers(answers, "predictions", predictions) == predictions
    return len(answers) - agrees.flip(0).long().cumprod(0).sum(0)


def first_confident_depth(votes: Tensor, labels: Tensor, *, confidence: float = 0.5) -> Tensor:
    """The first probe that is right with confidence: what some answers to hw10 4(a) define.

    Not the paper's definition: it asks for the *label*, so it cannot be taken where there is none,
    and it does not ask what the probes behind it say. Compare :func:`prediction_depth`.

    Parameters
    ----------
    votes
        ``(probes, n, classes)``, int64, from :func:`probe`.
    labels
        ``(n,)``, int64.
    confidence
        The share of the votes that the right class must have, above 0 and up to 1.

    Returns
    -------
    Tensor
        ``(n,)``, int64; the number of probes where no probe is right with confidence.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or labels that do not fit, votes below zero or none at all, or a
        `confidence` out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import first_confident_depth
    >>> votes = torch.tensor([[[4, 6], [9, 1]], [[8, 2], [2, 8]]])
    >>> first_confident_depth(votes, torch.tensor([0, 0]), confidence=0.75)
    tensor([1, 0])
    """
    if not isinstance(votes, Tensor) or votes.dtype != torch.int64:
        kind = votes.dtype if isinstance(votes, Tensor) else type(votes).__name__
        raise TypeError(f"votes must be a torch.Tensor of int64, got {kind}")
    if votes.dim() != 3 or 0 in votes.shape:
        raise ValueError(f"votes must have shape (probes, n, classes), got {shape_of(votes)}")
    labels = _classes("labels", labels, votes.shape[1], votes.shape[2])
    if values_are_checked() and (int(votes.min()) < 0 or int(votes.sum(-1).min()) == 0):
        raise ValueError("votes must not be negative, and each image must have some")
    confidence = positive("confidence", confidence)
    if confidence > 1:
        raise ValueError(f"confidence must be at most 1, got {confidence}")
    share = votes.double() / votes.sum(-1, keepdim=True)
    at_label = share.gather(2, labels.expand(len(votes), -1)[..., None])[..., 0]
    right = (votes.argmax(-1) == labels) & (at_label >= confidence)
    before = (~right).long().cumprod(0)
    return before.sum(0)


def rank_correlation(x: Any, y: Any, *, level: float = 0.999) -> Estimate:
    r"""Spearman's rank correlation, with the interval of Bonett and Wright (2000).

    Parameters
    ----------
    x, y
        ``(n,)``, at least 10 numbers each; not all the same. Ties take their mean rank.
    level
        Of the interval.

    Returns
    -------
    Estimate
        For :func:`dlchecked.ledger.measure`.

    Raises
    ------
    TypeError, ValueError
        For other shapes, numbers that are not finite, or a level out of range.

    Notes
    -----
    The interval is :math:`\tanh(\operatorname{artanh} r \pm z \sqrt{(1 + r^2/2)/(n - 3)})`. It
    supposes independent pairs, and grows poor beyond :math:`|r| = 0.95`.

    Examples
    --------
    >>> from dlchecked.example_difficulty import rank_correlation
    >>> found = rank_correlation(range(20), [n**3 for n in range(20)])
    >>> round(found.value, 6)
    1.0
    """
    first, second, level = _row("x", x), _row("y", y), _level(level)
    if len(first) != len(second):
        raise ValueError(f"y must have as many numbers as x, {len(first)}, got {len(second)}")
    r = float(stats.spearmanr(first, second).statistic)
    n, inside = len(first), max(-1 + 1e-12, min(1 - 1e-12, r))
    z = float(stats.norm.ppf((1 + level) / 2))
    half = z * math.sqrt((1 + r * r / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inside) + end) for end in (-half, half))
    return Estimate(r, min(low, r), max(high, r), n, level, "rank correlation")


def difference_of_means(x: Any, y: Any, *, level: float = 0.999) -> Estimate:
    """The mean of `x` minus that of `y`, with Welch's interval: two independent samples.

    Parameters
    ----------
    x, y
        ``(n,)`` and ``(m,)``, at least 10 numbers each; not all the same.
    level
        Of the interval.

    Returns
    -------
    Estimate
        For :func:`dlchecked.ledger.measure`; its n is that of both samples together.

    Raises
    ------
    TypeError, ValueError
        As :func:`rank_correlation`.

    Examples
    --------
    >>> from dlchecked.example_difficulty import difference_of_means
    >>> difference_of_means(range(20, 40), range(20)).value
    20.0
    """
    first, second, level = _row("x", x), _row("y", y), _level(level)
    found = stats.ttest_ind(first, second, equal_var=False)
    interval = found.confidence_interval(level)
    value = float(first.mean() - second.mean())
    n = len(first) + len(second)
    return Estimate(value, float(interval.low), float(interval.high), n, level, "difference")


# Training


def train_shapes(
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    width: int = 8,
    stem: str = "small",
    epochs: int = 4,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
    classes: int = len(SHAPES),
    snapshot_at: Collection[int] = (),
) -> tuple[ResNet, History]:
    """Train a narrow ResNet-18 to tell shapes apart.

    Parameters
    ----------
    images, labels
        ``(n, 1, height, width)`` and ``(n,)``.
    generator
        Draws the initial weights and the batches.
    width, stem
        As in :func:`dlchecked.resnet.resnet18`.
    epochs, batch_size
        An epoch has ``n // batch_size`` steps.
    learning_rate
        Of AdamW, rising over the first tenth of the steps and falling like a cosine.
    classes
        How many.
    snapshot_at
        Steps after which to keep the state, for :func:`snapshot_of`.

    Returns
    -------
    (ResNet, History)
        The network in evaluation mode, and the record of the run.

    Raises
    ------
    TypeError, ValueError
        As the network and :func:`dlchecked.training.train`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import ShapeImages, train_shapes
    >>> source = torch.Generator().manual_seed(0)
    >>> data = ShapeImages(16, pixels=8, radius=(2, 4), generator=source)
    >>> model, history = train_shapes(
    ...     data.images, data.labels, generator=source, width=2, epochs=1, batch_size=8
    ... )
    >>> len(history.losses)
    2
    """
    images = floating("images", images, exactly=4)
    labels = _classes("labels", labels, len(images), classes)
    epochs = integer("epochs", epochs, at_least=1)
    rate = positive("learning_rate", learning_rate)
    batch_size = integer("batch_size", batch_size, at_least=1)
    steps = epochs * (len(images) // batch_size)
    model = resnet18(
        width=width, classes=classes, channels=images.shape[1], stem=stem, generator=generator
    ).to(images)
    # Channels last is the order that convolutions with few channels are fastest in on a CPU.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = minibatches(
        images.contiguous(memory_format=torch.channels_last), labels, batch_size=batch_size
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    history = train(
        model,
        optimizer,
        source,
        lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        steps=steps,
        generator=generator,
        schedule=cosine_schedule(steps, warmup=steps // 10),
        snapshot_at=snapshot_at,
    )
    return model.eval(), history


def snapshot_of(model: ResNet, history: History, step: int) -> ResNet:
    """The network as it was after some steps of its training, as a copy.

    Parameters
    ----------
    model
        The trained network, left as it is.
    history
        Of its training, with a snapshot at `step`.
    step
        Which.

    Returns
    -------
    ResNet

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, or there is no such snapshot.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.example_difficulty import ShapeImages, snapshot_of, train_shapes
    >>> source = torch.Generator().manual_seed(0)
    >>> data = ShapeImages(16, pixels=8, radius=(2, 4), generator=source)
    >>> model, history = train_shapes(data.images, data.labels, generator=source, width=2,
    ...                                   epochs=1, batch_size=8, snapshot_at=(0,))
    >>> early = snapshot_of(model, history, 0)
    """
    _module("model", model)
    if not isinstance(history, History):
        raise TypeError(f"history must be a History, got {type(history).__name__}")
    if step not in history.snapshots:
        raise ValueError(f"step must be one of {sorted(history.snapshots)}, got {step!r}")
    early = copy.deepcopy(model)
    early.load_state_dict(history.snapshots[step])
    return early


# The door


def _module(name: str, value: object) -> None:
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(value).__name__}")


def _array(rows: Tensor) -> NDArray[Any]:
    """Rows for scikit-learn, which knows no 16-bit numbers."""
    found: NDArray[Any] = widened(rows).detach().cpu().numpy()
    return found


def _classes(name: str, value: object, count: int | None, classes: int) -> Tensor:
    """Demand labels ``(count,)``, int64, from 0 to ``classes - 1``; without a count any number."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must have dtype torch.int64, got {value.dtype}")
    if value.dim() != 1 or count not in (None, len(value)):
        wanted = "(n,)" if count is None else f"({count},)"
        raise ValueError(f"{name} must have shape {wanted}, got {shape_of(value)}")
    if len(value) == 0 or not values_are_checked():
        return value
    if not 0 <= int(value.min()) <= int(value.max()) < classes:
        raise ValueError(
            f"{name} must lie between 0 and {classes - 1}, got {int(value.min())} to "
            f"{int(value.max())}"
        )
    return value


def _answers(answers: object, name: str, predictions: object) -> Tensor:
    for called, value, rank in (("answers", answers, 2), (name, predictions, 1)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{called} must be a torch.Tensor, got {type(value).__name__}")
        if value.dtype != torch.int64:
            raise TypeError(f"{called} must have dtype torch.int64, got {value.dtype}")
        if value.dim() != rank:
            words = f"{rank} dimension{'s' * (rank > 1)}"
            raise ValueError(f"{called} must have {words}, got shape {shape_of(value)}")
    assert isinstance(answers, Tensor)
    assert isinstance(predictions, Tensor)
    if len(answers) == 0:
        raise ValueError(f"answers must hold at least one probe, got shape {shape_of(answers)}")
    if answers.shape[1] != len(predictions):
        raise ValueError(
            f"{name} must have one entry for each column of answers, {answers.shape[1]}, "
            f"got {len(predictions)}"
        )
    return answers


def _level(level: object) -> float:
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise TypeError(f"level must be a real number, got {type(level).__name__}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return float(level)


def _row(name: str, value: Any) -> NDArray[np.float64]:
    if isinstance(value, Tensor):
        if value.is_complex() or value.is_meta:
            kind = f"{value.dtype} on {value.device}"
            raise TypeError(f"{name} must be real numbers with values, got {kind}")
        value = value.detach().cpu().double()
    try:
        row = np.asarray(value)
        if row.dtype.kind not in "biuf":
            raise TypeError(f"dtype {row.dtype}")
        row = row.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"{name} must be numbers, got {type(value).__name__}") from problem
    if row.ndim != 1 or len(row) < 10:
        raise ValueError(f"{name} must hold at least 10 numbers in a row, got shape {row.shape}")
    if not np.isfinite(row).all():
        raise ValueError(f"{name} must be finite, but some are not")
    if (row == row[0]).all():
        raise ValueError(f"{name} must not be all the same number, got {row[0]} throughout")
    return row
