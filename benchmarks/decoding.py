"""The time of one decoding step against the cache's length: multi-head, grouped, multi-query.

All cases of a length take turns in one process on two threads, and the medians are compared: the
ratios are the result, the milliseconds are this machine's. Value checks are off. Each step appends
one position and forgets it again, so that the length stays. A step during which the system took a
core away (an involuntary context switch) is run again, and such steps are counted. Run by hand, on
a quiet machine:

    .venv/bin/python benchmarks/decoding.py
"""

from __future__ import annotations

import resource
import statistics
import time

import torch
from timing import THREADS, in_a_hurry, write

from dlchecked.arguments import value_checks
from dlchecked.decoding import DecodingStep, GroupedQueryAttention, KeyValueCache

B, D_MODEL, H, D = 1, 1024, 16, 64
LENGTHS = (256, 512, 1024, 2048, 4096)
GROUPS = {"multi-head": 16, "grouped": 4, "multi-query": 1}
SECONDS = 2.0
MOST = 300.0
LEAST = 15
#: Who has just slept is less likely to lose a core on a shared machine.
REST = 0.005
#: Beyond this, growing by concatenation takes so long that no step is left in peace.
LONGEST_GROWN = 1024

Case = tuple[GroupedQueryAttention, KeyValueCache]


def filled(attention: GroupedQueryAttention, N: int, *, grown: bool) -> KeyValueCache:
    """Make a cache that holds N random positions."""
    cache = attention.new_cache(B, capacity=None if grown else N + 1)
    source = torch.Generator().manual_seed(1)
    k, v = (torch.randn(B, attention.G, N, D, generator=source) for _ in range(2))
    cache.append(k, v)
    return cache


def cases(N: int) -> dict[str, Case]:
    """Every case by its name, with a cache of N positions."""
    made: dict[str, Case] = {}
    for name, G in GROUPS.items():
        source = torch.Generator().manual_seed(0)
        layer = GroupedQueryAttention(D_MODEL, H, num_groups=G, generator=source).requires_grad_(
            False
        )
        made[name] = layer, filled(layer, N, grown=False)
    if N <= LONGEST_GROWN:
        layer = made["multi-head"][0]
        made["multi-head, grown"] = layer, filled(layer, N, grown=True)
    return made


def once(case: Case, x: torch.Tensor) -> tuple[float, bool]:
    """Seconds of one step, and whether it kept its cores."""
    attention, cache = case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = time.perf_counter()
    attention.step(x, cache)
    seconds = time.perf_counter() - start
    undisturbed = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before
    cache.truncate(len(cache) - 1)
    return seconds, undisturbed


def medians(N: int) -> tuple[dict[str, float], dict[str, int]]:
    """Milliseconds of each case, the cases taking turns, and the steps that stand behind them."""
    x = torch.randn(B, D_MODEL, generator=torch.Generator().manual_seed(2))
    running = cases(N)
    seen: dict[str, list[float]] = {name: [] for name in running}
    for case in running.values():
        once(case, x)
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < MOST:
        if elapsed > SECONDS * len(running) and min(map(len, seen.values())) >= LEAST:
            break
        for name, case in running.items():
            time.sleep(REST)
            seconds, undisturbed = once(case, x)
            if undisturbed:
                seen[name].append(seconds)
    steps = {name: len(times) for name, times in seen.items()}
    if min(steps.values()) < LEAST:
        raise RuntimeError(f"the machine is not quiet enough: undisturbed steps {steps}")
    return {name: 1e3 * statistics.median(times) for name, times in seen.items()}, steps


def predicted(N: int) -> dict[str, float]:
    """Numbers moved by each case, as a share of what multi-head attention moves."""

    def moved(G: int, *, grown: bool = False) -> int:
        return DecodingStep(B, N, D_MODEL, H, G, D, D).traffic(grown=grown).total

    by_case = {name: moved(G) for name, G in GROUPS.items()}
    by_case["multi-head, grown"] = moved(H, grown=True)
    return {name: round(count / by_case["multi-head"], 4) for name, count in by_case.items()}


def main() -> None:
    """Run everything; write the result file unless in a hurry."""
    quick = in_a_hurry(__doc__)
    torch.set_num_threads(THREADS)
    rows = []
    with value_checks(False), torch.no_grad():
        for N in LENGTHS[:2] if quick else LENGTHS:
            (times, steps), expected = medians(N), predicted(N)
            shares = {name: round(ms / times["multi-head"], 4) for name, ms in times.items()}
            rows.append(
                {
                    "N": N,
                    "milliseconds": {name: round(ms, 4) for name, ms in times.items()},
                    "steps": steps,
                    "share": shares,
                    "share_of_traffic": expected,
                }
            )
            for name in times:
                print(
                    f"N = {N:6}  {name:20} {times[name]:8.3f} ms  "
                    f"{shares[name]:.3f} of its time, {expected[name]:.3f} of its traffic, "
                    f"{steps[name]} steps"
                )
    if not quick:
        what = "one decoding step, float32; medians in milliseconds, the cases taking turns"
        sizes = {"B": B, "d_model": D_MODEL, "H": H, "D": D, "M": D, "G": GROUPS}
        print(f"written to {write('decoding', what, {'rows': rows}, sizes=sizes).name}")


if __name__ == "__main__":
    main()
