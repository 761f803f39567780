"""Early exit against the plain network: when does saved arithmetic become saved time?

Two networks: the chapter's (ResNet-18 of width 8 on 12 x 12 pixels) and ResNet-18 itself on
32 x 32. They are not trained: what is timed depends on how many images leave where, and thresholds
are set so that half leave at the first exit, a quarter at the second, an eighth at the third.
Batches of 1 are taken image by image. Before anything is timed, the multiply-adds that run must be
those of the images that leave, exactly. The cases of a size take turns, in one process on one
thread: layers this small are not worth dividing. Run by hand, on a quiet machine:

    .venv/bin/python benchmarks/early_exit.py          # about two minutes
    .venv/bin/python benchmarks/early_exit.py --quick  # the small network; writes nothing
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timing
import torch
from timing import in_a_hurry, take_turns, write
from torch import Tensor

from dlchecked.counting import cost_of
from dlchecked.early_exit import ExitResNet, all_logits, exit_costs, predict_early
from dlchecked.scaled_dot_product import softmax_entropy

#: Name -> width, pixels, channels, hidden channels of the early heads, and batches.
NETWORKS = {
    "narrow": (8, 12, 1, 16, (1, 16, 128, 1024)),
    "resnet18": (64, 32, 3, 128, (1, 16, 64)),
}
SHARES = (1 / 2, 1 / 4, 1 / 8)


def network(name: str) -> ExitResNet:
    """One of the two, in evaluation mode."""
    width, _, channels, hidden, _ = NETWORKS[name]
    g = torch.Generator().manual_seed(0)
    model = ExitResNet(hidden=hidden, width=width, classes=8, channels=channels, generator=g)
    return model.eval().requires_grad_(False)


def images(name: str, B: int) -> Tensor:
    """Random images of random contrast; for a batch of 1 there are 16 of them."""
    _, pixels, channels, _, _ = NETWORKS[name]
    g = torch.Generator().manual_seed(1)
    x = torch.randn(16 if B == 1 else B, channels, pixels, pixels, generator=g)
    return x * torch.rand(len(x), 1, 1, 1, generator=g).exp()


def thresholds(model: ExitResNet, x: Tensor) -> list[float]:
    """One for each early exit, so that the shares leave."""
    entropies = torch.stack([softmax_entropy(z) for z in all_logits(model, x)[:-1]]).double()
    left, found = torch.arange(len(x)), []
    for place, share in enumerate(SHARES):
        order = entropies[place, left].argsort()
        gone = round(share * len(x))
        ends = entropies[place, left][order[gone - 1 : gone + 1]]
        found.append(float(ends.mean()))
        left = left[order[gone:]]
    return found


def cases(name: str, B: int) -> tuple[dict[str, Callable[[], object]], float]:
    """What is timed, and the share of the plain network's multiply-adds that early exit runs."""
    model, x = network(name), images(name, B)
    chosen = thresholds(model, x)
    parts = x.split(B) if B == 1 else (x,)

    def early(threshold: Any) -> list[Tensor]:
        return [predict_early(model, part, threshold=threshold).places for part in parts]

    @torch.no_grad()
    def plain() -> list[Tensor]:
        return [model.resnet(part) for part in parts]

    costs = exit_costs(model, pixels=x.shape[-1])
    places = torch.cat(early(chosen))
    expected = sum(costs.leaving[place] for place in places.tolist())
    ran = cost_of(early, chosen).multiply_adds
    shares = tuple(float((places == place).double().mean()) for place in range(3))
    if ran != expected or shares != SHARES:
        raise AssertionError(f"{name}, B = {B}: {ran} ran, {expected} expected, {shares} left")
    timed = {"plain": plain, "early": partial(early, chosen), "nobody_leaves": partial(early, 0.0)}
    return timed, ran / (len(x) * costs.plain)


def measure(name: str, B: int, seconds: float) -> dict[str, Any]:
    """Milliseconds an image of each case, and what became of the saved arithmetic."""
    timed, arithmetic = cases(name, B)
    seen = take_turns(timed, seconds=seconds)
    n = len(images(name, B))
    row = {
        "milliseconds": {case: t.median / n for case, t in seen.items()},
        "fastest": {case: t.fastest / n for case, t in seen.items()},
        "runs": {case: t.runs for case, t in seen.items()},
        "arithmetic": arithmetic,
        "time": seen["early"].median / seen["plain"].median,
        "time_where_nobody_leaves": seen["nobody_leaves"].median / seen["plain"].median,
    }
    print(f"{name:9} B {B:5}  {row}", flush=True)
    return row


def main() -> None:
    """Run everything; write the result file unless in a hurry."""
    hurry = in_a_hurry(__doc__)
    timing.THREADS = 1  # what the result file says of the machine
    torch.set_num_threads(timing.THREADS)
    seconds = 1.0 if hurry else 12.0
    results: dict[str, Any] = {}
    for name, (*_, batches) in NETWORKS.items():
        if hurry and name != "narrow":
            continue
        results[name] = {str(B): measure(name, B, seconds) for B in batches}
    if hurry:
        return
    what = (
        "float32, milliseconds an image, medians, the cases taking turns; ResNet-18 of width 8 on "
        "12 x 12 pixels (narrow) and of width 64 on 32 x 32 (resnet18), exits after stages 1 to 3 "
        "with a hidden convolution, at which a half, a quarter and an eighth of the images leave; "
        "arithmetic and time relative to the plain network"
    )
    print(write("early_exit", what, results, sizes={"shares": SHARES}))


if __name__ == "__main__":
    main()
