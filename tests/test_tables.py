"""The pages made from data: strict about every row, up to date, and of use without scripts."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from books import TinyBook
from bs4 import BeautifulSoup

from dlchecked_site.claims import ORIGINS, origins
from dlchecked_site.tables import (
    SOURCES,
    problem_complaints,
    repeated,
    statement_complaints,
)

TOY = """\
# Toy

## The first part

```{claim} toy-is-so
:source: hw9 1(a)
It is so: $x^2 \\ge 0$.
```
```{claim} toy-is-fine
:source: answers-a, 1(b); schroff2015facenet
It is fine.
```

```{code-cell}
from dlchecked.toys import prove
prove("toy-is-so")
```
```{code-cell}
prove("toy-is-fine", kind="refute")
```
"""
PROBLEM: dict[str, Any] = {
    "id": "hw9-1a",
    "sheet": "hw9",
    "problem": "1(a)",
    "optional": False,
    "asks": "Whether it is so.",
    "answer": "It is, $x^2 \\ge 0$.",
    "claims": ["toy-is-so"],
}
BLANK = {**PROBLEM, "id": "hw9-1a-blank-1", "problem": "1(a) blank (a)", "section": "toys"}
OTHER = {**PROBLEM, "id": "hw10-1b", "sheet": "hw10", "problem": "1(b)", "optional": True}
RIGHT: dict[str, Any] = {
    "id": "hw9-1a-1",
    "where": "hw9 1(a), its `first` line",
    "lines": 7,
    "by": "printed",
    "says": "It is so.",
    "verdict": "right",
    "why": "It is, {claim}`toy-is-so`.",
    "claims": ["toy-is-so", "toy-is-fine"],
}
WRONG = {**RIGHT, "id": "hw9-1a-2", "verdict": "wrong", "kind": "slip", "lines": "8-9, 12"}
KINDS = [
    {
        "id": "slip",
        "name": "A slip",
        "means": "It slips.",
        "caught_by": "A look.",
        "example": "hw9-1a-2",
    }
]
ERRATA = [
    {
        "id": "erratum-so",
        "where": "hw9 1(a)",
        "printed": "So.",
        "corrected": "$-$So.",
        "claims": ["toy-is-fine"],
        "statement": "hw9-1a-2",
    }
]
AUDIT_PAGE = "# Audit\n\n```{audit-summary}\n```\n\n```{audit-kinds}\n```\n\n```{errata}\n```\n"
AUDIT_PAGE += "\n```{audit-filters}\n```\n"
AUDIT_PAGE += "".join(f"\n## Of {s}\n\n```{{audit}} {s}\n```\n" for s in SOURCES)


def listed(source: str, *statements: dict[str, Any]) -> dict[str, Any]:
    """A source with statements, or with one of its own."""
    own = {**RIGHT, "id": f"{source}-1b-1", "where": "hw10 1(b)"}
    what = {"source": source, "what": "A text.", "left_out": "Opinions."}
    return {**what, "statements": list(statements) or [own]}


GOOD: dict[str, Any] = {
    "problems": [PROBLEM, BLANK, OTHER],
    "audit/kinds": KINDS,
    "audit/errata": ERRATA,
    **{f"audit/{source}": listed(source) for source in SOURCES},
    "audit/hw9": listed("hw9", RIGHT, WRONG),
}


def write(book: TinyBook, data: dict[str, Any]) -> None:
    """Write the data's files."""
    (book.folder / "book" / "audit").mkdir(exist_ok=True)
    for name, content in data.items():
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (book.folder / "book" / f"{name}.yml").write_text(text, encoding="utf-8")


def toy_book(book: TinyBook) -> TinyBook:
    """A book of one chapter with the three pages and sound data."""
    write(book, GOOD)
    book.page("toy_topic", TOY.replace("# Toy\n", "(toys)=\n# Toy\n", 1))
    totals = "# Ledger\n\n```{ledger-totals}\n```\n\n## All\n\n```{ledger}\n```\n"
    book.page("x_ledger", totals)
    book.page("x_problems", "# P\n\n```{problems} hw9\n```\n\n## B\n\n```{problems} hw10\n```\n")
    book.page("x_audit", AUDIT_PAGE)
    book.ids("toy-is-so", "toy-is-fine")
    return book


def parsed(book: TinyBook, name: str) -> BeautifulSoup:
    return BeautifulSoup(book.html(name), "html.parser")


