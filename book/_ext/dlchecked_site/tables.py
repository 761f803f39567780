"""The pages that are made from data: the sheets' problems, and the audit of the sources.

``{problems}`` lists the sub-problems of a sheet from ``book/problems.yml``; ``{audit}``,
``{audit-summary}``, ``{audit-kinds}`` and ``{errata}`` show ``book/audit/``. Texts are MyST and go
through the page's own parser. What the data lacks, or cites in vain, is a warning that names its
file and line, and every warning fails the build.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from .claims import LedgerDomain, section_number
from .listing import form, link_here, listing, listing_row, row, table
from .outputs import inline, part

logger = logging.getLogger(__name__)

PROBLEMS = "book/problems.yml"
AUDIT = "book/audit"
# Every address that the audit ever had: people cite them. `make ids` adds new ones.
IDS = "book/audit/ids.txt"
SHEETS = ("hw9", "hw10")
SOURCES = ("hw9", "hw10", "answers-a", "answers-b", "answers-c")
VERDICTS = {
    "right": "✓ right",
    "wrong": "✗ wrong",
    "incomplete": "◐ incomplete",
    "extraction": "? extraction",
    "uncheckable": "– not checkable",
}
SAID = {"extraction": "possibly the extraction's fault", "uncheckable": "not checkable here"}
AUTHORS = {
    "answer": "a model's answer",
    "annotation": "a student's annotation",
    "printed": "printed",
}
FAULTS = frozenset(("wrong", "incomplete"))
# What each kind of check does when it catches a fault, for those who have pen and paper.
CATCHES = {
    "prove": "`prove`: work it out with symbols, and put numbers into both ends",
    "count": "`count`: count both sides at sizes small enough to do so",
    "agree": "`agree`: compute it in two ways, and compare",
    "observe": "`observe`: run it, and look",
    "measure": "`measure`: estimate it, with an interval",
    "refute": "`refute`: look for one case in which it fails",
    "quote": "`quote`: open the source at the very place",
}
LINE = "line of the file"

Row = dict[str, Any]
Fields = dict[str, type | tuple[type, ...]]

PROBLEM: Fields = {
    "id": str,
    "sheet": str,
    "problem": str,
    "optional": bool,
    "asks": str,
    "answer": str,
    "claims": list,
}
STATEMENT: Fields = {
    "id": str,
    "where": str,
    "lines": (int, str),
    "by": str,
    "says": str,
    "verdict": str,
    "why": str,
    "claims": list,
}
KIND: Fields = {"id": str, "name": str, "means": str, "caught_by": str, "example": str}
ERRATUM: Fields = {"id": str, "where": str, "printed": str, "corrected": str, "claims": list}

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PLACE = re.compile(r"(hw9|hw10)( \d+(\([a-z]+\))*|, )")
_LINES = re.compile(r"\d+(-\d+)?(, ?\d+(-\d+)?)*")


# --- reading ----------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader whose mappings know their lines."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Row:
        """The mapping, with the line where it begins."""
        return {**super().construct_mapping(node, deep=deep), LINE: node.start_mark.line + 1}


@lru_cache(32)
def _parsed(path: Path, modified: int) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


def read(path: Path) -> Any:
    """What a YAML file holds; each mapping has its line under :data:`LINE`."""
    return _parsed(path, path.stat().st_mtime_ns)


def addresses(root: Path) -> list[str]:
    """The ids of the audit's statements, kinds and corrections, in the page's order."""
    kinds = [f"kind-{entry['id']}" for entry in read(root / AUDIT / "kinds.yml")]
    errata = [entry["id"] for entry in read(root / AUDIT / "errata.yml")]
    files = [read(root / AUDIT / f"{source}.yml") for source in SOURCES]
    return [*kinds, *errata, *(entry["id"] for data in files for entry in data["statements"])]


# --- what must fit together -------------------------------------------------------------------


def complaints(entry: Row, fields: Fields, optional: Sequence[str] = ()) -> list[str]:
    """What is missing from a row, too much, or of another type."""
    if not isinstance(entry, dict):
        return [f"a row is a mapping, not {entry!r}"]
    found = [f"no {name}" for name in fields if name not in entry]
    known = {*fields, *optional, LINE}
    found += [f"unknown field {name}" for name in entry if name not in known]
    for name, kind in fields.items():
        if name in entry and (not isinstance(entry[name], kind) or entry[name] == ""):
            found.append(f"{name} cannot be {entry[name]!r}")
    if isinstance(entry.get("claims"), list):
        found += [f"claim {name} is named twice" for name in sorted(repeated(entry["claims"]))]
    if "id" in entry and not _ID.fullmatch(str(entry["id"])):
        found.append("its id is not in kebab-case")
    return found


def problem_complaints(entry: Row) -> list[str]:
    """What is wrong with a row of the problems."""
    found = complaints(entry, PROBLEM, ("section",))
    if entry.get("sheet") not in SHEETS:
        found.append(f"unknown sheet {entry.get('sheet')}")
    elif not str(entry.get("id")).startswith(f"{entry['sheet']}-"):
        found.append(f"its id must begin with {entry['sheet']}-")
    if not entry.get("claims") and not entry.get("section"):
        found.append("it needs a claim, or a section")
    return found


def statement_complaints(entry: Row, source: str, kinds: Iterable[str]) -> list[str]:
    """What is wrong with a judged statement."""
    found = complaints(entry, STATEMENT, ("kind",))
    verdict, kind = entry.get("verdict"), entry.get("kind")
    if verdict not in VERDICTS:
        found.append(f"unknown verdict {verdict}")
    if entry.get("by") not in AUTHORS:
        found.append(f"unknown author {entry.get('by')}")
    if verdict in FAULTS and kind is None:
        found.append(f"what is {verdict} needs a kind")
    if verdict not in FAULTS and kind is not None:
        found.append(f"what is {verdict} has no kind")
    if kind is not None and kind not in kinds:
        found.append(f"unknown kind {kind}")
    if not str(entry.get("id")).startswith(f"{source}-"):
        found.append(f"its id must begin with {source}-")
    if not _PLACE.match(str(entry.get("where"))):
        found.append("where must begin with a place in a sheet, such as hw10 1(a)(i)")
    if not _LINES.fullmatch(str(entry.get("lines"))):
        found.append("lines must be numbers, such as 41-44")
    return found


def repeated(ids: Iterable[str]) -> set[str]:
    """The ids that occur more than once."""
    return {name for name, times in Counter(ids).items() if times > 1}


# --- directives -------------------------------------------------------------------------------


class section_link(nodes.Inline, nodes.Element):  # noqa: N801 - docutils names nodes in lower case
    """Where the link to a claim's section goes, when every page has been read."""


