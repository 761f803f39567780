"""What checks and figures look like on a page.

A cell's verdict or figure arrives as data under a MIME type of ours, kept in the executed notebook
and so in the cache. Here the data becomes nodes of the document: the ledger reads verdicts from
there, and figures get their number, caption and label like any other figure.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from docutils import nodes
from myst_nb.core import render
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

VERDICT = "application/vnd.dlchecked.verdict+json"
FIGURE = "application/vnd.dlchecked.figure+json"
_INLINE = re.compile(r"\$(?P<math>[^$]+)\$|`(?P<code>[^`]+)`|\*(?P<stress>[^*\s][^*]*)\*")


class verdict(nodes.container):  # noqa: N801 - docutils names nodes in lower case
    """What a cell's check found; the payload is in the attribute ``payload``."""


def inline(text: str) -> list[nodes.Node]:
    """Text with ``$math$``, code in backticks and *stress*, as nodes."""
    made: list[nodes.Node] = []
    at = 0
    for found in _INLINE.finditer(text):
        made.append(nodes.Text(text[at : found.start()]))
        if found["math"]:
            made.append(nodes.math(found["math"], found["math"]))
        elif found["code"]:
            made.append(nodes.literal(found["code"], found["code"]))
        else:
            made.append(nodes.emphasis("", found["stress"]))
        at = found.end()
    made.append(nodes.Text(text[at:]))
    return [node for node in made if node.astext()]


def part(kind: str, *children: nodes.Node | str) -> nodes.inline:
    """A span with a class of ours."""
    content = [nodes.Text(c) if isinstance(c, str) else c for c in children]
    return nodes.inline("", "", *content, classes=[f"dlc-{kind}"])


def verdict_node(payload: dict[str, Any]) -> verdict:
    """The verdict as it stands under its cell."""
    kind = payload["kind"]
    node = verdict(classes=["dlc-verdict", f"dlc-verdict-{kind}"], payload=payload)
    head = nodes.paragraph(classes=["dlc-verdict-head"])
    head += part("mark", f"{'✓' if payload['holds'] else '✗'} {payload['word']}")
    head += nodes.Text(" ")
    head += part("id", payload["id"])
    if sizes := _sizes(payload):
        head += nodes.Text(" ")
        head += part("sizes", sizes)
    node += head
    if payload["summary"]:
        node += nodes.paragraph("", payload["summary"], classes=["dlc-finding"])
    if payload["wrong"]:
        rejected = nodes.bullet_list(classes=["dlc-rejected"])
        for wrong in payload["wrong"]:
            rejected += _rejection(wrong)
        node += rejected
    return node


def _rejection(wrong: dict[str, Any]) -> nodes.list_item:
    word = "✗ rejects " if wrong["rejected"] else "passes too: "
    line = nodes.paragraph("", "", part("mark", word), part("label", *inline(wrong["label"])))
    if wrong["finding"]:
        line += nodes.Text(" ")
        line += part("finding", wrong["finding"])
    return nodes.list_item("", line)


def _sizes(payload: dict[str, Any]) -> str:
    shown = [
        f"{name} = {', '.join(map(str, values if isinstance(values, list) else [values]))}"
        for name, values in payload["sizes"].items()
    ]
    also = ["; ".join(f"{n} = {v}" for n, v in at.items()) for at in payload["also_at"]]
    degenerate = f" (and, without the wrong ones, {', '.join(also)})" if also else ""
    return f"at {'; '.join(shown)}{degenerate}" if shown else ""


class DlcheckedMime:
    """Renders our two MIME types (the protocol of myst-nb's plugins)."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int | None]]] = [
        ("*", VERDICT, 1),
        ("*", FIGURE, 1),
    ]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """Nodes for our types; None leaves the others to myst-nb."""
        if inline:
            return None
        if data.mime_type == VERDICT:
            return [verdict_node(data.content)]
        if data.mime_type == FIGURE:
            return [_figure_node(renderer.renderer, data.content, data.line)]
        return None


def _figure_node(md: Any, content: dict[str, str], line: int) -> nodes.Element:
    """A figure with its drawing inline, so that the page's colours reach it."""
    figure = nodes.figure(classes=["dlc-figure"])
    figure.source, figure.line = md.document["source"], line
    figure["names"].append(nodes.fully_normalize_name(content["name"]))
    md.document.note_explicit_target(figure, figure)
    figure += nodes.raw("", content["svg"], format="html", classes=["dlc-drawing"])
    holder = nodes.Element()
    with md.current_node_context(holder):
        md.nested_render_text(content["caption"], line)
    if len(holder) != 1 or not isinstance(holder[0], nodes.paragraph):
        raise ValueError(f"{content['name']}: a caption is one paragraph")
    caption = nodes.caption(content["caption"], "", *holder[0].children)
    caption.source, caption.line = figure.source, line
    figure += caption
    return figure


class DemandTextAlternatives(SphinxPostTransform):
    """Refuse a picture that says nothing to those who cannot see it."""

    default_priority = 900
    formats = ("html",)

    def run(self, **options: Any) -> None:
        """Warn, and so fail the build, for each picture without an ``alt``."""
        for image in self.document.findall(nodes.image):
            if not image.get("alt", "").strip() or image["alt"] == image.get("uri"):
                logger.warning(
                    "picture without a text alternative: end the cell with plotting.figure(...), "
                    "or give the image an alt text",
                    location=image if image.line else self.env.docname,
                )


class KeepPunctuation(SphinxPostTransform):
    """Keep a comma or full stop on the line of the short formula before it."""

    default_priority = 910
    formats = ("html",)
    # A longer formula must be free to break on a narrow page.
    longest = 40

    def run(self, **options: Any) -> None:
        """Put formula and mark into one span that does not break."""
        for formula in list(self.document.findall(nodes.math)):
            after = formula.next_node(descend=False, siblings=True)
            if not isinstance(after, nodes.Text) or len(formula.astext()) > self.longest:
                continue
            mark = re.match(r"[.,;:!?)\]’”]+", after.astext())
            if mark:
                rest = nodes.Text(after.astext()[mark.end() :])
                after.parent.replace(after, rest)
                formula.replace_self(part("together", formula.deepcopy(), mark.group()))


class UniqueIds(SphinxPostTransform):
    """Take away the one id that sphinx-exercise gives to the body of every exercise."""

    default_priority = 920
    formats = ("html",)
    repeated = frozenset(("exercise-content", "solution-content"))

    def run(self, **options: Any) -> None:
        """An id stands once on a page, or links and screen readers go astray."""
        for section in self.document.findall(nodes.section):
            section["ids"] = [name for name in section["ids"] if name not in self.repeated]


def setup(app: Sphinx) -> None:
    """Register the nodes and the renderer."""
    app.add_post_transform(UniqueIds)
    app.add_post_transform(KeepPunctuation)
    app.add_node(verdict, html=(_visit, _depart))
    app.add_post_transform(DemandTextAlternatives)
    # myst-nb finds renderers among installed packages' entry points; this site is no package.
    others = render.load_mime_renders
    if DlcheckedMime not in others():
        found = [*others(), DlcheckedMime]
        render.load_mime_renders = lambda: found


def _visit(self: Any, node: verdict) -> None:
    self.body.append(self.starttag(node, "div"))


def _depart(self: Any, node: verdict) -> None:
    self.body.append("</div>\n")
