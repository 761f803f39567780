r"""FaceNet in numbers (hw10 5(a), (d), (f) to (j)): its networks, its tables, its embeddings.

Three parts. The paper's networks, built row by row from its tables, so that parameters and
multiply-adds can be *counted* and laid beside what is printed (:data:`FACENET` holds every printed
figure that the book uses). Its statistics, recomputed from its own tables. And what it does with
embeddings, in miniature: compare those of two networks, store them in bytes, cluster them.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn
from torch.nn import functional

from dlchecked.arguments import (
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.counting import count_operations
from dlchecked.resnet import drawn_convolution, drawn_linear
from dlchecked.training import train
from dlchecked.triplet_loss import (
    DigitSplit,
    LabelledPairs,
    batch_semi_hard_loss,
    identity_batches,
    identity_digits,
    pairwise_distances,
    val_at_far,
    verification,
)

__all__ = [
    "FACENET",
    "LINKAGES",
    "NN2_BLOCKS",
    "TURNED",
    "Bytes",
    "FaceNet",
    "Inception",
    "InceptionSizes",
    "L2Pool",
    "Maxout",
    "Measured",
    "Paper",
    "PrintedModel",
    "PrintedRow",
    "RowCost",
    "as_printed",
    "cluster",
    "cross_pairs",
    "error_reduction",
    "fewer_images",
    "from_bytes",
    "harmonic_loss",
    "lit",
    "nn1",
    "nn2",
    "row_costs",
    "small_faces",
    "standard_score",
    "to_bytes",
    "train_harmonic",
    "turned_identities",
    "validation_rate",
]


# What the paper prints


class PrintedRow(NamedTuple):
    """A row of table 1 or 2 as printed; ``shape`` is height, width and channels of its output."""

    name: str
    shape: tuple[int, int, int]
    parameters: str = ""
    multiply_adds: str = ""


class PrintedModel(NamedTuple):
    """A network as printed: input height and width, size, cost; "" where nothing is printed."""

    side: tuple[int, int]
    parameters: str
    multiply_adds: str


class Measured(NamedTuple):
    """A percentage and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Paper:
    """Figures as FaceNet prints them (Schroff, Kalenichenko and Philbin, 2015); none is ours.

    Attributes
    ----------
    source
        The citation key.
    nn1, nn2
        Rows of tables 1 and 2.
    totals
        Last row of each table: parameters, multiply-adds.
    models
        Sizes and costs from tables 1 to 3 and the text.
    val
        Table 3: validation rate at a false accept rate of 0.001, with its standard error.
    embedding_size
        Table 5: the same for NN1 by length of the embedding.
    training_images
        Table 6: the validation rate by number of training images.
    text
        What the text says in words.
    """

    source: str
    nn1: tuple[PrintedRow, ...]
    nn2: tuple[PrintedRow, ...]
    totals: Mapping[str, tuple[str, str]]
    models: Mapping[str, PrintedModel]
    val: Mapping[str, Measured]
    embedding_size: Mapping[int, Measured]
    training_images: Mapping[int, float]
    text: Mapping[str, str]


FACENET = Paper(
    source="schroff2015facenet",
    nn1=(
        PrintedRow("conv1", (110, 110, 64), "9K", "115M"),
        PrintedRow("pool1", (55, 55, 64), "0"),
        PrintedRow("rnorm1", (55, 55, 64), "0"),
        PrintedRow("conv2a", (55, 55, 64), "4K", "13M"),
        PrintedRow("conv2", (55, 55, 192), "111K", "335M"),
        PrintedRow("rnorm2", (55, 55, 192), "0"),
        PrintedRow("pool2", (28, 28, 192), "0"),
        PrintedRow("conv3a", (28, 28, 192), "37K", "29M"),
        PrintedRow("conv3", (28, 28, 384), "664K", "521M"),
        PrintedRow("pool3", (14, 14, 384), "0"),
        PrintedRow("conv4a", (14, 14, 384), "148K", "29M"),
        PrintedRow("conv4", (14, 14, 256), "885K", "173M"),
        PrintedRow("conv5a", (14, 14, 256), "66K", "13M"),
        PrintedRow("conv5", (14, 14, 256), "590K", "116M"),
        PrintedRow("conv6a", (14, 14, 256), "66K", "13M"),
        PrintedRow("conv6", (14, 14, 256), "590K", "116M"),
        PrintedRow("pool4", (7, 7, 256), "0"),
        PrintedRow("concat", (7, 7, 256), "0"),
        PrintedRow("fc1", (1, 32, 128), "103M", "103M"),
        PrintedRow("fc2", (1, 32, 128), "34M", "34M"),
        PrintedRow("fc7128", (1, 1, 128), "524K", "0.5M"),
        PrintedRow("L2", (1, 1, 128), "0"),
    ),
    nn2=(
        PrintedRow("conv1", (112, 112, 64), "9K", "119M"),
        PrintedRow("max pool + norm", (56, 56, 64)),
        PrintedRow("inception 2", (56, 56, 192), "115K", "360M"),
        PrintedRow("norm + max pool", (28, 28, 192)),
        PrintedRow("inception 3a", (28, 28, 256), "164K", "128M"),
        PrintedRow("inception 3b", (28, 28, 320), "228K", "179M"),
        PrintedRow("inception 3c", (14, 14, 640), "398K", "108M"),
        PrintedRow("inception 4a", (14, 14, 640), "545K", "107M"),
        PrintedRow("inception 4b", (14, 14, 640), "595K", "117M"),
        PrintedRow("inception 4c", (14, 14, 640), "654K", "128M"),
        PrintedRow("inception 4d", (14, 14, 640), "722K", "142M"),
        PrintedRow("inception 4e", (7, 7, 1024), "717K", "56M"),
        PrintedRow("inception 5a", (7, 7, 1024), "1.6M", "78M"),
        PrintedRow("inception 5b", (7, 7, 1024), "1.6M", "78M"),
        PrintedRow("avg pool", (1, 1, 1024)),
        PrintedRow("fully conn", (1, 1, 128), "131K", "0.1M"),
        PrintedRow("L2", (1, 1, 128)),
    ),
    totals=MappingProxyType({"NN1": ("140M", "1.6B"), "NN2": ("7.5M", "1.6B")}),
    models=MappingProxyType(
        {
            "NN1": PrintedModel((220, 220), "140M", "1.6B"),
            "NN2": PrintedModel((224, 224), "7.5M", "1.6B"),
            "NN3": PrintedModel((160, 160), "", ""),
            "NN4": PrintedModel((96, 96), "", "285M"),
            "NNS1": PrintedModel((165, 165), "26M", "220M"),
            "NNS2": PrintedModel((140, 116), "4.3M", "20M"),
        }
    ),
    val=MappingProxyType(
        {
            "NN1": Measured(87.9, 1.9),
            "NN2": Measured(89.4, 1.6),
            "NN3": Measured(88.3, 1.7),
            "NN4": Measured(82.0, 2.3),
            "NNS1": Measured(82.4, 2.4),
            "NNS2": Measured(51.9, 2.9),
        }
    ),
    embedding_size=MappingProxyType(
        {
            64: Measured(86.8, 1.7),
            128: Measured(87.9, 1.9),
            256: Measured(87.7, 1.9),
            512: Measured(85.6, 2.0),
        }
    ),
    training_images=MappingProxyType(
        {2_600_000: 76.3, 26_000_000: 85.1, 52_000_000: 85.1, 260_000_000: 86.2}
    ),
    text=MappingProxyType(
        {
            "fewer parameters": "20x",
            "parameters of the second kind": "6.6M-7.5M",
            "fewer FLOPS": "up to 5x",
            "FLOPS of the second kind": "500M-1.6B",
            "relative reduction in error": "60%",
            "embedding": "128 bytes",
        }
    ),
)
"""Every figure of the paper that the book uses, as printed."""

