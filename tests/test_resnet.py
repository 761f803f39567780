"""Residual networks: sizes against those published, numbers against another implementation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlchecked.counting import count_operations
from dlchecked.resnet import (
    STEMS,
    STRIDES,
    Block,
    ResNet,
    drawn_convolution,
    drawn_linear,
    resnet18,
    resnet50,
)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def tiny(**options: Any) -> ResNet:
    options = {"width": 4, "classes": 3, "generator": source(), "dtype": torch.float64, **options}
    return ResNet((1, 2), **options)


def multiply_adds(model: nn.Module, *shape: int) -> int:
    with torch.no_grad(), count_operations() as counter:
        model.eval()(torch.empty(shape, device="meta"))
    return counter.total.multiply_adds


# Sizes that are published


@pytest.mark.parametrize(
    ("make", "options", "parameters", "cost"),
    [
        (resnet18, {}, 11_689_512, 1_814_073_344),
        (resnet50, {}, 25_557_032, 4_089_184_256),
        (resnet50, {"stride_on": "1x1"}, 25_557_032, 3_857_973_248),
    ],
)
def test_published_sizes(make: Any, options: dict[str, Any], parameters: int, cost: int) -> None:
    model = make(device="meta", **options)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert multiply_adds(model, 1, 3, 224, 224) == cost


def by_hand(layout: tuple[int, ...], block: str, stride_on: str, side: int) -> int:
    """Multiply-adds from the definition alone: outputs times terms of each convolution."""
    side = -(-side // 2)
    total, channels = side**2 * 64 * 3 * 49, 64
    side = -(-side // 2)
    for s, blocks in enumerate(layout):
        width = 64 * 2**s
        for b in range(blocks):
            before, side = side**2, -(-side // 2) if s and not b else side
            after = side**2
            if block == "basic":
                outputs = width
                total += after * (channels * width + width * width) * 9
            else:
                outputs = 4 * width
                reduced = before if stride_on == "3x3" else after
                total += reduced * channels * width + after * width * (9 * width + outputs)
            if channels != outputs or before != after:
                total += after * channels * outputs
            channels = outputs
    return total + channels * 1000


@pytest.mark.parametrize("side", [224, 225, 97])
@pytest.mark.parametrize(
    ("layout", "block", "stride_on"),
    [
        ((2, 2, 2, 2), "basic", "3x3"),
        ((3, 4, 6, 3), "bottleneck", "3x3"),
        ((3, 4, 6, 3), "bottleneck", "1x1"),
        ((1, 3), "bottleneck", "1x1"),
    ],
)
def test_multiply_adds_counted_by_hand(
    layout: tuple[int, ...], block: str, stride_on: str, side: int
) -> None:
    model = ResNet(layout, block=block, stride_on=stride_on, device="meta")
    assert multiply_adds(model, 1, 3, side, side) == by_hand(layout, block, stride_on, side)


def test_the_place_of_the_stride_changes_no_parameter_and_no_shape() -> None:
    late, early = (resnet50(width=8, device="meta", stride_on=on) for on in STRIDES)
    assert [p.shape for p in late.parameters()] == [p.shape for p in early.parameters()]
    x = torch.empty(1, 3, 64, 64, device="meta")
    assert late.stages(late.stem(x)).shape == early.stages(early.stem(x)).shape


# Numbers


TRANSFORMERS = {"basic": ("layer.0", "layer.1"), "bottleneck": ("layer.0", "layer.1", "layer.2")}


def with_our_weights(ours: ResNet, theirs: nn.Module, block: str) -> nn.Module:
    """Copy our numbers into the network of the transformers library."""
    found = {}

    def take(there: str, here: nn.Module) -> None:
        convolution, normalisation = here
        for kind, part in (("convolution", convolution), ("normalization", normalisation)):
            for name, value in part.state_dict().items():
                found[f"{there}.{kind}.{name}"] = value

    take("resnet.embedder.embedder", (ours.stem.conv, ours.stem.norm))
    for s, stage in enumerate(ours.stages):
        for b, part in enumerate(stage):
            prefix = f"resnet.encoder.stages.{s}.layers.{b}"
            for i, layer in enumerate(TRANSFORMERS[block], 1):
                inner = (part.residual.get_submodule(f"{kind}{i}") for kind in ("conv", "norm"))
                take(f"{prefix}.{layer}", tuple(inner))
            if not isinstance(part.shortcut, nn.Identity):
                take(f"{prefix}.shortcut", (part.shortcut.conv, part.shortcut.norm))
    found["classifier.1.weight"] = ours.head.linear.weight
    found["classifier.1.bias"] = ours.head.linear.bias
    theirs.load_state_dict(found)
    return theirs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("block", "stride_on"), [("basic", "3x3"), ("bottleneck", "3x3"), ("bottleneck", "1x1")]
)
def test_agrees_with_the_transformers_library(block: str, stride_on: str, training: bool) -> None:
    library = pytest.importorskip("transformers")
    widths = [8, 16, 32] if block == "basic" else [32, 64, 128]
    settings = library.ResNetConfig(
        embedding_size=8,
        hidden_sizes=widths,
        depths=[2, 1, 2],
        layer_type=block,
        num_labels=5,
        downsample_in_bottleneck=stride_on == "1x1",
    )
    ours = ResNet(
        (2, 1, 2),
        block=block,
        width=8,
        classes=5,
        stride_on=stride_on,
        generator=source(),
        dtype=torch.float64,
    )
    with torch.no_grad():
        for i, buffer in enumerate([*ours.buffers(), *ours.parameters()]):
            if buffer.dim() == 1:
                buffer.uniform_(0.5, 1.5, generator=source(i))
    theirs = with_our_weights(ours, library.ResNetForImageClassification(settings).double(), block)
    x = images(3, 3, 64, 48)
    ours.train(training), theirs.train(training)
    torch.testing.assert_close(ours(x), theirs(x).logits, rtol=1e-9, atol=1e-9)


def test_a_block_adds_its_input() -> None:
    block = Block(4, 4, dtype=torch.float64, generator=source()).eval()
    nn.init.zeros_(block.residual.norm2.weight)
    x = images(2, 4, 5, 5)
    assert torch.equal(block(x), x.relu())


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_gradients_of_a_block(kind: str) -> None:
    block = Block(2, 2, block=kind, stride=2, dtype=torch.float64, generator=source()).eval()
    x = images(1, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))


# Taking it apart


def test_stem_stages_and_head_make_up_the_whole() -> None:
    model = tiny().eval()
    x = images(2, 3, 32, 32)
    y = model.stem(x)
    seen = []
    for stage in model.stages:
        y = stage(y)
        seen.append(y.shape[1])
    assert tuple(seen) == model.stage_channels == (4, 8)
    assert torch.equal(model.head(y), model(x))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_hooks_find_every_block_in_order(block: str) -> None:
    model = tiny(block=block).eval()
    seen = []
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda *_, name=name: seen.append(name)  # type: ignore[misc]
        )
        for name in model.block_names
    ]
    model(images(1, 3, 32, 32))
    assert seen == ["stem", "stages.0.0", "stages.1.0", "stages.1.1", "head"]
    assert tuple(seen) == model.block_names
    for handle in handles:
        handle.remove()
    assert model.stage_channels[-1] == (8 if block == "basic" else 32)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 4), ("small", 16)])
def test_stems(stem: str, side: int) -> None:
    assert set(STEMS) == {"imagenet", "small"}
    assert tiny(stem=stem).stem(images(1, 3, 16, 16)).shape == (1, 4, side, side)


@pytest.mark.parametrize("side", [1, 7, 33])
def test_any_size_of_image_runs(side: int) -> None:
    assert tiny(channels=1).eval()(images(2, 1, side, side + 2)).shape == (2, 3)


def test_an_empty_batch_runs_in_use() -> None:
    assert tiny().eval()(images(0, 3, 8, 8)).shape == (0, 3)


# Weights


def test_the_same_generator_gives_the_same_weights_in_every_dtype() -> None:
    wide, narrow = tiny(), tiny(dtype=torch.bfloat16)
    for a, b in zip(wide.parameters(), narrow.parameters(), strict=True):
        assert torch.equal(a.to(torch.bfloat16), b)
    assert not torch.equal(wide.stem.conv.weight, tiny(generator=source(1)).stem.conv.weight)


def test_a_generator_leaves_the_global_one_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        tiny()
        assert torch.equal(torch.rand(2), expected)


def test_without_a_generator_the_global_one_draws() -> None:
    with torch.random.fork_rng(devices=[]):
        models = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            models.append(tiny(generator=None).stem.conv.weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_the_default_device_is_heeded() -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in resnet18().parameters())


def test_the_spread_of_the_weights() -> None:
    model = resnet18(width=32, classes=500, generator=source())
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            variance, terms = 2.0, part.weight[0].numel()
        elif isinstance(part, nn.Linear):
            variance, terms = 1.0, part.in_features
            assert not part.bias.any()
        else:
            continue
        found = part.weight.double().square().mean().item() * terms / variance
        # The mean of n squares of normal numbers has the deviation sqrt(2 / n).
        assert abs(found - 1) < 5 * (2 / part.weight.numel()) ** 0.5


def test_it_copies_saves_and_loads() -> None:
    model = tiny().eval()
    other = tiny(generator=source(1)).eval()
    other.load_state_dict(model.state_dict())
    x = images(2, 3, 16, 16)
    assert torch.equal(model(x), other(x))
    assert torch.equal(model(x), copy.deepcopy(model)(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    model = tiny(dtype=dtype).eval()
    out = model(images(2, 3, 16, 16, dtype=dtype))
    assert out.dtype == dtype
    # Rounding of inputs and weights passes through seven convolutions that keep the variance.
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.2}[dtype]
    exact = tiny().eval()(images(2, 3, 16, 16))
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


# Bad inputs


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "layout a number": (lambda: ResNet(2), TypeError, "layout"),  # type: ignore[arg-type]
    "layout a word": (lambda: ResNet("22"), TypeError, "layout"),  # type: ignore[arg-type]
    "layout empty": (lambda: ResNet(()), ValueError, "layout"),
    "layout with a stage of none": (lambda: ResNet((2, 0)), ValueError, "layout"),
    "layout of fractions": (lambda: ResNet((1.5,)), TypeError, "layout"),  # type: ignore[arg-type]
    "block": (lambda: tiny(block="wide"), ValueError, "block"),
    "stem": (lambda: tiny(stem="large"), ValueError, "stem"),
    "stride_on": (lambda: tiny(stride_on="5x5"), ValueError, "stride_on"),
    "width": (lambda: tiny(width=0), ValueError, "width"),
    "classes": (lambda: tiny(classes=0), ValueError, "classes"),
    "channels": (lambda: tiny(channels=-1), ValueError, "channels"),
    "width a bool": (lambda: tiny(width=True), TypeError, "width"),
    "dtype": (lambda: tiny(dtype=torch.int64), TypeError, "dtype"),
    "generator": (lambda: tiny(generator=0), TypeError, "generator"),
    "integers": (lambda: tiny()(torch.zeros(1, 3, 8, 8, dtype=torch.int64)), TypeError, "x"),
    "one image without a batch": (lambda: tiny()(images(3, 8, 8)), ValueError, "x"),
    "grey images": (lambda: tiny()(images(1, 1, 8, 8)), ValueError, "3 channels"),
    "stride": (lambda: Block(4, 4, stride=0), ValueError, "stride"),
    "inputs": (lambda: Block(0, 4), ValueError, "inputs"),
    "an even kernel": (lambda: drawn_convolution(3, 4, 2), ValueError, "size"),
    "bias": (lambda: drawn_convolution(3, 4, 3, bias=1), TypeError, "bias"),  # type: ignore[arg-type]
    "outputs": (lambda: drawn_linear(3, 0), ValueError, "outputs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_named(case: str) -> None:
    run, error, name = BAD[case]
    with pytest.raises(error, match=name):
        run()
