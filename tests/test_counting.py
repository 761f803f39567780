"""Counts against counts made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dlchecked.counting import (
    RULES,
    Cost,
    UncountedOperationError,
    cost_of,
    count_operations,
    peak_bytes,
    saved_bytes,
)


def t(*shape: int) -> Tensor:
    # Away from 0, where some functions have no value; a draw counts as nothing.
    return torch.empty(shape).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))


A, B, X, Y = t(2, 3), t(3, 5), t(4, 2, 3), t(4, 3, 5)
Q, K, V = t(1, 2, 6, 3), t(1, 2, 4, 3), t(1, 2, 4, 3)
N = 2 * 6 * 4  # pairs of a query and a key in two heads

#: What runs; multiply-adds, elementwise operations and evaluations, counted by hand.
BY_HAND = {
    # products: rows x columns x terms
    "mm": (lambda: A @ B, (2 * 5 * 3, 0, 0)),
    "mm.out": (lambda: torch.mm(A, B, out=torch.empty(2, 5)), (30, 0, 0)),
    "bmm": (lambda: X @ Y, (4 * 2 * 5 * 3, 0, 0)),
    "matmul broadcast over a batch": (lambda: X @ B, (4 * 2 * 5 * 3, 0, 0)),
    "mv": (lambda: A @ t(3), (6, 0, 0)),
    "dot": (lambda: t(7) @ t(7), (7, 0, 0)),
    "linear with a bias": (lambda: functional.linear(A, B.T, t(5)), (30, 10, 0)),
    "addmm": (lambda: torch.addmm(t(2, 5), A, B), (30, 10, 0)),
    "addmm scaled": (lambda: torch.addmm(t(2, 5), A, B, beta=0.5, alpha=2), (30, 30, 0)),
    "addmm onto nothing": (lambda: torch.addmm(t(2, 5), A, B, beta=0), (30, 0, 0)),
    "baddbmm": (lambda: torch.baddbmm(t(4, 2, 5), X, Y), (120, 40, 0)),
    "baddbmm in place": (lambda: t(4, 2, 5).baddbmm_(X, Y), (120, 40, 0)),
    "addbmm in place": (lambda: t(2, 5).addbmm_(X, Y), (120, 10, 0)),
    "addmv": (lambda: torch.addmv(t(2), A, t(3)), (6, 2, 0)),
    "addr": (lambda: torch.addr(t(2, 3), t(2), t(3)), (6, 6, 0)),
    "einsum of two": (lambda: torch.einsum("bij,bjk->bik", X, Y), (120, 0, 0)),
    "einsum, an outer product": (lambda: torch.einsum("i,j->ij", t(3), t(5)), (0, 15, 0)),
    "einsum summing a batch": (lambda: torch.einsum("bij,bjk->ik", X, Y), (120, 0, 0)),
    "outer": (lambda: torch.outer(t(3), t(5)), (0, 15, 0)),
    "outer by broadcasting": (lambda: t(3, 1) * t(1, 5), (0, 15, 0)),
    "conv1d with a bias": (
        lambda: functional.conv1d(t(2, 3, 9), t(5, 3, 4), t(5)),
        (2 * 5 * 6 * 12, 60, 0),
    ),
    "conv2d in groups": (
        lambda: functional.conv2d(t(1, 4, 5, 5), t(6, 2, 3, 3), groups=2),
        (54 * 18, 0, 0),
    ),
    "conv transposed": (
        lambda: functional.conv_transpose1d(t(2, 3, 4), t(3, 5, 2)),
        (2 * 3 * 4 * 10, 0, 0),
    ),
    "cdist": (
        lambda: torch.cdist(A, t(4, 3), compute_mode="donot_use_mm_for_euclid_dist"),
        (24, 24, 8),
    ),
    "cdist, sums of absolute values": (lambda: torch.cdist(A, t(4, 3), p=1), (0, 3 * 24, 0)),
    # one operation for each element of the result
    "add": (lambda: A + A, (0, 6, 0)),
    "add in place": (lambda: t(6).add_(1), (0, 6, 0)),
    "add scaled": (lambda: torch.add(A, A, alpha=2), (0, 12, 0)),
    "sub broadcast": (lambda: A - t(2, 1), (0, 6, 0)),
    "one minus": (lambda: 1 - A, (0, 6, 0)),
    "mul": (lambda: A * 2, (0, 6, 0)),
    "div in place": (lambda: t(6).div_(2), (0, 6, 0)),
    "square": (lambda: A**2, (0, 6, 0)),
    "maximum": (lambda: torch.maximum(A, A), (0, 6, 0)),
    "where": (lambda: torch.where(A > 1, A, 0.0), (0, 12, 0)),
    "relu": (lambda: A.relu(), (0, 6, 0)),
    "masked_fill": (lambda: A.masked_fill(A > 1, 0.0), (0, 12, 0)),
    "clamp": (lambda: A.clamp(min=0.7), (0, 6, 0)),
    "addcmul": (lambda: torch.addcmul(A, A, A), (0, 12, 0)),
    # one for each element read
    "sum": (lambda: A.sum(), (0, 6, 0)),
    "sum over a dimension": (lambda: X.sum(dim=1), (0, 24, 0)),
    "mean": (lambda: X.mean(dim=-1), (0, 24 + 8, 0)),
    "amax": (lambda: X.amax(dim=-1), (0, 24, 0)),
    "max over a dimension": (lambda: X.max(dim=-1), (0, 24, 0)),
    "argmax": (lambda: X.argmax(dim=-1), (0, 24, 0)),
    "cumsum": (lambda: X.cumsum(dim=1), (0, 24, 0)),
    "cumsum in place": (lambda: X.clone().cumsum_(dim=1), (0, 24, 0)),
    "cummax": (lambda: X.cummax(dim=1), (0, 24, 0)),
    "logsumexp": (lambda: X.logsumexp(dim=-1), (0, 3 * 24 + 8, 24 + 8)),
    "vector norm": (lambda: torch.linalg.vector_norm(X, dim=-1), (24, 0, 8)),
    "count of what is not zero": (lambda: torch.linalg.vector_norm(A, 0), (0, 12, 0)),
    "sort": (lambda: t(2, 8).sort(), (0, 16 * 3, 0)),
    "sort of columns": (lambda: t(8, 2).sort(dim=0), (0, 16 * 3, 0)),
    "stable sort of columns": (lambda: t(8, 2).sort(dim=0, stable=True), (0, 16 * 3, 0)),
    "topk of columns": (lambda: t(8, 2).topk(2, dim=0), (0, 16 * 3, 0)),
    "median of all": (lambda: t(8, 2).median(), (0, 16 * 4, 0)),
    "unique of all": (lambda: t(8, 2).unique(), (0, 16 * 4, 0)),
    "searchsorted": (lambda: torch.searchsorted(torch.arange(3.0), t(10)), (0, 10 * 2, 0)),
    "bucketize": (lambda: torch.bucketize(t(10), torch.arange(3.0)), (0, 10 * 2, 0)),
    "cross entropy": (
        # log_softmax of 2 rows of 3; two signs, a sum of two, a division
        lambda: functional.cross_entropy(A, torch.tensor([0, 2])),
        (0, 24 + 2 + 2 + 1, 8),
    ),
    # evaluations
    "exp": (lambda: A.exp(), (0, 0, 6)),
    "exp in place": (lambda: t(6).exp_(), (0, 0, 6)),
    "sin and cos": (lambda: (A.sin(), A.cos()), (0, 0, 12)),
    "log": (lambda: A.log(), (0, 0, 6)),
    "sqrt": (lambda: A.sqrt(), (0, 0, 6)),
    "a power that is no square": (lambda: A**1.5, (0, 0, 6)),
    "tanh": (lambda: A.tanh(), (0, 0, 6)),
    "silu": (lambda: functional.silu(A), (0, 6, 6)),
    "softmax": (lambda: A.softmax(-1), (0, 24, 6)),
    "log_softmax": (lambda: A.log_softmax(-1), (0, 24, 8)),
    "layer_norm": (lambda: functional.layer_norm(A, (3,), t(3), t(3)), (0, 7 * 6 + 6, 2)),
    "batch_norm in training": (
        # 24 numbers in 3 channels; running mean and variance: three operations each, a correction
        lambda: functional.batch_norm(t(2, 3, 4), t(3), t(3), t(3), t(3), training=True),
        (0, 7 * 24 + (3 + 7) * 3, 3),
    ),
    "batch_norm in training, nothing kept": (
        lambda: functional.batch_norm(t(2, 3, 4), None, None, training=True),
        (0, 5 * 24 + 3 * 3, 3),
    ),
    "batch_norm in use": (
        lambda: functional.batch_norm(t(2, 3, 4), t(3), t(3), t(3), t(3)),
        (0, 4 * 24 + 3, 3),
    ),
    # pooling: each element of each window, padding included
    "max_pool2d": (lambda: functional.max_pool2d(t(2, 3, 5, 5), 3, 2, 1), (0, 9 * 6 * 9, 0)),
    "max_pool2d of rows": (lambda: functional.max_pool2d(t(2, 3, 1, 8), (1, 2)), (0, 2 * 24, 0)),
    "avg_pool2d": (
        lambda: functional.avg_pool2d(t(2, 3, 4, 6), (2, 3)),
        (0, 6 * 24 + 24, 0),
    ),
    "adaptive_avg_pool2d to one": (
        lambda: functional.adaptive_avg_pool2d(t(2, 3, 4, 4), 1),
        (0, 96 + 6, 0),
    ),
    "adaptive_avg_pool2d, windows that overlap": (
        # of 5 columns three windows of 2, 3 and 2; of 4 rows two windows of 2
        lambda: functional.adaptive_avg_pool2d(t(1, 2, 4, 5), (2, 3)),
        (0, 2 * 4 * 7 + 12, 0),
    ),
    "local_response_norm over 3 of 4 channels": (
        # square; average over windows of 3; times alpha, plus k; power; divide
        lambda: functional.local_response_norm(t(2, 4, 5), 3),
        (0, 40 + 4 * 40 + 40 + 40 + 40, 40),
    ),
    # fused attention: scores and average, scale and softmax
    "attention": (lambda: functional.scaled_dot_product_attention(Q, K, V), (N * 6, 5 * N, N)),
    "causal attention": (
        lambda: functional.scaled_dot_product_attention(Q, Q, Q, is_causal=True),
        (2 * 21 * 6, 5 * 42, 42),
    ),
    "causal attention, more queries than keys": (
        lambda: functional.scaled_dot_product_attention(Q, K, V, is_causal=True),
        (2 * (10 + 2 * 4) * 6, 5 * 36, 36),
    ),
    # copies, gathers and draws compute nothing
    "views": (lambda: (X.transpose(0, 1), X[1:], X.unsqueeze(0).expand(3, -1, -1, -1)), (0, 0, 0)),
    "copies": (lambda: (X.clone(), torch.cat([X, X]), X.double(), X.T.contiguous()), (0, 0, 0)),
    "gathers": (lambda: X[torch.tensor([0, 2])], (0, 0, 0)),
    "draws": (lambda: torch.randn(5), (0, 0, 0)),
    "triangles": (lambda: torch.ones(4, 4).tril(), (0, 0, 0)),
    "index_add": (lambda: t(5).index_add_(0, torch.tensor([1, 1, 2]), t(3)), (0, 3, 0)),
    "index_add scaled": (
        lambda: t(5).index_add_(0, torch.tensor([1, 1, 2]), t(3), alpha=2),
        (0, 6, 0),
    ),
    "scatter": (lambda: t(5).scatter_(0, torch.tensor([1, 2]), t(2)), (0, 0, 0)),
    "scatter that adds": (
        lambda: t(5).scatter_(0, torch.tensor([1, 1, 2]), 7.0, reduce="add"),
        (0, 3, 0),
    ),
    "views in place": (lambda: t(2, 1).squeeze_(1).unsqueeze_(0).t_().detach_(), (0, 0, 0)),
    "accumulating index_put": (
        lambda: t(5).index_put_((torch.tensor([1, 1]),), t(2), accumulate=True),
        (0, 2, 0),
    ),
}


@pytest.mark.filterwarnings("ignore:The use of `x.T`")
@pytest.mark.parametrize("case", BY_HAND)
def test_counts_made_by_hand(case: str):
    run, expected = BY_HAND[case]
    assert cost_of(run) == Cost(*expected)


@pytest.mark.parametrize("case", ["mm", "bmm", "linear with a bias", "attention", "einsum of two"])
def test_inference_mode_counts_the_same(case: str):
    run, expected = BY_HAND[case]
    with torch.inference_mode():
        assert cost_of(run) == Cost(*expected)


def test_a_backward_pass_is_counted_where_it_runs():
    a, b = t(2, 3).requires_grad_(), t(3, 5).requires_grad_()
    forward = cost_of(lambda: a @ b)
    both = cost_of(lambda: (a @ b).backward(torch.ones(2, 5)))
    assert both.multiply_adds == 3 * forward.multiply_adds


def test_the_backward_pass_of_fused_attention_is_counted():
    q = Q.clone().requires_grad_()
    forward = cost_of(lambda: functional.scaled_dot_product_attention(q, K, V))
    run = lambda: functional.scaled_dot_product_attention(q, K, V).backward(torch.ones_like(Q))  # noqa: E731
    backward = cost_of(run).multiply_adds - forward.multiply_adds
    # Scores, and the gradients of weights, values, queries and keys; and a row sum of dO * O.
    assert backward == N * (3 * 3 + 2 * 3) + Q.numel()


def test_the_backward_pass_of_a_convolution_is_counted():
    x, w = t(2, 3, 9).requires_grad_(), t(5, 3, 4).requires_grad_()
    b = t(5).requires_grad_()
    both = cost_of(lambda: functional.conv1d(x, w, b).backward(torch.ones(2, 5, 6)))
    assert both.multiply_adds == 3 * 2 * 5 * 6 * 12
    assert both.elementwise == 2 * 60


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_products_agree_with_torchs_own_counter(rows: int):
    x, w = t(rows, 4, 8), t(8, 6)
    with FlopCounterMode(display=False) as flops:
        functional.conv1d(x.transpose(1, 2), t(5, 8, 2)) @ torch.einsum("bij,jk->bik", x[:, :3], w)
    ours = cost_of(
        lambda: (
            functional.conv1d(x.transpose(1, 2), t(5, 8, 2))
            @ torch.einsum("bij,jk->bik", x[:, :3], w)
        )
    )
    assert 2 * ours.multiply_adds == flops.get_total_flops() > 0


@pytest.mark.parametrize("case", ["baddbmm in place", "attention", "cumsum"])
def test_what_torchs_own_counter_misses(case: str):
    run, expected = BY_HAND[case]
    with FlopCounterMode(display=False) as flops:
        run()
    assert flops.get_total_flops() == 0
    assert sum(expected) > 0


def test_an_unknown_operation_raises_and_says_which():
    with pytest.raises(UncountedOperationError, match=r"aten\.linalg_inv_ex.*no rule"):
        cost_of(torch.linalg.inv, torch.eye(3))


def test_an_unknown_operation_is_listed_when_asked():
    with count_operations(unknown="list") as counter:
        torch.linalg.inv(torch.eye(3) + 1)
    assert counter.unknown["linalg_inv_ex"] == 1
    assert counter.total == Cost(elementwise=9)  # the addition


def test_an_operation_of_another_library_is_unknown_whatever_its_name():
    with torch.library._scoped_library("counted_elsewhere", "DEF") as library:
        library.define("copy(Tensor x) -> Tensor")
        library.impl("copy", lambda x: x.exp(), "CPU")
        with pytest.raises(UncountedOperationError, match="counted_elsewhere"):
            cost_of(torch.ops.counted_elsewhere.copy, A)


@pytest.mark.parametrize(
    "run",
    [lambda: X.transpose(0, 1).reshape(24), lambda: X.double(), lambda: X.mT.contiguous()],
)
def test_inference_mode_moves_the_same_bytes(run: Callable[[], Tensor]):
    with count_operations() as outside:
        run()
    with torch.inference_mode(), count_operations() as inside:
        run()
    assert inside.bytes_written == outside.bytes_written > 0
    assert inside.bytes_read == outside.bytes_read


def test_a_training_step_is_counted():
    w = t(3).requires_grad_()
    optimizer = torch.optim.SGD([w], lr=0.5)

    def step() -> None:
        functional.cross_entropy(A * w, torch.tensor([0, 2])).backward()
        optimizer.step()

    with count_operations() as counter:
        step()
    # The gradients of two log-likelihoods: a sign and a division each.
    assert counter.by_operation["nll_loss_backward"] == Cost(elementwise=4)


def test_totals_are_kept_by_operation_and_calls_counted():
    with count_operations() as counter:
        for _ in range(3):
            (A @ B).exp()
        A.view(6)
    assert counter.by_operation == {"mm": Cost(90, 0, 0), "exp": Cost(0, 0, 30)}
    assert counter.calls == {"mm": 3, "exp": 3}
    with counter:
        A @ B
    assert counter.total == Cost(120, 0, 30)


def test_counters_nest():
    with count_operations() as outer:
        A @ B
        with count_operations() as inner:
            A @ B
    assert inner.total == Cost(30)
    assert outer.total == Cost(60)


def test_a_counter_entered_twice_counts_once():
    counter = count_operations()
    with counter, counter:
        A @ B
    assert counter.total == Cost(30)
    with torch.inference_mode(), counter, counter:
        A @ B
    assert counter.total == Cost(60)


def test_costs_add_and_multiply():
    assert Cost(1, 2, 3) + 2 * Cost(1, 0, 1) == Cost(3, 2, 5)
    assert Cost(1, 2, 3) * 2 == Cost(2, 4, 6)
    assert sum([Cost(1), Cost(2)], Cost()) == Cost(3)
    with pytest.raises(TypeError):
        Cost(1) * 0.5
    with pytest.raises(TypeError):
        Cost(1) + 1


#: What runs on (4, 8) float32: bytes read, bytes written.
TRAFFIC = {
    "an elementwise operation reads both and writes one": (lambda x: x + 2 * x, 128 * 3, 128 * 2),
    "a product": (lambda x: x @ x.T, 256, 64),
    "a view moves nothing": (lambda x: x.view(8, 4)[1:], 0, 0),
    "a product of three dimensions, a view of one of two": (lambda x: x[None] @ x.T, 256, 64),
    "an empty tensor is no traffic": (lambda x: torch.empty_like(x), 0, 0),
    "in place": (lambda x: x.add_(1), 128, 128),
    "onto another": (lambda x: x.copy_(x[:1].expand(4, 8)), 32, 128),
    "a view in place": (lambda x: x.unsqueeze(0).squeeze_(0), 0, 0),
    "a row": (lambda x: x[0].mul_(2), 32, 32),
    "an expanded dimension is stored once": (lambda x: x[:1].expand(100, 8).sum(), 32, 4),
    "a gather reads what it picks": (lambda x: x[torch.tensor([0, 1])], 64 + 16, 64),
    "an appended row copies the cache": (lambda x: torch.cat([x, x[:1]]), 128 + 32, 160),
    "a written row does not": (lambda x: x[1:2].copy_(x[:1]), 32, 32),
}


@pytest.mark.filterwarnings("ignore:The use of `x.T`")
@pytest.mark.parametrize("case", TRAFFIC)
def test_bytes_read_and_written(case: str):
    run, read, written = TRAFFIC[case]
    x = t(4, 8)
    index = torch.tensor([0, 1])  # made outside: a gather's index is an argument
    assert index.numel() == 2
    with count_operations() as counter:
        run(x)
    assert (counter.bytes_read, counter.bytes_written) == (read, written)


def test_saved_bytes_of_a_product_are_its_arguments():
    a, b = t(2, 3).requires_grad_(), t(3, 5).requires_grad_()
    assert saved_bytes(torch.mm, a, b) == 4 * (6 + 15)
    assert saved_bytes(torch.mm, a, t(3, 5)) == 4 * 15


def test_a_storage_saved_twice_counts_once():
    x = t(100).requires_grad_()
    assert saved_bytes(lambda x: x * x + x[:10].sum() * x.sum(), x) <= 400 + 8
    assert saved_bytes(lambda x: x.exp() * 2, x) == 400


def test_attention_saves_its_weights():
    n, d = 16, 4
    q, k, v = (t(n, d).requires_grad_() for _ in range(3))
    saved = saved_bytes(lambda: torch.softmax(q @ k.T, -1) @ v)
    assert saved == 4 * (3 * n * d + n * n)


def test_a_custom_function_saves_what_it_says():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    assert saved_bytes(Cube.apply, t(10).requires_grad_()) == 40


def test_forgotten_requires_grad_is_an_error():
    with pytest.raises(ValueError, match="requires a gradient"):
        saved_bytes(torch.exp, t(3))


def test_peak_bytes_counts_what_lives_at_once():
    x = t(1000)
    assert peak_bytes(lambda: x + 1) == 4000
    assert peak_bytes(lambda: ((x + 1) * 2) - 3) == 8000  # one at a time, and its successor
    assert peak_bytes(lambda: [x + i for i in range(5)]) == 20000
    assert peak_bytes(lambda x: x.add_(1), x) == 0
    assert peak_bytes(lambda x: x.view(10, 100), x) == 0


def test_peak_bytes_does_not_count_what_was_freed():
    def steps(n: int) -> None:
        for _ in range(n):
            t_ = torch.zeros(1000)
            del t_

    assert peak_bytes(steps, 1) == peak_bytes(steps, 50) == 4000


def test_peak_bytes_does_not_count_what_was_there_before():
    x, weight = t(1000), t(10, 10)
    assert peak_bytes(lambda: x.view(10, 100)) == 0
    assert peak_bytes(lambda: x.add_(1)) == 0
    assert peak_bytes(lambda: weight.T.detach()) == 0
    assert peak_bytes(lambda: x[:10] @ weight.T) == 40


def test_peak_bytes_follows_what_grows():
    x = t(1000)
    assert peak_bytes(lambda: torch.add(x, 1, out=torch.empty(0))) == 4000
    assert peak_bytes(lambda: torch.empty(10).resize_(1000)) == 4000
    assert peak_bytes(lambda: torch.tensor([1.0] * 100)) == 400


def test_peak_bytes_starts_anew_after_an_exception():
    x = t(1000)

    def fails() -> None:
        raise ZeroDivisionError(str(x + 1))

    with pytest.raises(ZeroDivisionError):
        peak_bytes(fails)
    assert peak_bytes(lambda: x + 1) == 4000


def test_peak_bytes_of_a_backward_pass():
    x = t(1000).requires_grad_()
    # exp keeps its result; then ones for the sum's gradient (expanded: 4 bytes), and the gradient.
    peak = peak_bytes(lambda: x.exp().sum().backward())
    assert 8000 <= peak <= 8000 + 16


def test_peak_bytes_is_the_same_every_time():
    x = t(64, 64).requires_grad_()
    run = lambda: (x @ x).softmax(-1).sum().backward()  # noqa: E731
    run()
    assert len({peak_bytes(run) for _ in range(5)}) == 1


BAD = {
    "cost_of": (lambda: cost_of(3), TypeError, "function must be callable"),
    "saved_bytes": (lambda: saved_bytes(None), TypeError, "function must be callable"),
    "peak_bytes": (lambda: peak_bytes("f"), TypeError, "function must be callable"),
    "unknown": (lambda: count_operations(unknown="skip"), ValueError, "unknown must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str):
    run, error, words = BAD[case]
    with pytest.raises(error, match=words):
        run()


def test_every_rule_is_for_an_operation_that_torch_has():
    # A misspelt name would never be reached.
    missing = [name for name in RULES if "::" not in name and not hasattr(torch.ops.aten, name)]
    in_place = [name for name in missing if not hasattr(torch.ops.aten, f"{name}_")]
    assert in_place == []
