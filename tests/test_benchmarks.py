"""The benchmarks' machinery, and the form of what they left behind. Nothing here is timed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
from books import ROOT

from dlchecked.ledger import record

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "timing")


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(FOLDER)
    import timing

    return timing


def test_make_bench_runs_every_benchmark():
    (line,) = re.findall(r"^BENCHMARKS = (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert sorted(line.split()) == SCRIPTS
    described = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in SCRIPTS if f"`{name}.py`" not in described] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmarks_result_is_committed_and_says_where_it_was_measured(name: str):
    verdict = record("some-figure", FOLDER / "results" / f"{name}.json", "results")
    assert verdict.holds
    assert verdict.detail["machine"]
    assert "torch" in verdict.detail["versions"]


def test_no_result_names_a_place_on_somebodys_machine():
    texts = [path.read_text("utf-8") for path in (FOLDER / "results").glob("*.json")]
    assert [text for text in texts if re.search(r"/(?:home|root|work|tmp|Users)/", text)] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_tells_what_it_takes(name: str):
    command = [sys.executable, f"{name}.py", "--help"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_cases_take_turns(timing):
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in "ab"}
    seen = timing.take_turns(cases, seconds=0.0, least=3)
    assert order == ["a", "b"] * 4  # the first round warms up
    assert {name: row.runs for name, row in seen.items()} == {"a": 3, "b": 3}
    assert all(0 < row.fastest <= row.median for row in seen.values())


def test_a_slow_case_is_not_run_again(timing):
    calls: list[int] = []
    seen = timing.take_turns({"slow": lambda: calls.append(1)}, seconds=0.0, slow=0.0)
    assert calls == [1]
    assert seen["slow"].runs == 1


def test_peak_memory_sees_what_a_call_touches(timing):
    def touch() -> torch.Tensor:
        return torch.ones(32, 1024, 1024, dtype=torch.float64)

    assert 200 < timing.peak_memory(touch) < 400  # 256 MiB


def test_a_result_file_has_the_form_that_record_reads(timing, monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    path = timing.write("toy", "a toy", {"seconds": [1.23456789]}, sizes={"N": 2}, other="1.0")
    content = json.loads(path.read_text("utf-8"))
    assert content["results"] == {"seconds": [1.235]}
    assert content["sizes"] == {"N": 2}
    assert content["versions"]["other"] == "1.0"
    assert record("toy-seconds", path, "results.seconds.0").detail["value"] == 1.235
