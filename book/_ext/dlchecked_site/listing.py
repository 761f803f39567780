"""Long tables: rows with addresses of their own, cards on a phone, filters where scripts run.

A docutils table knows neither row headers nor labels for cells that stand alone on a narrow screen,
so these have nodes of their own. The filters' form is hidden until ``listing.js`` shows it: without
scripts the whole table stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

SCRIPT = "listing.js"

Choice = tuple[str, str, Sequence[tuple[str, str]]]


class listing(nodes.General, nodes.Element):  # noqa: N801 - docutils names nodes in lower case
    """A table; ``columns`` are its heads, ``label`` is its name for those who do not see it."""


class listing_row(nodes.Part, nodes.Element):  # noqa: N801
    """A row; ``data`` holds what the filters look at."""


class listing_cell(nodes.Part, nodes.Element):  # noqa: N801
    """A cell; the row's first one is its header."""


class filters(nodes.General, nodes.Element):  # noqa: N801
    """The form that filters tables: ``tables`` is a CSS selector, ``choices`` are its menus."""


def table(name: str, label: str, columns: Sequence[str], rows: Iterable[listing_row]) -> listing:
    """A table of class ``dlc-{name}`` whose cells carry their columns' heads."""
    made = listing("", *rows, classes=["dlc-listing", f"dlc-{name}"], label=label, columns=columns)
    for line in made.children:
        for cell, column in zip(line.children, columns, strict=True):
            cell["column"] = column  # type: ignore[index]
    return made


def row(*cells: Any, id: str = "", data: dict[str, str] | None = None) -> listing_row:
    """A row of cells: each a text, a node or a list of nodes."""
    made = listing_row(data=data or {}, ids=[id] if id else [])
    for at, cell in enumerate(cells):
        content = nodes.paragraph("", cell) if isinstance(cell, str) else cell
        children = content if isinstance(content, list) else [content]
        made += listing_cell("", *children, header=at == 0)
    return made


def link_here(id: str, *children: nodes.Node) -> nodes.reference:
    """A link of a row to itself, for whoever wants to cite it."""
    return nodes.reference("", "", *children, refid=id, internal=True, reftitle="Link to this row")


def form(tables: str, noun: tuple[str, str], choices: Sequence[Choice]) -> filters:
    """The filters of tables: menus of (key, label, (value, text) …) and a field for text."""
    return filters(tables=tables, noun=noun, choices=[c for c in choices if len(c[2]) > 1])


def _visit_listing(self: Any, node: listing) -> None:
    self.body.append(self.starttag(node, "table", role="table", **{"aria-label": node["label"]}))
    heads = "".join(
        f'<th scope="col" role="columnheader">{self.encode(head)}</th>' for head in node["columns"]
    )
    self.body.append(f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n')
    self.body.append('<tbody role="rowgroup">\n')


def _depart_listing(self: Any, node: listing) -> None:
    self.body.append("</tbody></table>\n")


def _visit_row(self: Any, node: listing_row) -> None:
    data = {f"data-{key}": value for key, value in node["data"].items()}
    self.body.append(self.starttag(node, "tr", role="row", **data))


def _depart_row(self: Any, node: listing_row) -> None:
    self.body.append("</tr>\n")


def _visit_cell(self: Any, node: listing_cell) -> None:
    # Roles are said because the cards of a phone are no table any more to some readers.
    said = {"scope": "row", "role": "rowheader"} if node["header"] else {"role": "cell"}
    tag = "th" if node["header"] else "td"
    self.body.append(self.starttag(node, tag, "", **said, **{"data-column": node["column"]}))
    self.context.append(f"</{tag}>\n")


def _depart_cell(self: Any, node: listing_cell) -> None:
    self.body.append(self.context.pop())


def _visit_filters(self: Any, node: filters) -> None:
    one, many = (self.encode(word) for word in node["noun"])
    tables = self.encode(node["tables"])
    self.body.append(
        f'<form class="dlc-filters" role="search" aria-label="Filter the {many}" '
        f'data-tables="{tables}" data-one="{one}" data-many="{many}" hidden>\n'
    )
    for key, label, options in node["choices"]:
        self.body.append(_field(self, key, label, f'<select id="filter-{key}" name="{key}">'))
        for value, text in [("", "all"), *options]:
            self.body.append(f'<option value="{self.encode(value)}">{self.encode(text)}</option>')
        self.body.append("</select></div>\n")
    text = '<input type="search" id="filter-text" name="text" autocomplete="off"></div>\n'
    self.body.append(_field(self, "text", "Text", text))
    self.body.append('<button type="reset">Show all</button>\n')
    self.body.append('<p role="status" aria-live="polite"></p>\n</form>\n')
    raise nodes.SkipNode


def _field(self: Any, key: str, label: str, control: str) -> str:
    return f'<div><label for="filter-{key}">{self.encode(label)}</label>{control}'


def _load_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load the script on pages that have filters, and on no others (``html-page-context``)."""
    if doctree is not None and any(doctree.findall(filters)):
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> None:
    """Register the nodes."""
    app.add_node(listing, html=(_visit_listing, _depart_listing))
    app.add_node(listing_row, html=(_visit_row, _depart_row))
    app.add_node(listing_cell, html=(_visit_cell, _depart_cell))
    app.add_node(filters, html=(_visit_filters, None))
    app.connect("html-page-context", _load_script)
