"""Networks with exits: what leaves, what it costs, how it is trained, and calibration."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlchecked.arguments import value_checks
from dlchecked.counting import cost_of, count_operations
from dlchecked.early_exit import (
    SHEET,
    ExitResNet,
    accuracy_cost_curve,
    all_logits,
    calibration_error,
    exit_costs,
    exit_places,
    fit_temperature,
    joint_loss,
    layer_counts,
    layer_formula,
    layer_hooks,
    predict_early,
    reliability,
    train_exits,
)
from dlchecked.resnet import resnet18
from dlchecked.scaled_dot_product import softmax_entropy


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def network(
    *, exits: tuple[int, ...] = (0, 1), dtype: torch.dtype = torch.float64, **options: object
) -> ExitResNet:
    """A small one whose normalisations have statistics that are not those of a fresh network."""
    settings = {"width": 4, "classes": 3, "channels": 1, "generator": source(1)} | options
    model = ExitResNet((1, 2, 1), exits=exits, dtype=dtype, **settings)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.copy_(rows(part.num_features, seed=2) / 4)
                part.running_var.copy_(rows(part.num_features, seed=3).exp())
    return model.eval()


def spread(n: int = 40, seed: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images of very different contrast, so that they leave at different places."""
    return (
        rows(n, 1, 9, 9, seed=seed, dtype=dtype)
        * torch.logspace(-1, 1.5, n, dtype=dtype)[:, None, None, None]
    )


def some_threshold(model: ExitResNet, x: Tensor) -> float:
    """Between the entropies of the images, so that about half leave at the first exit."""
    weights = all_logits(model, x)[0].softmax(-1)
    return float((-(weights * weights.log()).sum(-1)).median()) + 1e-6


# The network


def test_without_exits_it_is_the_plain_network() -> None:
    plain = resnet18(width=4, classes=3, channels=1, stem="small", generator=source())
    model = ExitResNet(exits=(), width=4, classes=3, channels=1, generator=source())
    x = rows(2, 1, 8, 8, dtype=torch.float32)
    (logits,) = model.eval()(x)
    assert torch.equal(logits, plain.eval()(x))
    assert len(model.heads) == 0


def test_the_same_generator_gives_the_same_network_with_and_without_exits() -> None:
    with_exits = ExitResNet(width=4, classes=3, channels=1, hidden=5, generator=source())
    without = ExitResNet(exits=(), width=4, classes=3, channels=1, generator=source())
    states = with_exits.resnet.state_dict(), without.resnet.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_each_exit_reads_what_its_stage_puts_out() -> None:
    model, x = network(exits=(1,)), spread(3)
    middle = model.resnet.stages[1](model.resnet.stages[0](model.resnet.stem(x)))
    early, late = model(x)
    torch.testing.assert_close(early, model.heads[0](middle))
    torch.testing.assert_close(late, model.resnet(x))


def test_a_hidden_head_is_a_convolution_with_a_stride() -> None:
    head = network(exits=(0,), hidden=5).heads[0]
    names = ["conv", "norm", "relu", "pool", "flatten", "linear"]
    assert [name for name, _ in head.named_children()] == names
    assert head.conv.stride == (2, 2)
    assert head.linear.in_features == 5


# Leaving