class DataDirective(SphinxDirective):
    """What the directives share: reading files, warning of rows, parsing texts."""

    @property
    def root(self) -> Path:
        """The folder of the book's settings."""
        return Path(self.env.srcdir)

    def chosen(self, options: Sequence[str]) -> str:
        """The directive's argument, which must be one of these."""
        if self.arguments[0] not in options:
            raise self.error(f"unknown {self.arguments[0]}, choose from {', '.join(options)}")
        found: str = self.arguments[0]
        return found

    def read(self, file: str) -> Any:
        """A file's content; the page is made anew when it changes."""
        self.env.note_dependency(file)
        try:
            return read(self.root / file)
        except (OSError, yaml.YAMLError) as error:
            raise self.error(f"{file}: {error}") from None

    def rows(self, file: str, key: str = "") -> list[Row]:
        """A file's list of mappings."""
        found = self.read(file)
        found = found.get(key) if key and isinstance(found, dict) else found
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self.error(f"{file}: a list of mappings is needed")
        return found

    def sources(self) -> dict[str, list[Row]]:
        """The statements of every source."""
        return {source: self.rows(f"{AUDIT}/{source}.yml", "statements") for source in SOURCES}

    def kinds(self) -> dict[str, Row]:
        """The kinds of faults by id."""
        return {entry.get("id", ""): entry for entry in self.rows(f"{AUDIT}/kinds.yml")}

    def sound(self, file: str, entry: Row, found: list[str]) -> bool:
        """Warn of what is wrong with a row; a row with nothing wrong is shown."""
        for words in found:
            logger.warning("%s: %s", entry.get("id", "a row without an id"), words,
                           location=f"{file}:{entry[LINE]}")  # fmt: skip
        return not found

    def text(self, file: str, entry: Row, words: str) -> list[nodes.Node]:
        """A text's nodes; what it cites in vain is reported at its row."""
        made, messages = self.state.inline_text(words, self.lineno)
        for node in made:
            for reference in node.findall(pending_xref):
                reference.source, reference.line = file, entry[LINE]
        return [*made, *messages]

    def paragraph(self, file: str, entry: Row, words: str, *classes: str) -> nodes.paragraph:
        """A text as a paragraph."""
        return nodes.paragraph("", "", *self.text(file, entry, words), classes=list(classes))

    def claims(self, file: str, entry: Row, besides: str = "") -> list[nodes.Node]:
        """A row's claims as links, but those that a text cites already."""
        left = [c for c in entry["claims"] if f"{{claim}}`{c}`" not in besides]
        cited = ", ".join(f"{{claim}}`{name}`" for name in left)
        return [self.paragraph(file, entry, cited, "dlc-cites")] if left else []

    def target(self, id: str, title: str) -> str:
        """Let ``{ref}`` reach a row, from any page."""
        standard = self.env.domains["std"]
        standard.note_hyperlink_target(id, self.env.docname, id, title)  # type: ignore[attr-defined]
        return id


