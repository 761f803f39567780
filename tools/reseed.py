"""Run chapters over many seeds and report how often each claim fails.

A measured claim may fail as often as its level allows, and no more; every other kind may draw
random inputs too, and must never fail. A claim that fails more often is wrong: mend it. Looking for
a seed that it passes is not mending.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from scipy.stats import binom
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from dlchecked_site.chapters import code_cells  # noqa: E402
from dlchecked_site.execution import SETTINGS  # noqa: E402
from dlchecked_site.outputs import VERDICT  # noqa: E402

#: A count of failures this unlikely under the claim's own level convicts the claim.
UNLIKELY = 0.01


@dataclass
class Tally:
    """How often one check of a claim ran and failed."""

    name: str
    kind: str
    level: float | None
    runs: int = 0
    failures: int = 0

    @property
    def wrong(self) -> bool:
        """Whether it fails more often than it may."""
        if self.kind != "measure" or self.level is None:
            return self.failures > 0
        expected = 1 - self.level
        return bool(binom.sf(self.failures - 1, self.runs, expected) < UNLIKELY)


def verdicts(page: Path, seed: int) -> list[dict[str, Any]]:
    """Run a page's cells under a seed; return the payloads of all its checks."""
    cells = [nbformat.v4.new_code_cell(c.source) for c in code_cells(page.read_text("utf-8"))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(page.parent)}}
    client = NotebookClient(notebook, kernel_name="python3", timeout=900, resources=where)
    seeded = {"DLCHECKED_SEED": str(seed), "DLCHECKED_ON_FAILURE": "report"}
    client.execute(env={**os.environ, **SETTINGS, **seeded})
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    return [output.data[VERDICT] for output in outputs if VERDICT in output.get("data", {})]


def tally(runs: Iterable[list[dict[str, Any]]]) -> list[Tally]:
    """Count runs and failures of each check, in the pages' order."""
    found: dict[tuple[str, int], Tally] = {}
    for payloads in runs:
        seen: dict[str, int] = {}
        for payload in payloads:
            name, kind = payload["id"], payload["kind"]
            seen[name] = seen.get(name, 0) + 1
            level = payload["detail"].get("level")
            row = found.setdefault((name, seen[name]), Tally(name, kind, level))
            row.runs += 1
            row.failures += not payload["holds"]
    return list(found.values())


def main() -> int:
    """Run, count, report; fail if a claim fails too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 1 on")
    parser.add_argument("chapters", nargs="*", help="topics; all by default")
    options = parser.parse_args()
    pages = [ROOT / "book" / f"{topic}.md" for topic in options.chapters]
    pages = pages or [p for p in sorted(ROOT.glob("book/*.md")) if code_cells(p.read_text("utf-8"))]
    jobs = [(page, seed) for page in pages for seed in range(1, options.seeds + 1)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda job: verdicts(*job), jobs)
        rows = tally(tqdm(results, total=len(jobs), unit="run", desc="chapters over seeds"))
    for row in rows:
        if row.kind == "measure" or row.failures:
            allowed = f"level {row.level}" if row.level else "never may"
            judgement = "WRONG" if row.wrong else "ok"
            print(f"{row.name:44} {row.failures:3} of {row.runs} failed ({allowed})  {judgement}")
    wrong = [row.name for row in rows if row.wrong]
    print(f"{len(rows)} checks, {options.seeds} seeds: {len(wrong)} fail more often than they may")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