@pytest.mark.parametrize("hidden", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stopping_and_not_stopping_agree(hidden: int | None, dtype: torch.dtype) -> None:
    model, x = network(hidden=hidden, dtype=dtype), spread(dtype=dtype)
    everything = all_logits(model, x)
    threshold = some_threshold(model, x)
    found = predict_early(model, x, threshold=threshold)
    places = exit_places(everything, threshold=threshold)
    assert found.places.dtype == torch.int64
    assert torch.equal(found.places, places)
    assert len(places.unique()) >= 2
    expected = everything[places, torch.arange(len(x))]
    # A smaller batch may take another path through the kernels, so the last digits may differ.
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(found.logits, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype(dtype: torch.dtype) -> None:
    model = network(dtype=dtype)
    found = predict_early(model, spread(6).to(dtype), threshold=0.5)
    assert found.logits.dtype == dtype
    assert bool(found.logits.isfinite().all())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    thresholds=st.lists(st.floats(0, 1.3), min_size=2, max_size=2),
    n=st.integers(1, 12),
)
def test_places_agree_with_a_loop(seed: int, thresholds: list[float], n: int) -> None:
    logits = 3 * rows(3, n, 4, seed=seed)
    expected = []
    for i in range(n):
        for place in range(3):
            p = np.exp(logits[place, i].numpy() - logits[place, i].max().item())
            p /= p.sum()
            if place == 2 or -(p * np.log(p)).sum() < thresholds[place]:
                expected.append(place)
                break
    assert exit_places(logits, threshold=thresholds).tolist() == expected


def test_threshold_zero_lets_nobody_go_and_infinity_everybody() -> None:
    model, x = network(), spread()
    assert set(predict_early(model, x, threshold=0.0).places.tolist()) == {2}
    assert set(predict_early(model, x, threshold=math.inf).places.tolist()) == {0}
    assert set(predict_early(model, x, threshold=(0, math.inf)).places.tolist()) == {1}


def test_an_even_prediction_does_not_leave_at_log_of_the_classes() -> None:
    even = torch.zeros(2, 1, 8, dtype=torch.float64)
    assert exit_places(even, threshold=math.log(8)).tolist() == [1]
    assert exit_places(even, threshold=math.log(8) + 1e-9).tolist() == [0]


def even_network(dtype: torch.dtype, bias: float = 0.0) -> ExitResNet:
    """One whose first head says the same of every image: nothing at all, or class 0."""
    model = network(dtype=dtype)
    with torch.no_grad():
        model.heads[0].linear.weight.zero_()
        model.heads[0].linear.bias.copy_(torch.tensor([bias, 0.0, 0.0]))
    return model


def test_an_entropy_at_the_threshold_is_not_below_it() -> None:
    model, x = even_network(torch.float64, bias=1e4), spread(4)
    logits, labels = all_logits(model, x), torch.zeros(4, dtype=torch.int64)
    assert torch.count_nonzero(softmax_entropy(logits[0])) == 0
    for threshold, place in ((0.0, 2), (1e-9, 0)):
        thresholds = (threshold, 0.0)
        assert predict_early(model, x, threshold=thresholds).places.tolist() == [place] * 4
        assert exit_places(logits, threshold=thresholds).tolist() == [place] * 4
    curve = accuracy_cost_curve(
        logits[[0, 2]], labels, costs=(1, 2), thresholds=torch.tensor([0.0, 1e-9])
    )
    assert curve.multiply_adds.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_not_too_coarse_for_the_threshold(dtype: torch.dtype) -> None:
    # In bfloat16 log 3 is rounded to 1.1016, which is above this threshold.
    above = math.log(3) + 1e-3
    assert exit_places(torch.zeros(2, 4, 3, dtype=dtype), threshold=above).tolist() == [0] * 4
    model, x = even_network(dtype), spread(4, dtype=dtype)
    assert predict_early(model, x, threshold=above).places.tolist() == [0] * 4
    curve = accuracy_cost_curve(
        torch.zeros(2, 4, 3, dtype=dtype), torch.zeros(4, dtype=torch.int64), costs=(1, 2),
        thresholds=torch.tensor([above]),
    )  # fmt: skip
    assert curve.multiply_adds.tolist() == [1.0]


def test_under_autocast_it_answers_in_the_dtype_of_the_images() -> None:
    model, x = network(dtype=torch.float32), spread(6, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predict_early(model, x, threshold=0.5)
    assert found.logits.dtype == torch.float32
    assert bool(found.logits.isfinite().all())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), low=st.floats(0, 1.1), step=st.floats(0, 1.0))
def test_a_higher_threshold_never_lets_an_image_stay_longer(
    seed: int, low: float, step: float
) -> None:
    logits = 2 * rows(4, 9, 3, seed=seed)
    before, after = (exit_places(logits, threshold=t) for t in (low, low + step))
    assert bool((after <= before).all())


def test_temperatures_divide_the_logits_and_move_the_exits() -> None:
    model, x = network(), spread()
    divisors = torch.tensor([0.15, 0.5, 2.0], dtype=torch.float64)
    cold = predict_early(model, x, threshold=0.3, temperatures=divisors.tolist())
    everything = all_logits(model, x) / divisors[:, None, None]
    assert set(cold.places.tolist()) == {0, 1, 2}
    assert torch.equal(cold.places, exit_places(everything, threshold=0.3))
    expected = everything[cold.places, torch.arange(len(x))]
    torch.testing.assert_close(cold.logits, expected)
    assert not torch.equal(cold.places, predict_early(model, x, threshold=0.3).places)


def test_an_empty_batch_comes_back_empty() -> None:
    found = predict_early(network(), torch.zeros(0, 1, 9, 9).double(), threshold=0.5)
    assert found.logits.shape == (0, 3)
    assert found.places.shape == (0,)


