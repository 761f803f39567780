"""The door of every public function: arguments are checked here, once, and named in the error.

Two kinds of check. What a tensor's *description* tells (its type, rank, shape, dtype, device) costs
nothing and is always checked. What its *values* tell (a NaN, a zero denominator) makes a GPU wait
for the answer; such checks are on by default and :func:`value_checks` switches them off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real

import torch
from torch import Tensor

__all__ = [
    "attention_inputs",
    "finite",
    "flag",
    "floating",
    "floating_dtype",
    "integer",
    "positive",
    "random_generator",
    "same_kind",
    "score_rows",
    "value_checks",
    "values_are_checked",
    "widened",
]

_checking_values: ContextVar[bool] = ContextVar("checking_values", default=True)


@contextmanager
def value_checks(enabled: bool) -> Iterator[None]:
    """Switch the checks that read values on or off inside a ``with`` block.

    Parameters
    ----------
    enabled
        ``False`` skips every check that would have to read a tensor's values, and with it the
        synchronisation such a reading costs on a GPU. Shapes, dtypes and plain numbers are checked
        all the same.

    Examples
    --------
    >>> from dlchecked.arguments import value_checks, values_are_checked
    >>> with value_checks(False):
    ...     values_are_checked()
    False
    """
    if not isinstance(enabled, bool):
        raise TypeError(f"enabled must be True or False, got {enabled!r}")
    token = _checking_values.set(enabled)
    try:
        yield
    finally:
        _checking_values.reset(token)


def values_are_checked() -> bool:
    """Whether checks that read values are on here (see :func:`value_checks`)."""
    return _checking_values.get()


def shape_of(tensor: Tensor) -> str:
    """A shape as the error messages print it: ``(2, 3)``."""
    return str(tuple(tensor.shape))


def floating(name: str, value: object, *, at_least: int = 1, exactly: int | None = None) -> Tensor:
    """Demand a real floating-point tensor of some rank, and return it.

    Parameters
    ----------
    name
        The argument's name, for the error.
    value
        What the caller passed.
    at_least, exactly
        The least rank, or the only one.

    Raises
    ------
    TypeError
        If `value` is no tensor, or not of a real floating-point dtype.
    ValueError
        If its rank is another.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must have a real floating-point dtype, got {value.dtype}")
    if exactly is not None and value.dim() != exactly:
        words = f"{exactly} dimension{'s' * (exactly != 1)}"
        raise ValueError(f"{name} must have {words}, got shape {shape_of(value)}")
    if value.dim() < at_least:
        words = f"at least {at_least} dimension{'s' * (at_least != 1)}"
        raise ValueError(f"{name} must have {words}, got shape {shape_of(value)}")
    return value


def same_kind(**tensors: Tensor) -> None:
    """Demand one dtype and one device for all the named tensors.

    Raises
    ------
    TypeError
        If two dtypes differ; nothing is promoted silently.
    ValueError
        If two devices differ.
    """
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.dtype != reference.dtype:
            raise TypeError(
                f"{name} must have the dtype of {first}, {reference.dtype}, got {tensor.dtype}"
            )
        if tensor.device != reference.device:
            raise ValueError(
                f"{name} must be on the device of {first}, {reference.device}, got {tensor.device}"
            )


def attention_inputs(q: object, k: object, v: object) -> tuple[Tensor, Tensor, Tensor]:
    """Check queries ``(..., N, D)``, keys ``(..., S, D)`` and values ``(..., S, M)``; return them.

    The leading dimensions must be equal: nothing is broadcast. A sequence without keys (``S = 0``)
    has no average and is refused, and so is ``D = 0``.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor, or mixed dtypes.
    ValueError
        For a wrong rank, shapes that do not fit, or mixed devices.
    """
    query = floating("q", q, at_least=2)
    key = floating("k", k, at_least=2)
    value = floating("v", v, at_least=2)
    same_kind(q=query, k=key, v=value)
    if key.shape[:-2] != query.shape[:-2]:
        raise ValueError(
            f"k must have the leading dimensions of q, {tuple(query.shape[:-2])}, "
            f"got shape {shape_of(key)}"
        )
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"k must have the size of q, D = {query.shape[-1]}, got shape {shape_of(key)}"
        )
    if value.shape[:-1] != key.shape[:-1]:
        rows = tuple(key.shape[:-1])
        raise ValueError(f"v must have one row for each key, {rows}, got shape {shape_of(value)}")
    if key.shape[-2] == 0:
        raise ValueError(f"k must hold at least one key, got shape {shape_of(key)}")
    if key.shape[-1] == 0:
        raise ValueError(f"q must have a size of at least 1, got shape {shape_of(query)}")
    return query, key, value


def positive(name: str, value: object) -> float:
    """Demand a finite number above zero, and return it as a float.

    Raises
    ------
    TypeError
        If `value` is no real number (a bool is none).
    ValueError
        If it is zero, negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be positive and finite, got {number}")
    return number


def integer(name: str, value: object, *, at_least: int) -> int:
    """Demand a whole number of at least `at_least`, and return it as an int.

    Raises
    ------
    TypeError
        If `value` is no integer (a bool is none).
    ValueError
        If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = int(value)
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def finite(name: str, tensor: Tensor) -> None:
    """Demand finite values, unless :func:`value_checks` switched such checks off.

    Raises
    ------
    ValueError
        If an element is NaN or infinite; the error counts them.
    """
    if not values_are_checked():
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{name} must be finite, but {bad} of {tensor.numel()} elements are not")


def flag(name: str, value: object) -> bool:
    """Demand True or False, and return it.

    Raises
    ------
    TypeError
        If `value` is anything else, 0 and 1 included.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def random_generator(name: str, value: object) -> torch.Generator:
    """Demand a source of random numbers, and return it.

    Raises
    ------
    TypeError
        If `value` is no :class:`torch.Generator`.
    """
    if not isinstance(value, torch.Generator):
        raise TypeError(f"{name} must be a torch.Generator, got {type(value).__name__}")
    return value


def floating_dtype(name: str, value: object) -> torch.dtype:
    """Demand a real floating-point dtype, and return it.

    Raises
    ------
    TypeError
        If `value` is no dtype, or that of integers or complex numbers.
    """
    if not (isinstance(value, torch.dtype) and value.is_floating_point):
        raise TypeError(f"{name} must be a real floating-point torch.dtype, got {value!r}")
    return value


def score_rows(scores: object) -> Tensor:
    """Check rows of scores ``(..., N)``, of which -inf hides a key; return them.

    Raises
    ------
    TypeError
        For something that is no floating-point tensor.
    ValueError
        For rows without a key, or (see :func:`value_checks`) NaN, +inf, or a row of -inf alone.
    """
    rows = floating("scores", scores)
    if rows.shape[-1] == 0:
        raise ValueError(f"scores must hold at least one key, got shape {shape_of(rows)}")
    if values_are_checked():
        if bool((rows.isnan() | rows.isposinf()).any()):
            raise ValueError("scores must be finite or -inf, but some are NaN or +inf")
        if bool(rows.isneginf().all(-1).any()):
            raise ValueError("scores must leave each row a key, but a whole row is -inf")
    return rows


def widened(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 at least: 16-bit numbers are too coarse to add up in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
