"""Triplet losses of a whole batch against pytorch-metric-learning: time and memory.

Exact batch-all and semi-hard, forward and backward, 128 numbers an embedding, 40 images an
identity. The semantics are matched: squared distances, no normalisation, margin 0.2, the mean over
active triplets. Before anything is timed, both must agree in float64, losses and gradients. The
cases of a size take turns, in one process on two threads; a case slower than four seconds runs
once. Memory is measured in processes of its own. Run by hand, on a quiet machine with 16 GiB:

    .venv/bin/python benchmarks/triplets.py          # about five minutes
    .venv/bin/python benchmarks/triplets.py --quick  # the smallest size; writes nothing
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import THREADS, peak_memory, take_turns, write
from torch import Tensor

from dlchecked.triplet_loss import batch_all_loss, batch_semi_hard_loss, count_triplets

SIZE, EACH, MARGIN = 128, 40, 0.2
BATCHES = (256, 1024, 1800)
KINDS = ("batch_all", "semi_hard")
PEER = "pytorch-metric-learning"

Loss = Callable[[Tensor, Tensor], Tensor]


# The cases


def peer(kind: str) -> Loss:
    """pytorch-metric-learning's loss, with the miner that semi-hard needs."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    distance = LpDistance(normalize_embeddings=False, p=2, power=2)
    loss = TripletMarginLoss(margin=MARGIN, distance=distance)
    miner = TripletMarginMiner(MARGIN, "semihard", distance=distance)
    if kind == "batch_all":
        return lambda x, labels: loss(x, labels)
    return lambda x, labels: loss(x, labels, miner(x, labels))


def cases(kind: str) -> dict[str, Loss]:
    """Ours and theirs."""
    ours = {"batch_all": batch_all_loss, "semi_hard": batch_semi_hard_loss}[kind]
    return {"ours": partial(ours, margin=MARGIN), "peer": peer(kind)}


def inputs(B: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Embeddings on the sphere, and labels with 40 images an identity, in random order.

    Each identity has a centre, so that, as in training, some triplets are easy.
    """
    g = torch.Generator().manual_seed(0)
    labels = (torch.arange(B) // EACH)[torch.randperm(B, generator=g)]
    centres = torch.randn(-(-B // EACH), SIZE, generator=g, dtype=dtype)
    x = centres[labels] + 2 * torch.randn(B, SIZE, generator=g, dtype=dtype)
    return torch.nn.functional.normalize(x, dim=-1).requires_grad_(), labels


def call(loss: Loss, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward: the loss and the embeddings' gradient."""
    value = loss(x, labels)
    return value.detach(), torch.autograd.grad(value, x)[0]


# What is measured


def disagreement(kind: str, B: int) -> dict[str, float]:
    """How far loss and gradient are apart in float64, relative to their size."""
    x, labels = inputs(B, torch.float64)
    (ours, our_slope), (theirs, their_slope) = (call(f, x, labels) for f in cases(kind).values())
    found = {
        "loss": float((ours - theirs).abs() / theirs.abs()),
        "gradient": float((our_slope - their_slope).abs().max() / their_slope.abs().max()),
    }
    if max(found.values()) > 1e-9:
        raise AssertionError(f"{kind} at B = {B}: the two disagree by {found}")
    return found


def measure(kind: str, B: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of both, taking turns."""
    x, labels = inputs(B)
    seen = take_turns(
        {name: partial(call, loss, x, labels) for name, loss in cases(kind).items()},
        seconds=seconds,
    )
    row = {
        "milliseconds": {name: t.median for name, t in seen.items()},
        "fastest": {name: t.fastest for name, t in seen.items()},
        "runs": {name: t.runs for name, t in seen.items()},
        "times_faster": seen["peer"].median / seen["ours"].median,
    }
    print(f"{kind:9} B {B:5}  {row['milliseconds']}  {row['times_faster']:.1f}x", flush=True)
    return row


def memory(kind: str, B: int) -> dict[str, float]:
    """Peak MiB beyond the inputs, each case in its own process."""
    found = {}
    for name in ("ours", "peer"):
        command = [sys.executable, __file__, "--memory", kind, name, str(B)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = float(json.loads(done.stdout))
    found["share"] = found["ours"] / found["peer"]
    print(f"{kind:9} B {B:5}  peak MiB {found}", flush=True)
    return found


def memory_of(kind: str, name: str, B: int) -> float:
    """Run in a process of its own."""
    loss = cases(kind)[name]
    call(loss, *inputs(80))
    x, labels = inputs(B)
    return peak_memory(partial(call, loss, x, labels))


# All of it


def main() -> None:
    """Run everything; write the result file unless in a hurry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one size; write nothing")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.memory:
        kind, name, B = arguments.memory
        print(json.dumps(memory_of(kind, name, int(B))))
        return
    batches, seconds = (BATCHES[:1], 1.0) if arguments.quick else (BATCHES, 5.0)
    results: dict[str, Any] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for B in batches:
            apart = disagreement(kind, B)
            row = measure(kind, B, seconds)
            results[kind][str(B)] = {**row, "disagreement": apart, "peak_MiB": memory(kind, B)}
    if arguments.quick:
        return
    results["triplets"] = {str(B): count_triplets(inputs(B)[1]) for B in batches}
    what = (
        f"float32, E = {SIZE}, {EACH} images an identity, squared distances, margin {MARGIN}, mean "
        "over active triplets, forward and backward; medians in milliseconds, the cases taking "
        "turns; disagreement relative, in float64; memory in MiB beyond the inputs"
    )
    version = importlib.metadata.version(PEER)
    print(write("triplets", what, results, **{PEER: version}))


if __name__ == "__main__":
    main()