def test_a_network_without_exits_predicts_as_it_is() -> None:
    model, x = network(exits=()), spread(5)
    found = predict_early(model, x, threshold=0.7)
    assert set(found.places.tolist()) == {0}
    torch.testing.assert_close(found.logits, model(x)[0])


def test_the_order_of_the_rows_does_not_matter() -> None:
    model, x = network(), spread(12)
    threshold, order = some_threshold(model, x), torch.randperm(12, generator=source())
    one = predict_early(model, x, threshold=threshold)
    other = predict_early(model, x[order], threshold=threshold)
    assert torch.equal(one.places[order], other.places)
    torch.testing.assert_close(one.logits[order], other.logits)


# Costs


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("pixels", [9, 24])
@pytest.mark.parametrize("hidden", [None, 5])
def test_formula_hooks_and_counter_agree(stem: str, pixels: int, hidden: int | None) -> None:
    model = ExitResNet(
        (1, 2, 1), exits=(0, 1), hidden=hidden, width=3, classes=5, channels=2, stem=stem,
        device="meta",
    )  # fmt: skip
    formula = layer_formula(model.eval(), pixels=pixels)
    x = torch.empty(1, 2, pixels, pixels, device="meta")
    assert list(layer_hooks(model, x)) == list(formula)
    assert layer_hooks(model, x) == formula
    assert layer_counts(model, x) == {**formula, "elsewhere": 0}


def test_resnet_18_costs_what_is_published() -> None:
    model = ExitResNet(exits=(), stem="imagenet", device="meta")
    assert exit_costs(model, pixels=224).plain == 1_814_073_344


def test_costs_by_hand() -> None:
    model = ExitResNet((1, 1), exits=(0,), width=2, classes=3, channels=1, hidden=4, device="meta")
    costs = exit_costs(model, pixels=4)
    first = 9 * 1 * 2 * 16 + 2 * 9 * 2 * 2 * 16
    second = (9 * 2 * 4 + 9 * 4 * 4 + 2 * 4) * 4
    head = 9 * 2 * 4 * 4 + 4 * 3
    assert costs.bodies == (first, second)
    assert costs.heads == (head, 12)
    assert costs.leaving == (first + head, first + head + second + 12)
    assert costs.cut == (first + head, first + second + 12)
    assert costs.plain == first + second + 12


@pytest.mark.parametrize("threshold", [0.0, "some", math.inf])
def test_what_runs_is_the_sum_over_images(threshold: float | str) -> None:
    model, x = network(hidden=5), spread()
    at = some_threshold(model, x) if threshold == "some" else float(threshold)
    with count_operations() as counter:
        places = predict_early(model, x, threshold=at).places
    leaving = exit_costs(model, pixels=9).leaving
    assert counter.total.multiply_adds == sum(leaving[place] for place in places.tolist())


def test_hooks_are_removed_even_after_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError):
        layer_hooks(model, torch.zeros(1, 1, 9, 9, dtype=torch.float32))
    with pytest.raises(RuntimeError):
        layer_counts(model, torch.zeros(1, 1, 9, 9, dtype=torch.float32))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_the_curve_agrees_with_one_threshold_at_a_time() -> None:
    logits, labels = 2 * rows(3, 60, 4), torch.arange(60) % 4
    thresholds = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.5])
    curve = accuracy_cost_curve(logits, labels, costs=(1, 5, 20), thresholds=thresholds)
    for i, threshold in enumerate(thresholds.tolist()):
        places = exit_places(logits, threshold=threshold)
        chosen = logits[places, torch.arange(60)].argmax(-1)
        assert curve.accuracy[i].item() == pytest.approx((chosen == labels).double().mean().item())
        cost = torch.tensor([1.0, 5.0, 20.0])[places].mean().item()
        assert curve.multiply_adds[i].item() == pytest.approx(cost)
    assert bool((curve.multiply_adds.diff() <= 0).all())


def test_the_curve_of_a_network_without_exits_is_one_point() -> None:
    curve = accuracy_cost_curve(
        torch.eye(3)[None], torch.tensor([0, 1, 0]), costs=(7,), thresholds=torch.tensor([0.0, 1])
    )
    assert curve.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert curve.multiply_adds.tolist() == [7.0, 7.0]


def test_the_sheets_figures() -> None:
    assert SHEET.regular == 3_336_213_504_000
    assert SHEET.early == 2_305_700_339_712


# Training