def test_the_pages_show_the_data_and_follow_every_change(tiny_book: TinyBook):
    book = toy_book(tiny_book)
    status, output = book.build()
    assert status == 0, output

    page = parsed(book, "x_problems")
    row, blank, other = page.select("table.dlc-problems tbody tr")
    assert row.select_one("th[scope=row] a")["href"] == "#hw9-1a" == f"#{row['id']}"
    section, claim = row.select("td:last-child a")
    assert section["href"] == "toy_topic.html#the-first-part"
    assert re.fullmatch(r"\d+\.1 The first part", section.get_text())
    assert claim["href"] == "toy_topic.html#toy-is-so"
    assert blank.select_one("td:last-child a")["href"] == "toy_topic.html#toys"
    assert "optional" in other.get_text()
    assert "1 sub-problems, none of them optional; and 1 blanks" in page.get_text()
    assert row.select_one("td .math math"), "texts go through the parser"
    assert not page.select("script[src*='listing.js']"), "no filters, no script"

    page = parsed(book, "x_audit")
    assert [r["id"] for r in page.select("table.dlc-audit tbody tr")][:2] == [
        "hw9-1a-1",
        "hw9-1a-2",
    ]
    wrong = page.find(id="hw9-1a-2")
    assert wrong["data-kind"] == "slip"
    assert wrong.select_one("a[href='#kind-slip']").get_text() == "A slip"
    cited = [link["href"].partition("#")[2] for link in wrong.select("td:last-child a")]
    assert cited == ["toy-is-so", "toy-is-fine"], "what the reason cites is not listed again"
    kind = [cell.get_text(strip=True) for cell in page.find(id="kind-slip")("td")]
    assert kind[1] == "1"
    assert page.find(id="erratum-so").select_one("a[href='#hw9-1a-2']")
    assert "6 statements were judged: 5 right, 1 wrong" in page.get_text()
    form = page.select_one("form.dlc-filters")
    assert form.has_attr("hidden")
    assert form.select_one("[role=status][aria-live=polite]")
    for control in form.select("select, input"):
        assert form.select_one(f"label[for={control['id']}]")

    page = parsed(book, "x_ledger")
    assert "2 claims stand in 1 chapters. 2 checks bind them, and reject 2" in page.get_text()
    fine = page.find(id="row-toy-is-fine")
    assert fine["data-source"] == "answers-a paper"
    assert fine["data-kind"] == "refute"
    assert fine["data-chapter"] == "toy_topic"
    assert page.select("script[src*='listing.js'][defer]")

    before = {name: book.html(name) for name in ("x_ledger", "x_problems", "x_audit")}
    shutil.rmtree(book.folder / "_build" / "html")
    status, output = book.build()
    assert status == 0, output
    assert {name: book.html(name) for name in before} == before, "the same bytes again"

    # A row changes, and so does a section's title on another page.
    write(book, {"problems": [{**PROBLEM, "answer": "Certainly."}, OTHER]})
    book.page("toy_topic", TOY.replace("The first part", "The only part"))
    status, output = book.build()
    assert status == 0, output
    text = " ".join(parsed(book, "x_problems").get_text().split())
    assert "Certainly." in text
    assert "The only part" in text

    # A claim goes: what cites it fails, though its own file is as it was.
    stone = "```{tombstone} toy-is-fine\nIt was not.\n```\n"
    gone = re.sub(r"```\{claim\} toy-is-fine.*?```\n", stone, TOY, flags=re.DOTALL)
    book.page("toy_topic", gone.replace('prove("toy-is-fine", kind="refute")', "1 + 1"))
    status, output = book.build()
    assert status != 0
    assert re.search(r"audit/errata.yml:1: WARNING: no such claim: toy-is-fine", output)


def test_what_does_not_fit_fails_the_build_and_names_its_line(tiny_book: TinyBook):
    book = toy_book(tiny_book)
    bad = copy.deepcopy(GOOD)
    bad["problems"][0]["claims"] = ["toy-is-not"]
    bad["problems"][1] = {**OTHER, "id": "hw9-1b", "sheet": "hw11"}
    bad["audit/hw9"]["statements"][1]["kind"] = "blunder"
    bad["audit/hw10"]["statements"][0]["why"] = "{claim}`toy-was-so` and {term}`nothing`."
    del bad["audit/answers-a"]["statements"][0]["where"]
    bad["audit/answers-b"]["statements"] *= 2
    del bad["audit/answers-c"]["left_out"]
    bad["audit/errata"][0]["statement"] = "hw9-9"
    write(book, bad)
    status, output = book.build()
    assert status != 0
    for words in (
        r"problems.yml:1: WARNING: no such claim: toy-is-not",
        r"problems.yml:\d+: WARNING: hw9-1b: unknown sheet hw11",
        r"hw9.yml:\d+: WARNING: hw9-1a-2: unknown kind blunder",
        r"kinds.yml:1: WARNING: slip: no statement is of this kind",
        r"kinds.yml:1: WARNING: slip: its example, hw9-1a-2, is no statement of this kind",
        r"hw10.yml:5: WARNING: no such claim: toy-was-so",
        r"hw10.yml:5: WARNING: term not in glossary",
        r"answers-a.yml:\d+: WARNING: answers-a-1b-1: no where",
        r"answers-b.yml:\d+: WARNING: answers-b-1b-1: its id is taken",
        r"answers-c.yml:1: WARNING: answers-c: no left_out",
        r"errata.yml:1: WARNING: erratum-so: unknown statement hw9-9",
    ):
        assert re.search(words, output), f"{words}\n{output}"


