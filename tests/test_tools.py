"""The tools behind the make targets, and the reading of chapters that they share with the site."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from books import FRONT, ROOT

import ids
import lint_cells
import reproducible
from dlchecked_site.chapters import claims_checked, code_cells, files_named, modules_used, parse
from dlchecked_site.claims import IDS, permanent_ids
from dlchecked_site.execution import inputs_of, key_of
from reseed import Tally, tally, verdicts

PAGE = """\
# Title

```{code-cell}
:tags: [hide-input]

import math
from dlchecked.first import answer
```

```python
not_a_cell()
```

````{note}
nothing
````

```{code-cell} ipython3
prove("toy-is-so", 1,
      2)
```
"""


def test_cells_are_found_with_their_lines():
    first, second = code_cells(PAGE)
    lines = PAGE.splitlines()
    assert first.tags == ("hide-input",)
    assert first.source.splitlines()[-1] == "from dlchecked.first import answer"
    assert lines[second.line - 1] == 'prove("toy-is-so", 1,'
    module = lint_cells.as_module(PAGE).splitlines()
    for at, line in enumerate(module):
        assert line in ("", lines[at])
    assert sum(bool(line) for line in module) == 4


def test_checks_are_found_with_their_lines():
    found = claims_checked(PAGE)
    assert PAGE.splitlines()[found["toy-is-so"] - 1].startswith("prove")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "code" / "dlchecked"
    folder.mkdir(parents=True)
    sources = {
        "__init__": "",
        "base": "X = 1",
        "first": "from .base import X",
        "second": "import dlchecked.first",
        "third": "from dlchecked import base",
        "fourth": "def f():\n    from dlchecked.third import base\n",
        "data": 'PATH = "table.json"',
        "alone": "import torch",
    }
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "table.json").write_text("{}", encoding="utf-8")
    (tmp_path / "requirements.txt").write_text("", encoding="utf-8")
    (tmp_path / "book").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "reached"),
    [
        ("import math", set()),
        ("import dlchecked", {"__init__"}),
        ("from dlchecked.base import X", {"__init__", "base"}),
        ("from dlchecked.first import X", {"__init__", "first", "base"}),
        ("from dlchecked import second", {"__init__", "second", "first", "base"}),
        ("import dlchecked.third as t", {"__init__", "third", "base"}),
        ("from dlchecked.fourth import f", {"__init__", "fourth", "third", "base"}),
        ("if True:\n    from dlchecked import alone", {"__init__", "alone"}),
        ("def (", set()),
    ],
)
def test_modules_are_reached_directly_and_through_others(package, cell, reached):
    files = modules_used([parse(cell)], package / "code")
    assert {path.stem for path in files} == reached


def page(cell: str) -> str:
    return f"{FRONT}# T\n\n```{{code-cell}}\n{cell}\n```\n"


def test_the_key_moves_with_what_the_page_reaches_and_with_nothing_else(package):
    text = page("from dlchecked.first import X")
    before = key_of(text, package)
    (package / "code/dlchecked/alone.py").write_text("import sympy", encoding="utf-8")
    assert key_of(text, package) == before
    (package / "code/dlchecked/base.py").write_text("X = 2", encoding="utf-8")
    after = key_of(text, package)
    assert after != before
    (package / "requirements.txt").write_text("a==1", encoding="utf-8")
    assert key_of(text, package) not in (before, after)


def test_a_named_data_file_is_an_input_of_page_and_module(package):
    (package / "book" / "times.json").write_text("{}", encoding="utf-8")
    named = inputs_of(page('open("times.json")'), package)
    assert package / "book" / "times.json" in named
    table = package / "code/dlchecked/table.json"
    assert table in inputs_of(page("import dlchecked.data"), package)
    assert files_named([parse('x = "no/such.json"; y = "../../etc"')], [package]) == set()


def test_ids_are_read_from_pages(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    (book / "a_b.md").write_text("```{claim} a-one\n:source: x\nIt.\n```\n", encoding="utf-8")
    (book / "c_d.md").write_text(":::{claim} c-two\n:::\n", encoding="utf-8")
    assert ids.claims_made(book) == [("a-one", "book/a_b"), ("c-two", "book/c_d")]


def test_every_claim_of_the_book_is_listed():
    assert set(ids.claims_made(ROOT / "book")) <= set(permanent_ids(ROOT / IDS))


def test_no_id_was_ever_removed():
    history = subprocess.run(
        ["git", "log", "-p", "--format=", "--", IDS], cwd=ROOT, capture_output=True, text=True
    ).stdout
    listed = set((ROOT / IDS).read_text("utf-8").splitlines())
    lines = [line for line in history.splitlines() if line.startswith("-") and line[1:2].isalpha()]
    removed = [line[1:] for line in lines if line[1:] not in listed]
    assert removed == []


def test_two_folders_are_compared_byte_by_byte(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "same.html").write_text("same", encoding="utf-8")
        (tmp_path / name / "other.html").write_text(name, encoding="utf-8")
    (tmp_path / "one" / "lonely.html").write_text("", encoding="utf-8")
    found = reproducible.differences(tmp_path / "one", tmp_path / "two")
    assert found == ["lonely.html", "other.html"]
    told = reproducible.first_difference(tmp_path / "one/other.html", tmp_path / "two/other.html")
    assert told == "from byte 0:\n  b'one'\n  b'two'"
    lonely = reproducible.first_difference(tmp_path / "one/lonely.html", tmp_path / "two/lonely")
    assert lonely == "it is in one build only"


def test_the_readmes_example_runs():
    text = (ROOT / "README.md").read_text("utf-8")
    (example,) = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert callable(names["scaled_dot_product_attention"])


def payload(holds: bool, kind: str = "measure", level: float | None = 0.99) -> dict:
    detail = {"level": level} if level else {}
    return {"id": "toy-mean", "kind": kind, "holds": holds, "detail": detail}


@pytest.mark.parametrize(
    ("runs", "failures", "kind", "wrong"),
    [
        (20, 0, "measure", False),
        (100, 1, "measure", False),
        (100, 4, "measure", False),
        (100, 6, "measure", True),
        (20, 3, "measure", True),
        (100, 1, "agree", True),
        (100, 0, "prove", False),
    ],
)
def test_a_claim_that_fails_too_often_is_convicted(runs, failures, kind, wrong):
    level = 0.99 if kind == "measure" else None
    rows = tally([[payload(i >= failures, kind, level)] for i in range(runs)])
    assert [(row.runs, row.failures, row.wrong) for row in rows] == [(runs, failures, wrong)]


def test_two_checks_of_a_claim_are_counted_apart():
    rows = tally([[payload(True), payload(False)], [payload(True), payload(True)]])
    assert [(row.runs, row.failures) for row in rows] == [(2, 0), (2, 1)]
    assert isinstance(rows[0], Tally)


def test_a_page_is_run_under_a_seed(tmp_path):
    source = (
        "from dlchecked.ledger import generator, measure, mean_of\n"
        "import torch\n"
        'draws = torch.randn(64, generator=generator("toy"))\n'
        'measure("toy-mean", mean_of(draws), 9.0, wrong={"ten": 10.0})'
    )
    path = tmp_path / "toy.md"
    path.write_text(page(source), encoding="utf-8")
    (first,), (second,) = verdicts(path, 1), verdicts(path, 2)
    assert not first["holds"]
    assert first["seed"] == 1
    assert first["detail"]["estimate"] != second["detail"]["estimate"]


def test_linting_finds_a_cells_defect_at_its_line(tmp_path, capsys):
    bad = page("import os\nvalue = undefined_name")
    (tmp_path / "toy_topic.md").write_text(bad, encoding="utf-8")
    assert lint_cells.check([tmp_path / "toy_topic.md"]) > 0
    said = capsys.readouterr().out
    line = bad.splitlines().index("value = undefined_name") + 1
    assert f"toy_topic.md:{line}" in said
    assert "F821" in said
    long = page("\n".join(f"a{i} = {i}" for i in range(31)))
    (tmp_path / "toy_topic.md").write_text(long, encoding="utf-8")
    assert lint_cells.check([tmp_path / "toy_topic.md"]) == 1
    assert "a cell of 31 lines" in capsys.readouterr().out
