"""The door: every bad argument is refused with its name, and good ones come back."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    random_generator,
    same_kind,
    score_rows,
    value_checks,
    values_are_checked,
    widened,
)

GOOD = {"q": torch.zeros(2, 5, 3), "k": torch.zeros(2, 4, 3), "v": torch.zeros(2, 4, 6)}


def test_good_attention_inputs_come_back_as_they_are():
    assert all(a is b for a, b in zip(attention_inputs(*GOOD.values()), GOOD.values(), strict=True))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": [[0.0]]}, TypeError, "q must be a torch.Tensor, got list"),
        ({"k": np.zeros((2, 4, 3))}, TypeError, "k must be a torch.Tensor, got ndarray"),
        ({"v": None}, TypeError, "v must be a torch.Tensor, got NoneType"),
        ({"q": torch.zeros(2, 5, 3, dtype=torch.int64)}, TypeError, "q must have a real floating"),
        ({"k": torch.zeros(2, 4, 3, dtype=torch.complex64)}, TypeError, "k must have a real float"),
        ({"v": torch.zeros(2, 4, 6, dtype=torch.bool)}, TypeError, "v must have a real floating"),
        ({"q": torch.zeros(3)}, ValueError, r"q must have at least 2 dimensions, got shape \(3,\)"),
        ({"k": torch.zeros(3)}, ValueError, "k must have at least 2 dimensions"),
        ({"k": torch.zeros(2, 4, 3).double()}, TypeError, "k must have the dtype of q"),
        ({"v": torch.zeros(2, 4, 6).half()}, TypeError, "v must have the dtype of q"),
        ({"k": torch.zeros(2, 4, 3, device="meta")}, ValueError, "k must be on the device of q"),
        ({"k": torch.zeros(1, 4, 3)}, ValueError, r"k must have the leading dimensions of q, \(2"),
        ({"q": torch.zeros(5, 3)}, ValueError, "k must have the leading dimensions of q"),
        ({"k": torch.zeros(2, 4, 2)}, ValueError, "k must have the size of q, D = 3"),
        ({"k": torch.zeros(2, 4, 1)}, ValueError, "k must have the size of q, D = 3"),
        ({"v": torch.zeros(2, 3, 6)}, ValueError, r"v must have one row for each key, \(2, 4\)"),
        ({"v": torch.zeros(1, 4, 6)}, ValueError, "v must have one row for each key"),
        ({"k": torch.zeros(2, 0, 3), "v": torch.zeros(2, 0, 6)}, ValueError, "k must hold at l"),
        ({"q": torch.zeros(2, 5, 0), "k": torch.zeros(2, 4, 0)}, ValueError, "q must have a size"),
    ],
)
def test_bad_attention_inputs_are_named(change, error, words):
    with pytest.raises(error, match=words):
        attention_inputs(**{**GOOD, **change})


@pytest.mark.parametrize("value", [2, 0.5, Fraction(1, 3), np.float32(2), math.ulp(0)])
def test_positive_takes_every_real_number(value):
    assert positive("sigma", value) == float(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError), (-1.0, ValueError), (math.inf, ValueError), (math.nan, ValueError),
        (True, TypeError), ("1", TypeError), (None, TypeError), (1j, TypeError),
        (torch.tensor(1.0), TypeError),
    ],
)  # fmt: skip
def test_positive_refuses(value, error):
    with pytest.raises(error, match="sigma must be"):
        positive("sigma", value)


@pytest.mark.parametrize(("value", "at_least"), [(0, 0), (3, 3), (np.int64(7), 1)])
def test_integer_takes_whole_numbers(value, at_least):
    result = integer("n", value, at_least=at_least)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-2, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_integer_refuses(value, error):
    with pytest.raises(error, match="n must be"):
        integer("n", value, at_least=1)


def test_floating_can_demand_one_rank():
    assert floating("x", torch.zeros(2, 3), exactly=2).shape == (2, 3)
    with pytest.raises(ValueError, match=r"x must have 1 dimension, got shape \(2, 3\)"):
        floating("x", torch.zeros(2, 3), exactly=1)


def test_one_tensor_is_of_its_own_kind_and_two_must_agree():
    assert same_kind(a=torch.zeros(1)) is None
    with pytest.raises(TypeError, match=r"b must have the dtype of a, torch.float32"):
        same_kind(a=torch.zeros(1), b=torch.zeros(1).double())


def test_finite_counts_what_is_not_and_can_be_switched_off():
    bad = torch.tensor([1.0, math.nan, math.inf])
    with pytest.raises(ValueError, match="weights must be finite, but 2 of 3 elements are not"):
        finite("weights", bad)
    with value_checks(False):
        assert not values_are_checked()
        finite("weights", bad)
        with value_checks(True), pytest.raises(ValueError, match="must be finite"):
            finite("weights", bad)
    assert values_are_checked()
    finite("weights", torch.ones(3))


def test_value_checks_come_back_on_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), value_checks(False):
        raise RuntimeError("inside")
    assert values_are_checked()
    with pytest.raises(TypeError, match="enabled must be True or False"), value_checks(1):
        pass


DOORS = {
    "flag": (lambda: flag("hard", 1), TypeError, "hard must be True or False, got 1"),
    "generator": (lambda: random_generator("generator", 0), TypeError, "must be a torch.Generator"),
    "integers": (lambda: floating_dtype("dtype", torch.int64), TypeError, "real floating-point"),
    "complex": (lambda: floating_dtype("dtype", torch.complex64), TypeError, "real floating-point"),
    "no dtype": (lambda: floating_dtype("dtype", "float32"), TypeError, "real floating-point"),
    "no key": (lambda: score_rows(torch.ones(2, 0)), ValueError, "at least one key"),
    "NaN": (lambda: score_rows(torch.tensor([math.nan])), ValueError, "scores must be finite"),
    "hidden": (lambda: score_rows(torch.tensor([-math.inf])), ValueError, "leave each row a key"),
}


@pytest.mark.parametrize("case", DOORS)
def test_the_small_doors_name_what_does_not_fit(case: str):
    run, error, words = DOORS[case]
    with pytest.raises(error, match=words):
        run()


def test_the_small_doors_hand_back_what_fits():
    source, rows = torch.Generator(), torch.tensor([0.0, -math.inf])
    assert flag("hard", True) is True
    assert random_generator("generator", source) is source
    assert floating_dtype("dtype", torch.bfloat16) is torch.bfloat16
    assert score_rows(rows) is rows


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_sixteen_bits_are_widened_and_others_left(dtype: torch.dtype, wide: torch.dtype):
    assert widened(torch.ones(2, dtype=dtype)).dtype == wide
