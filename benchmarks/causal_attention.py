"""Causal linear attention against softmax attention and against peers: time, memory, decoding.

All cases of a size take turns, in one process on two threads; a case slower than four seconds runs
once. Memory is measured in processes of its own, as the rise of resident memory beyond the inputs.
Value checks stay on, as users have them. Run by hand, on a quiet machine:

    .venv/bin/python benchmarks/causal_attention.py          # about ten minutes
    .venv/bin/python benchmarks/causal_attention.py --quick  # one minute; writes nothing

Peers join where they are installed (``pip install --no-deps fla-core flash-linear-attention
performer-pytorch einops local-attention axial-positional-embedding hyper-connections``, in an
environment of their own that sees this one's packages).
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import THREADS, Timing, once, peak_memory, take_turns, write
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dlchecked.causal_recurrence import CausalAttentionStream, causal_linear_attention

B, H, D, M, CHUNK = 1, 4, 64, 64, 64
LENGTHS, FEATURES = (1024, 2048, 4096, 16384, 65536), (64, 128, 256)
MODES = ("forward", "training")
POSITIONS = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)

#: An earlier run on a machine of this kind: milliseconds of SDPA, of fast-transformers (C++) and
#: of the naive chunks of fla.
PEERS_THEN = {
    ("forward", 4096, 64): (58, 11, 20),
    ("forward", 16384, 64): (792, 35, 75),
    ("forward", 16384, 256): (805, 305, 558),
    ("forward", 65536, 64): (15700, 330, 675),
    ("training", 16384, 64): (2860, 90, 182),
    ("training", 16384, 256): (2900, 764, 1952),
    ("training", 65536, 64): (56300, 891, 2610),
}

#: Cases that take gigabytes. What they free goes back to the system, and whoever comes next pays
#: for fresh pages; so these take turns with our own form by themselves.
HUNGRY = {"cumsum", "performer"}

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


# The cases


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's fused softmax attention, whose keys have D numbers however long the features."""
    return scaled_dot_product_attention(q[..., :D], k[..., :D], v, is_causal=True)


def cumulative_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula as it stands: a state for each position, N r M numbers."""
    S = (k[..., :, None] * v[..., None, :]).cumsum(-3)
    return (q[..., None, :] @ S)[..., 0, :] / (q * k.cumsum(-2)).sum(-1, keepdim=True)


def fla_chunks() -> Attention | None:
    """Chunks in plain PyTorch, from flash-linear-attention, without its Triton kernels."""
    found = importlib.util.find_spec("fla")
    for place in found.submodule_search_locations or () if found else ():
        file = Path(place) / "ops" / "linear_attn" / "naive.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location("fla_naive", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            naive = partial(module.naive_chunk_linear_attn, normalize=True)
            # It wants (B, N, H, r).
            return lambda q, k, v: naive(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    return None


def performer() -> Attention | None:
    """performer-pytorch's causal attention, where its CUDA kernel is missing."""
    try:
        from performer_pytorch.performer_pytorch import causal_linear_attention_noncuda
    except ImportError:
        return None
    attention: Attention = causal_linear_attention_noncuda
    return attention


def attentions() -> dict[str, Attention]:
    """All that can run here."""
    found = {
        "chunked": causal_linear_attention,
        "softmax": softmax,
        "cumsum": cumulative_sums,
        "fla": fla_chunks(),
        "performer": performer(),
    }
    return {name: attention for name, attention in found.items() if attention is not None}


def fits(name: str, N: int, r: int, mode: str) -> bool:
    """Whether a case has the memory (16 GiB), and a turn takes less than a minute."""
    if name == "cumsum":
        return N * r <= 16384 * 64
    if name == "performer":
        return N * r <= (16384 if mode == "forward" else 4096) * 64
    if name == "softmax" and N == 65536:
        return r == FEATURES[0]  # It does not depend on r.
    return True


def inputs(N: int, r: int, mode: str) -> tuple[list[Tensor], Tensor]:
    """Positive features, values, and the output's gradient."""
    g = torch.Generator().manual_seed(0)
    q, k = (torch.rand(B, H, N, r, generator=g) for _ in range(2))
    v, d_out = (torch.randn(B, H, N, M, generator=g) for _ in range(2))
    return [x.requires_grad_(mode == "training") for x in (q, k, v)], d_out