_UNITS = {"": 0, "K": 3, "M": 6, "B": 9}


def as_printed(number: int, like: str) -> str:
    """Round a number as another was printed: the same unit, the same decimals, halves up.

    Parameters
    ----------
    number
        A count.
    like
        Such as ``"9K"``, ``"1.6M"`` or ``"0.5B"``.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If `number` is no integer or `like` no str.
    ValueError
        If `like` is not of that form.

    Examples
    --------
    >>> from dlchecked.facenet import as_printed
    >>> as_printed(9472, "9K"), as_printed(1_588_464, "1.6M"), as_printed(545_536, "545K")
    ('9K', '1.6M', '546K')
    """
    number = integer("number", number, at_least=0)
    unit, decimals = _printed_parts(like)
    size, places = 10 ** _UNITS[unit], 10**decimals
    # Whole numbers all the way: a float would round twice.
    whole, rest = divmod((2 * number * places + size) // (2 * size), places)
    return f"{whole}.{rest:0{decimals}d}{unit}" if decimals else f"{whole}{unit}"


def _printed_parts(text: object) -> tuple[str, int]:
    """The unit, and how many decimals."""
    if not isinstance(text, str):
        raise TypeError(f"like must be a str, got {type(text).__name__}")
    unit = text[-1:] if text[-1:] in ("K", "M", "B") else ""
    digits = text.removesuffix(unit)
    whole, _, decimals = digits.partition(".")
    plain = digits.isascii() and whole.isdecimal() and (not decimals or decimals.isdecimal())
    if not plain or digits.endswith("."):
        raise ValueError(f"like must be a number such as '9K' or '1.6M', got {text!r}")
    return unit, len(decimals)


# The networks


class Maxout(nn.Module):
    r"""A linear map to p numbers for each output, of which the largest counts.

    Parameters
    ----------
    inputs, outputs
        Sizes of a row before and after.
    pieces
        p; the paper's is 2.
    dtype, device, generator
        As in :class:`dlchecked.resnet.ResNet`.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no dtype or generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import Maxout
    >>> sum(p.numel() for p in Maxout(4096, 4096, device="meta").parameters())
    33562624
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        pieces: int = 2,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.pieces = integer("pieces", pieces, at_least=1)
        outputs = integer("outputs", outputs, at_least=1)
        self.linear = drawn_linear(
            inputs, outputs * self.pieces, dtype=dtype, device=device, generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(…, inputs)`` to ``(…, outputs)``."""
        found: Tensor = self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)
        return found


