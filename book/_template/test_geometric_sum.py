"""Tests of ``dlchecked.geometric_sum``."""

import pytest
import torch

from dlchecked.geometric_sum import geometric_sum


def test_a_sum_of_three_powers():
    x = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(geometric_sum(x, n=3), 1 + x + x**2, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("x", "n", "error", "words"),
    [
        (torch.tensor([1, 2]), 2, TypeError, "x must have a real floating-point dtype"),
        (0.5, 2, TypeError, "x must be a torch.Tensor"),
        (torch.tensor(0.5), 0, ValueError, "n must be at least 1"),
        (torch.tensor(0.5), 1.5, TypeError, "n must be an integer"),
    ],
)
def test_bad_inputs_are_named(x, n, error, words):
    with pytest.raises(error, match=words):
        geometric_sum(x, n=n)
