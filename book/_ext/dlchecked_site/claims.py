"""The ledger's half of the book: claims stated in chapters, joined by id to the checks of cells.

``{claim}`` as a directive states a claim, ``{claim}`` as a role cites one, ``{tombstone}`` keeps
the place of a withdrawn one, ``{ledger}`` lists them all and ``{ledger-totals}`` counts them. What
does not fit together is a warning, and every warning fails the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import clean_astext, make_refnode

from .chapters import claims_checked
from .listing import filters, form, listing, listing_row, row, table
from .outputs import inline, part, verdict

logger = logging.getLogger(__name__)
IDS = "book/ledger_ids.txt"
UNCHECKED = frozenset(("quote", "record"))
# Each kind of check: what its verdict is called, and what that means.
KINDS = {
    "prove": ("proved", "a symbolic identity, relation or limit holds"),
    "count": ("counted", "two exact integers are equal"),
    "agree": ("agreed", "two computations give the same numbers within a stated tolerance"),
    "observe": ("observed", "a behaviour shows on the right object and not on the wrong one"),
    "measure": (
        "measured",
        "the interval of an estimate, at a stated level, contains the value, or lies on the right "
        "side of it",
    ),
    "refute": (
        "refuted",
        "a printed statement fails at a counterexample where its correction holds",
    ),
    "quote": ("quoted", "not checked here: a figure from a paper"),
    "record": ("recorded", "not checked here: a figure of ours, from a committed file"),
}
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")


class claim(nodes.General, nodes.Element):  # noqa: N801 - docutils names nodes in lower case
    """A claim's box."""


class tombstone(nodes.General, nodes.Element):  # noqa: N801
    """The place of a claim that was withdrawn."""


class ledger_table(nodes.General, nodes.Element):  # noqa: N801
    """Where the list of all claims goes."""


class ledger_totals(nodes.General, nodes.Element):  # noqa: N801
    """Where the numbers of claims and checks go."""


class ClaimDirective(SphinxDirective):
    """State a claim: its id, where it comes from, and what it says."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"source": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Make the box; its verdict is filled in when the cells below it are known."""
        name = self.arguments[0].strip()
        if not _ID.fullmatch(name):
            raise self.error(f"a claim's id is two or more words in kebab-case, got {name!r}")
        if not self.options.get("source"):
            raise self.error(f"claim {name} needs a :source:, such as hw9 1(a)")
        self.assert_has_content()
        node = claim(ids=[name], source_text=self.options["source"], text="\n".join(self.content))
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


class TombstoneDirective(SphinxDirective):
    """Keep the anchor of a withdrawn claim, and say why it is gone."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"moved-to": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Make a line that the old address still leads to."""
        name = self.arguments[0].strip()
        self.assert_has_content()
        node = tombstone(ids=[name], moved_to=self.options.get("moved-to", ""))
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


class LedgerDirective(SphinxDirective):
    """List every claim of the book."""

    def run(self) -> list[nodes.Node]:
        """Leave a place; the list is made when every page has been read."""
        link = nodes.reference("", "claims.json", refuri="claims.json")
        data = nodes.paragraph("", "", nodes.Text("The same as data: "), link)
        return [ledger_table(), data]


class LedgerTotalsDirective(SphinxDirective):
    """Count the claims and checks of the book, kind by kind."""

    def run(self) -> list[nodes.Node]:
        """Leave a place, as for the list."""
        return [ledger_totals()]


class ClaimRole(XRefRole):
    """Cite a claim by its id, from any page."""

    def run(self) -> Any:
        """Send the reference to the ledger's domain, also without its prefix."""
        self.name = "ledger:claim"
        return super().run()