class ProblemsDirective(DataDirective):
    """List the sub-problems of a sheet."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Say how many there are, and make the table."""
        sheet = self.chosen(SHEETS)
        every = self.rows(PROBLEMS)
        twice = repeated(entry.get("id", "") for entry in every)
        shown = []
        for entry in every:
            found = problem_complaints(entry)
            found += ["its id is taken"] if entry.get("id") in twice else []
            ours = entry.get("sheet") == sheet
            if ours or entry.get("sheet") not in SHEETS:
                shown += [entry] if self.sound(PROBLEMS, entry, found) and ours else []
        blanks = sum("blank" in entry["problem"] for entry in shown)
        optional = sum(entry["optional"] for entry in shown)
        counted = f"{len(shown) - blanks} sub-problems"
        counted += f", {optional} of them optional" if optional else ", none of them optional"
        counted += f"; and {blanks} blanks, each with a row of its own." if blanks else "."
        columns = ("Problem", "What is asked, and the answer", "Where it is worked out")
        made = table("problems", f"The problems of {sheet}", columns, map(self.line, shown))
        return [nodes.paragraph("", counted), made]

    def line(self, entry: Row) -> listing_row:
        """One sub-problem."""
        name = self.target(entry["id"], f"{entry['sheet']} {entry['problem']}")
        head = nodes.paragraph("", "", link_here(name, part("number", entry["problem"])))
        if entry["optional"]:
            head += [nodes.Text(" "), part("tag", "optional")]
        said = [
            self.paragraph(PROBLEMS, entry, entry["asks"], "dlc-asks"),
            self.paragraph(PROBLEMS, entry, entry["answer"]),
        ]
        if "section" in entry:
            place = self.paragraph(PROBLEMS, entry, f"{{ref}}`{entry['section']}`")
        else:
            place = nodes.paragraph("", "", section_link(claim=entry["claims"][0]))
        blank = "blank" in entry["problem"]
        made = row(head, said, [place, *self.claims(PROBLEMS, entry)], id=name)
        made["classes"] = ["dlc-blank"] if blank else []
        return made