def test_the_joint_loss_is_the_weighted_sum() -> None:
    logits, labels = list(rows(3, 6, 4)), torch.arange(6) % 4
    found = joint_loss(logits, labels, weights=(1.0, 0.0, 0.25))
    expected = cross_entropy(logits[0], labels) + cross_entropy(logits[2], labels) / 4
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        joint_loss(logits, labels), sum(cross_entropy(z, labels) for z in logits)
    )


def test_the_joint_loss_has_the_right_gradient() -> None:
    labels = torch.tensor([0, 2])
    first, second = (rows(2, 3, seed=s).requires_grad_() for s in (1, 2))
    function = partial(joint_loss, labels=labels, weights=(0.3, 1.0))
    assert torch.autograd.gradcheck(lambda a, b: function([a, b]), (first, second))


def toy(n: int = 96) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % 2
    images = rows(n, 1, 8, 8, dtype=torch.float32)
    images[:, :, :, 4:] += labels[:, None, None, None] * 2.0
    return images, labels


def test_training_learns_at_every_exit_and_can_be_repeated() -> None:
    images, labels = toy()

    def trained() -> tuple[ExitResNet, Tensor]:
        model = ExitResNet((1, 1), exits=(0,), width=4, classes=2, channels=1, generator=source())
        history = train_exits(model, images, labels, generator=source(3), epochs=12, batch_size=16)
        return model, history.losses

    (model, losses), (_, again) = trained(), trained()
    assert len(losses) == 72
    assert torch.equal(losses, again)
    right = (all_logits(model, images).argmax(-1) == labels).double().mean(1)
    assert bool((right > 0.9).all())


def test_a_head_with_weight_zero_does_not_learn() -> None:
    images, labels = toy(32)
    model = ExitResNet((1, 1), exits=(0,), width=4, classes=2, channels=1, generator=source())
    before = copy.deepcopy(model.heads.state_dict())
    train_exits(
        model, images, labels, generator=source(3), epochs=1, batch_size=16,
        weights=(0, 1), weight_decay=0.0,
    )  # fmt: skip
    after = model.heads.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_all_logits_keeps_the_mode_and_does_not_depend_on_the_batch() -> None:
    model, x = network(), spread(11)
    model.train()
    model.heads[0].eval()
    before = copy.deepcopy(model.state_dict())
    one = all_logits(model, x)
    torch.testing.assert_close(one, all_logits(model, x, batch_size=3))
    assert model.training
    assert model.resnet.training
    assert not model.heads[0].linear.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# Calibration


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), bins=st.integers(2, 12))
def test_reliability_agrees_with_scikit_learn(seed: int, bins: int) -> None:
    logits, labels = 2 * rows(200, 2, seed=seed), torch.randint(2, (200,), generator=source(seed))
    confidence, predicted = logits.softmax(-1).max(-1)
    found = reliability(logits, labels, bins=bins)
    full = found.share > 0
    accuracy, mean = calibration_curve(
        (predicted == labels).numpy(), confidence.numpy(), n_bins=bins, strategy="uniform"
    )
    np.testing.assert_allclose(found.accuracy[full], accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[full], mean, rtol=1e-12)
    assert found.share.sum().item() == pytest.approx(1.0)


def test_the_calibration_error_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.45, 0.55]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 1])
    # Above 0.8: 0.9 said, 0.5 right. From 0.4 to 0.6: 0.575 said, 0.5 right.
    assert calibration_error(p.log(), labels, bins=5) == pytest.approx((0.4 + 0.075) / 2)


def test_the_calibration_error_weighs_bins_and_lets_nothing_cancel() -> None:
    p = torch.tensor([[0.9, 0.1]] * 3 + [[0.55, 0.45]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    # Three at 0.9, of which one is right: too sure. One at 0.55, right: too modest.
    expected = 3 / 4 * (0.9 - 1 / 3) + 1 / 4 * (1 - 0.55)
    assert calibration_error(p.log(), labels, bins=5) == pytest.approx(expected)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_it() -> None:
    half = torch.zeros(1, 2, dtype=torch.float64)
    assert reliability(half, torch.tensor([0]), bins=4).share.tolist() == [0, 1, 0, 0]
    sure = torch.tensor([[1e4, 0.0]])
    assert reliability(sure, torch.tensor([0]), bins=4).share.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("T", [0.2, 1.0, 3.0])
def test_the_temperature_agrees_with_scipy_and_undoes_a_scaling(T: float) -> None:
    logits = 2 * rows(3000, 5)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=source(7))[:, 0]

    def loss(temperature: float) -> float:
        return float(log_loss(labels, (T * logits / temperature).softmax(-1)))

    found = fit_temperature(T * logits, labels)
    best = minimize_scalar(loss, bounds=(0.05, 10), method="bounded", options={"xatol": 1e-9}).x
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(T * fit_temperature(logits, labels), rel=1e-6)
    assert found == pytest.approx(T, rel=0.1)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_temperature_follows_the_size_of_the_logits(scale: float) -> None:
    logits = 2 * rows(500, 5)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=source(7))[:, 0]
    found = fit_temperature(scale * logits, labels)
    assert found == pytest.approx(scale * fit_temperature(logits, labels), rel=1e-6)


