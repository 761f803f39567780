"""Costs, counted while the code runs: operations, bytes saved for backward, bytes alive at once.

A formula for a cost is a claim like any other. These counters run the code itself and look at every
operation that reaches torch's dispatcher: in place or not, batched or not, forward or backward,
inside ``einsum`` or a fused kernel. An operation without a rule raises, for a silent zero is how
counters lie (torch's own :class:`torch.utils.flop_counter.FlopCounterMode` passes over in-place
products, cumulative sums and fused attention on a CPU).

Three totals are kept apart (:class:`Cost`), because they are paid for differently:

``multiply_adds``
    Terms of products and convolutions: ``(n, k) @ (k, m)`` has ``n k m``, whatever the algorithm.
``elementwise``
    Every other arithmetic operation or comparison on one number. A sum of n numbers takes n, so do
    a maximum and a cumulative sum; a broadcast product takes one for each element of its result.
``transcendental``
    Evaluations of exp, log, sin, sqrt and the like, one for each element, and nothing else.

A softmax over n numbers takes 4n elementwise operations (maximum, subtraction, sum, division) and n
exponentials. Fused attention counts what its definition needs, for each pair of query and key
that its causal rule lets through: ``D + M`` multiply-adds, a scaling, and the softmax. Views,
copies, conversions, fills, gathers and random draws count as nothing; they move bytes.
"""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves

__all__ = [
    "Cost",
    "OperationCounter",
    "UncountedOperationError",
    "cost_of",
    "count_operations",
    "peak_bytes",
    "saved_bytes",
]


@dataclass(frozen=True)
class Cost:
    """Three totals of operations; costs add, and multiply by whole numbers.

    Attributes
    ----------
    multiply_adds
        Multiply-adds of products and convolutions, what papers print.
    elementwise
        Other arithmetic operations and comparisons.
    transcendental
        Evaluations of exp, log, sin, cos, sqrt, tanh and the like.

    Examples
    --------
    >>> 2 * Cost(multiply_adds=6) + Cost(elementwise=3)
    Cost(multiply_adds=12, elementwise=3, transcendental=0)
    """

    multiply_adds: int = 0
    elementwise: int = 0
    transcendental: int = 0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def __mul__(self, times: object) -> Cost:
        if isinstance(times, bool) or not isinstance(times, int):
            return NotImplemented
        return Cost(*(times * part for part in self))

    __rmul__ = __mul__

    def __iter__(self) -> Iterator[int]:
        return iter((self.multiply_adds, self.elementwise, self.transcendental))


class UncountedOperationError(NotImplementedError):
    """An operation ran for which there is no rule, so the total would be wrong."""


Rule = Callable[[tuple[Any, ...], dict[str, Any], Any], Cost]
RULES: dict[str, Rule] = {}
#: Operations that read only the elements they select, and write only those they are given.
GATHERS = {"index", "index_select", "gather", "embedding", "masked_select", "take"}
SCATTERS = {"index_put", "index_copy", "scatter", "_unsafe_index_put", "_index_put_impl"}
#: Operations that overwrite their first argument without reading it.
OVERWRITES = {"copy", "fill", "zero", "normal", "uniform", "bernoulli", "exponential", "random"}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _elements(out: Any) -> int:
    """How many elements the first tensor of a result has."""
    tensor = out if isinstance(out, Tensor) else next(x for x in out if isinstance(x, Tensor))
    return tensor.numel()


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, other: Any) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, other)


# What moves or makes numbers and computes none. Views are found by their schema, not listed here.
_FREE = """
    _to_copy _unsafe_view _reshape_copy alias_copy arange bernoulli cat clone constant_pad_nd copy
    diag_embed empty empty_like empty_permuted empty_strided exponential eye fill flip full
    full_like gather embedding index index_copy index_select lift_fresh linspace _local_scalar_dense
    masked_select multinomial new_empty new_empty_strided new_full new_ones new_zeros nonzero
    normal ones ones_like rand rand_like randint randn randn_like random randperm repeat resize roll
    scalar_tensor scatter select_backward select_scatter set slice_backward slice_scatter split_copy
    stack tril tril_indices triu triu_indices uniform zero zeros zeros_like _fused_sdp_choice
    diagonal_backward unfold_backward take fill_diagonal _sparse_coo_tensor_unsafe
    profiler::_record_function_enter_new profiler::_record_function_exit
"""
#: Views in place: they change the tensor's description and move nothing.
_RESHAPED = {"as_strided", "detach", "squeeze", "t", "transpose", "unsqueeze"}


