r"""Residual networks, ResNet-18 and ResNet-50, from scratch (He et al. 2016).

A network is a stem, stages of residual blocks, and a head, and can be taken apart there::

    x = model.stem(x)
    for stage in model.stages:
        x = stage(x)          # an early exit reads x here
    logits = model.head(x)

Every block can be reached by a name (:attr:`ResNet.block_names`), to hang a forward hook on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlchecked.arguments import flag, floating, floating_dtype, integer, random_generator, shape_of

__all__ = [
    "BLOCKS",
    "STEMS",
    "STRIDES",
    "Block",
    "ResNet",
    "drawn_convolution",
    "drawn_linear",
    "resnet18",
    "resnet50",
]

BLOCKS = ("basic", "bottleneck")
"""Two 3x3 convolutions; or a 1x1, a 3x3 and a 1x1 that widens four times."""

STEMS = ("imagenet", "small")
"""A 7x7 convolution and a max pooling, each of stride 2; or one 3x3 convolution of stride 1."""

STRIDES = ("3x3", "1x1")
"""Which convolution of a down-sampling bottleneck has the stride of 2."""


class Block(nn.Module):
    r"""A residual block: :math:`y = \operatorname{relu}(x' + F(x))`.

    F is convolutions with batch normalisation after each and a ReLU between them. The shortcut
    :math:`x'` is x itself, or where the shape changes a 1x1 convolution of it, normalised.

    Parameters
    ----------
    inputs
        Channels of the input.
    width
        Channels inside. The output has as many, or four times as many from a bottleneck.
    block
        One of :data:`BLOCKS`.
    stride
        1, or 2 to halve height and width.
    stride_on
        One of :data:`STRIDES`; a basic block has its stride on the first 3x3 whatever this says.
    dtype, device, generator
        As in :class:`ResNet`.

    Attributes
    ----------
    residual
        F, up to and including its last normalisation.
    shortcut
        An identity, or convolution and normalisation.
    outputs
        Channels of the output.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range or unknown words.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.resnet import Block
    >>> Block(64, 64, block="bottleneck", stride=2)(torch.zeros(1, 64, 8, 8)).shape
    torch.Size([1, 256, 4, 4])
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        block: str = "basic",
        stride: int = 1,
        stride_on: str = "3x3",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_kind(dtype, generator)
        inputs, width = integer("inputs", inputs, at_least=1), integer("width", width, at_least=1)
        stride = integer("stride", stride, at_least=1)
        _one_of("block", block, BLOCKS)
        _one_of("stride_on", stride_on, STRIDES)

        def convolution(i: int, o: int, size: int, stride: int = 1) -> nn.Conv2d:
            return drawn_convolution(
                i, o, size, stride=stride, dtype=dtype, device=device, generator=generator
            )

        def normalisation(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, dtype=dtype, device=device)

        sizes, widths, strides = [3, 3], [width, width], [stride, 1]
        if block == "bottleneck":
            sizes, widths = [1, 3, 1], [width, width, 4 * width]
            strides = [1, stride, 1] if stride_on == "3x3" else [stride, 1, 1]
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        channels = inputs
        for i, (size, outputs, step) in enumerate(zip(sizes, widths, strides, strict=True), 1):
            if i > 1:
                parts[f"relu{i - 1}"] = nn.ReLU()
            parts[f"conv{i}"] = convolution(channels, outputs, size, step)
            parts[f"norm{i}"] = normalisation(outputs)
            channels = outputs
        self.outputs = channels
        self.residual = nn.Sequential(parts)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != channels:
            fitted = OrderedDict(
                conv=convolution(inputs, channels, 1, stride), norm=normalisation(channels)
            )
            self.shortcut = nn.Sequential(fitted)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, h, w)`` to ``(B, outputs, h / stride, w / stride)``, rounded up."""
        y: Tensor = self.relu(self.shortcut(x) + self.residual(x))
        return y


class ResNet(nn.Module):
    r"""A residual network: a stem, stages of :class:`Block`, and a linear classifier.

    Stage s (from 0 on) has blocks of width :math:`2^s` times `width`; each stage but the first
    begins with a block of stride 2.

    Parameters
    ----------
    layout
        Blocks in each stage, such as ``(3, 4, 6, 3)``.
    block
        One of :data:`BLOCKS`.
    width
        Channels of the stem, and the width of the first stage's blocks.
    classes
        Outputs of the classifier.
    channels
        Of the images.
    stem
        ``"imagenet"`` for images of about 224 pixels, ``"small"`` for those of about 32.
    stride_on
        ``"3x3"`` as libraries have it today, or ``"1x1"`` as the paper: the same parameters, and
        fewer multiply-adds.
    dtype, device
        Of the parameters; torch's defaults if not given. The device ``"meta"`` holds no numbers,
        only shapes, which is enough for counting.
    generator
        Draws the parameters: normal with variance 2/n for a convolution whose outputs sum n
        products (He et al. 2015, eq. 10), and with variance 1/n for the classifier. The same
        generator gives the same parameters in every dtype (up to rounding) and on every device.
        Without one, torch's global generator.

    Attributes
    ----------
    stem, stages, head
        Image to features, features to features (an ``nn.Sequential`` of ``nn.Sequential``), and
        features to logits.
    stage_channels
        Channels of the output of each stage.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, unknown words, or no dtype or generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.resnet import ResNet
    >>> tiny = ResNet((1, 1), width=4, classes=3, channels=1, stem="small")
    >>> tiny.block_names
    ('stem', 'stages.0.0', 'stages.1.0', 'head')
    >>> tiny(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        layout: Sequence[int],
        *,
        block: str = "basic",
        width: int = 64,
        classes: int = 1000,
        channels: int = 3,
        stem: str = "imagenet",
        stride_on: str = "3x3",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if isinstance(layout, str) or not isinstance(layout, Sequence):
            raise TypeError(f"layout must be a sequence of integers, got {type(layout).__name__}")
        layout = tuple(integer("layout", blocks, at_least=1) for blocks in layout)
        if not layout:
            raise ValueError("layout must name at least one stage")
        width = integer("width", width, at_least=1)
        classes = integer("classes", classes, at_least=1)
        channels = integer("channels", channels, at_least=1)
        _one_of("block", block, BLOCKS)
        _one_of("stem", stem, STEMS)
        _check_kind(dtype, generator)

        self.channels, self.layout = channels, layout
        self.stem = _stem(channels, width, stem, dtype, device, generator)
        widening = 4 if block == "bottleneck" else 1
        self.stage_channels = tuple(width * 2**s * widening for s in range(len(layout)))

        def stage(s: int) -> nn.Sequential:
            outputs = self.stage_channels[s]
            blocks = []
            for b in range(layout[s]):
                first, before = b == 0, self.stage_channels[s - 1] if s else width
                blocks.append(
                    Block(
                        before if first else outputs,
                        width * 2**s,
                        block=block,
                        stride=2 if first and s else 1,
                        stride_on=stride_on,
                        dtype=dtype,
                        device=device,
                        generator=generator,
                    )
                )
            return nn.Sequential(*blocks)

        self.stages = nn.Sequential(*(stage(s) for s in range(len(layout))))
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                linear=drawn_linear(
                    self.stage_channels[-1],
                    classes,
                    dtype=dtype,
                    device=device,
                    generator=generator,
                ),
            )
        )

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the stem, of every block in the order in which they run, and of the head.

        They are what :meth:`torch.nn.Module.get_submodule` takes.
        """
        inner = [f"stages.{s}.{b}" for s, n in enumerate(self.layout) for b in range(n)]
        return ("stem", *inner, "head")

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of images.

        Parameters
        ----------
        x
            ``(B, channels, height, width)``, in the dtype of the parameters.

        Returns
        -------
        Tensor
            ``(B, classes)``.

        Raises
        ------
        TypeError
            If `x` is no floating-point tensor.
        ValueError
            If it has not four dimensions, or another number of channels.
        """
        x = floating("x", x, exactly=4)
        if x.shape[1] != self.channels:
            raise ValueError(f"x must have {self.channels} channels, got shape {shape_of(x)}")
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