def products(N: int, r: int, mode: str) -> Callable[[], None]:
    """Nothing but the products that chunks cannot do without, in cache: what is left to gain."""
    g = torch.Generator().manual_seed(0)
    chunks = 16
    rows, cols = (torch.rand(chunks, CHUNK, n, generator=g) for n in (r, M))
    pairs, states = torch.rand(chunks, CHUNK, CHUNK, generator=g), torch.rand(chunks, r, M)
    forward = [(rows, rows.mT), (rows.mT, cols), (rows, states), (pairs, cols)]
    backward = [
        *[(rows, rows.mT), (cols, cols.mT), (pairs, rows), (pairs, rows), (pairs, cols)],
        *[(rows.mT, cols), (rows.mT, cols), (cols, states.mT), (cols, states.mT), (rows, states)],
    ]
    wanted = forward + (backward if mode == "training" else [])
    given = [(a, b, torch.bmm(a, b)) for a, b in wanted]

    def run() -> None:
        for _ in range(B * H * N // (chunks * CHUNK)):
            for a, b, out in given:
                torch.bmm(a, b, out=out)

    return run


def call(attention: Attention, given: list[Tensor], d_out: Tensor) -> Any:
    """One forward pass, and a backward pass if gradients are wanted."""
    if not given[0].requires_grad:
        with torch.no_grad():
            return attention(*given)
    return torch.autograd.grad(attention(*given), given, d_out)


# Time


def necessary_flops(N: int, r: int, mode: str) -> float:
    """Count what the chunked form cannot do without, and nothing that a program does on top."""
    forward = CHUNK * (r + M) + 2 * r * M
    backward = CHUNK * (3 * r + 2 * M) + 5 * r * M
    return 2.0 * B * H * N * (forward + (backward if mode == "training" else 0))


def measure(N: int, r: int, mode: str, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    given, d_out = inputs(N, r, mode)
    square = torch.randn(2048, 2048)
    cases = {
        name: partial(call, attention, given, d_out)
        for name, attention in attentions().items()
        if fits(name, N, r, mode)
    }
    ours = cases.pop("chunked")
    hungry = {name: cases.pop(name) for name in HUNGRY & set(cases)}
    seen = take_turns(
        {
            "mm": lambda: torch.mm(square, square),
            "products": products(N, r, mode),
            "chunked": ours,
            **cases,
        },
        seconds=seconds,
    )
    against = dict.fromkeys(cases, seen["chunked"])
    if hungry:
        beside = take_turns({"chunked": ours, **hungry}, seconds=seconds / 3, least=3)
        against |= dict.fromkeys(hungry, beside["chunked"])
        seen |= {name: beside[name] for name in hungry}
    rate = 2 * 2048**3 / seen["mm"].median
    row = {
        "milliseconds": {name: t.median for name, t in seen.items()},
        "fastest": {name: t.fastest for name, t in seen.items()},
        "runs": {name: t.runs for name, t in seen.items()},
        "share_of_mm": necessary_flops(N, r, mode) / seen["chunked"].median / rate,
        "share_of_mm_fastest": necessary_flops(N, r, mode)
        / seen["chunked"].fastest
        / (2 * 2048**3 / seen["mm"].fastest),
        "products_share_of_mm": necessary_flops(N, r, mode) / seen["products"].median / rate,
        "times_faster_than": {
            name: seen[name].median / ours_then.median for name, ours_then in against.items()
        },
    }
    show_row(N, r, mode, seen, row["share_of_mm"])
    return row


def show_row(N: int, r: int, mode: str, seen: dict[str, Timing], share: float) -> None:
    """Milliseconds of each case, how many times that is our own, and the number of runs."""
    times = "  ".join(
        f"{n} {t.median:.1f} ({t.median / seen['chunked'].median:.1f}x, {t.runs})"
        for n, t in seen.items()
    )
    print(f"{mode:8} N {N:6} r {r:4}  {share:4.0%} of mm  {times}", flush=True)


def times(lengths: tuple[int, ...], features: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """All rows: mode, then N, then r."""
    found: dict[str, Any] = {mode: {} for mode in MODES}
    for mode, N, r in itertools.product(MODES, lengths, features):
        found[mode].setdefault(str(N), {})[str(r)] = measure(N, r, mode, seconds)
        softmax_then = found[mode][str(N)][str(features[0])]["milliseconds"]["softmax"]
        found[mode][str(N)][str(r)]["times_faster_than"].setdefault(
            "softmax", softmax_then / found[mode][str(N)][str(r)]["milliseconds"]["chunked"]
        )
    return found


def against_the_fastest_peer(found: dict[str, Any]) -> dict[str, Any]:
    """How much faster than fast-transformers' C++, which does not install here.

    Its time is that of an earlier run on a machine of this kind, where it did install, scaled by
    what a case that runs in both took then and takes now.
    """
    rows: dict[str, dict[str, float]] = {"softmax": {}, "fla": {}}
    for (mode, N, r), (softmax_then, peer_then, fla_then) in PEERS_THEN.items():
        row = found[mode].get(str(N), {}).get(str(r))
        then = {"softmax": softmax_then, "fla": fla_then}
        for name in rows if row else ():
            if name in row["times_faster_than"]:
                ratio = row["times_faster_than"][name] * peer_then / then[name]
                rows[name][f"{mode}-{N}-{r}"] = ratio
    means = {
        n: math.exp(math.fsum(map(math.log, x.values())) / len(x)) for n, x in rows.items() if x
    }
    return {"by_way_of": rows, "geometric_mean": means}


# Memory


def memory(kinds: dict[str, tuple[tuple[int, int], ...]]) -> dict[str, Any]:
    """Peak MiB beyond the inputs, each case in its own process: mode, size, case."""
    found: dict[str, Any] = {}
    for mode, sizes in kinds.items():
        for (N, r), name in itertools.product(sizes, attentions()):
            if not fits(name, N, r, mode):
                continue
            command = [sys.executable, __file__, "--memory", name, str(N), str(r), mode]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.setdefault(mode, {}).setdefault(f"{N}-{r}", {})[name] = json.loads(done.stdout)
        print(f"peak MiB beyond the inputs, {mode}: {found.get(mode)}", flush=True)
    return found


def memory_of(name: str, N: int, r: int, mode: str) -> float:
    """Run in a process of its own."""
    attention = attentions()[name]
    call(attention, *inputs(256, r, mode))
    given, d_out = inputs(N, r, mode)
    return peak_memory(partial(call, attention, given, d_out))


# Decoding


def decoding(positions: tuple[int, ...], steps: int = 400) -> dict[str, Any]:
    """Microseconds a token, from the state and from a softmax cache, at growing positions.

    All positions take turns, so that a disturbance meets each of them.
    """
    g = torch.Generator().manual_seed(0)
    stream, at, cases = CausalAttentionStream(), 0, {}
    token = [torch.rand(B, H, D, generator=g) for _ in range(3)]
    query = token[0][:, :, None]
    for position in positions:
        while at < position:
            block = min(65536, position - at)
            stream.extend(*(torch.rand(B, H, block, D, generator=g) for _ in range(3)))
            at += block
        here = copy.deepcopy(stream)
        cache = [torch.rand(B, H, position, D, generator=g) for _ in range(2)]
        cases[f"state {position}"] = lambda s=here: [s.step(*token) for _ in range(steps)]
        cases[f"cache {position}"] = lambda kv=cache: scaled_dot_product_attention(query, *kv)
    seen = {name: 1e3 * timing.median for name, timing in take_turns(cases, seconds=20.0).items()}
    found = {
        str(p): {"state": seen[f"state {p}"] / steps, "softmax_cache": seen[f"cache {p}"]}
        for p in positions
    }
    print(f"microseconds a token: {found}", flush=True)
    return found


def million_tokens() -> dict[str, float]:
    """One forward call over 1,048,576 tokens: peak MiB beyond the inputs, and seconds."""
    command = [sys.executable, __file__, "--memory", "chunked", str(2**20), "64", "forward"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    given, d_out = inputs(2**20, 64, "forward")
    seconds = min(once(partial(call, causal_linear_attention, given, d_out)) for _ in range(2))
    found = {"peak_MiB": float(json.loads(done.stdout)), "seconds": seconds}
    print(f"a million tokens: {found}", flush=True)
    return found


# All of it


def main() -> None:
    """Run everything; write the result file unless in a hurry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sizes; write nothing")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.memory:
        name, N, r, mode = arguments.memory
        print(json.dumps(memory_of(name, int(N), int(r), mode)))
        return
    lengths, features, seconds = LENGTHS, FEATURES, 3.0
    if arguments.quick:
        lengths, features, seconds = (1024, 4096), (64, 256), 1.0
    found = times(lengths, features, seconds)
    peers = against_the_fastest_peer(found)
    print(f"against fast-transformers, by way of each common case: {peers}")
    if arguments.quick:
        return
    results = {
        **found,
        "against_fast_transformers": peers,
        "memory": memory(dict.fromkeys(MODES, ((16384, 64), (16384, 256)))),
        "decoding": decoding(POSITIONS),
        "million_tokens": million_tokens(),
    }
    what = (
        f"float32, B = {B}, H = {H}, D = M = {M}; medians in milliseconds, the cases taking turns; "
        "share_of_mm counts the necessary FLOPs alone; products runs nothing but these, in cache; "
        "memory in MiB beyond the inputs; decoding in microseconds a token, all positions taking "
        "turns"
    )
    print(write("causal_attention", what, results, **peer_versions()))


def peer_versions() -> dict[str, str]:
    """Versions of the peers that are here."""
    here = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {n: here[n] for n in ("fla-core", "performer-pytorch") if n in here}


if __name__ == "__main__":
    main()
