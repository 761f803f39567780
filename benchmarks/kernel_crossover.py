"""From which sequence length on the quadratic kernel is faster than softmax attention.

All cases of a length run in turn, in one process on two threads, and the medians are compared: the
ratios are the result, the milliseconds are this machine's. Value checks are off, as PyTorch's own
attention has none. Run by hand, on a quiet machine (other work on its cores moves the medians of
short calls; ``spread``, the median over the fastest call, says how much):

    .venv/bin/python benchmarks/kernel_crossover.py
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from timing import THREADS, in_a_hurry, write
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as fused_attention

from dlchecked.arguments import value_checks
from dlchecked.kernel_attention import quadratic_attention, quadratic_crossover
from dlchecked.scaled_dot_product import scaled_dot_product_attention

LENGTHS = {
    16: (64, 128, 256, 512, 1024, 2048),
    32: (256, 512, 1024, 2048, 4096, 8192),
    64: (1024, 2048, 4096, 8192, 16384),
}
#: Beyond this the weights of the written-out softmax no longer fit beside everything else.
LONGEST_WRITTEN_OUT = 8192
SECONDS = 2.0

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def redundant(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with all D^2 products, each of two different coordinates twice."""
    return quadratic_attention(q, k, v, symmetric=False)


CASES: dict[str, Attention] = {
    "quadratic": quadratic_attention,
    "redundant": redundant,
    "softmax": scaled_dot_product_attention,
    "fused": fused_attention,
}


def once(attention: Attention, inputs: tuple[Tensor, ...], backward: bool) -> float:
    """Seconds of one call."""
    for x in inputs:
        x.grad = None
    with torch.set_grad_enabled(backward):
        start = time.perf_counter()
        out = attention(*inputs)
        if backward:
            out.sum().backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - start


def timings(D: int, N: int, backward: bool) -> dict[str, list[float]]:
    """Milliseconds of all calls of each case, the cases taking turns."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(1, 1, N, D, generator=generator).requires_grad_(backward) for _ in range(3)
    )
    cases = {n: f for n, f in CASES.items() if n != "softmax" or N <= LONGEST_WRITTEN_OUT}
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for attention in cases.values():
        once(attention, inputs, backward)
    end = time.perf_counter() + SECONDS * len(cases)
    while time.perf_counter() < end or len(seen["fused"]) < 5:
        for name, attention in cases.items():
            seen[name].append(1e3 * once(attention, inputs, backward))
    return seen


def crossover(lengths: list[int], ratios: list[float]) -> float | None:
    """Where the ratio quadratic / softmax falls through 1 for good, on log-log lines."""
    found = None
    pairs = list(zip(lengths, ratios, strict=True))
    for (n0, r0), (n1, r1) in itertools.pairwise(pairs):
        if r0 > 1 >= r1:
            share = math.log(r0) / (math.log(r0) - math.log(r1))
            found = n0 * (n1 / n0) ** share
    return found


def measure(D: int, lengths: tuple[int, ...], backward: bool) -> dict[str, Any]:
    """All lengths of one size, and the crossovers that they show."""
    rows: list[dict[str, Any]] = []
    for N in lengths:
        calls = timings(D, N, backward)
        medians = {name: statistics.median(times) for name, times in calls.items()}
        spread = {name: medians[name] / min(times) for name, times in calls.items()}
        rows.append({"N": N, "milliseconds": medians, "spread": spread})
        shown = "  ".join(f"{n} {ms:8.3f} ({spread[n]:4.2f})" for n, ms in medians.items())
        print(f"D = M = {D:2}  N = {N:5}  {'training' if backward else 'forward '}  {shown}")
    found: dict[str, Any] = {"predicted": quadratic_crossover(D, D), "rows": rows}
    for other in ("softmax", "fused"):
        both = [row for row in rows if other in row["milliseconds"]]
        times = [row["milliseconds"] for row in both]
        ratios = [ms["quadratic"] / ms[other] for ms in times]
        found[f"against_{other}"] = _sensibly(crossover([row["N"] for row in both], ratios))
        found[f"ratio_at_the_longest_{other}"] = round(ratios[-1], 3)
    return found


def _sensibly(place: float | None) -> int | str:
    return "not reached" if place is None else int(float(f"{place:.2g}"))


def main() -> None:
    """Run everything; write the result file unless in a hurry."""
    quick = in_a_hurry(__doc__)
    torch.set_num_threads(THREADS)
    results: dict[str, Any] = {}
    lengths = {16: LENGTHS[16][:3]} if quick else LENGTHS
    with value_checks(False):
        for name, backward in (("forward", False), ("training", True)):
            results[name] = {str(D): measure(D, N, backward) for D, N in lengths.items()}
    for name, sizes in results.items():
        for size, found in sizes.items():
            print(name, size, {k: x for k, x in found.items() if k != "rows"})
    if not quick:
        what = "float32, one head, D = M; medians in milliseconds, the cases taking turns"
        print(f"written to {write('kernel_crossover', what, results).name}")


if __name__ == "__main__":
    main()