def resnet18(
    *,
    width: int = 64,
    classes: int = 1000,
    channels: int = 3,
    stem: str = "imagenet",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> ResNet:
    """ResNet-18: two basic blocks in each of four stages (He et al. 2016, table 1).

    Parameters
    ----------
    width, classes, channels, stem, dtype, device, generator
        As in :class:`ResNet`.

    Returns
    -------
    ResNet
        11,689,512 parameters as it stands; 1,814,073,344 multiply-adds for 224 x 224 pixels.

    Raises
    ------
    TypeError, ValueError
        As :class:`ResNet`.

    Examples
    --------
    >>> from dlchecked.resnet import resnet18
    >>> sum(p.numel() for p in resnet18(device="meta").parameters())
    11689512
    """
    return ResNet(
        (2, 2, 2, 2),
        width=width,
        classes=classes,
        channels=channels,
        stem=stem,
        dtype=dtype,
        device=device,
        generator=generator,
    )


def resnet50(
    *,
    width: int = 64,
    classes: int = 1000,
    channels: int = 3,
    stem: str = "imagenet",
    stride_on: str = "3x3",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> ResNet:
    """ResNet-50: 3, 4, 6 and 3 bottleneck blocks (He et al. 2016, table 1).

    Parameters
    ----------
    width, classes, channels, stem, stride_on, dtype, device, generator
        As in :class:`ResNet`.

    Returns
    -------
    ResNet
        25,557,032 parameters as it stands. Multiply-adds for 224 x 224 pixels: 4.1e9, and 3.9e9
        with ``stride_on="1x1"``.

    Raises
    ------
    TypeError, ValueError
        As :class:`ResNet`.

    Examples
    --------
    >>> from dlchecked.resnet import resnet50
    >>> sum(p.numel() for p in resnet50(device="meta").parameters())
    25557032
    """
    return ResNet(
        (3, 4, 6, 3),
        block="bottleneck",
        width=width,
        classes=classes,
        channels=channels,
        stem=stem,
        stride_on=stride_on,
        dtype=dtype,
        device=device,
        generator=generator,
    )


def drawn_convolution(
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    bias: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> nn.Conv2d:
    """Return a convolution whose weights are drawn once, normal with variance 2/n, and no bias.

    The padding is half the size, so that stride 1 keeps height and width. A bias starts at 0.

    Parameters
    ----------
    inputs, outputs
        Channels.
    size
        Height and width of the kernel; odd.
    stride
        Of the convolution.
    bias
        Whether it has one; a normalisation that follows would take it away.
    dtype, device, generator
        As in :class:`ResNet`.

    Returns
    -------
    torch.nn.Conv2d

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no dtype or generator.

    Examples
    --------
    >>> from dlchecked.resnet import drawn_convolution
    >>> drawn_convolution(3, 64, 7, stride=2)
    Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)
    """
    inputs, outputs = integer("inputs", inputs, at_least=1), integer("outputs", outputs, at_least=1)
    size, stride = integer("size", size, at_least=1), integer("stride", stride, at_least=1)
    if size % 2 == 0:
        raise ValueError(f"size must be odd, got {size}")
    _check_kind(dtype, generator)
    made: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d,
        inputs,
        outputs,
        size,
        stride=stride,
        padding=size // 2,
        bias=flag("bias", bias),
        dtype=dtype,
        device=torch.get_default_device() if device is None else device,
    )
    _draw(made.weight, 2 / (inputs * size * size), generator)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def drawn_linear(
    inputs: int,
    outputs: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> nn.Linear:
    """Return a linear map whose weights are drawn once, normal with variance 1/n; its bias is 0.

    Parameters
    ----------
    inputs, outputs
        Sizes of a row before and after.
    dtype, device, generator
        As in :class:`ResNet`.

    Returns
    -------
    torch.nn.Linear

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no dtype or generator.

    Examples
    --------
    >>> from dlchecked.resnet import drawn_linear
    >>> drawn_linear(1024, 128)
    Linear(in_features=1024, out_features=128, bias=True)
    """
    inputs, outputs = integer("inputs", inputs, at_least=1), integer("outputs", outputs, at_least=1)
    _check_kind(dtype, generator)
    made: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear,
        inputs,
        outputs,
        dtype=dtype,
        device=torch.get_default_device() if device is None else device,
    )
    _draw(made.weight, 1 / inputs, generator)
    nn.init.zeros_(made.bias)
    return made


def _one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{name} must be one of {words}, got {value!r}")


def _check_kind(dtype: object, generator: object) -> None:
    if dtype is not None:
        floating_dtype("dtype", dtype)
    if generator is not None:
        random_generator("generator", generator)


def _stem(
    channels: int,
    width: int,
    kind: str,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """The first convolution and its normalisation; for large images two strides of 2."""
    size, stride = (7, 2) if kind == "imagenet" else (3, 1)
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=drawn_convolution(
            channels,
            width,
            size,
            stride=stride,
            dtype=dtype,
            device=device,
            generator=generator,
        ),
        norm=nn.BatchNorm2d(width, dtype=dtype, device=device),
        relu=nn.ReLU(),
    )
    if kind == "imagenet":
        parts["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(parts)


@torch.no_grad()
def _draw(weight: Tensor, variance: float, generator: torch.Generator | None) -> None:
    """Fill with normal numbers, the same for every dtype and device.

    torch's own layers would draw from the global generator when made; `skip_init` keeps them from
    it, and this draws once.
    """
    if weight.is_meta:
        return
    where = torch.device("cpu") if generator is None else generator.device
    drawn = torch.randn(weight.shape, generator=generator, device=where, dtype=torch.float32)
    weight.copy_(variance**0.5 * drawn)