class L2Pool(nn.Module):
    r"""The root of the sum of squares over windows of 3 x 3, zeros around the image.

    At a window of zeros the root has no derivative; there the gradient is 0.

    Parameters
    ----------
    stride
        Step from window to window.

    Raises
    ------
    TypeError, ValueError
        If `stride` is no integer of at least 1.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import L2Pool
    >>> L2Pool()(torch.ones(1, 1, 3, 3))[0, 0, 1].tolist()  # roots of 6, 9 and 6
    [2.449..., 3.0, 2.449...]
    """

    def __init__(self, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = integer("stride", stride, at_least=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, c, h, w)`` to ``(B, c, h / stride, w / stride)``, rounded up."""
        wide = widened(floating("x", x, exactly=4))
        sums = 9 * functional.avg_pool2d(wide.square(), 3, self.stride, padding=1)
        # Where the sum is 0 a root of 1 is taken and thrown away: its slope is finite.
        nothing = sums == 0
        return sums.masked_fill(nothing, 1.0).sqrt().masked_fill(nothing, 0.0).to(x.dtype)


class InceptionSizes(NamedTuple):
    """Channels of an Inception block's branches, as table 2 lists them; 0 leaves a branch out.

    ``pool`` is "max" or "L2", or "" for no such branch; ``projection`` is the 1x1 convolution
    after it. The stride is on the 3x3 and 5x5 convolutions and on the pooling.
    """

    ones: int
    reduce3: int
    threes: int
    reduce5: int
    fives: int
    pool: str
    projection: int
    stride: int = 1


NN2_BLOCKS = MappingProxyType(
    {
        "2": InceptionSizes(0, 64, 192, 0, 0, "", 0),
        "3a": InceptionSizes(64, 96, 128, 16, 32, "max", 32),
        "3b": InceptionSizes(64, 96, 128, 32, 64, "L2", 64),
        "3c": InceptionSizes(0, 128, 256, 32, 64, "max", 0, 2),
        "4a": InceptionSizes(256, 96, 192, 32, 64, "L2", 128),
        "4b": InceptionSizes(224, 112, 224, 32, 64, "L2", 128),
        "4c": InceptionSizes(192, 128, 256, 32, 64, "L2", 128),
        "4d": InceptionSizes(160, 144, 288, 32, 64, "L2", 128),
        "4e": InceptionSizes(0, 160, 256, 64, 128, "max", 0, 2),
        "5a": InceptionSizes(384, 192, 384, 48, 128, "L2", 128),
        "5b": InceptionSizes(384, 192, 384, 48, 128, "max", 128),
    }
)
"""The Inception blocks of NN2 (FaceNet, table 2)."""


class Inception(nn.Module):
    """An Inception block: convolutions of 1x1, 3x3, 5x5 and a pooling, side by side.

    A 1x1 convolution before the 3x3 and the 5x5 reduces the channels; one after the pooling
    projects them. Every convolution has a bias and a ReLU. The results are put side by side as
    channels.

    Parameters
    ----------
    inputs
        Channels of the input.
    sizes
        Of the branches.
    dtype, device, generator
        As in :class:`dlchecked.resnet.ResNet`.

    Attributes
    ----------
    outputs
        Channels of the output.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, an unknown pooling, a block without branches, or no dtype or
        generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import NN2_BLOCKS, Inception
    >>> block = Inception(192, NN2_BLOCKS["3a"], device="meta")
    >>> block.outputs, sum(p.numel() for p in block.parameters())
    (256, 163696)
    """

    def __init__(
        self,
        inputs: int,
        sizes: InceptionSizes,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        inputs, sizes = integer("inputs", inputs, at_least=1), _inception_sizes(sizes)

        def convolution(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
            return _rectified(i, o, size, stride, dtype, device, generator)

        branches: OrderedDict[str, nn.Module] = OrderedDict()
        if sizes.ones:
            branches["ones"] = convolution(inputs, sizes.ones, 1)
        for name, size, reduced, wide in (
            ("threes", 3, sizes.reduce3, sizes.threes),
            ("fives", 5, sizes.reduce5, sizes.fives),
        ):
            if wide:
                branches[name] = nn.Sequential(
                    convolution(inputs, reduced, 1),
                    convolution(reduced, wide, size, sizes.stride),
                )
        if sizes.pool:
            parts: list[nn.Module] = [
                nn.MaxPool2d(3, sizes.stride, padding=1)
                if sizes.pool == "max"
                else L2Pool(stride=sizes.stride)
            ]
            if sizes.projection:
                parts.append(convolution(inputs, sizes.projection, 1))
            branches["pool"] = nn.Sequential(*parts)
        self.branches = nn.ModuleDict(branches)
        pooled = (sizes.projection or inputs) if sizes.pool else 0
        self.outputs = sizes.ones + sizes.threes + sizes.fives + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, h, w)`` to ``(B, outputs, h / stride, w / stride)``, rounded up."""
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


def _inception_sizes(sizes: object) -> InceptionSizes:
    if not isinstance(sizes, InceptionSizes):
        raise TypeError(f"sizes must be an InceptionSizes, got {type(sizes).__name__}")
    for name in ("ones", "reduce3", "threes", "reduce5", "fives", "projection"):
        integer(f"sizes.{name}", getattr(sizes, name), at_least=0)
    integer("sizes.stride", sizes.stride, at_least=1)
    if sizes.pool not in ("", "max", "L2"):
        raise ValueError(f"sizes.pool must be '', 'max' or 'L2', got {sizes.pool!r}")
    for wide, reduced in (("threes", "reduce3"), ("fives", "reduce5")):
        if getattr(sizes, wide) and not getattr(sizes, reduced):
            raise ValueError(f"sizes.{reduced} must be at least 1 where there are {wide}")
    if not (sizes.ones or sizes.threes or sizes.fives or sizes.pool):
        raise ValueError("sizes must have at least one branch")
    if sizes.stride > 1 and sizes.ones:
        raise ValueError("sizes.ones must be 0 where the stride is above 1")
    return sizes


class _L2(nn.Module):
    """Rows of length 1; a row of zeros stays one."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(widened(x), dim=-1).to(x.dtype)


class _ResponseNorm(nn.Module):
    """Local response normalisation over 5 channels, in float32 at least."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.local_response_norm(widened(x), 5).to(x.dtype)


class FaceNet(nn.Module):
    """A network that maps an image to a point on the unit sphere, row by row of a table.

    Parameters
    ----------
    rows
        Name -> module, in the order in which they run; the names are those of the table.
    side
        Height and width of the images.
    channels
        Of the images.

    Attributes
    ----------
    rows
        The rows, an ``nn.Sequential``.
    row_names
        Their names as the table has them.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, no rows, or a row that is no module.
    """

    def __init__(self, rows: Mapping[str, nn.Module], *, side: int, channels: int = 3) -> None:
        super().__init__()
        if not isinstance(rows, Mapping):
            raise TypeError(f"rows must be a mapping, got {type(rows).__name__}")
        if not rows:
            raise ValueError("rows must hold at least one row")
        for name, row in rows.items():
            if not isinstance(row, nn.Module):
                raise TypeError(f"rows[{name!r}] must be a module, got {type(row).__name__}")
        self.side = integer("side", side, at_least=1)
        self.channels = integer("channels", channels, at_least=1)
        self.row_names = tuple(rows)
        self.rows = nn.Sequential(*rows.values())

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        x
            ``(B, channels, side, side)``, in the dtype of the parameters.

        Returns
        -------
        Tensor
            ``(B, E)``, rows of length 1.

        Raises
        ------
        TypeError
            If `x` is no floating-point tensor.
        ValueError
            If its shape is another.
        """
        x = floating("x", x, exactly=4)
        expected = (self.channels, self.side, self.side)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(f"x must have shape (B, *{expected}), got {shape_of(x)}")
        embedded: Tensor = self.rows(x)
        return embedded


def nn1(
    *,
    side: int = 220,
    dims: int = 128,
    shrink: int = 1,
    channels: int = 3,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> FaceNet:
    """NN1, in the style of Zeiler and Fergus (FaceNet, table 1).

    The paper does not state the constants of its response normalisation; ours are PyTorch's, over
    5 channels. They have no parameters and no multiply-adds.

    Parameters
    ----------
    side
        Height and width of the images. The first fully connected layer depends on it.
    dims
        Length E of the embedding.
    shrink
        Divide the channels of every layer by this, to try it on small machines; a divisor of 64.
    channels
        Of the images.
    dtype, device, generator
        As in :class:`dlchecked.resnet.ResNet`.

    Returns
    -------
    FaceNet
        140,025,664 parameters as it stands.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, a `shrink` that does not divide 64, no dtype or generator.

    Examples
    --------
    >>> from dlchecked.facenet import nn1
    >>> sum(p.numel() for p in nn1(device="meta").parameters())
    140025664
    """
    side, dims = integer("side", side, at_least=1), integer("dims", dims, at_least=1)
    channels, width = integer("channels", channels, at_least=1), _shrunk(shrink)
    _check_kind(dtype, generator)

    def convolution(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
        return _rectified(i, o, size, stride, dtype, device, generator)

    rows: OrderedDict[str, nn.Module] = OrderedDict()
    rows["conv1"] = convolution(channels, width(64), 7, 2)
    rows["pool1"] = nn.MaxPool2d(3, 2, padding=1)
    rows["rnorm1"] = _ResponseNorm()
    rows["conv2a"] = convolution(width(64), width(64), 1)
    rows["conv2"] = convolution(width(64), width(192), 3)
    rows["rnorm2"] = _ResponseNorm()
    rows["pool2"] = nn.MaxPool2d(3, 2, padding=1)
    rows["conv3a"] = convolution(width(192), width(192), 1)
    rows["conv3"] = convolution(width(192), width(384), 3)
    rows["pool3"] = nn.MaxPool2d(3, 2, padding=1)
    last = width(384)
    for name in ("4", "5", "6"):
        rows[f"conv{name}a"] = convolution(last, last, 1)
        rows[f"conv{name}"] = convolution(last, width(256), 3)
        last = width(256)
    rows["pool4"] = nn.MaxPool2d(3, 2, padding=1)
    rows["concat"] = nn.Flatten()
    features, hidden = last * _halved(side, times=5) ** 2, width(32 * 128)
    where = {"dtype": dtype, "device": device, "generator": generator}
    rows["fc1"] = Maxout(features, hidden, **where)  # type: ignore[arg-type]
    rows["fc2"] = Maxout(hidden, hidden, **where)  # type: ignore[arg-type]
    rows["fc7128"] = drawn_linear(hidden, dims, **where)  # type: ignore[arg-type]
    rows["L2"] = _L2()
    return FaceNet(rows, side=side, channels=channels)


def nn2(
    *,
    side: int = 224,
    dims: int = 128,
    shrink: int = 1,
    without_fives: Collection[str] = (),
    channels: int = 3,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> FaceNet:
    """NN2, of Inception blocks (FaceNet, table 2). NN3 is the same at ``side=160``.

    Parameters
    ----------
    side
        Height and width of the images. No parameter depends on it.
    dims
        Length E of the embedding.
    shrink
        Divide the channels of every layer by this; a divisor of 16.
    without_fives
        Blocks of :data:`NN2_BLOCKS` that lose their 5x5 branch, as the higher ones of NN4 do.
    channels
        Of the images.
    dtype, device, generator
        As in :class:`dlchecked.resnet.ResNet`.

    Returns
    -------
    FaceNet
        7,456,304 parameters as it stands.

    Raises
    ------
    TypeError, ValueError
        As :func:`nn1`, and for blocks that there are not.

    Examples
    --------
    >>> from dlchecked.facenet import nn2
    >>> sum(p.numel() for p in nn2(device="meta").parameters())
    7456304
    """
    side, dims = integer("side", side, at_least=1), integer("dims", dims, at_least=1)
    channels, width = integer("channels", channels, at_least=1), _shrunk(shrink, of=16)
    _check_kind(dtype, generator)
    if not isinstance(without_fives, Collection):
        raise TypeError(f"without_fives must be a collection, got {type(without_fives).__name__}")
    known = tuple(NN2_BLOCKS)
    if isinstance(without_fives, str) or not all(name in known for name in without_fives):
        raise ValueError(f"without_fives must name blocks of {known}, got {without_fives!r}")
    rows: OrderedDict[str, nn.Module] = OrderedDict()
    rows["conv1"] = _rectified(channels, width(64), 7, 2, dtype, device, generator)
    rows["max pool + norm"] = nn.Sequential(nn.MaxPool2d(3, 2, padding=1), _ResponseNorm())
    last = width(64)
    for name, sizes in NN2_BLOCKS.items():
        fives = name not in without_fives
        narrow = InceptionSizes(
            width(sizes.ones),
            width(sizes.reduce3),
            width(sizes.threes),
            width(sizes.reduce5) if fives else 0,
            width(sizes.fives) if fives else 0,
            sizes.pool,
            width(sizes.projection),
            sizes.stride,
        )
        block = Inception(last, narrow, dtype=dtype, device=device, generator=generator)
        rows[f"inception {name}"], last = block, block.outputs
        if name == "2":
            rows["norm + max pool"] = nn.Sequential(_ResponseNorm(), nn.MaxPool2d(3, 2, padding=1))
    rows["avg pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    rows["fully conn"] = drawn_linear(last, dims, dtype=dtype, device=device, generator=generator)
    rows["L2"] = _L2()
    return FaceNet(rows, side=side, channels=channels)


def _shrunk(shrink: object, *, of: int = 64) -> Callable[[int], int]:
    divisor = integer("shrink", shrink, at_least=1)
    if of % divisor:
        raise ValueError(f"shrink must divide {of}, got {divisor}")
    return lambda channels: channels // divisor


def _halved(side: int, *, times: int) -> int:
    """What is left of a side after strides of 2, each rounding up."""
    for _ in range(times):
        side = -(-side // 2)
    return side


def _check_kind(dtype: object, generator: object) -> None:
    if dtype is not None:
        floating_dtype("dtype", dtype)
    if generator is not None:
        random_generator("generator", generator)


def _rectified(
    inputs: int,
    outputs: int,
    size: int,
    stride: int,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """A convolution with a bias, and a ReLU."""
    convolution = drawn_convolution(
        inputs,
        outputs,
        size,
        stride=stride,
        bias=True,
        dtype=dtype,
        device=device,
        generator=generator,
    )
    return nn.Sequential(convolution, nn.ReLU())


class RowCost(NamedTuple):
    """What one row of a network holds and costs for one image.

    ``shape`` is that of its output without the batch; ``biases`` of its ``parameters`` are biases;
    ``bias_additions`` is how often one of them is added.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    biases: int
    multiply_adds: int
    bias_additions: int


def row_costs(model: FaceNet) -> tuple[RowCost, ...]:
    """Count each row of a network by running it on one image; on the meta device, without numbers.

    Parameters
    ----------
    model
        From :func:`nn1` or :func:`nn2`, such as ``nn1(device="meta")``.

    Returns
    -------
    tuple of RowCost
        In the order in which they run.

    Raises
    ------
    TypeError
        If `model` is no :class:`FaceNet`.
    dlchecked.counting.UncountedOperationError
        If a row runs an operation that cannot be counted.

    Examples
    --------
    >>> from dlchecked.facenet import nn1, row_costs
    >>> row_costs(nn1(device="meta"))[0]
    RowCost(name='conv1', shape=(64, 110, 110), parameters=9472, biases=64, \
multiply_adds=113836800, bias_additions=774400)
    """
    if not isinstance(model, FaceNet):
        raise TypeError(f"model must be a FaceNet, got {type(model).__name__}")
    like = next(model.parameters(), torch.empty(0))
    x = torch.zeros(1, model.channels, model.side, model.side, dtype=like.dtype, device=like.device)
    found = []
    for name, row in zip(model.row_names, model.rows, strict=True):
        with torch.no_grad(), count_operations() as counter:
            x = row(x)
        held = dict(row.named_parameters())
        found.append(
            RowCost(
                name,
                tuple(x.shape[1:]),
                sum(p.numel() for p in held.values()),
                sum(p.numel() for part, p in held.items() if part.endswith("bias")),
                counter.total.multiply_adds if held else 0,
                # All that a convolution or a linear map does beside its products.
                sum(counter.by_operation[op].elementwise for op in ("convolution", "addmm")),
            )
        )
    return tuple(found)


# Its statistics


def standard_score(first: Measured, second: Measured) -> float:
    r"""A difference in units of its standard error.

    :math:`z = (a - b)/s` with :math:`s^2 = s_a^2 + s_b^2`. The two must be independent. Where they
    were measured on the same splits they are not, and a difference that both share in every split
    is more certain than this says.

    Parameters
    ----------
    first, second
        Values with their standard errors.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        For something else, numbers that are not finite, or standard errors not above zero.

    Examples
    --------
    >>> from dlchecked.facenet import FACENET, standard_score
    >>> table = FACENET.embedding_size
    >>> round(standard_score(table[128], table[512]), 2)
    0.83
    """
    for name, pair in (("first", first), ("second", second)):
        if not isinstance(pair, Measured):
            raise TypeError(f"{name} must be a Measured, got {type(pair).__name__}")
        _percentage(f"{name}.value", pair.value, -math.inf, math.inf)
        positive(f"{name}.error", pair.error)
    return (first.value - second.value) / math.hypot(first.error, second.error)


def error_reduction(before: float, after: float) -> float:
    """The share of the error that is gone, of percentages right before and after.

    Parameters
    ----------
    before, after
        Percentages of what is right, from 0 to 100; `before` below 100.

    Returns
    -------
    float
        1 if no error is left, 0 if it is as it was, negative if it grew.

    Raises
    ------
    TypeError, ValueError
        For something else.

    Examples
    --------
    >>> from dlchecked.facenet import error_reduction
    >>> error_reduction(80, 95)  # of an error of 20 %, 15 points are gone
    0.75
    """
    before, after = (
        _percentage(name, value, 0, 100) for name, value in (("before", before), ("after", after))
    )
    if before == 100:
        raise ValueError("before must leave an error, got 100")
    return (after - before) / (100 - before)


def _percentage(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be finite and from {low} to {high}, got {number}")
    return number


# Faces in miniature


TURNED = (2, 3, 4, 5, 7)
"""Digits that a quarter turn or a half turn makes unlike themselves, and unlike 7, 8 and 9.

A mirror is less kind: a 3 upside down in the mirror is a 3, and a 2 in it is nearly a 5. They
count as someone else all the same.
"""


def lit(images: Tensor, *, generator: torch.Generator, strength: float = 0.6) -> Tensor:
    r"""Put images into random light: a factor, and brightness that changes across the image.

    Pixel :math:`x_{ij}` becomes :math:`k x_{ij} + a + b u_i + c u_j`, where u runs from -1 to 1
    over rows and columns, k is uniform from 0.5 to 1.5, and a, b, c are normal with deviation
    `strength`; drawn anew for each image.

    Parameters
    ----------
    images
        ``(n, h, w)``.
    generator
        Draws the light, on the CPU.
    strength
        Deviation of what is added, above zero.

    Returns
    -------
    Tensor
        The shape, dtype and device of `images`.

    Raises
    ------
    TypeError, ValueError
        If `images` are no finite floating-point tensor of three dimensions, `strength` is not
        above zero, or `generator` is none.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import lit
    >>> lit(torch.zeros(2, 8, 8), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 8, 8])
    """
    images = floating("images", images, exactly=3)
    finite("images", images)
    strength = positive("strength", strength)
    random_generator("generator", generator)
    n, h, w = images.shape

    def drawn(law: Callable[..., Tensor]) -> Tensor:
        found = law(n, 1, 1, generator=generator, device=generator.device)
        return found.to(images.device, widened(images).dtype)

    factor = 0.5 + drawn(torch.rand)
    even, down, across = (strength * drawn(torch.randn) for _ in range(3))
    rows, columns = (
        torch.linspace(-1, 1, size, device=images.device, dtype=factor.dtype) for size in (h, w)
    )
    light = even + down * rows[:, None] + across * columns
    return (factor * widened(images) + light).to(images.dtype)


def turned_identities(
    images: Tensor, labels: Tensor, *, which: Collection[int] = TURNED
) -> tuple[Tensor, Tensor]:
    """Make eight identities of one, by quarter turns and mirror images.

    Parameters
    ----------
    images
        ``(n, h, h)``.
    labels
        ``(n,)``, integers from 0 to 9.
    which
        Labels to turn; the others stay as they are.

    Returns
    -------
    (Tensor, Tensor)
        Images and labels, the upright ones first. Position p, from 1 to 7, of label c has the
        label ``10 p + c``.

    Raises
    ------
    TypeError, ValueError
        For images that are not square, or labels (of `which`, too) that do not fit or are no
        integers from 0 to 9.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import turned_identities
    >>> images, labels = turned_identities(torch.rand(2, 8, 8), torch.tensor([0, 2]))
    >>> labels.tolist()
    [0, 2, 12, 22, 32, 42, 52, 62, 72]
    """
    images = floating("images", images, exactly=3)
    labels = _labels_of(labels, images)
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be square, got shape {shape_of(images)}")
    if values_are_checked() and not bool(((labels >= 0) & (labels <= 9)).all()):
        raise ValueError("labels must lie between 0 and 9")
    turned = [integer("which", label, at_least=0) for label in which]
    if any(label > 9 for label in turned):
        raise ValueError(f"which must hold labels from 0 to 9, got {tuple(turned)}")
    kept = torch.isin(labels, torch.tensor(turned, device=labels.device, dtype=labels.dtype))
    chosen, names = images[kept], labels[kept]
    positions = [chosen.rot90(k, (1, 2)) for k in range(4)]
    positions += [position.flip(2) for position in positions]
    others = positions[1:]
    return (
        torch.cat([images, *others]),
        torch.cat([labels, *(10 * p + names for p in range(1, 8))]),
    )


def small_faces(
    *,
    generator: torch.Generator,
    unseen: Sequence[int] = (7, 8, 9),
    turned: bool = True,
    strength: float = 0.6,
) -> DigitSplit:
    """Handwritten digits in random light: identities to learn from, and others to be tested on.

    With the default split training sees 35 identities: the digits 0 to 6, of which 2 to 5 count as
    eight each (:func:`turned_identities`). The light (:func:`lit`) says nothing about who it is.

    Parameters
    ----------
    generator
        Draws the light.
    unseen
        Digits kept out of training; they stay upright.
    turned
        Whether to turn the seen ones.
    strength
        Of the light.

    Returns
    -------
    dlchecked.triplet_loss.DigitSplit

    Raises
    ------
    TypeError, ValueError
        As :func:`dlchecked.triplet_loss.identity_digits` and :func:`lit`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import small_faces
    >>> data = small_faces(generator=torch.Generator().manual_seed(0))
    >>> len(data.seen_labels.unique()), data.unseen_labels.unique().tolist()
    (35, [7, 8, 9])
    """
    flag("turned", turned)
    data = identity_digits(unseen=unseen)
    images, labels = data.seen_images, data.seen_labels
    if turned:
        images, labels = turned_identities(images, labels)
    return DigitSplit(
        lit(images, generator=generator, strength=strength),
        labels,
        lit(data.unseen_images, generator=generator, strength=strength),
        data.unseen_labels,
    )


def fewer_images(
    images: Tensor, labels: Tensor, *, images_each: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Keep a number of random images of each identity.

    Parameters
    ----------
    images
        ``(n, …)``.
    labels
        ``(n,)``, integers.
    images_each
        How many to keep; all of an identity that has fewer.
    generator
        Chooses, on the CPU.

    Returns
    -------
    (Tensor, Tensor)
        Images and labels, sorted by label.

    Raises
    ------
    TypeError, ValueError
        For labels that do not fit, a number below 1, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import fewer_images
    >>> fewer_images(torch.rand(4, 8, 8), torch.tensor([3, 3, 1, 3]), images_each=2,
    ...                 generator=torch.Generator().manual_seed(0))[1].tolist()
    [1, 3, 3]
    """
    images = floating("images", images)
    labels = _labels_of(labels, images)
    images_each = integer("images_each", images_each, at_least=1)
    random_generator("generator", generator)
    kept = []
    for name in torch.unique(labels).tolist():
        members = (labels == name).nonzero().squeeze(1)
        order = torch.randperm(len(members), generator=generator)[:images_each]
        kept.append(members[order.to(labels.device)])
    chosen = torch.cat(kept) if kept else labels.new_zeros(0)
    return images[chosen], labels[chosen]


def validation_rate(pairs: LabelledPairs, *, far: float = 0.01) -> float:
    """The validation rate at a false accept rate, of pairs with their distances.

    Parameters
    ----------
    pairs
        From :func:`cross_pairs` or :func:`dlchecked.triplet_loss.labelled_pairs`.
    far
        From 0 to 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As :func:`dlchecked.triplet_loss.verification` and
        :func:`dlchecked.triplet_loss.val_at_far`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import validation_rate
    >>> from dlchecked.triplet_loss import LabelledPairs
    >>> validation_rate(LabelledPairs(torch.tensor([0.1, 0.2, 0.3]),
    ...                               torch.tensor([True, False, True])))
    0.5
    """
    if not isinstance(pairs, LabelledPairs):
        raise TypeError(f"pairs must be LabelledPairs, got {type(pairs).__name__}")
    return val_at_far(verification(*pairs), far)


# Embeddings of two networks


def harmonic_loss(
    new: Tensor, old: Tensor, labels: Tensor, *, margin: float = 0.2, squared: bool = True
) -> Tensor:
    """The semi-hard triplet loss of a batch in which every example appears twice (hw10 5(f)).

    Once embedded by the new network and once by the old one. Anchor, positive and negative may
    each come from either, and semi-hard negatives are looked for among both; so the new points
    are pulled into the old space. The old ones stay where they are: no gradient reaches them.

    Parameters
    ----------
    new, old
        ``(B, E)`` each: the same examples, embedded by the two networks.
    labels
        ``(B,)``, integers.
    margin, squared
        As in :func:`dlchecked.triplet_loss.batch_semi_hard_loss`.

    Returns
    -------
    Tensor
        A number: the mean over all semi-hard triplets; 0, with a gradient of 0, if there are none.

    Raises
    ------
    TypeError, ValueError
        As :func:`dlchecked.triplet_loss.batch_semi_hard_loss`, or if `new` and `old` differ in
        shape, dtype or device.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import harmonic_loss
    >>> points = torch.eye(3)
    >>> harmonic_loss(points, points, torch.tensor([0, 1, 2]))
    tensor(0.)
    """
    new, old = _two_versions(new, old, "new", "old")
    labels = _labels_of(labels, new)
    both = torch.cat([new, old.detach()])
    return batch_semi_hard_loss(both, torch.cat([labels, labels]), margin=margin, squared=squared)


def train_harmonic(
    network: nn.Module,
    old: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    head_steps: int = 100,
    steps: int = 200,
    learning_rate: float = 1e-3,
    identities: int = 12,
    images_each: int = 8,
    margin: float = 0.2,
) -> nn.Module:
    """Make a trained network compatible with an older one (FaceNet, appendix).

    First only its last layer is trained with :func:`harmonic_loss`, then all of it. The last layer
    is the last module that holds parameters, in the order in which they were registered.

    Parameters
    ----------
    network
        The new network, trained already; it is copied and stays as it is.
    old
        The one whose embeddings are in store; of the same length E. It runs in evaluation mode,
        and is afterwards as it was, running statistics included.
    images, labels
        ``(n, …)`` and ``(n,)``.
    generator
        Draws the batches.
    head_steps, steps
        Of the two phases.
    learning_rate
        Of Adam.
    identities, images_each
        In a batch, as in :func:`dlchecked.triplet_loss.identity_batches`.
    margin
        Of the loss.

    Returns
    -------
    torch.nn.Module
        The compatible network.

    Raises
    ------
    TypeError, ValueError
        If a network is none or has no parameters, for numbers out of range, and as
        :func:`harmonic_loss`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import train_harmonic
    >>> from dlchecked.triplet_loss import embedding_network, identity_digits
    >>> source, data = torch.Generator().manual_seed(0), identity_digits()
    >>> old, new = (embedding_network(generator=source, hidden=h, size=8) for h in (16, 32))
    >>> harmonic = train_harmonic(new, old, *data[:2], generator=source, identities=4,
    ...                           head_steps=2, steps=2)
    >>> harmonic(data.unseen_images[:3]).shape
    torch.Size([3, 8])
    """
    for name, part in (("network", network), ("old", old)):
        if not isinstance(part, nn.Module):
            raise TypeError(f"{name} must be a torch.nn.Module, got {type(part).__name__}")
    rate, margin = positive("learning_rate", learning_rate), positive("margin", margin)
    new = copy.deepcopy(network)
    holders = [part for part in new.modules() if list(part.parameters(recurse=False))]
    if not holders:
        raise ValueError("network must have parameters")
    batches = identity_batches(images, labels, identities=identities, images_each=images_each)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            stored = old(batch[0])
        return harmonic_loss(model(batch[0]), stored, batch[1], margin=margin)

    modes = [(part, part.training) for part in old.modules()]
    old.eval()
    try:
        for parameters, count in (
            (list(holders[-1].parameters()), head_steps),
            (list(new.parameters()), steps),
        ):
            optimizer = torch.optim.Adam(parameters, lr=rate)
            train(new, optimizer, batches, loss, steps=count, generator=generator)
    finally:
        for part, training in modes:
            part.training = training
    return new


def cross_pairs(
    first: Tensor, second: Tensor, labels: Tensor, *, squared: bool = True
) -> LabelledPairs:
    """All pairs of two different examples, one embedded by each network.

    Parameters
    ----------
    first, second
        ``(n, E)`` each: the same examples, embedded by two networks.
    labels
        ``(n,)``, integers.
    squared
        Whether distances are squared.

    Returns
    -------
    LabelledPairs
        Two tensors ``(n (n - 1),)``, for
        :func:`dlchecked.triplet_loss.verification`. An example is not compared with itself.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, or numbers that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import cross_pairs
    >>> pairs = cross_pairs(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [5.0]]),
    ...                     torch.tensor([4, 4]))
    >>> pairs.distances.tolist(), pairs.same.tolist()
    ([25.0, 1.0], [True, True])
    """
    first, second = _two_versions(first, second, "first", "second")
    names = _labels_of(labels, first)
    distances = pairwise_distances(first, second, squared=squared)
    different = ~torch.eye(len(names), dtype=torch.bool, device=first.device)
    return LabelledPairs(distances[different], (names[:, None] == names)[different])


def _two_versions(one: object, two: object, name: str, other: str) -> tuple[Tensor, Tensor]:
    first, second = floating(name, one, exactly=2), floating(other, two, exactly=2)
    same_kind(**{name: first, other: second})
    if first.shape != second.shape:
        raise ValueError(
            f"{other} must have the shape of {name}, {shape_of(first)}, got {shape_of(second)}"
        )
    finite(name, first)
    finite(other, second)
    return first, second


def _labels_of(labels: object, points: Tensor) -> Tensor:
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a torch.Tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.shape != points.shape[:1]:
        raise ValueError(
            f"labels must have one entry for each row, {len(points)}, got {shape_of(labels)}"
        )
    if labels.device != points.device:
        raise ValueError(f"labels must be on the device {points.device}, got {labels.device}")
    return labels


# Embeddings in bytes


class Bytes(NamedTuple):
    """Embeddings as whole numbers: ``codes``, int8, and the ``step`` that each stands for."""

    codes: Tensor
    step: float


def to_bytes(embeddings: Tensor, *, bits: int = 8, limit: float = 1.0) -> Bytes:
    r"""Round each coordinate to one of :math:`2^b - 1` values between `-limit` and `limit`.

    The values are the same for every coordinate and every face, so that codes made at different
    times can be compared; what lies beyond the limit is clipped. A coordinate within it moves by
    half a step at most.

    Parameters
    ----------
    embeddings
        ``(n, E)``.
    bits
        b, from 2 to 8. Codes are stored in a byte each whatever this is.
    limit
        No coordinate of a unit vector is beyond 1.

    Returns
    -------
    Bytes

    Raises
    ------
    TypeError, ValueError
        If `embeddings` are no finite floating-point numbers in two dimensions, or a number is out
        of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import from_bytes, to_bytes
    >>> stored = to_bytes(torch.tensor([[0.6, -0.8]]))
    >>> stored.codes
    tensor([[  76, -102]], dtype=torch.int8)
    >>> from_bytes(stored)
    tensor([[ 0.5984, -0.8031]])
    """
    points = floating("embeddings", embeddings, exactly=2)
    finite("embeddings", points)
    bits, limit = integer("bits", bits, at_least=2), positive("limit", limit)
    if bits > 8:
        raise ValueError(f"bits must be at most 8, got {bits}")
    most = 2 ** (bits - 1) - 1
    step = limit / most
    codes = (widened(points).detach() / step).round().clamp(-most, most)
    return Bytes(codes.to(torch.int8), step)


def from_bytes(stored: Bytes, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the codes stand for. The rows are of length 1 only nearly.

    Parameters
    ----------
    stored
        From :func:`to_bytes`.
    dtype
        Of the result.

    Returns
    -------
    Tensor
        ``(n, E)``.

    Raises
    ------
    TypeError
        If `stored` is no :class:`Bytes`, its codes are no tensor of int8, or `dtype` is none of
        floating point.
    ValueError
        If the step is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import Bytes, from_bytes
    >>> from_bytes(Bytes(torch.tensor([[2, -4]], dtype=torch.int8), 0.25))
    tensor([[ 0.5000, -1.0000]])
    """
    if not isinstance(stored, Bytes):
        raise TypeError(f"stored must be Bytes, got {type(stored).__name__}")
    if not isinstance(stored.codes, Tensor) or stored.codes.dtype != torch.int8:
        raise TypeError("stored.codes must be a tensor of int8")
    step = positive("stored.step", stored.step)
    floating_dtype("dtype", dtype)
    wide = torch.promote_types(dtype, torch.float32)
    return (stored.codes.to(wide) * step).to(dtype)


# Clusters


LINKAGES = ("ward", "average", "complete")
"""The distance of two groups is the root of twice what merging them adds to the sum of squared
distances from their means, the mean distance of their members, or the largest one."""


def cluster(
    embeddings: Tensor,
    *,
    clusters: int | None = None,
    threshold: float | None = None,
    linkage: str = "ward",
) -> Tensor:
    """Group embeddings by merging the two nearest groups again and again (hw10 5(i)).

    By scikit-learn's ``AgglomerativeClustering``, on plain distances.

    Parameters
    ----------
    embeddings
        ``(n, E)``, n at least 2.
    clusters
        Stop at this many groups.
    threshold
        Or where no two groups are nearer than this. Give exactly one of the two.
    linkage
        One of :data:`LINKAGES`.

    Returns
    -------
    Tensor
        ``(n,)``, int64, on the device of `embeddings`: the number of each one's group.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, both or none of the two, an unknown linkage, fewer than two
        embeddings, or numbers that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.facenet import cluster
    >>> line = torch.tensor([[0.0], [0.1], [5.0], [5.2], [9.0]])
    >>> len(cluster(line, clusters=3).unique()), len(cluster(line, threshold=1.0).unique())
    (3, 3)
    """
    points = floating("embeddings", embeddings, exactly=2)
    finite("embeddings", points)
    if len(points) < 2:
        raise ValueError(f"embeddings must hold at least 2 rows, got shape {shape_of(points)}")
    if linkage not in LINKAGES:
        raise ValueError(f"linkage must be one of {LINKAGES}, got {linkage!r}")
    if (clusters is None) == (threshold is None):
        raise ValueError("clusters or threshold must be given, and not both")
    if clusters is not None:
        clusters = integer("clusters", clusters, at_least=1)
        if clusters > len(points):
            raise ValueError(f"clusters must be at most {len(points)}, got {clusters}")
    else:
        threshold = positive("threshold", threshold)
    method = AgglomerativeClustering(
        n_clusters=clusters, distance_threshold=threshold, linkage=linkage
    )
    found = method.fit_predict(points.detach().double().cpu().numpy())
    return torch.as_tensor(found, dtype=torch.int64, device=points.device)