class AuditDirective(DataDirective):
    """Show the judged statements of a source."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Say what the source is and what was left out, and make the table."""
        source = self.chosen(SOURCES)
        file = f"{AUDIT}/{source}.yml"
        data, kinds = self.read(file), self.kinds()
        statements = self.sources()
        twice = repeated(s.get("id", "") for rows in statements.values() for s in rows)
        shown = []
        for entry in statements[source]:
            found = statement_complaints(entry, source, kinds)
            found += ["its id is taken"] if entry.get("id") in twice else []
            shown += [entry] if self.sound(file, entry, found) else []
        missing = [f"no {name}" for name in ("what", "left_out") if not data.get(name)]
        missing += [] if data.get("source") == source else [f"its source must be {source}"]
        if not self.sound(file, {"id": source, **data}, missing):
            return []
        what = self.paragraph(file, data, data["what"])
        what["ids"] = [f"audit-{source}"]
        left_out = self.paragraph(file, data, f"*Left out:* {data['left_out']}", "dlc-left-out")
        columns = ("Where", "It says", "Verdict", "Why")
        lines = [self.line(file, entry, kinds) for entry in shown]
        return [what, left_out, table("audit", f"The statements of {source}", columns, lines)]

    def line(self, file: str, entry: Row, kinds: dict[str, Row]) -> listing_row:
        """One statement."""
        name = self.target(entry["id"], entry["id"])
        head = [
            nodes.paragraph("", "", *inline(entry["where"])),
            nodes.paragraph("", "", link_here(name, part("id", name))),
            nodes.paragraph("", "", part("source", AUTHORS[entry["by"]])),
        ]
        verdict = [nodes.paragraph("", "", judged(entry["verdict"]))]
        if kind := entry.get("kind"):
            words = f"{{ref}}`{kinds[kind]['name']} <kind-{kind}>`"
            verdict.append(self.paragraph(file, entry, words, "dlc-kind"))
        why = [self.paragraph(file, entry, entry["why"])]
        why += self.claims(file, entry, besides=entry["why"])
        data = {
            "verdict": entry["verdict"],
            "kind": entry.get("kind", ""),
            "by": entry["by"],
            "source": Path(file).stem,
        }
        says = self.paragraph(file, entry, entry["says"])
        return row(head, says, verdict, why, id=name, data=data)


class AuditFiltersDirective(DataDirective):
    """Filter the judged statements of all sources."""

    def run(self) -> list[nodes.Node]:
        """Make the form."""
        kinds = [(name, entry["name"]) for name, entry in self.kinds().items()]
        choices = [
            ("source", "Source", [(source, source) for source in SOURCES]),
            ("verdict", "Verdict", list(VERDICTS.items())),
            ("kind", "Kind", kinds),
            ("by", "Said by", list(AUTHORS.items())),
        ]
        return [form("table.dlc-audit", ("statement", "statements"), choices)]


class AuditSummaryDirective(DataDirective):
    """Count the verdicts, by source and by who said it."""

    def run(self) -> list[nodes.Node]:
        """Make a sentence and two tables."""
        sources = self.sources()
        every = [entry for rows in sources.values() for entry in rows]
        total = Counter(entry.get("verdict") for entry in every)
        judgements = ", ".join(f"{total[name]} {SAID.get(name, name)}" for name in VERDICTS)
        sentence = f"{len(every)} statements were judged: {judgements}."
        by_source = [
            self.line([nodes.Text(source)], rows, f"audit-{source}")
            for source, rows in sources.items()
        ]
        by_author = [
            self.line([nodes.Text(said)], [e for e in every if e.get("by") == author])
            for author, said in AUTHORS.items()
        ]
        totals = self.line([nodes.Text("all")], every)
        totals["classes"] = ["dlc-total"]
        return [
            nodes.paragraph("", sentence),
            self.counted("Source", "Verdicts by source", [*by_source, totals]),
            self.counted("Said by", "Verdicts by who said it", by_author),
        ]

    def counted(self, first: str, label: str, lines: list[listing_row]) -> listing:
        """A table with a column for each verdict."""
        heads = [first, "Judged", *(words.partition(" ")[2] for words in VERDICTS.values())]
        return table("counts", label, [head[0].upper() + head[1:] for head in heads], lines)

    def line(self, head: list[nodes.Node], entries: list[Row], link: str = "") -> listing_row:
        """One row of counts."""
        if link:
            head = [nodes.reference("", "", *head, refid=link, internal=True)]
        counts = Counter(entry.get("verdict") for entry in entries)
        numbers = [len(entries), *(counts[name] for name in VERDICTS)]
        return row(nodes.paragraph("", "", *head), *(str(number) for number in numbers))