def test_a_temperature_can_be_fitted_in_inference_mode() -> None:
    logits = 2 * rows(500, 5)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=source(7))[:, 0]
    with torch.inference_mode():
        found = fit_temperature(logits * 1.0, labels)
    assert found == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_at_the_temperature_the_labels_logit_is_the_expected_one() -> None:
    logits = 2 * rows(500, 5)
    labels = torch.multinomial((logits / 2).softmax(-1), 1, generator=source(7))[:, 0]
    p = (logits / fit_temperature(logits, labels)).softmax(-1)
    of_label = logits.gather(1, labels[:, None]).mean().item()
    assert of_label == pytest.approx((p * logits).sum(1).mean().item(), abs=1e-6)


# The door

X, Z, Y = torch.zeros(2, 1, 9, 9).double(), torch.zeros(2, 4, 3), torch.tensor([0, 1, 2, 0])
T1 = torch.tensor([0.5])


def partly_trained() -> ExitResNet:
    model = network(hidden=4)
    model.heads[0].train()
    return model


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: ExitResNet(exits=(3,)), ValueError, "exits must name stages before the last"),
    (lambda: ExitResNet(exits=(1, 0)), ValueError, "exits must rise"),
    (lambda: ExitResNet(exits=(1, 1)), ValueError, "exits must rise"),
    (lambda: ExitResNet(exits=1), TypeError, "exits must be a sequence"),
    (lambda: ExitResNet(exits=(0.0,)), TypeError, "exits must be an integer"),
    (lambda: ExitResNet(hidden=0), ValueError, "hidden must be at least 1"),
    (lambda: ExitResNet(width=0), ValueError, "width must be at least 1"),
    (lambda: network()(torch.zeros(2, 9, 9)), ValueError, "x must have 4 dimensions"),
    (lambda: network()(torch.zeros(2, 3, 9, 9)), ValueError, "x must have 1 channels"),
    (lambda: predict_early(nn.ReLU(), X, threshold=1.0), TypeError, "model must be an ExitResNet"),
    (lambda: predict_early(network().train(), X, threshold=1.0), ValueError, "evaluation mode"),
    (lambda: predict_early(partly_trained(), X, threshold=1.0), ValueError, "evaluation mode"),
    (lambda: predict_early(network(), X / 0, threshold=1.0), ValueError, "x must be finite"),
    (
        lambda: predict_early(network(dtype=torch.float16), X.half() + 6e4, threshold=(1.0, 0.0)),
        ValueError,
        "logits at exit",
    ),
    (lambda: predict_early(network(), [1], threshold=1.0), TypeError, "x must be a torch.Tensor"),
    (lambda: predict_early(network(), X, threshold=-0.1), ValueError, "threshold must not be"),
    (lambda: predict_early(network(), X, threshold=math.nan), ValueError, "threshold must not be"),
    (lambda: predict_early(network(), X, threshold="1"), TypeError, "threshold must be a real"),
    (lambda: predict_early(network(), X, threshold=(1.0,)), ValueError, "threshold must be one"),
    (
        lambda: predict_early(network(), X, threshold=1.0, temperatures=(1.0,)),
        ValueError,
        "temperatures must be one number for each exit",
    ),
    (
        lambda: predict_early(network(), X, threshold=1.0, temperatures=(1.0, 0.0, 1.0)),
        ValueError,
        "temperatures must be positive",
    ),
    (
        lambda: predict_early(network(), X, threshold=1.0, temperatures=2.0),
        TypeError,
        "temperatures must be a sequence",
    ),
    (lambda: all_logits(network(), X[:0]), ValueError, "images must hold at least one"),
    (lambda: all_logits(network(), X, batch_size=0), ValueError, "batch_size must be at least 1"),
    (lambda: exit_places(Z[0], threshold=1.0), ValueError, "logits must have 3 dimensions"),
    (lambda: exit_places(Z * math.nan, threshold=1.0), ValueError, "logits must be finite"),
    (lambda: exit_places(Z[:0], threshold=1.0), ValueError, "logits must have an exit"),
    (lambda: layer_formula(network(), pixels=0), ValueError, "pixels must be at least 1"),
    (lambda: layer_formula(nn.ReLU(), pixels=8), TypeError, "model must be an ExitResNet"),
    (lambda: exit_costs(None, pixels=8), TypeError, "model must be an ExitResNet"),
    (lambda: layer_hooks(None, X), TypeError, "model must be an ExitResNet"),
    (
        lambda: accuracy_cost_curve(Z, Y, costs=(1,), thresholds=T1),
        ValueError,
        "costs must be one for each exit",
    ),
    (
        lambda: accuracy_cost_curve(Z, Y, costs=(1, math.nan), thresholds=T1),
        ValueError,
        "costs must be positive",
    ),
    (
        lambda: accuracy_cost_curve(Z[:, :0], Y[:0], costs=(1, 2), thresholds=T1),
        ValueError,
        "logits must hold at least one image",
    ),
    (
        lambda: accuracy_cost_curve(Z, Y, costs=(1, 2), thresholds=T1[:0]),
        ValueError,
        "thresholds must hold at least one",
    ),
    (
        lambda: accuracy_cost_curve(Z, Y[:3], costs=(1, 2), thresholds=T1),
        ValueError,
        "labels must have shape",
    ),
    (
        lambda: accuracy_cost_curve(Z, Y, costs=(1, 2), thresholds=-T1),
        ValueError,
        "threshold must not be",
    ),
    (lambda: joint_loss(Z[0], Y), TypeError, "logits must be a sequence"),
    (lambda: joint_loss([Z[0, :0]], Y[:0]), ValueError, "logits must not be empty"),
    (lambda: joint_loss([], Y), TypeError, "logits must be a sequence"),
    (lambda: joint_loss(list(Z), Y, weights=(1.0,)), ValueError, "weights must be one"),
    (lambda: joint_loss(list(Z), Y, weights=(0, 0)), ValueError, "weights must not all be zero"),
    (lambda: joint_loss(list(Z), Y, weights=(1, -1)), ValueError, "weights must be finite and not"),
    (lambda: joint_loss(list(Z), Y, weights=(1, True)), TypeError, "weights must be real"),
    (lambda: joint_loss([Z[0], Z[0, :2]], Y), ValueError, "logits must have one shape"),
    (lambda: joint_loss(list(Z), Y.float()), TypeError, "labels must have dtype torch.int64"),
    (lambda: joint_loss(list(Z), Y + 1), ValueError, "labels must lie from 0 to 2"),
    (
        lambda: train_exits(network(), X, Y, generator=source()),
        ValueError,
        "labels must have shape",
    ),
    (lambda: train_exits(network(), X, Y[:2], generator=0), TypeError, "generator must be"),
    (
        lambda: train_exits(network(), X, Y[:2], generator=source(), epochs=0),
        ValueError,
        "epochs must be at least 1",
    ),
    (
        lambda: train_exits(network(), X, Y[:2], generator=source(), batch_size=3),
        ValueError,
        "batch_size must be at most 2",
    ),
    (lambda: reliability(Z, Y), ValueError, "logits must have 2 dimensions"),
    (lambda: reliability(Z[0], Y, bins=0), ValueError, "bins must be at least 1"),
    (lambda: reliability(Z[0, :0], Y[:0]), ValueError, "logits must not be empty"),
    (lambda: calibration_error(Z[0] / 0, Y), ValueError, "logits must be finite"),
    (lambda: fit_temperature(torch.eye(3), Y[:3]), ValueError, "no temperature is best"),
    (lambda: fit_temperature(-torch.eye(3), Y[:3]), ValueError, "no temperature is best"),
    (lambda: fit_temperature(Z[0], Y[:3]), ValueError, "labels must have shape"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_value_checks_can_be_switched_off() -> None:
    with value_checks(False):
        assert exit_places(Z * math.nan, threshold=1.0).tolist() == [1] * 4


def test_predicting_costs_no_more_than_a_pass_through_everything() -> None:
    model, x = network(), spread(8)
    full = cost_of(all_logits, model, x).multiply_adds
    assert cost_of(predict_early, model, x, threshold=0.5).multiply_adds <= full
    assert cost_of(predict_early, model, x, threshold=0.0).multiply_adds == full
