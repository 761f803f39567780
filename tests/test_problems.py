"""The problems' page has each sub-problem of both sheets once, and what it cites is there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from books import ROOT
from bs4 import BeautifulSoup

from dlchecked_site.tables import LINE, PROBLEMS, SHEETS, problem_complaints, read
from ids import claims_made

# Every sub-problem of the two sheets: the letters of each problem, and the parts of each letter.
# Not listed are the administrative problems, hw9 7 and hw10 6.
SUB_PROBLEMS = {
    "hw9": {
        1: "a b c",
        2: "a b",
        3: "a b",
        4: "a b c d e f g",
        5: "a:i,ii b:i,ii,iii,iv c:i,ii d:i,ii e",
        6: "a b:i,ii,iii c d",
    },
    "hw10": {
        1: "a:i,ii b",
        2: "a b c",
        3: "a",
        4: "a:i,ii,iii,iv,v,vi,vii,viii,ix b:i,ii,iii,iv,v",
        5: "a b c d e f g h i j",
    },
}
OPTIONAL = {"hw10 1(b)", "hw10 2(c)"}
BLANKS = [f"hw9 3(a) blank ({letter})" for letter in "abcdefgh"]


def sub_problems() -> list[str]:
    """Both sheets' sub-problems by number: hw9 1(a), and so on."""
    found = []
    for sheet, problems in SUB_PROBLEMS.items():
        for number, letters in problems.items():
            for letter in letters.split():
                name, _, parts = letter.partition(":")
                ends = [f"({part})" for part in parts.split(",")] if parts else [""]
                found += [f"{sheet} {number}({name}){end}" for end in ends]
    return found


ROWS: list[dict[str, Any]] = read(ROOT / PROBLEMS)


def name_of(row: dict[str, Any]) -> str:
    return f"{row['sheet']} {row['problem']}"


def test_each_sub_problem_has_one_row_in_the_sheets_order():
    names = [name_of(row) for row in ROWS]
    assert len(sub_problems()) == 62
    assert [name for name in names if name not in BLANKS] == sub_problems()
    at = names.index("hw9 3(a)")
    assert names[at + 1 : at + 9] == BLANKS


def test_the_optional_ones_are_marked():
    assert {name_of(row) for row in ROWS if row["optional"]} == OPTIONAL


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_row_is_complete_and_short(row: dict[str, Any]):
    assert problem_complaints(row) == []
    # The id is the number without its brackets; blanks are counted.
    number = re.sub(r"[()]", "", row["problem"].partition(" blank")[0])
    assert re.fullmatch(rf"{row['sheet']}-{number}(-blank-\d)?", row["id"])
    for field, longest in (("asks", 120), ("answer", 260)):
        assert len(row[field]) <= longest, field
        assert "\n" not in row[field]
        assert row[field][-1] in ".`", "a sentence, or a piece of code"


def test_ids_are_unique():
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_each_claim_cited_is_made_on_a_page():
    made = dict(claims_made(ROOT / "book"))
    cited = {claim for row in ROWS for claim in row["claims"]}
    cited |= {c for row in ROWS for c in re.findall(r"\{claim\}`([^`]+)`", row["answer"])}
    assert cited <= set(made)


def test_lines_are_short_enough_to_read_as_text():
    text = (ROOT / PROBLEMS).read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert all(row[LINE] for row in ROWS)


def test_the_page_shows_every_row_with_its_section_and_its_claims(site):
    text = (site / "book" / "problems.html").read_text("utf-8")
    page = BeautifulSoup(text, "html.parser")
    rows = page.select("table.dlc-problems tbody tr")
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    for shown, row in zip(rows, ROWS, strict=True):
        assert shown.select_one("th a")["href"] == f"#{row['id']}"
        links = [link["href"] for link in shown.select("td:last-child a")]
        assert [link.partition("#")[2] for link in links[1:]] == row["claims"]
        assert "#" in links[0] or row.get("section")
    counted = [p.get_text() for p in page.select("p") if "sub-problems" in p.get_text()]
    for sheet in SHEETS:
        ours = [row for row in ROWS if row["sheet"] == sheet and "blank" not in row["problem"]]
        assert any(line.startswith(f"{len(ours)} sub-problems") for line in counted), sheet
