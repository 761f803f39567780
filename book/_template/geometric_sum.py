"""Geometric sums, without a loop."""

from __future__ import annotations

from torch import Tensor

from dlchecked.arguments import floating, integer

__all__ = ["geometric_sum"]


def geometric_sum(x: Tensor, *, n: int) -> Tensor:
    r"""The sum :math:`1 + x + \dots + x^{n-1}`, elementwise.

    Parameters
    ----------
    x
        Any shape; no element may be 1.
    n
        The number of terms, at least 1.

    Returns
    -------
    Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind; the error names it.

    Notes
    -----
    Template 1(a).

    Examples
    --------
    >>> import torch
    >>> geometric_sum(torch.tensor(0.5), n=2)
    tensor(1.5000)
    """
    floating("x", x, at_least=0)
    terms = integer("n", n, at_least=1)
    return (1 - x**terms) / (1 - x)