class LedgerDomain(Domain):
    """All claims, checks and tombstones of the book, page by page."""

    name = "ledger"
    label = "Ledger"
    roles: ClassVar[dict[str, Any]] = {"claim": ClaimRole(warn_dangling=True)}
    initial_data: ClassVar[dict[str, Any]] = {"claims": {}, "checks": {}, "tombstones": {}}
    dangling_warnings: ClassVar[dict[str, str]] = {"claim": "no such claim: %(target)s"}
    data_version = 1

    @property
    def claims(self) -> dict[str, dict[str, Any]]:
        """Claims by id."""
        return self.data["claims"]

    @property
    def checks(self) -> dict[str, list[dict[str, Any]]]:
        """Checks by page, in the page's order."""
        return self.data["checks"]

    @property
    def tombstones(self) -> dict[str, dict[str, Any]]:
        """Withdrawn claims by id."""
        return self.data["tombstones"]

    def clear_doc(self, docname: str) -> None:
        """Forget what a page holds."""
        self.checks.pop(docname, None)
        for kept in (self.claims, self.tombstones):
            for name in [name for name, entry in kept.items() if entry["docname"] == docname]:
                del kept[name]

    def merge_domaindata(self, docnames: Iterable[str], otherdata: dict[str, Any]) -> None:
        """Take over what another process read."""
        for docname in docnames:
            if docname in otherdata["checks"]:
                self.checks[docname] = otherdata["checks"][docname]
        for kind in ("claims", "tombstones"):
            self.data[kind].update(
                {n: e for n, e in otherdata[kind].items() if e["docname"] in set(docnames)}
            )

    def process_doc(self, env: BuildEnvironment, docname: str, document: nodes.document) -> None:
        """Note the claims and the verdicts of a page that was just read."""
        for node in document.findall(claim):
            self._note(self.claims, node["ids"][0], docname, node, {
                "source": node["source_text"],
                "text": node["text"],
                "body": [plain(child) for child in node.children],
                "section": _section_of(node),
            })  # fmt: skip
        for node in document.findall(tombstone):
            self._note(self.tombstones, node["ids"][0], docname, node, {
                "moved_to": node["moved_to"],
            })  # fmt: skip
        counts: dict[str, int] = {}
        for node in document.findall(verdict):
            name = node["payload"]["id"]
            counts[name] = counts.get(name, 0) + 1
            suffix = f"-{counts[name]}" if counts[name] > 1 else ""
            node["ids"] = [f"{name}--check{suffix}"]
            entry = {"anchor": node["ids"][0], "payload": node["payload"]}
            self.checks.setdefault(docname, []).append(entry)

    def _note(
        self, kept: dict[str, Any], name: str, docname: str, node: Any, more: dict[str, Any]
    ) -> None:
        for other in (self.claims, self.tombstones):
            if name in other:
                logger.warning("claim id %s is taken, on %s", name, other[name]["docname"],
                               location=node)  # fmt: skip
        kept[name] = {"docname": docname, "line": node.line, **more}

    def resolve_xref(
        self, env: BuildEnvironment, fromdocname: str, builder: Builder, typ: str, target: str,
        node: pending_xref, contnode: nodes.Element,
    ) -> nodes.reference | None:  # fmt: skip
        """Turn a citation into a link that carries the claim's number."""
        entry = self.claims.get(target)
        if entry is None:
            return None
        if not node["refexplicit"]:
            contnode = part("cited", claim_number(env, entry["docname"], target))
        return make_refnode(builder, fromdocname, entry["docname"], target, contnode, target)

    def resolve_any_xref(self, *args: Any) -> list[Any]:
        """Claims are cited by their role alone."""
        return []

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        """What the search and other books can find."""
        for name, entry in self.claims.items():
            yield name, name, "claim", entry["docname"], name, 1

    def checks_of(self, name: str) -> list[dict[str, Any]]:
        """The checks of a claim, on whichever page."""
        return [
            {**check, "docname": docname}
            for docname, checks in self.checks.items()
            for check in checks
            if check["payload"]["id"] == name
        ]


def plain(node: nodes.Node) -> nodes.Node:
    """A copy for another page: math and emphasis stay, anchors and links go."""
    kept = (nodes.math, nodes.math_block, nodes.emphasis, nodes.strong, nodes.literal)
    if isinstance(node, nodes.Text):
        return nodes.Text(node.astext())
    if isinstance(node, nodes.math_block):
        return nodes.math_block(node.astext(), node.astext(), number=None, nowrap=False)
    if isinstance(node, kept):
        return type(node)(node.astext(), node.astext())
    copy = nodes.paragraph() if isinstance(node, nodes.paragraph) else nodes.inline()
    copy.extend(plain(child) for child in node.children)
    return copy