def test_a_page_cannot_ask_for_what_is_not_there(tiny_book: TinyBook):
    write(tiny_book, {"problems": {"a": 1}, "audit/kinds": KINDS})
    asked = ("{problems} hw11", "{audit} gossip", "{problems} hw9", "{audit} hw9")
    tiny_book.page("x_page", "# Page\n" + "".join(f"\n```{name}\n```\n" for name in asked))
    status, output = tiny_book.build()
    assert status != 0
    for words in (
        "unknown hw11, choose from hw9, hw10",
        "unknown gossip, choose from hw9",
        "book/problems.yml: a list of mappings is needed",
        "book/audit/hw9.yml: .*No such file",
    ):
        assert re.search(words, output), f"{words}\n{output}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"kind": "slip"}, ["what is right has no kind"]),
        ({"verdict": "wrong"}, ["what is wrong needs a kind"]),
        ({"verdict": "incomplete"}, ["what is incomplete needs a kind"]),
        ({"verdict": "uncheckable", "claims": []}, []),
        ({"verdict": "wrong", "kind": "blunder"}, ["unknown kind blunder"]),
        ({"verdict": "maybe"}, ["unknown verdict maybe"]),
        ({"by": "someone"}, ["unknown author someone"]),
        ({"id": "hw10-1a-1"}, ["its id must begin with hw9-"]),
        ({"id": "hw9-1a_1"}, ["its id is not in kebab-case"]),
        ({"where": "page 3"}, ["where must begin with a place in a sheet, such as hw10 1(a)(i)"]),
        ({"where": "hw9, heading"}, []),
        ({"lines": "somewhere"}, ["lines must be numbers, such as 41-44"]),
        ({"says": ""}, ["says cannot be ''"]),
        ({"claims": "toy-is-so"}, ["claims cannot be 'toy-is-so'"]),
        ({"claims": ["a-b", "a-b"]}, ["claim a-b is named twice"]),
        ({"whys": "So."}, ["unknown field whys"]),
    ],
)
def test_a_statement_is_complete(change: dict[str, Any], words: list[str]):
    assert statement_complaints({**RIGHT, **change}, "hw9", ["slip"]) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"claims": [], "section": "toys"}, []),
        ({"claims": []}, ["it needs a claim, or a section"]),
        ({"sheet": "hw8"}, ["unknown sheet hw8"]),
        ({"id": "hw10-1a"}, ["its id must begin with hw9-"]),
        ({"optional": "no"}, ["optional cannot be 'no'"]),
    ],
)
def test_a_problem_is_complete(change: dict[str, Any], words: list[str]):
    assert problem_complaints({**PROBLEM, **change}) == words


def test_repeated_ids_are_found():
    assert repeated(["a", "b", "a"]) == {"a"}


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("hw9 1(b), and beyond: any mean", ["hw9", "beyond"]),
        ("hw10 1(a)(ii); answers-c, 1(a)", ["hw10", "answers-c"]),
        ("schroff2015facenet, table 1", ["paper"]),
        ("our own measurement, benchmarks/decoding.py", ["own"]),
    ],
)
def test_a_claims_source_is_understood(source: str, keys: list[str]):
    assert origins(source) == keys
    assert set(keys) <= set(ORIGINS)


def test_every_claims_source_is_one_that_the_filter_knows(site: Path):
    data = json.loads((site / "book" / "claims.json").read_text("utf-8"))
    assert [entry["id"] for entry in data if not origins(entry["source"])] == []


def test_in_a_browser_filters_hide_rows_and_without_scripts_all_stand(
    tiny_book: TinyBook, browser: Any
):
    status, output = toy_book(tiny_book).build()
    assert status == 0, output
    folder = tiny_book.folder / "_build" / "html" / "book"
    tab = browser.new_page()
    rows = tab.locator("table.dlc-ledger tbody tr")
    said = tab.locator("form.dlc-filters [role=status]")

    def shown() -> list[str]:
        return [row.get_attribute("id") for row in rows.all() if row.is_visible()]

    both, fine = ["row-toy-is-so", "row-toy-is-fine"], ["row-toy-is-fine"]
    # From the file itself: filters need no network and no server.
    tab.goto(f"{(folder / 'x_ledger.html').as_uri()}")
    assert shown() == both
    assert said.inner_text() == "2 of 2 claims"
    for field, value in (("Verdict", "refute"), ("Source", "paper")):
        tab.get_by_label(field, exact=True).select_option(value)
        assert shown() == fine
        tab.get_by_role("button", name="Show all").click()
        tab.wait_for_function("document.querySelector('[role=status]').innerText[0] == '2'")
        assert shown() == both
    tab.get_by_label("Text", exact=True).fill("so:  HW9")
    assert shown() == both[:1]
    assert said.inner_text() == "1 of 2 claims"
    # A link to a row that is hidden shows it again.
    tab.evaluate("location.hash = 'row-toy-is-fine'")
    tab.wait_for_function("document.querySelector('[role=status]').innerText[0] == '2'")
    assert shown() == both
    tab.goto(f"{(folder / 'x_ledger.html').as_uri()}?kind=refute")
    assert shown() == fine

    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto((folder / "x_ledger.html").as_uri())
    assert not plain.locator("form.dlc-filters").is_visible()
    assert all(row.is_visible() for row in plain.locator("table.dlc-ledger tbody tr").all())
    plain.close()
    tab.close()
