"""What the benchmarks share: cases that take turns, peak memory of a process, result files."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

THREADS = 2
RESULTS = Path(__file__).parent / "results"


class Timing(NamedTuple):
    """The calls of one case: median and fastest in milliseconds, and how many there were."""

    median: float
    fastest: float
    runs: int


def take_turns(
    cases: dict[str, Callable[[], object]], *, seconds: float, slow: float = 4.0, least: int = 5
) -> dict[str, Timing]:
    """Time all cases in turn, so that whatever else the machine does falls on all of them alike.

    The first round warms up and is not counted, except for a case that takes more than `slow`
    seconds: that one is not run again.
    """
    first = {name: once(case) for name, case in cases.items()}
    calls = {name: [first[name]] if first[name] > slow else [] for name in cases}
    quick = [name for name in cases if first[name] <= slow]
    end = time.perf_counter() + seconds
    while quick and (time.perf_counter() < end or len(calls[quick[0]]) < least):
        for name in quick:
            calls[name].append(once(cases[name]))
    return {
        name: Timing(1e3 * statistics.median(times), 1e3 * min(times), len(times))
        for name, times in calls.items()
    }


def once(case: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    case()
    return time.perf_counter() - start


def peak_memory(case: Callable[[], object]) -> float:
    """MiB by which a call raises this process's resident memory at its highest (Linux).

    For a process of its own, after a small call of the same kind has loaded what gets loaded once.
    """
    # Where this is not allowed, the highest so far is what the warm-up reached, which is little.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = case()
    peak = _status("VmHWM") - before
    del result
    return peak / 1024


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def machine() -> str:
    """What ran this."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {THREADS} threads"


def rounded(numbers: Any) -> Any:
    """Four digits of each number, however deep."""
    if isinstance(numbers, dict):
        return {key: rounded(x) for key, x in numbers.items()}
    if isinstance(numbers, (list, tuple)):
        return [rounded(x) for x in numbers]
    return float(f"{numbers:.4g}") if isinstance(numbers, float) else numbers


def in_a_hurry(description: str | None) -> bool:
    """Whether ``--quick`` was given: fewer sizes, and nothing is written."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes; write nothing")
    return bool(parser.parse_args().quick)


def write(
    name: str, what: str, results: dict[str, Any], *, sizes: Any = None, **versions: str
) -> Path:
    """Write a result file in the form that `dlchecked.ledger.record` reads."""
    content = {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **versions,
        },
        "what": what,
        **({} if sizes is None else {"sizes": sizes}),
        "results": rounded(results),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