class AuditKindsDirective(DataDirective):
    """Show the kinds of faults, how often each occurs, and what catches it."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        file = f"{AUDIT}/kinds.yml"
        every = {e.get("id"): e for rows in self.sources().values() for e in rows}
        times = Counter(entry.get("kind") for entry in every.values())
        entries = self.rows(file)
        twice = repeated(entry.get("id", "") for entry in entries)
        lines = []
        for entry in entries:
            found = complaints(entry, KIND)
            found += ["its id is taken"] if entry.get("id") in twice else []
            if self.sound(file, entry, found):
                example = every.get(entry["example"], {})
                lines.append(self.line(file, entry, times[entry["id"]], example))
        columns = ("Kind", "What it is", "Times", "What catches it", "An example")
        return [table("kinds", "Kinds of faults", columns, lines)]

    def line(self, file: str, entry: Row, times: int, example: Row) -> listing_row:
        """One kind."""
        name = self.target(f"kind-{entry['id']}", entry["name"])
        if not times:
            self.sound(file, entry, ["no statement is of this kind"])
        if example.get("kind") != entry["id"]:
            words = f"its example, {entry['example']}, is no statement of this kind"
            self.sound(file, entry, [words])
        head = nodes.paragraph("", "", link_here(name, nodes.Text(entry["name"])))
        means = self.paragraph(file, entry, entry["means"])
        catches = CATCHES.get(entry["caught_by"], entry["caught_by"])
        caught = self.paragraph(file, entry, catches)
        shown = self.paragraph(file, entry, f"{{ref}}`{example['id']}`") if example else ""
        return row(head, means, str(times), caught, shown, id=name)


class ErrataDirective(DataDirective):
    """List corrections to the sheets and papers."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        file = f"{AUDIT}/errata.yml"
        known = {entry.get("id") for rows in self.sources().values() for entry in rows}
        entries = self.rows(file)
        twice = repeated(entry.get("id", "") for entry in entries)
        lines = []
        for entry in entries:
            found = complaints(entry, ERRATUM, ("statement",))
            found += ["its id is taken"] if entry.get("id") in twice else []
            if not str(entry.get("id")).startswith("erratum-"):
                found.append("its id must begin with erratum-")
            if entry.get("statement", "") not in {"", *known}:
                found.append(f"unknown statement {entry['statement']}")
            if not entry.get("claims") and not entry.get("statement"):
                found.append("it needs a claim, or a statement")
            if self.sound(file, entry, found):
                lines.append(self.line(file, entry))
        columns = ("Where", "Printed", "It should read", "Shown by")
        return [table("errata", "Corrections", columns, lines)]

    def line(self, file: str, entry: Row) -> listing_row:
        """One correction."""
        name = self.target(entry["id"], entry["where"])
        place = nodes.paragraph("", "", link_here(name, *inline(entry["where"])))
        said = [self.paragraph(file, entry, entry[field]) for field in ("printed", "corrected")]
        shown = self.claims(file, entry)
        if entry.get("statement"):
            words = f"judged as {{ref}}`{entry['statement']}`"
            shown.append(self.paragraph(file, entry, words, "dlc-cites"))
        return row(place, *said, shown, id=name)


def judged(verdict: str) -> nodes.inline:
    """A verdict as the audit shows it."""
    made = part("judged", VERDICTS[verdict])
    made["classes"].append(f"dlc-judged-{verdict}")
    return made


# --- what the pages show ----------------------------------------------------------------------


def link_sections(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link to the sections where claims stand (event ``doctree-resolved``)."""
    env = app.env
    domain: LedgerDomain = env.get_domain("ledger")  # type: ignore[assignment]
    for place in list(doctree.findall(section_link)):
        # That a claim does not exist, its own link says.
        entry = domain.claims.get(place["claim"])
        if entry is None:
            place.replace_self(nodes.Text(place["claim"]))
            continue
        anchor, title = entry["section"]
        number = section_number(env, entry["docname"], anchor)
        text = nodes.Text(f"{number} {title}".strip())
        place.replace_self(make_refnode(app.builder, docname, entry["docname"], anchor, text))


def setup(app: Sphinx) -> None:
    """Register the directives."""
    found: dict[str, type[DataDirective]] = {
        "problems": ProblemsDirective,
        "audit": AuditDirective,
        "audit-filters": AuditFiltersDirective,
        "audit-summary": AuditSummaryDirective,
        "audit-kinds": AuditKindsDirective,
        "errata": ErrataDirective,
    }
    for name, directive in found.items():
        app.add_directive(name, directive)
    app.add_node(section_link)
    app.connect("doctree-resolved", link_sections)