@_rule(*_FREE.split(), *_RESHAPED)
def _nothing(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost()


_ONE_EACH = """
    abs add sub rsub mul div neg maximum minimum clamp clamp_min clamp_max where eq ne lt le gt ge
    logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
    __and__ __or__ __xor__ __lshift__ __rshift__
    relu threshold threshold_backward sign sgn floor ceil
    round trunc fmod remainder reciprocal isnan isinf masked_fill floor_divide fmax fmin square
    heaviside copysign hardtanh signbit nan_to_num frac isposinf isneginf
"""


@_rule(*_ONE_EACH.split())
def _one_each(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=_elements(out))


def _is_scaled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # `add(x, y, alpha=2)` multiplies as well.
    return bool(kwargs.get("alpha", 1) != 1)


@_rule("add", "sub", "rsub")
def _sum_of_two(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=(1 + _is_scaled(args, kwargs)) * _elements(out))


@_rule("addcmul", "addcdiv", "leaky_relu", "leaky_relu_backward")
def _two_each(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=(2 + (kwargs.get("value", 1) != 1)) * _elements(out))


@_rule("lerp", "tanh_backward", "sigmoid_backward")
def _three_each(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=3 * _elements(out))


_FUNCTIONS = """
    exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
    sigmoid erf erfc erfinv lgamma digamma sqrt rsqrt atan2 special_ndtri special_log_ndtr
    special_i0 special_i0e special_i1 special_i1e special_erfcx special_entr
    special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
"""


@_rule(*_FUNCTIONS.split())
def _function(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(transcendental=_elements(out))


@_rule("pow", "float_power")
def _power(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    exponent = _argument(args, kwargs, 1, "exponent", None)
    n = _elements(out)
    if isinstance(exponent, (int, float)) and exponent in (0, 1):
        return Cost()
    if isinstance(exponent, (int, float)) and exponent in (-1, 2, 3):
        return Cost(elementwise=(2 if exponent == 3 else 1) * n)
    return Cost(transcendental=n)


# Activations: the function they evaluate, and the arithmetic around it.
_AROUND = {
    "silu": 1, "gelu": 4, "elu": 2, "celu": 3, "softplus": 3, "log_sigmoid_forward": 3, "mish": 2,
    "logaddexp": 4, "hypot": 3, "elu_backward": 3, "softplus_backward": 4, "silu_backward": 5,
    "gelu_backward": 9, "log_sigmoid_backward": 4,
}  # fmt: skip
_TWO_FUNCTIONS = {"log_sigmoid_forward", "mish", "logaddexp", "gelu_backward"}


def _activation(name: str) -> Rule:
    functions = 2 if name in _TWO_FUNCTIONS else 1

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        n = _elements(out)
        return Cost(elementwise=_AROUND[name] * n, transcendental=functions * n)

    return rule


RULES.update({name: _activation(name) for name in _AROUND})

# --- reductions and cumulative operations: one for each element read --------------------------

_ONE_READ = """
    sum nansum prod amax amin max min argmax argmin any all cumsum cumprod cummax cummin aminmax
    equal
"""


@_rule(*_ONE_READ.split())
def _one_for_each_read(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    two = len(args) > 1 and isinstance(args[1], Tensor)  # max(x, y) of two tensors
    return Cost(elementwise=_elements(out) if two and not isinstance(out, bool) else _read(args))


def _read(args: tuple[Any, ...]) -> int:
    return int(args[0].numel())


@_rule("mean")
def _mean(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=_read(args) + _elements(out))


@_rule("var", "std", "var_mean", "std_mean")
def _variance(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Sum and divide for the mean; subtract, square and sum, and divide.
    results = _elements(out)
    return Cost(elementwise=4 * _read(args) + 2 * results)


@_rule("std", "std_mean")
def _deviation(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return _variance(args, kwargs, out) + Cost(transcendental=_elements(out))


@_rule("logsumexp")
def _logsumexp(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Maximum, subtraction, exponential and sum of each; logarithm and addition of each result.
    n, results = _read(args), _elements(out)
    return Cost(elementwise=3 * n + results, transcendental=n + results)


@_rule("logcumsumexp")
def _logcumsumexp(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # One logaddexp a step: maximum, difference, addition twice; exp and log1p.
    n = _read(args)
    return Cost(elementwise=4 * n, transcendental=2 * n)


@_rule("linalg_vector_norm", "norm")
def _norm(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    order = _argument(args, kwargs, 1, "ord", 2)
    if order in (2, 2.0, None):
        return Cost(multiply_adds=_read(args), transcendental=_elements(out))
    if order in (0, 1, float("inf"), float("-inf")):
        return Cost(elementwise=2 * _read(args))
    n = _read(args)
    return Cost(elementwise=2 * n, transcendental=n + _elements(out))


def _sorting(at: int, otherwise: int | None) -> Rule:
    """Comparisons of a merge sort along the sorted dimension, n ceil(log2 n); None sorts all."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        dim = _argument(args, kwargs, at, "dim", otherwise)
        n = 1 if args[0].dim() == 0 else args[0].numel() if dim is None else args[0].shape[dim]
        return Cost(elementwise=_read(args) * ceil(log2(max(n, 1))))

    return rule


RULES.update({name: _sorting(1, -1) for name in ("sort", "argsort", "unique_dim")})
RULES.update({name: _sorting(2, -1) for name in ("topk", "kthvalue")})
RULES["median"] = _sorting(1, None)
RULES["_unique2"] = _sorting(9, None)  # it has no dimension


def _searching(at: int) -> Rule:
    """Comparisons of a binary search in the argument at this place."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        return Cost(elementwise=_elements(out) * max(1, ceil(log2(args[at].shape[-1] + 1))))

    return rule


RULES["searchsorted"], RULES["bucketize"] = _searching(0), _searching(1)


@_rule("index_add", "scatter_add", "index_put", "_index_put_impl", "_unsafe_index_put")
def _scatter(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # index_put(self, indices, values, accumulate); the others always add.
    puts = len(args) > 1 and isinstance(args[1], (list, tuple))
    if puts:
        added = bool(_argument(args, kwargs, 3, "accumulate", False))
        return Cost(elementwise=args[2].numel() if added else 0)
    return Cost(elementwise=(1 + _is_scaled(args, kwargs)) * args[3].numel())


@_rule("scatter")
def _scatter_or_reduce(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # scatter(self, dim, index, value, reduce="add" or "multiply") computes; without reduce not.
    return Cost(elementwise=args[2].numel() if "reduce" in kwargs else 0)


@_rule("nll_loss_forward", "nll_loss2d_forward")
def _nll_loss(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # self, target, weight, reduction (0 none, 1 mean, 2 sum): a sign each, a sum, a division.
    n, reduction = args[1].numel(), args[3]
    each = 1 + isinstance(args[2], Tensor)  # a weight is multiplied, and summed
    return Cost(elementwise=each * (1 + (reduction > 0)) * n + (reduction == 1))


@_rule("nll_loss_backward", "nll_loss2d_backward")
def _nll_loss_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # grad_output, self, target, weight, reduction: a sign, a weight and a division each.
    weighted = isinstance(args[3], Tensor)
    return Cost(elementwise=(1 + weighted + (args[4] == 1)) * args[2].numel())


@_rule("embedding_dense_backward")
def _embedding_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(elementwise=args[0].numel())


# --- softmax and normalisation ----------------------------------------------------------------


@_rule("_softmax", "_safe_softmax")
def _softmax(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n = _read(args)
    return Cost(elementwise=4 * n, transcendental=n)


@_rule("_softmax_backward_data")
def _softmax_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # y (g - sum(y g)): two products, a sum, a difference.
    return Cost(elementwise=4 * _read(args))


@_rule("_log_softmax")
def _log_softmax(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n, dim = _read(args), _argument(args, kwargs, 1, "dim", -1)
    rows = n // max(1, args[0].shape[dim] if args[0].dim() else 1)
    return Cost(elementwise=4 * n, transcendental=n + rows)


@_rule("_log_softmax_backward_data")
def _log_softmax_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n = _read(args)
    return Cost(elementwise=3 * n, transcendental=n)


@_rule("native_layer_norm")
def _layer_norm(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Mean; subtract, square, sum; scale; then the weight and the bias, where they are.
    n, rows = _read(args), out[1].numel()
    affine = sum(isinstance(x, Tensor) for x in args[2:4])
    return Cost(elementwise=(5 + affine) * n + 3 * rows, transcendental=rows)


@_rule("_native_batch_norm_legit", "native_batch_norm", "cudnn_batch_norm")
def _batch_norm(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Mean; subtract, square, sum; scale; then the weight and the bias, where they are; and two
    # running statistics, three operations each, the variance with a correction.
    names = ("weight", "bias", "running_mean", "running_var", "training")
    found = [_argument(args, kwargs, at, name, None) for at, name in enumerate(names, 1)]
    if isinstance(found[2], bool):  # the form without running statistics has `training` there
        found = [*found[:2], None, None, found[2]]
    if not found[4]:
        return _batch_norm_in_use(args, kwargs, out)
    n, channels = _elements(out), int(args[0].shape[1])
    affine, kept = (sum(isinstance(x, Tensor) for x in part) for part in (found[:2], found[2:4]))
    return Cost(0, (5 + affine) * n + (3 + 3 * kept + (kept > 1)) * channels, channels)


@_rule("_native_batch_norm_legit_no_training")
def _batch_norm_in_use(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Subtract and scale; the weight and the bias; one root for each channel.
    n, channels = _elements(out), int(args[0].shape[1])
    affine = sum(isinstance(x, Tensor) for x in args[1:3])
    return Cost(elementwise=(2 + affine) * n + channels, transcendental=channels)


# --- pooling ----------------------------------------------------------------------------------


def _window(args: tuple[Any, ...], dimensions: int) -> int:
    """Elements of a pooling window; where one side is given, the others are equal to it."""
    sides = [int(side) for side in args[1]]
    return prod(sides if len(sides) > 1 else sides * dimensions)


def _max_pool(dimensions: int) -> Rule:
    """A comparison for each element of each window, those in the padding included."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        return Cost(elementwise=_window(args, dimensions) * _elements(out))

    return rule


def _average_pool(dimensions: int) -> Rule:
    """A sum over each window, those in the padding included, and a division."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        return Cost(elementwise=(_window(args, dimensions) + 1) * _elements(out))

    return rule


RULES.update({f"max_pool{d}d_with_indices": _max_pool(d) for d in (2, 3)})
RULES.update({f"avg_pool{d}d": _average_pool(d) for d in (2, 3)})


@_rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive_pool(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Windows that may overlap: of n to m, window i runs from floor(i n / m) to ceil((i + 1) n / m).
    sides = len(args[1])
    read = prod(out.shape[:-sides])
    for n, m in zip(args[0].shape[-sides:], out.shape[-sides:], strict=True):
        read *= sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))
    return Cost(elementwise=int(read) + _elements(out))


# --- products ---------------------------------------------------------------------------------


@_rule("mm", "bmm", "mv", "dot", "vdot")
def _product(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    return Cost(multiply_adds=_elements(out) * int(args[0].shape[-1]))


@_rule("addmm", "baddbmm", "addmv")
def _added_product(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n = _elements(out)
    return Cost(n * int(args[1].shape[-1]), _around_product(kwargs) * n)


def _around_product(kwargs: dict[str, Any]) -> int:
    """Operations on each element around ``beta * input + alpha * product``."""
    beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
    return int(beta != 0) + int(beta not in (0, 1)) + int(alpha != 1)


@_rule("addbmm")
def _added_products(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n, (batch, _, k) = _elements(out), args[1].shape
    return Cost(n * int(batch * k), _around_product(kwargs) * n)


@_rule("addr", "ger")
def _outer(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    n = _elements(out)
    added = len(args) == 3
    return Cost(n, _around_product(kwargs) * n if added else 0)


@_rule("_cdist_forward")
def _distances(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # A norm of each pair's difference.
    pairs, size, order = _elements(out), int(args[0].shape[-1]), args[2]
    if order == 2:
        return Cost(pairs * size, pairs * size, pairs)
    if order in (0, 1, float("inf")):
        return Cost(elementwise=3 * pairs * size)
    return Cost(0, 3 * pairs * size, pairs * (size + 1))


@_rule("convolution", "_convolution")
def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    x, weight, bias = args[0], args[1], _argument(args, kwargs, 2, "bias", None)
    transposed = bool(_argument(args, kwargs, 6, "transposed", False))
    added = _elements(out) if isinstance(bias, Tensor) else 0
    return Cost(_convolution_terms(x, weight, out, transposed), added)


def _convolution_terms(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    # Each output sums over its inputs; a transposed one spreads each input over its outputs.
    # Terms that fall into the padding are counted, as the kernels compute them.
    return int((x if transposed else out).numel() * prod(weight.shape[1:]))


@_rule("convolution_backward")
def _convolution_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    grad, x, weight = args[:3]
    transposed, mask = bool(args[7]), args[10]
    terms = _convolution_terms(x, weight, grad, transposed)
    return Cost((bool(mask[0]) + bool(mask[1])) * terms, bool(mask[2]) * grad.numel())


# --- fused attention --------------------------------------------------------------------------

_FUSED = """
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable
"""


def _pairs(q: Tensor, k: Tensor, causal: bool) -> int:
    """Pairs of a query and a key that see each other; causal is aligned at the top left."""
    n, s = int(q.shape[-2]), int(k.shape[-2])
    rows = int(prod(q.shape[:-2]))
    seen = n * s
    if causal:
        m = min(n, s)
        seen = m * (m + 1) // 2 + (n - m) * s
    return rows * seen


def _is_causal(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], shift: int = 0) -> bool:
    # The kernels put is_causal at different places.
    place = {"efficient": 6, "cudnn": 6, "overrideable": 5}
    at = next((i for word, i in place.items() if word in name), 4)
    return bool(_argument(args, kwargs, at + shift, "is_causal", False))


def _fused(name: str) -> Rule:
    def rule(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
        q, k, v = args[:3]
        pairs = _pairs(q, k, _is_causal(name, args, kwargs))
        masked = any(isinstance(x, Tensor) for x in [*args[3:], *kwargs.values()])
        per_pair = 5 + masked
        return Cost(pairs * int(q.shape[-1] + v.shape[-1]), per_pair * pairs, pairs)

    return rule


RULES.update({name: _fused(name) for name in _FUSED.split()})


@_rule("_scaled_dot_product_flash_attention_for_cpu_backward")
def _fused_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    # Scores again, then the gradients of values, weights, queries and keys; the softmax again, and
    # its Jacobian.
    q, k, v, result = args[1], args[2], args[3], args[4]
    pairs = _pairs(q, k, bool(_argument(args, kwargs, 7, "is_causal", False)))
    terms = pairs * int(3 * q.shape[-1] + 2 * v.shape[-1]) + result.numel()
    masked = any(isinstance(x, Tensor) for x in [*args[8:], *kwargs.values()])
    return Cost(terms, (5 + masked) * pairs, pairs)


# --- the counter ------------------------------------------------------------------------------


def _name_of(func: Any) -> str:
    """``aten::baddbmm_`` and ``aten::bmm.out`` by the names of their rules.

    Other libraries keep their prefix: an operation of theirs called ``copy`` need not be one.
    """
    name: str = func._schema.name.removeprefix("aten::")
    in_place = name.endswith("_") and not name.endswith("__")
    return name[:-1] if in_place else name


def _touched(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements: an expanded dimension is stored once."""
    if tensor.layout != torch.strided:
        return 0
    shape, strides = tensor.shape, tensor.stride()
    return int(tensor.element_size() * prod(n for n, s in zip(shape, strides, strict=True) if s))


def _traffic(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    """Bytes that an operation reads and writes, each tensor once."""
    name = _name_of(func)
    tensors = {id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
    results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
    changed: dict[int, Tensor] = {}
    outs: set[int] = set()
    for at, argument in enumerate(func._schema.arguments):
        value = args[at] if at < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found = [x for x in tree_leaves(value) if isinstance(x, Tensor)]
            changed.update({id(x): x for x in found})
            if argument.is_out or (at == 0 and name in OVERWRITES | SCATTERS):
                outs.update(map(id, found))
    written = {id(x): x for x in results} | changed
    if name in GATHERS:
        chosen = sum(map(_touched, results))
        others = [x for key, x in tensors.items() if x is not args[0]]
        return chosen + sum(map(_touched, others)), chosen
    read = sum(_touched(x) for key, x in tensors.items() if key not in outs)
    if name in SCATTERS and changed:
        sources = [x for x in tensors.values() if x is not args[0] and x.dtype == args[0].dtype]
        return read, sum(map(_touched, sources))
    return read, sum(map(_touched, written.values()))


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operation that torch runs inside its ``with`` block.

    Use :func:`count_operations` to make one.

    Attributes
    ----------
    by_operation
        Name of the operation, as torch's dispatcher has it, to its :class:`Cost`.
    calls
        Name of the operation to the number of its calls, free ones included.
    unknown
        Operations without a rule, with their calls; always empty with ``unknown="raise"``.
    bytes_read, bytes_written
        Bytes of the tensors that the operations read and wrote, as if each operation fetched its
        arguments from memory and stored its results there. Views move nothing.
    """

    def __init__(self, unknown: Literal["raise", "list"] = "raise") -> None:
        if unknown not in ("raise", "list"):
            raise ValueError(f"unknown must be 'raise' or 'list', got {unknown!r}")
        super().__init__()  # type: ignore[no-untyped-call]
        self._raises = unknown == "raise"
        self.by_operation: dict[str, Cost] = defaultdict(Cost)
        self.calls: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.bytes_read = 0
        self.bytes_written = 0

    @property
    def total(self) -> Cost:
        """The sum over all operations."""
        return sum(self.by_operation.values(), Cost())

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self in _get_current_dispatch_mode_stack():
            return func(*args, **kwargs)  # entered twice: the outer block counts it
        name = _name_of(func)
        if name not in RULES:
            # Some settings (inference mode is one) hand over operations that are made of others.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            if self._raises and not func.is_view:
                raise UncountedOperationError(
                    f"torch ran {func}, for which dlchecked.counting has no rule; "
                    "count_operations(unknown='list') lists such operations instead"
                )
        out = func(*args, **kwargs)
        self._enter(func, name, args, kwargs, out)
        return out

    def _enter(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if func.is_view or name in ("lift_fresh", "_unsafe_view") or name in _RESHAPED:
            return
        self.calls[name] += 1
        if name not in RULES:
            self.unknown[name] += 1
            return
        cost = RULES[name](args, kwargs, out)
        if any(cost):
            self.by_operation[name] += cost
        if name.startswith(("empty", "new_empty", "_fused_sdp_choice", "set", "resize")):
            return
        read, written = _traffic(func, args, kwargs, out)
        self.bytes_read += read
        self.bytes_written += written


def count_operations(*, unknown: Literal["raise", "list"] = "raise") -> OperationCounter:
    """Count the operations that torch runs inside a ``with`` block.

    Parameters
    ----------
    unknown
        What to do with an operation that has no rule: ``"raise"``, or ``"list"`` it in the
        counter's ``unknown`` and go on.

    Returns
    -------
    OperationCounter
        A context manager with the totals. Its block may be entered again: counts add up.

    Raises
    ------
    UncountedOperationError
        From inside the block, for an operation without a rule.
    ValueError
        If `unknown` is another word.

    Examples
    --------
    >>> import torch
    >>> with count_operations() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5) + 1
    >>> counter.total
    Cost(multiply_adds=30, elementwise=10, transcendental=0)
    """
    return OperationCounter(unknown)


def cost_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Run ``function(*args, **kwargs)`` once and count its operations.

    Returns
    -------
    Cost
        The three totals. To count a backward pass, let the function run it.

    Raises
    ------
    TypeError
        If `function` cannot be called.
    UncountedOperationError
        If it runs an operation without a rule.

    Examples
    --------
    >>> import torch
    >>> cost_of(torch.softmax, torch.zeros(2, 8), dim=-1)
    Cost(multiply_adds=0, elementwise=64, transcendental=16)
    """
    _demand_callable(function)
    counter = count_operations()
    with counter:
        function(*args, **kwargs)
    return counter.total


def saved_bytes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Run ``function(*args, **kwargs)`` once and count the bytes autograd keeps for backward.

    A storage counts once and whole, however many operations save it or a view of it, and whether it
    belongs to an argument or was made on the way. What an operation keeps beside torch's own
    mechanism, such as a tensor put on a ``ctx`` as an attribute, is not seen.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError
        If `function` cannot be called.
    ValueError
        If nothing that it returns requires a gradient: then nothing is kept, and a zero would
        only say that ``requires_grad`` was forgotten.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(10, requires_grad=True)
    >>> saved_bytes(torch.exp, x)  # its result, 10 float32
    40
    """
    _demand_callable(function)
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no address is given out twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = function(*args, **kwargs)
    if not any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(out)):
        raise ValueError("function must return a tensor that requires a gradient")
    return sum(storage.nbytes() for storage in kept.values())


class _MemoryMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that are made inside its block until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}
        self.alive = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # What comes in unseen was there before, but for the numbers of `torch.tensor(numbers)`.
        if _name_of(func) != "lift_fresh":
            for storage in _storages((args, kwargs)):
                self._follow(storage, made=False)
        out = func(*args, **kwargs)
        # An argument may have grown: torch resizes an empty `out=`.
        for storage in _storages((args, kwargs, out)):
            self._follow(storage, made=True)
        return out

    def _follow(self, storage: Any, *, made: bool) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:

            def freed(_: Any) -> None:
                self._known.pop(key, None)
                self.alive -= self._sizes.pop(key, 0)

            self._known[key] = weakref.ref(storage, freed)
            if made:
                self._sizes[key] = 0
        if key in self._sizes:
            self.alive += size - self._sizes[key]
            self._sizes[key] = size
            self.peak = max(self.peak, self.alive)


def _storages(tree: Any) -> list[Any]:
    """The memory of all tensors in a tree."""
    leaves = (x for x in tree_leaves(tree) if isinstance(x, Tensor))
    return [x.untyped_storage() for x in leaves if x.layout == torch.strided]


def peak_bytes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Run ``function(*args, **kwargs)`` once and find the most bytes alive at once.

    Counted are the storages of tensors made inside, the result's and the gradients' included, and
    those that were there before not. It is a count and no measurement: the same on every machine.
    What a single operation allocates for itself and frees again is not seen.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError
        If `function` cannot be called.

    Examples
    --------
    >>> import torch
    >>> peak_bytes(lambda x: x.exp().sum(), torch.ones(1000))  # 1000 float32, then one more
    4004
    """
    _demand_callable(function)
    meter = _MemoryMeter()
    with meter:
        out = function(*args, **kwargs)
    del out
    return meter.peak


def _demand_callable(function: object) -> None:
    if not callable(function):
        raise TypeError(f"function must be callable, got {type(function).__name__}")
