"""The audit is complete in itself: places, verdicts, kinds, claims, and numbers that add up."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from books import ROOT
from bs4 import BeautifulSoup
from test_problems import sub_problems

from dlchecked_site.tables import (
    AUDIT,
    AUTHORS,
    ERRATUM,
    FAULTS,
    IDS,
    KIND,
    SOURCES,
    VERDICTS,
    addresses,
    complaints,
    read,
    statement_complaints,
)
from ids import claims_made

DATA = {source: read(ROOT / AUDIT / f"{source}.yml") for source in SOURCES}
STATEMENTS: dict[str, list[dict[str, Any]]] = {s: DATA[s]["statements"] for s in SOURCES}
EVERY = [entry for rows in STATEMENTS.values() for entry in rows]
KINDS = {entry["id"]: entry for entry in read(ROOT / AUDIT / "kinds.yml")}
ERRATA: list[dict[str, Any]] = read(ROOT / AUDIT / "errata.yml")


def test_there_is_one_file_for_each_source_and_no_other():
    files = {path.stem for path in (ROOT / AUDIT).glob("*.yml")}
    assert files == {*SOURCES, "kinds", "errata"}
    for source, data in DATA.items():
        assert data["source"] == source
        assert data["what"]
        assert data["left_out"]


@pytest.mark.parametrize("source", SOURCES)
def test_each_statement_has_a_place_a_verdict_and_a_kind_where_one_is_due(source: str):
    found = {
        entry["id"]: wrong
        for entry in STATEMENTS[source]
        if (wrong := statement_complaints(entry, source, KINDS))
    }
    assert found == {}


def places() -> set[str]:
    """The sub-problems, and what contains them: hw10 1(a)(ii), hw10 1(a), hw10 1, hw10."""
    found = set()
    for name in sub_problems():
        while name:
            found.add(name)
            name = re.sub(r"(\([a-z]+\)| \d+|hw\d+)$", "", name)
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_each_statement_stands_in_a_problem_of_its_sheet(source: str):
    sheet = source if source.startswith("hw") else "hw10"
    for entry in STATEMENTS[source]:
        place = re.match(r"hw\d+( \d+(\([a-z]+\))*)?", entry["where"])
        assert place, entry["id"]
        assert place[0] in places(), entry["id"]
        assert place[0].split()[0] == sheet, entry["id"]


@pytest.mark.parametrize("source", SOURCES)
def test_sheets_print_models_answer_and_students_annotate(source: str):
    said = {entry["by"] for entry in STATEMENTS[source]}
    assert said <= ({"printed"} if source.startswith("hw") else {"answer", "annotation"})
    if source in ("answers-a", "answers-c"):
        assert "annotation" in said


def test_ids_are_unique_and_permanent():
    ids = addresses(ROOT)
    assert [name for name, times in Counter(ids).items() if times > 1] == []
    listed = (ROOT / IDS).read_text("utf-8").split()
    assert [name for name in listed if name not in ids] == [], "an address is never withdrawn"
    assert [name for name in ids if name not in listed] == [], "`make ids` adds new ones"


def test_each_kind_is_used_has_an_example_and_a_question_in_the_checklist():
    page = (ROOT / "book" / "audit.md").read_text("utf-8")
    used = Counter(entry.get("kind") for entry in EVERY)
    by_id = {entry["id"]: entry for entry in EVERY}
    for name, entry in KINDS.items():
        assert complaints(entry, KIND) == []
        assert used[name] > 0, name
        assert by_id[entry["example"]]["kind"] == name
        assert f"{{ref}}`kind-{name}`" in page, f"no question of the checklist leads to {name}"


def test_each_correction_is_complete_and_says_what_shows_it():
    by_id = {entry["id"]: entry for entry in EVERY}
    for entry in ERRATA:
        assert complaints(entry, ERRATUM, ("statement",)) == [], entry["id"]
        assert entry["claims"] or entry.get("statement"), entry["id"]
        if "statement" in entry:
            assert by_id[entry["statement"]]["verdict"] in FAULTS, entry["id"]


def test_each_claim_cited_is_made_on_a_page():
    made = dict(claims_made(ROOT / "book"))
    for entry in [*EVERY, *ERRATA]:
        texts = [value for value in entry.values() if isinstance(value, str)]
        cited = {c for text in texts for c in re.findall(r"\{claim\}`([^`]+)`", text)}
        assert {*cited, *entry["claims"]} <= set(made), entry["id"]


def test_what_is_wrong_is_shown_to_be_wrong():
    for entry in EVERY:
        if entry["verdict"] in FAULTS:
            assert entry["claims"] or len(entry["why"]) > 40, entry["id"]


def test_the_pages_lesson_holds_for_each_source():
    for source, entries in STATEMENTS.items():
        verdicts = Counter(entry["verdict"] for entry in entries)
        assert verdicts["right"] > len(entries) / 2, source
        assert verdicts["wrong"] > 0, source


def test_every_reason_is_one_line():
    long = {entry["id"]: len(entry["why"]) for entry in EVERY if len(entry["why"]) > 330}
    assert long == {}
    assert [entry["id"] for entry in EVERY if "\n" in entry["why"]] == []


def test_no_file_of_ours_and_no_path_is_named():
    for path in (ROOT / AUDIT).glob("*.yml"):
        text = path.read_text("utf-8")
        assert not re.search(r"\.txt\b|/work|/tmp|[0-9a-f]{16}", text), path.name
        assert max(map(len, text.splitlines())) <= 100, path.name


@pytest.fixture(scope="module")
def page(site) -> BeautifulSoup:
    return BeautifulSoup((site / "book" / "audit.html").read_text("utf-8"), "html.parser")


def test_the_page_shows_every_statement_kind_and_correction(page):
    shown = [row["id"] for row in page.select("table.dlc-audit tbody tr")]
    assert shown == [entry["id"] for entry in EVERY]
    shown = [row["id"] for row in page.select("table.dlc-kinds tbody tr")]
    assert shown == [f"kind-{name}" for name in KINDS]
    shown = [row["id"] for row in page.select("table.dlc-errata tbody tr")]
    assert shown == [entry["id"] for entry in ERRATA]


def test_the_pages_numbers_are_those_of_the_data(page):
    by_source, by_author = page.select("table.dlc-counts")
    rows = [[cell.get_text(strip=True) for cell in row("td")] for row in by_source("tr")[1:]]
    groups = [*STATEMENTS.values(), EVERY]
    for shown, entries in zip(rows, groups, strict=True):
        counts = Counter(entry["verdict"] for entry in entries)
        assert shown == [str(len(entries)), *(str(counts[verdict]) for verdict in VERDICTS)]
    rows = [row("td")[0].get_text(strip=True) for row in by_author("tr")[1:]]
    said = Counter(entry["by"] for entry in EVERY)
    assert rows == [str(said[author]) for author in AUTHORS]
    text = " ".join(page.get_text().split())
    assert f"{len(EVERY)} statements were judged" in text
