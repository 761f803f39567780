"""The build is strict, never shows a stale result, and works on the chapter template."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from books import ROOT, TinyBook

CLAIM = """
```{claim} toy-is-so
:source: hw0 1(a)
It is so.
```
"""
CHECK = """
```{code-cell}
from dlchecked.toys import prove
prove("toy-is-so"%s)
```
"""
GOOD = f"# Toy\n{CLAIM}{CHECK % ''}\nSee {{claim}}`toy-is-so`.\n"


def ran(output: str) -> list[str]:
    """The pages whose cells a build ran."""
    return sorted(re.findall(r"^book/(\w+) ran in", output, re.MULTILINE))


def cell(source: str) -> str:
    return f"\n```{{code-cell}}\n{source}\n```\n"


def test_a_sound_tiny_book_builds(tiny_book: TinyBook):
    tiny_book.page("toy_topic", GOOD)
    tiny_book.ids("toy-is-so")
    status, output = tiny_book.build()
    assert status == 0, output
    page = tiny_book.html("toy_topic")
    assert 'id="toy-is-so"' in page
    assert 'id="toy-is-so--check"' in page
    assert "Claim 1.1" in page
    assert page.count("a slip") == 2  # in the claim's box, and under the cell


def test_the_pieces_in_which_a_line_arrives_do_not_show(tiny_book: TinyBook):
    pieces = 'for piece in ("ab", "cd\\n", "ef", "\\n"):\n    print(piece, end="", flush=True)'
    tiny_book.page("toy_topic", "# Toy\n" + cell(pieces))
    status, output = tiny_book.build()
    assert status == 0, output
    assert "abcd\nef\n</pre>" in re.sub(r"</?span[^>]*>", "", tiny_book.html("toy_topic"))


BROKEN = {
    "a Sphinx warning": (
        "# Toy\n\n```{nonsense}\n```\n",
        "Unknown directive type",
    ),
    "a failed cell": (
        "# Toy\n" + cell("1 / 0"),
        r"toy_topic.md:\d+: .*(?s:.*)ZeroDivisionError",
    ),
    "a cell that is no Python": ("# Toy\n" + cell("def ("), "SyntaxError"),
    "a cell that writes to its error channel": (
        "# Toy\n" + cell("import warnings; warnings.warn('beware')"),
        "wrote to its error channel",
    ),
    "a broken page reference": ("# Toy\n\n{doc}`nowhere`\n", "unknown document"),
    "a broken label": ("# Toy\n\n{ref}`nowhere`\n", "undefined label"),
    "a broken equation reference": ("# Toy\n\n{eq}`nowhere`\n", "equation not found"),
    "an undefined term": ("# Toy\n\n{term}`nowhere`\n", "term not in glossary"),
    "a citation not in the bibliography": ("# Toy\n\n{cite:t}`nobody`\n", "could not find bibtex"),
    "a link to a function that is not": ("# Toy\n\n{func}`dlchecked.no.thing`\n", "not found"),
    "a formula that KaTeX cannot read": ("# Toy\n\n$\\nosuch{x}$\n", "KaTeX cannot read"),
    "a claim without a check": (f"# Toy\n{CLAIM}", "claim toy-is-so has no check"),
    "a verdict that is not shown": (
        f"# Toy\n{CLAIM}" + cell('from dlchecked.toys import prove\nhidden = prove("toy-is-so")'),
        r"toy_topic.md:\d+ calls one: a verdict must be the last expression",
    ),
    "a check without a claim": (f"# Toy\n{CHECK % ''}", "check of toy-is-so has no claim"),
    "an unknown claim cited": (
        GOOD + "\n{claim}`toy-is-not`\n",
        "no such claim: toy-is-not",
    ),
    "a check without a rejected wrong version": (
        f"# Toy\n{CLAIM}{CHECK % ', wrong=()'}",
        "rejects no wrong version",
    ),
    "a wrong version that passes": (
        f"# Toy\n{CLAIM}{CHECK % ', rejected=False'}",
        "rejects no wrong version",
    ),
    "a check that failed": (
        f"# Toy\n{CLAIM}{CHECK % ', holds=False'}",
        "check of toy-is-so failed",
    ),
    "a claim stated twice": (f"# Toy\n{CLAIM}{CLAIM}{CHECK % ''}", "toy-is-so is taken"),
    "an id in another style": (
        GOOD + CLAIM.replace("toy-is-so", "Toy_is_so"),
        "kebab-case",
    ),
    "a claim without a source": (GOOD + CLAIM.replace(":source: hw0 1(a)\n", ""), "source"),
    "a picture without a text alternative": (
        "# Toy\n" + cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"),
        "picture without a text alternative",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_defect_fails_the_build_and_goes_on_failing_it(tiny_book: TinyBook, case: str):
    text, words = BROKEN[case]
    tiny_book.page("toy_topic", text)
    tiny_book.ids("toy-is-so") if "{claim} toy-is-so" in text else None
    for attempt in ("first", "second"):
        status, output = tiny_book.build()
        assert status != 0, f"{case} passed the {attempt} build:\n{output}"
        assert re.search(words, output), f"{case}, {attempt} build, says:\n{output}"
    tiny_book.page("toy_topic", GOOD)
    tiny_book.ids("toy-is-so")
    status, output = tiny_book.build()
    assert status == 0, f"mended, and still:\n{output}"


def test_an_id_is_permanent_and_a_tombstone_keeps_its_place(tiny_book: TinyBook):
    renamed = GOOD.replace("toy-is-so", "toy-is-right")
    tiny_book.page("toy_topic", renamed)
    tiny_book.ids("toy-is-so", "toy-is-right")
    status, output = tiny_book.build()
    assert status != 0
    assert "claim toy-is-so is gone from book/toy_topic" in output

    stone = "\n```{tombstone} toy-is-so\n:moved-to: toy-is-right\nThe word was vague.\n```\n"
    tiny_book.page("toy_topic", renamed + stone)
    status, output = tiny_book.build()
    assert status == 0, output
    page = tiny_book.html("toy_topic")
    assert 'id="toy-is-so"' in page
    assert re.search(r'Withdrawn: toy-is-so.*href="#toy-is-right"', page, re.DOTALL)


def test_a_new_id_must_be_listed_and_begin_with_the_topic(tiny_book: TinyBook):
    tiny_book.page("toy_topic", GOOD)
    status, output = tiny_book.build()
    assert status != 0
    assert "claim toy-is-so is new" in output

    tiny_book.page("toy_topic", GOOD.replace("toy-is-so", "game-is-so"))
    tiny_book.ids("game-is-so")
    status, output = tiny_book.build()
    assert status != 0
    assert "must begin with a word of its topic: toy, topic" in output


def test_a_withdrawn_claim_cannot_be_cited(tiny_book: TinyBook):
    tiny_book.page("toy_topic", "# Toy\n\n```{tombstone} toy-is-so\nIt was not.\n```\n"
                                "\n{claim}`toy-is-so`\n")  # fmt: skip
    tiny_book.ids("toy-is-so")
    status, output = tiny_book.build()
    assert status != 0
    assert "no such claim: toy-is-so" in output


TWO_CHAPTERS = {
    "alpha_page": "# Alpha\n" + cell("from dlchecked.first import answer\nanswer()"),
    "beta_page": "# Beta\n"
    + cell("from dlchecked.other import reply\nreply()")
    + cell('from pathlib import Path\nprint(Path("results/times.json").read_text())'),
}


@pytest.fixture
def two_chapters(tiny_book: TinyBook) -> TinyBook:
    tiny_book.module("base", "def number():\n    return 41 + 1\n")
    tiny_book.module("first", "from .base import number\n\n\ndef answer():\n    return number()\n")
    tiny_book.module("other", "def reply():\n    return 'beta'\n")
    results = tiny_book.folder / "book" / "results"
    results.mkdir()
    (results / "times.json").write_text('{"seconds": 3.5}', encoding="utf-8")
    for name, text in TWO_CHAPTERS.items():
        tiny_book.page(name, text)
    status, output = tiny_book.build()
    assert status == 0, output
    assert ran(output) == ["alpha_page", "beta_page"]
    return tiny_book


def test_nothing_runs_again_after_no_change(two_chapters: TinyBook):
    began = time.monotonic()
    status, output = two_chapters.build()
    assert status == 0, output
    assert ran(output) == []
    assert time.monotonic() - began < 15


def test_an_edited_function_changes_the_pages_that_reach_it_and_no_others(two_chapters: TinyBook):
    assert ">42<" in re.sub(r"\s", "", two_chapters.html("alpha_page"))
    two_chapters.module("base", "def number():\n    return 1000 + 1\n")
    status, output = two_chapters.build()
    assert status == 0, output
    assert ran(output) == ["alpha_page"]
    page = re.sub(r"\s", "", two_chapters.html("alpha_page"))
    assert ">1001<" in page
    assert ">42<" not in page


def test_a_data_file_decides_whether_its_page_runs_again(two_chapters: TinyBook):
    data = two_chapters.folder / "book" / "results" / "times.json"
    data.write_text('{"seconds": 7.25}', encoding="utf-8")
    status, output = two_chapters.build()
    assert status == 0, output
    assert ran(output) == ["beta_page"]
    assert "7.25" in two_chapters.html("beta_page")


def test_other_pins_run_everything_again_and_other_prose_nothing(two_chapters: TinyBook):
    page = two_chapters.folder / "book" / "alpha_page.md"
    page.write_text(page.read_text("utf-8") + "\nAnother sentence.\n", encoding="utf-8")
    status, output = two_chapters.build()
    assert status == 0, output
    assert ran(output) == []
    assert "Another sentence" in two_chapters.html("alpha_page")

    pins = two_chapters.folder / "requirements.txt"
    pins.write_text(pins.read_text("utf-8") + "# another\n", encoding="utf-8")
    status, output = two_chapters.build()
    assert status == 0, output
    assert ran(output) == ["alpha_page", "beta_page"]


@pytest.mark.parametrize(
    "hidden",
    [
        'print(open("/".join(["results", "times.json"])).read())',
        'import importlib\nimportlib.import_module("dlchecked." + "other")',
    ],
)
def test_a_cell_cannot_read_what_the_build_does_not_see(two_chapters: TinyBook, hidden: str):
    two_chapters.page("alpha_page", "# Alpha\n" + cell(hidden))
    status, output = two_chapters.build()
    assert status != 0
    assert "which the build does not see" in output


def test_the_chapter_template_builds(tiny_book: TinyBook):
    import new_chapter

    (tiny_book.folder / "tests").mkdir()
    made = new_chapter.start("small_topic", tiny_book.folder)
    assert [path.name for path in made] == [
        "small_topic.md",
        "small_topic.py",
        "test_small_topic.py",
    ]
    tiny_book.ids("small-topic-closed", "small-topic-runs", page="book/small_topic")
    api = "# API\n\n```{eval-rst}\n.. automodule:: dlchecked.small_topic\n   :members:\n```\n"
    tiny_book.page("api", api)
    listed = "# Ledger\n\n```{ledger}\n```\n"
    tiny_book.page("ledger", listed)
    status, output = tiny_book.build()
    assert status == 0, output
    page = tiny_book.html("small_topic")
    for part in ("Claim 3.1", "proved", "agreed", "Figure 3.1", "<svg", "<math", "Exercise 3.1"):
        assert part in page.replace("\n", " "), part
    data = (tiny_book.folder / "_build" / "html" / "book" / "claims.json").read_text("utf-8")
    assert '"id": "small-topic-closed"' in data
    with pytest.raises(SystemExit, match="already there"):
        new_chapter.start("small_topic", tiny_book.folder)


def test_the_templates_tests_pass(tmp_path: Path):
    import subprocess
    import sys

    shutil.copytree(ROOT / "code", tmp_path / "code")
    shutil.copy(ROOT / "book/_template/geometric_sum.py", tmp_path / "code/dlchecked")
    shutil.copy(ROOT / "book/_template/test_geometric_sum.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {"PYTHONPATH": str(tmp_path / "code"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