def _section_of(node: nodes.Node) -> tuple[str, str]:
    """The anchor and the title of the section in which a node stands."""
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return (node["ids"][0], clean_astext(node.next_node(nodes.title))) if node else ("", "")


def section_number(env: BuildEnvironment, docname: str, anchor: str) -> str:
    """A section's number in the book, such as 3.2; none where sections have no numbers."""
    number = env.toc_secnumbers.get(docname, {}).get(f"#{anchor}")
    return ".".join(map(str, number or ()))


def claim_number(env: BuildEnvironment, docname: str, name: str) -> str:
    """A claim as a sentence calls it: Claim 1.2."""
    number = env.toc_fignumbers.get(docname, {}).get("claim", {}).get(name)
    return f"Claim {'.'.join(map(str, number))}" if number else "Claim"


# --- what must fit together -------------------------------------------------------------------


def consistent(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every claim, check and id that does not fit (event ``env-check-consistency``)."""
    domain: LedgerDomain = env.get_domain("ledger")  # type: ignore[assignment]
    for name, entry in domain.claims.items():
        where = (entry["docname"], entry["line"])
        _check_topic(name, entry, where)
        if not domain.checks_of(name):
            logger.warning("claim %s has no check%s", name, _hint(env, name), location=where)
    for docname, checks in domain.checks.items():
        for check in checks:
            _check_verdict(domain, docname, check["payload"])
    _check_permanence(domain, Path(app.srcdir) / IDS)


def _check_topic(name: str, entry: dict[str, Any], where: tuple[str, int]) -> None:
    topic = entry["docname"].rpartition("/")[2]
    words = topic.split("_")
    if name.split("-")[0] not in words:
        logger.warning("claim %s must begin with a word of its topic: %s", name, ", ".join(words),
                       location=where)  # fmt: skip


def _hint(env: BuildEnvironment, name: str) -> str:
    for docname in env.found_docs:
        path = Path(env.doc2path(docname))
        if path.suffix == ".md":
            line = claims_checked(path.read_text(encoding="utf-8")).get(name)
            if line:
                return (
                    f" on its page, though {path.name}:{line} calls one: "
                    "a verdict must be the last expression of its cell, in a cell that is shown"
                )
    return ""


def _check_verdict(domain: LedgerDomain, docname: str, payload: dict[str, Any]) -> None:
    name, kind = payload["id"], payload["kind"]
    entry = domain.claims.get(name)
    if entry is None:
        logger.warning("check of %s has no claim", name, location=docname)
    elif entry["docname"] != docname:
        logger.warning("check of %s belongs on the claim's page, %s", name, entry["docname"],
                       location=docname)  # fmt: skip
    if not payload["holds"]:
        logger.warning("check of %s failed: %s", name, payload["summary"], location=docname)
    rejected = [wrong for wrong in payload["wrong"] if wrong["rejected"]]
    if kind not in UNCHECKED and (not rejected or len(rejected) < len(payload["wrong"])):
        logger.warning("check of %s rejects no wrong version", name, location=docname)


def _check_permanence(domain: LedgerDomain, file: Path) -> None:
    """Ids and their anchors are permanent: compare with the list of all that ever were."""
    listed = dict(permanent_ids(file))
    for name, docname in listed.items():
        entry = domain.claims.get(name) or domain.tombstones.get(name)
        if entry is None or entry["docname"] != docname:
            logger.warning("claim %s is gone from %s: put a {tombstone} %s there", name, docname,
                           name, location=IDS)  # fmt: skip
    for name, entry in domain.claims.items():
        if name not in listed:
            logger.warning("claim %s is new: `make ids` adds it to %s, for good", name, IDS,
                           location=(entry["docname"], entry["line"]))  # fmt: skip
    for name, entry in domain.tombstones.items():
        if name not in listed:
            logger.warning("tombstone %s: no such claim ever was", name,
                           location=(entry["docname"], None))  # fmt: skip


def permanent_ids(file: Path) -> list[tuple[str, str]]:
    """The ids and pages of :data:`IDS`, in the order they came."""
    if not file.is_file():
        return []
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return [(row[0], row[1]) for row in rows if row and not row[0].startswith("#")]


# --- what the pages show ----------------------------------------------------------------------


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Complete boxes, tombstones and the list (event ``doctree-resolved``)."""
    env = app.env
    domain: LedgerDomain = env.get_domain("ledger")  # type: ignore[assignment]
    for box in list(doctree.findall(claim)):
        _complete(box, claim_number(env, docname, box["ids"][0]), domain.checks_of(box["ids"][0]))
    for stone in list(doctree.findall(tombstone)):
        _engrave(app, stone, docname, domain)
    for place in list(doctree.findall(ledger_table)):
        place.replace_self(_table(app, docname, domain))
    for place in list(doctree.findall(ledger_totals)):
        place.replace_self(_totals(domain))


def _complete(box: claim, number: str, checks: list[dict[str, Any]]) -> None:
    name = box["ids"][0]
    box["label"] = number
    head = nodes.paragraph("", "", part("number", number), classes=["dlc-claim-head"])
    head += part("source", *inline(box["source_text"]))
    link = nodes.reference("", "#", refid=name, internal=True, classes=["headerlink"])
    link["reftitle"] = f"Link to {number}"
    head += link
    box.insert(0, head)
    for check in checks:
        box += _status(check)


def _status(check: dict[str, Any]) -> nodes.paragraph:
    payload = check["payload"]
    link = nodes.reference("", "", refid=check["anchor"], internal=True)
    link += part("mark", f"✓ {payload['word']}")
    line = nodes.paragraph("", "", link, classes=["dlc-claim-status"])
    line += _rejects(payload)
    return line


def _rejects(payload: dict[str, Any]) -> list[nodes.Node]:
    """What follows a verdict: the labels of the wrong versions, or that nothing was checked."""
    if payload["kind"] in UNCHECKED:
        return [nodes.Text(", not checked here")]
    labels = [part("label", *inline(wrong["label"])) for wrong in payload["wrong"]]
    return [nodes.Text("; rejects "), *_joined(labels)] if labels else []


def _joined(items: list[nodes.inline]) -> list[nodes.Node]:
    made: list[nodes.Node] = []
    for at, item in enumerate(items):
        made += [nodes.Text("; "), item] if at else [item]
    return made


def _engrave(app: Sphinx, stone: tombstone, docname: str, domain: LedgerDomain) -> None:
    head = nodes.paragraph("", "", part("number", f"Withdrawn: {stone['ids'][0]}"))
    successor = domain.claims.get(stone["moved_to"])
    if stone["moved_to"] and successor is None:
        logger.warning("tombstone %s moved to %s, which is no claim", stone["ids"][0],
                       stone["moved_to"], location=stone)  # fmt: skip
    elif successor:
        number = nodes.Text(claim_number(app.env, successor["docname"], stone["moved_to"]))
        link = make_refnode(
            app.builder, docname, successor["docname"], stone["moved_to"], number
        )  # fmt: skip
        head += [nodes.Text(", see "), link]
    stone.insert(0, head)


def in_order(env: BuildEnvironment, domain: LedgerDomain) -> list[tuple[str, dict[str, Any]]]:
    """Claims as the book numbers them."""

    def place(item: tuple[str, dict[str, Any]]) -> tuple[Any, ...]:
        name, entry = item
        number = env.toc_fignumbers.get(entry["docname"], {}).get("claim", {}).get(name)
        return (number or (10**6,), entry["docname"], entry["line"] or 0)

    return sorted(domain.claims.items(), key=place)


def _table(app: Sphinx, docname: str, domain: LedgerDomain) -> list[nodes.Node]:
    rows = [
        _claim_row(app, docname, domain, name, entry) for name, entry in in_order(app.env, domain)
    ]
    columns = ("Claim", "It says", "Verdict, and what its check rejects")
    return [_filters(app.env, domain), table("ledger", "The claims of the book", columns, rows)]


def _claim_row(
    app: Sphinx, docname: str, domain: LedgerDomain, name: str, entry: dict[str, Any]
) -> listing_row:
    number = claim_number(app.env, entry["docname"], name)
    link = make_refnode(app.builder, docname, entry["docname"], name, nodes.Text(number), name)
    source = nodes.paragraph("", "", part("source", *inline(entry["source"])))
    about = [nodes.paragraph("", "", link), nodes.paragraph("", "", part("id", name)), source]
    body = [child.deepcopy() for child in entry["body"]]
    checks = domain.checks_of(name)
    data = {
        "kind": " ".join(dict.fromkeys(check["payload"]["kind"] for check in checks)),
        "chapter": _topic(entry["docname"]),
        "source": " ".join(origins(entry["source"])),
    }
    return row(
        about, body, [_outcome(app, docname, c) for c in checks], id=f"row-{name}", data=data
    )


def _outcome(app: Sphinx, docname: str, check: dict[str, Any]) -> nodes.paragraph:
    payload = check["payload"]
    text = nodes.Text(f"✓ {payload['word']}")
    link = make_refnode(app.builder, docname, check["docname"], check["anchor"], text)
    line = nodes.paragraph("", "", link)
    line += _rejects(payload)
    return line


def _topic(docname: str) -> str:
    return docname.rpartition("/")[2]


ORIGINS = {
    "hw9": ("hw9", r"\bhw9\b"),
    "hw10": ("hw10", r"\bhw10\b"),
    "answers-a": ("answers-a", r"\banswers-a\b"),
    "answers-b": ("answers-b", r"\banswers-b\b"),
    "answers-c": ("answers-c", r"\banswers-c\b"),
    "paper": ("a paper", r"\b[a-z]+\d{4}[a-z]+\d*\b"),
    "own": ("our own measurement", r"\bour own\b"),
    "beyond": ("beyond the sheets", r"\bbeyond\b"),
}


def origins(source: str) -> list[str]:
    """The sources that a claim names, as the ledger's filter knows them: keys of `ORIGINS`."""
    return [key for key, (_, pattern) in ORIGINS.items() if re.search(pattern, source)]


def _filters(env: BuildEnvironment, domain: LedgerDomain) -> filters:
    entries = [entry for _, entry in in_order(env, domain)]
    kinds = {check["payload"]["kind"] for checks in domain.checks.values() for check in checks}
    named = {origin for entry in entries for origin in origins(entry["source"])}
    pages = dict.fromkeys(entry["docname"] for entry in entries)
    chapters = [(_topic(d), _topic(d).replace("_", " ")) for d in pages]
    choices = [
        ("kind", "Verdict", [(k, word) for k, (word, _) in KINDS.items() if k in kinds]),
        ("chapter", "Chapter", chapters),
        ("source", "Source", [(k, text) for k, (text, _) in ORIGINS.items() if k in named]),
    ]
    return form("table.dlc-ledger", ("claim", "claims"), choices)


def _totals(domain: LedgerDomain) -> list[nodes.Node]:
    """The numbers of claims, checks and rejected wrong versions, by kind of check."""
    payloads = [check["payload"] for checks in domain.checks.values() for check in checks]
    rows = [
        _total(nodes.Text(word), meaning, [p for p in payloads if p["kind"] == kind])
        for kind, (word, meaning) in KINDS.items()
    ]
    last = _total(nodes.Text("all"), f"{len(_pages(domain))} chapters", payloads)
    last["classes"] = ["dlc-total"]
    columns = ("Verdict", "It means", "Claims", "Checks", "Wrong versions rejected")
    sentence = (
        f"{len(domain.claims)} claims stand in {len(_pages(domain))} chapters. "
        f"{len(payloads)} checks bind them, and reject {_rejected(payloads)} wrong versions."
    )
    numbers = table("totals", "Claims and checks by verdict", columns, [*rows, last])
    return [nodes.paragraph("", sentence), numbers]


def _pages(domain: LedgerDomain) -> set[str]:
    return {entry["docname"] for entry in domain.claims.values()}


def _rejected(payloads: list[dict[str, Any]]) -> int:
    return sum(wrong["rejected"] for payload in payloads for wrong in payload["wrong"])


def _total(word: nodes.Text, meaning: str, payloads: list[dict[str, Any]]) -> listing_row:
    claims = {payload["id"] for payload in payloads}
    numbers = (len(claims), len(payloads), _rejected(payloads))
    return row(nodes.paragraph("", "", word), meaning, *map(str, numbers))


def pages_to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The lists' pages, whenever a claim, verdict or number changed (event ``env-get-updated``)."""
    domain: LedgerDomain = env.get_domain("ledger")  # type: ignore[assignment]
    places = {
        name: [*entry["section"], section_number(env, entry["docname"], entry["section"][0])]
        for name, entry in domain.claims.items()
    }
    state = json.dumps([as_data(env, domain), places], sort_keys=True)
    if state == getattr(env, "dlchecked_ledger", None):
        return []
    env.dlchecked_ledger = state  # type: ignore[attr-defined]
    return [d for d in sorted(env.found_docs) if _lists_claims(env.get_doctree(d))]


def _lists_claims(doctree: nodes.document) -> bool:
    return any(
        isinstance(node, (ledger_table, ledger_totals, listing)) for node in doctree.findall()
    )


def as_data(env: BuildEnvironment, domain: LedgerDomain) -> list[dict[str, Any]]:
    """The ledger as plain data: what ``claims.json`` holds."""
    return [
        {
            "id": name,
            "number": claim_number(env, entry["docname"], name).removeprefix("Claim").strip(),
            "page": f"{entry['docname']}.html",
            "title": clean_astext(env.titles[entry["docname"]]),
            "source": entry["source"],
            "statement": entry["text"],
            "checks": [
                {"anchor": check["anchor"], **check["payload"]} for check in domain.checks_of(name)
            ],
        }
        for name, entry in in_order(env, domain)
    ]


def write_data(app: Sphinx, exception: Exception | None) -> None:
    """Write ``claims.json`` beside the list (event ``build-finished``)."""
    if exception or app.builder.format != "html":
        return
    domain: LedgerDomain = app.env.get_domain("ledger")  # type: ignore[assignment]
    data = json.dumps(as_data(app.env, domain), indent=1, ensure_ascii=False, sort_keys=True)
    target = Path(app.outdir) / "book" / "claims.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(data + "\n", encoding="utf-8")


# --- HTML -------------------------------------------------------------------------------------


def _visit_claim(self: Any, node: claim) -> None:
    label = node.get("label", "Claim")
    attributes = {"role": "group", "aria-label": label}
    self.body.append(self.starttag(node, "div", CLASS="dlc-claim", **attributes))


def _visit_tombstone(self: Any, node: tombstone) -> None:
    self.body.append(self.starttag(node, "div", CLASS="dlc-tombstone"))


def _depart(self: Any, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def _title(node: nodes.Node) -> str:
    return node["ids"][0] if isinstance(node, claim) else ""


def setup(app: Sphinx) -> None:
    """Register directives, roles, the domain and the events."""
    app.add_domain(LedgerDomain)
    app.add_enumerable_node(claim, "claim", _title, html=(_visit_claim, _depart))
    app.add_node(tombstone, html=(_visit_tombstone, _depart))
    app.add_node(ledger_table)
    app.add_node(ledger_totals)
    app.add_directive("claim", ClaimDirective)
    app.add_directive("tombstone", TombstoneDirective)
    app.add_directive("ledger", LedgerDirective)
    app.add_directive("ledger-totals", LedgerTotalsDirective)
    app.add_role("claim", ClaimRole(warn_dangling=True))
    app.connect("env-check-consistency", consistent)
    # After the book has been numbered.
    app.connect("env-get-updated", pages_to_write, priority=900)
    app.connect("doctree-resolved", fill)
    app.connect("build-finished", write_data)
