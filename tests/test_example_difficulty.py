"""Shape images against their records, hooks, votes by hand, and depths by definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dlchecked.arguments import value_checks
from dlchecked.example_difficulty import (
    SHAPES,
    Activations,
    Features,
    ShapeImages,
    difference_of_means,
    first_confident_depth,
    knn_votes,
    pooled,
    prediction_depth,
    probe,
    probe_features,
    rank_correlation,
    shape_coverage,
    snapshot_of,
    train_shapes,
)
from dlchecked.resnet import ResNet, resnet18


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def classes(count: int, of: int, seed: int = 0) -> Tensor:
    return torch.randint(of, (count,), generator=source(seed))


def tiny(**options: Any) -> ResNet:
    options = {"width": 2, "classes": 3, "channels": 1, "stem": "small"} | options
    return resnet18(generator=source(), **options)


# Images


def test_a_shape_image_set_is_a_dataset() -> None:
    data = ShapeImages(20, pixels=12, radius=(2, 4), generator=source())
    assert data.images.shape == (20, 1, 12, 12)
    assert data.images.dtype == torch.float32
    assert data.labels.shape == (20,)
    assert data.labels.dtype == torch.int64
    assert len(data) == 20
    image, label = data[7]
    assert torch.equal(image, data.images[7])
    assert int(label) == int(data.labels[7])
    batches = list(DataLoader(data, batch_size=8))
    assert torch.equal(torch.cat([x for x, _ in batches]), data.images)
    assert torch.equal(torch.cat([y for _, y in batches]), data.labels)


def test_the_same_generator_gives_the_same_images() -> None:
    first, again, other = (ShapeImages(9, generator=source(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_what_is_recorded_lies_in_its_range_and_fills_it() -> None:
    ranges = {"radius": (2.0, 5.0), "noise": (0.1, 0.3), "contrast": (0.5, 0.9)}
    data = ShapeImages(2000, pixels=16, **ranges, generator=source())
    for name, (low, high) in ranges.items():
        value = getattr(data, name)
        assert low <= float(value.min())
        assert float(value.max()) <= high
        assert float(value.min()) < low + 0.01 * (high - low)
        assert float(value.max()) > high - 0.01 * (high - low)
    edge = torch.minimum(data.centre, 16 - data.centre).amin(1)
    assert bool((edge >= data.radius - 1e-5).all())
    assert data.labels.unique().tolist() == list(range(len(SHAPES)))


def test_an_image_is_what_its_record_says() -> None:
    data = ShapeImages(64, pixels=40, radius=(6, 18), generator=source())
    covered = shape_coverage(data.labels, data.radius, data.centre, pixels=40)
    rest = data.images[:, 0] - data.contrast[:, None, None] * covered
    # 1600 normal numbers each: a standard deviation is known to about 2 %.
    assert torch.allclose(rest.std((1, 2)), data.noise, rtol=0.1, atol=1e-6)
    assert float(rest.mean((1, 2)).abs().max()) < 0.05


def test_properties_are_independent_of_one_another() -> None:
    data = ShapeImages(4000, generator=source())
    drawn = torch.stack([data.radius, data.noise, data.contrast, data.labels.float()])
    # The place depends on the radius, for the shape must fit in; its share of the room does not.
    room = (data.centre - data.radius[:, None]) / (24 - 2 * data.radius[:, None])
    assert -1e-5 < float(room.min()) < 0.01
    assert 0.99 < float(room.max()) < 1 + 1e-5
    drawn = torch.cat([drawn, room.T])
    off = torch.corrcoef(drawn) - torch.eye(6)
    assert float(off.abs().max()) < 0.06  # about 4 deviations of 1 / sqrt(4000)


AREAS = {
    "disc": math.pi,
    "ring": math.pi * (1 - 0.56**2),
    "square": 1.4**2,
    "frame": 1.4**2 - 0.76**2,
    "triangle": 3 * math.sqrt(3) / 4,
    # Ten triangles with corners at the centre, a point and the notch beside it.
    "star": 5 * math.sin(math.pi / 5) * math.cos(2 * math.pi / 5) / math.cos(math.pi / 5),
    "cross": 2 * 0.6 * 1.9 - 0.6**2,
    "bar": 0.6 * 1.9,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_their_areas_and_stay_in_their_circle(shape: str) -> None:
    r, pixels = 60.0, 128
    label = torch.tensor([SHAPES.index(shape)])
    centre = torch.tensor([[64.0, 64.0]], dtype=torch.float64)
    (covered,) = shape_coverage(
        label, torch.tensor([r], dtype=torch.float64), centre, pixels=pixels
    )
    assert float(covered.sum()) == pytest.approx(AREAS[shape] * r * r, rel=0.01)
    at = torch.arange(pixels) + 0.5 - 64
    far = torch.hypot(at[:, None], at) > r + 1.5
    assert float(covered[far].sum()) == 0
    assert torch.allclose(covered, covered.flip(1), atol=1e-6)  # mirror images of themselves


def test_triangles_and_stars_point_upwards() -> None:
    for shape in ("triangle", "star"):
        label, r = torch.tensor([SHAPES.index(shape)]), torch.tensor([10.0])
        (covered,) = shape_coverage(label, r, torch.tensor([[12.0, 12.0]]), pixels=24)
        filled = covered.sum(1).nonzero()[:, 0]
        assert int(filled[0]) == 2  # the top of the circle
        assert float(covered[2].sum()) < 2


def test_a_shape_moves_with_its_centre_row_first() -> None:
    label, r = torch.tensor([0]), torch.tensor([3.0])
    (covered,) = shape_coverage(label, r, torch.tensor([[4.0, 10.0]]), pixels=16)
    at = torch.arange(16) + 0.5
    row, column = (
        (covered * at[:, None]).sum() / covered.sum(),
        (covered * at).sum() / covered.sum(),
    )
    assert (float(row), float(column)) == pytest.approx((4, 10), abs=1e-4)


def test_no_two_shapes_are_the_same() -> None:
    n = len(SHAPES)
    covered = shape_coverage(
        torch.arange(n), torch.full((n,), 8.0), torch.full((n, 2), 12.0), pixels=24
    )
    apart = torch.cdist(covered.flatten(1), covered.flatten(1)) + 99 * torch.eye(n)
    assert float(apart.min()) > 3


# Hooks


def test_activations_are_what_the_parts_put_out() -> None:
    model, x = tiny().eval(), numbers(3, 1, 8, 8, dtype=torch.float32)
    with torch.no_grad(), Activations(model, model.block_names) as seen:
        logits = model(x)
        model(2 * x)
    assert seen.fired == list(model.block_names) * 2
    with torch.no_grad():
        by_hand = model.stem(x)
        assert torch.equal(seen["stem"][:3], by_hand)
        for s, stage in enumerate(model.stages):
            for b, block in enumerate(stage):
                by_hand = block(by_hand)
                assert torch.equal(seen[f"stages.{s}.{b}"][:3], by_hand)
    assert torch.equal(seen["head"][:3], logits)
    assert len(seen["head"]) == 6


def hooks_on(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in model.modules())


def test_hooks_are_gone_after_the_block_even_after_an_error() -> None:
    model = tiny()
    with Activations(model, model.block_names):
        assert hooks_on(model) == 10
    assert hooks_on(model) == 0
    with pytest.raises(ValueError, match="channels"), Activations(model, ["stem"]):
        model(numbers(1, 2, 8, 8, dtype=torch.float32))
    assert hooks_on(model) == 0


def test_activations_can_be_used_again_but_not_within_themselves() -> None:
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.ones(4, 3)
    seen = Activations(model, ["0"])
    for _ in range(2):
        with seen:
            model(x)
            with pytest.raises(RuntimeError, match="already"):
                seen.__enter__()
        assert len(seen["0"]) == 4
    assert hooks_on(model) == 0


def test_activations_hold_no_graph_and_survive_what_happens_in_place() -> None:
    model, x = (
        nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True)),
        numbers(5, 3, dtype=torch.float32),
    )
    with Activations(model, ["0"]) as seen:
        model(x)
    assert not seen["0"].requires_grad
    assert torch.equal(seen["0"], model[0](x).detach())
    assert float(seen["0"].min()) < 0


def test_a_part_that_puts_out_no_tensor_is_named() -> None:
    model = nn.Sequential(nn.LSTM(2, 2))
    with pytest.raises(TypeError, match="'0' must put out"), Activations(model, ["0"]):
        model(torch.ones(3, 1, 2))
    assert hooks_on(model) == 0


def test_what_did_not_fire_has_nothing() -> None:
    model = tiny()
    with Activations(model, ["stem"]) as seen:
        pass
    with pytest.raises(KeyError, match="stem"):
        seen["stem"]


@given(c=st.integers(1, 20), side=st.integers(1, 20), at_most=st.integers(20, 900))
@settings(max_examples=60, deadline=None)
def test_pooling_keeps_the_bound_and_the_means(c: int, side: int, at_most: int) -> None:
    x = numbers(2, c, side, side, seed=c)
    found = pooled(x, at_most=at_most)
    assert found.shape[1] <= at_most
    if c * side * side <= at_most:
        assert torch.equal(found, x.flatten(1))
    else:
        s = math.isqrt(at_most // c)
        assert found.shape[1] == c * s * s
        if side % s == 0:
            squares = x.unfold(2, side // s, side // s).unfold(3, side // s, side // s)
            assert torch.allclose(found, squares.mean((-1, -2)).flatten(1))


# Votes


@pytest.mark.parametrize("k", [1, 7, 30])
def test_votes_are_those_of_scikit_learn(k: int) -> None:
    seen, labels, asked = numbers(90, 5), classes(90, 4), numbers(40, 5, seed=1)
    votes = knn_votes(seen, labels, asked, classes=4, k=k)
    library = KNeighborsClassifier(k, algorithm="brute").fit(seen.numpy(), labels.numpy())
    assert torch.equal(votes.argmax(-1), torch.from_numpy(library.predict(asked.numpy())))
    assert np.allclose(votes / k, library.predict_proba(asked.numpy()))
    assert bool((votes.sum(-1) == k).all())


@pytest.mark.parametrize("k", [1, 5, 30])
def test_left_out_votes_by_hand(k: int) -> None:
    seen, labels = numbers(60, 3), classes(60, 3)
    votes = knn_votes(seen, labels, classes=3, k=k)
    for i in range(60):
        rest = torch.arange(60) != i
        alone = knn_votes(seen[rest], labels[rest], seen[i : i + 1], classes=3, k=k)
        assert torch.equal(votes[i], alone[0])


def test_a_copy_votes_where_the_image_itself_does_not() -> None:
    seen = torch.tensor([[0.0], [0.0], [5.0], [6.0]])
    votes = knn_votes(seen, torch.tensor([0, 1, 1, 1]), classes=2, k=1)
    assert votes.argmax(-1).tolist() == [1, 0, 1, 1]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_to_vote_on_oneself_never_deepens_where_the_network_says_the_label(
    seed: int, k: int
) -> None:
    layers = tuple(numbers(30, 2, seed=seed + i) for i in range(4))
    labels = classes(30, 3, seed)
    seen = Features(layers, labels)
    left_out = probe(seen, labels, classes=3, k=k)
    forgotten = probe(seen, labels, seen, classes=3, k=k)
    right, careless = (prediction_depth(v.argmax(-1), labels) for v in (left_out, forgotten))
    assert bool((careless <= right).all())
    assert k > 1 or bool((careless == 0).all())


def test_features_of_all_probes() -> None:
    model, x = tiny().train(), numbers(7, 1, 16, 16, dtype=torch.float32)
    found = probe_features(model, x, at_most=64, batch_size=3)
    assert model.training
    assert len(found.layers) == 10
    assert all(layer.shape[0] == 7 and layer.shape[1] <= 64 for layer in found.layers)
    assert torch.equal(found.layers[0], pooled(x, at_most=64))
    with torch.no_grad():
        model.eval()
        assert torch.equal(found.predictions, model(x).argmax(-1))
        by_hand = model.stem(x)
        assert torch.allclose(found.layers[1], pooled(by_hand, at_most=64), atol=1e-5)
        for name, layer in zip(model.block_names[1:-1], found.layers[2:], strict=True):
            by_hand = model.get_submodule(name)(by_hand)
            assert torch.allclose(layer, pooled(by_hand, at_most=64), atol=1e-5)
    assert hooks_on(model) == 0


def test_each_part_gets_its_own_mode_back() -> None:
    model = tiny().train()
    model.stages[0].eval()
    before = [part.training for part in model.modules()]
    probe_features(model, numbers(2, 1, 16, 16, dtype=torch.float32))
    assert [part.training for part in model.modules()] == before
    assert True in before
    assert False in before


def test_each_probe_has_its_own_layer_to_vote_on() -> None:
    layers, labels = tuple(numbers(60, 3, seed=i) for i in range(3)), classes(60, 4)
    asked = tuple(numbers(20, 3, seed=i) for i in range(5, 8))
    final = classes(60, 4, 1)
    votes = probe(Features(layers, final), labels, Features(asked, final[:20]), classes=4, k=7)
    left_out = probe(Features(layers, final), labels, classes=4, k=7)
    for i in range(3):
        assert torch.equal(votes[i], knn_votes(layers[i], labels, asked[i], classes=4, k=7))
        assert torch.equal(left_out[i], knn_votes(layers[i], labels, classes=4, k=7))


# Depths


def by_definition(answers: list[int], prediction: int) -> int:
    """Baldock et al.: the probe before disagrees, and all from here on agree."""
    for depth in range(len(answers) + 1):
        agree = all(a == prediction for a in answers[depth:])
        if agree and (depth == 0 or answers[depth - 1] != prediction):
            return depth
    raise AssertionError


def test_depth_by_definition_for_every_pattern() -> None:
    patterns = torch.tensor(list(itertools.product((0, 1, 2), repeat=6))).T
    for prediction in range(3):
        final = torch.full((patterns.shape[1],), prediction)
        found = prediction_depth(patterns, final)
        assert found.tolist() == [by_definition(p.tolist(), prediction) for p in patterns.T]
    assert set(found.tolist()) == set(range(7))


def test_confident_depth_by_hand() -> None:
    votes = torch.randint(0, 5, (6, 50, 3), generator=source()) + 1
    labels = classes(50, 3)
    for confidence in (0.2, 0.5, 0.9):
        found = first_confident_depth(votes, labels, confidence=confidence)
        for i in range(50):
            wanted = 6
            for p in range(5, -1, -1):
                row = votes[p, i].tolist()
                share = row[labels[i]] / sum(row)
                if row.index(max(row)) == labels[i] and share >= confidence:
                    wanted = p
            assert int(found[i]) == wanted


@given(confidence=st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_more_confidence_is_never_earlier(confidence: float) -> None:
    votes = torch.randint(1, 9, (5, 40, 4), generator=source())
    labels = classes(40, 4)
    less, more = (
        first_confident_depth(votes, labels, confidence=c) for c in (confidence, confidence + 0.01)
    )
    assert bool((less <= more).all())


# Rank correlation


def test_rank_correlation_is_scipys_and_sees_ranks_only() -> None:
    x, y = numbers(200), numbers(200, seed=1)
    found = rank_correlation(x, x + y)
    assert found.value == pytest.approx(stats.spearmanr(x, x + y).statistic)
    assert rank_correlation(x.exp(), (x + y) ** 3) == found
    assert found.low < found.value < found.high
    assert found.n == 200
    turned = rank_correlation(x, -(x + y))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_covers_as_often_as_it_says() -> None:
    # For normal pairs of correlation rho Spearman's is 6/pi arcsin(rho/2); n = 100, level 0.9.
    rho, hits, runs = 0.6, 0, 600
    truth = 6 / math.pi * math.asin(rho / 2)
    draws = numbers(runs, 2, 100)
    for x, e in draws:
        found = rank_correlation(x, rho * x + math.sqrt(1 - rho**2) * e, level=0.9)
        hits += found.low <= truth <= found.high
    assert 0.85 < hits / runs < 0.95


def test_a_difference_of_means_by_hand() -> None:
    x, y = numbers(40) + 2, 3 * numbers(70, seed=1)
    found = difference_of_means(x, y, level=0.95)
    a, b = (float(z.var()) / len(z) for z in (x, y))
    freedom = (a + b) ** 2 / (a**2 / 39 + b**2 / 69)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(a + b)
    middle = float(x.mean() - y.mean())
    assert (found.value, found.low, found.high) == pytest.approx(
        (middle, middle - half, middle + half)
    )
    assert found.n == 110


# Training


def test_training_learns_and_keeps_snapshots() -> None:
    data = ShapeImages(128, pixels=12, radius=(4, 6), noise=(0, 0.1), generator=source())
    model, history = train_shapes(
        data.images,
        data.labels,
        generator=source(1),
        width=4,
        epochs=12,
        batch_size=32,
        snapshot_at=(0, 48),
    )
    assert not model.training
    assert len(history.losses) == 48
    assert float(history.losses[-4:].mean()) < 0.5 * float(history.losses[:4].mean())
    end, start = (snapshot_of(model, history, step) for step in (48, 0))
    with torch.no_grad():
        assert torch.equal(end(data.images), model(data.images))
        assert not torch.equal(start(data.images), model(data.images))
    again, _ = train_shapes(
        data.images, data.labels, generator=source(1), width=4, epochs=12, batch_size=32
    )
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )


# Dtypes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    # Whole numbers of one digit are exact in all four, and so are their distances.
    seen = torch.randint(-9, 10, (50, 3), generator=source()).to(dtype)
    labels, asked = classes(50, 3), torch.randint(-9, 10, (20, 3), generator=source(1)).to(dtype)
    votes = knn_votes(seen, labels, asked, classes=3, k=9)
    wide = knn_votes(seen.double(), labels, asked.double(), classes=3, k=9)
    assert torch.equal(votes.sum(-1), wide.sum(-1))
    assert pooled(torch.ones(2, 3, 8, 8, dtype=dtype), at_most=12).dtype == dtype
    assert rank_correlation(torch.arange(20).to(dtype), range(20)).value == pytest.approx(1)


# The door

LABELS = torch.tensor([0, 1, 2, 0])
ROWS = torch.zeros(4, 3)
VOTES = torch.ones(2, 4, 3, dtype=torch.int64)
ANSWERS = torch.zeros(2, 4, dtype=torch.int64)
SEEN = Features((ROWS, ROWS), LABELS)
IMAGES = torch.zeros(4, 1, 8, 8)
TEN = list(range(10))


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: ShapeImages(0, generator=source()), ValueError, "count"),
        (lambda: ShapeImages(2.0, generator=source()), TypeError, "count"),
        (lambda: ShapeImages(2, pixels=3, generator=source()), ValueError, "pixels"),
        (lambda: ShapeImages(2, radius=(2, 13), generator=source()), ValueError, "radius"),
        (lambda: ShapeImages(2, radius=(0, 3), generator=source()), ValueError, "radius"),
        (lambda: ShapeImages(2, radius=3, generator=source()), TypeError, "radius"),
        (lambda: ShapeImages(2, noise=(-0.1, 1), generator=source()), ValueError, "noise"),
        (lambda: ShapeImages(2, noise=(0, math.nan), generator=source()), ValueError, "noise"),
        (lambda: ShapeImages(2, contrast=(1, 0.5), generator=source()), ValueError, "contrast"),
        (lambda: ShapeImages(2, contrast=("a", 1), generator=source()), TypeError, "contrast"),
        (lambda: ShapeImages(2, generator=0), TypeError, "generator"),
        (lambda: shape_coverage([0], ROWS[:1, 0], ROWS[:1, :2], pixels=8), TypeError, "labels"),
        (lambda: shape_coverage(LABELS, ROWS, ROWS[:, :2], pixels=8), ValueError, "radius"),
        (lambda: shape_coverage(LABELS, ROWS[:, 0], ROWS, pixels=8), ValueError, "centre"),
        (lambda: shape_coverage(LABELS + 9, ROWS[:, 0], ROWS[:, :2], pixels=8), ValueError, "lab"),
        (
            lambda: shape_coverage(LABELS.float(), ROWS[:, 0], ROWS[:, :2], pixels=8),
            TypeError,
            "labels",
        ),
        (
            lambda: shape_coverage(LABELS, ROWS[:, 0], ROWS[:, :2], pixels=8),
            ValueError,
            "radius must be positive",
        ),
        (
            lambda: shape_coverage(LABELS, ROWS[:, 0] + math.nan, ROWS[:, :2], pixels=8),
            ValueError,
            "radius",
        ),
        (
            lambda: shape_coverage(LABELS, ROWS[:, 0] + 1, ROWS[:, :2] + math.inf, pixels=8),
            ValueError,
            "centre",
        ),
        (lambda: Activations("model", ["0"]), TypeError, "model"),
        (lambda: Activations(tiny(), "stem"), TypeError, "names"),
        (lambda: Activations(tiny(), []), ValueError, "names"),
        (lambda: Activations(tiny(), ["stem", "stem"]), ValueError, "names"),
        (lambda: Activations(tiny(), ["stem", "trunk"]), ValueError, "trunk"),
        (lambda: pooled(torch.zeros(4, 8)), ValueError, "x"),
        (lambda: pooled(torch.zeros(1, 4, 8, 8), at_most=3), ValueError, "at_most"),
        (lambda: probe_features("model", IMAGES), TypeError, "model"),
        (lambda: probe_features(tiny(), IMAGES, batch_size=0), ValueError, "batch_size"),
        (lambda: probe_features(tiny(), IMAGES.long()), TypeError, "images"),
        (lambda: probe_features(tiny(), IMAGES[:0]), ValueError, "images"),
        (lambda: probe_features(tiny(), IMAGES + math.nan), ValueError, "images"),
        (lambda: knn_votes(ROWS, LABELS, classes=2, k=2), ValueError, "labels"),
        (lambda: knn_votes(ROWS, LABELS, classes=3, k=4), ValueError, "k"),
        (lambda: knn_votes(ROWS, LABELS, ROWS, classes=3, k=5), ValueError, "k"),
        (lambda: knn_votes(ROWS, LABELS, ROWS[:, :2], classes=3, k=1), ValueError, "asked"),
        (lambda: knn_votes(ROWS, LABELS, ROWS.double(), classes=3, k=1), TypeError, "asked"),
        (lambda: knn_votes(ROWS, LABELS[:2], classes=3, k=1), ValueError, "labels"),
        (lambda: knn_votes(ROWS, LABELS.float(), classes=3, k=1), TypeError, "labels"),
        (lambda: knn_votes(ROWS + math.nan, LABELS, classes=3, k=1), ValueError, "seen"),
        (lambda: knn_votes(ROWS, LABELS, ROWS + math.inf, classes=3, k=1), ValueError, "asked"),
        (lambda: knn_votes(ROWS[:0], LABELS[:0], classes=3, k=1), ValueError, "seen"),
        (lambda: knn_votes(ROWS, LABELS, ROWS[:0], classes=3, k=1), ValueError, "asked"),
        (lambda: knn_votes(ROWS[:, :0], LABELS, classes=3, k=1), ValueError, "seen"),
        (lambda: probe(ROWS, LABELS, classes=3, k=1), TypeError, "seen"),
        (lambda: probe(Features((), LABELS), LABELS, classes=3, k=1), ValueError, "seen"),
        (lambda: probe(SEEN, LABELS, ROWS, classes=3, k=1), TypeError, "asked"),
        (
            lambda: probe(SEEN, LABELS, Features((ROWS,), LABELS), classes=3, k=1),
            ValueError,
            "asked",
        ),
        (lambda: prediction_depth(ANSWERS, LABELS[:3]), ValueError, "predictions"),
        (lambda: prediction_depth(ANSWERS.float(), LABELS), TypeError, "answers"),
        (lambda: prediction_depth(ANSWERS[0], LABELS), ValueError, "answers"),
        (lambda: prediction_depth(ANSWERS[:0], LABELS), ValueError, "answers"),
        (lambda: first_confident_depth(VOTES.double(), LABELS), TypeError, "votes"),
        (lambda: first_confident_depth(VOTES[0], LABELS), ValueError, "votes"),
        (lambda: first_confident_depth(0 * VOTES, LABELS), ValueError, "votes"),
        (lambda: first_confident_depth(-VOTES, LABELS), ValueError, "votes"),
        (lambda: first_confident_depth(VOTES, LABELS + 1), ValueError, "labels"),
        (lambda: first_confident_depth(VOTES, LABELS, confidence=1.5), ValueError, "confidence"),
        (lambda: rank_correlation(TEN, TEN[:9]), ValueError, "y"),
        (lambda: rank_correlation(TEN, [*TEN, 1]), ValueError, "y"),
        (lambda: rank_correlation([1] * 10, TEN), ValueError, "x"),
        (lambda: rank_correlation(["a"] * 10, TEN), TypeError, "x"),
        (lambda: rank_correlation(TEN, [str(i) for i in TEN]), TypeError, "y"),
        (lambda: rank_correlation(torch.arange(10) * 1j, TEN), TypeError, "x"),
        (lambda: rank_correlation(torch.empty(10, device="meta"), TEN), TypeError, "x"),
        (lambda: snapshot_of(tiny(), {}, 0), TypeError, "history"),
        (lambda: rank_correlation(TEN, [math.inf] * 10), ValueError, "y"),
        (lambda: rank_correlation(TEN, TEN, level=1), ValueError, "level"),
        (lambda: rank_correlation(TEN, TEN, level="0.9"), TypeError, "level"),
        (lambda: difference_of_means(TEN, TEN[:9]), ValueError, "y"),
        (lambda: difference_of_means(TEN, TEN, level=0), ValueError, "level"),
        (lambda: train_shapes(IMAGES, LABELS, generator=source(), epochs=0), ValueError, "epochs"),
        (lambda: train_shapes(IMAGES, LABELS, generator=0, batch_size=2), TypeError, "generator"),
        (lambda: train_shapes(IMAGES, LABELS, generator=source()), ValueError, "batch_size"),
        (lambda: train_shapes(IMAGES, LABELS + 8, generator=source()), ValueError, "labels"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        call()


def test_values_are_not_read_where_that_is_switched_off() -> None:
    # one_hot refuses such a label itself; what is off is the check that would say so in words.
    with value_checks(False), pytest.raises(RuntimeError):
        knn_votes(ROWS, LABELS + 2, classes=3, k=2)


def test_a_snapshot_that_was_not_taken() -> None:
    data = ShapeImages(16, pixels=8, radius=(2, 4), generator=source())
    model, history = train_shapes(
        data.images, data.labels, generator=source(), width=2, epochs=1, batch_size=8
    )
    with pytest.raises(ValueError, match="step"):
        snapshot_of(model, history, 1)
