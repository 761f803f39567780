"""The one figure style of the book, and the one function that shows a figure.

A figure is drawn once and read on light and on dark pages. It is an SVG with a transparent ground
whose few colours are *roles* (ink, grid, series 1 to 6). Inside the book each role becomes a CSS
variable with the light colour as its fallback, so that the page's theme decides; anywhere else, in
a notebook say, the fallback shows. Text is outlined, so that it looks the same on every machine.

Colour never carries meaning alone: the cycle varies line styles along with colours, and the six
colours stay apart for the three common kinds of colour blindness, on both grounds.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.colors
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

__all__ = ["DARK", "GRID", "INK", "LIGHT", "MUTED", "PALETTE", "Picture", "figure", "panels"]

#: The MIME type under which a figure, its caption and its text alternative travel to the page.
MIME_TYPE = "application/vnd.dlchecked.figure+json"

#: What each role looks like on a light page. The book's style sheet holds the dark ones too.
LIGHT = {
    "ink": "#1d2129",
    "muted": "#5c6573",
    "grid": "#d5d9e0",
    "series-1": "#0a4ba8",
    "series-2": "#e03a0c",
    "series-3": "#00917b",
    "series-4": "#b456a4",
    "series-5": "#7e3600",
    "series-6": "#24423f",
}
#: What each role looks like on a dark page.
DARK = {
    "ink": "#e8eaee",
    "muted": "#a3abb8",
    "grid": "#3d444f",
    "series-1": "#5b95fe",
    "series-2": "#f88956",
    "series-3": "#2bcd9e",
    "series-4": "#dfa5ed",
    "series-5": "#e4c23c",
    "series-6": "#c5cfd9",
}
INK, MUTED, GRID = LIGHT["ink"], LIGHT["muted"], LIGHT["grid"]
#: The six series colours, in the order of the cycle.
PALETTE = tuple(LIGHT[f"series-{i}"] for i in range(1, 7))

WIDTH = 7.2
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)), "-")
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=DASHES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "mathtext.fontset": "dejavusans",
    "savefig.facecolor": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "dlchecked",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

_NAME = re.compile(r"fig(-[a-z0-9]+)+")


def panels(
    columns: int = 1, rows: int = 1, *, height: float = 3.0, **options: Any
) -> tuple[Figure, Any]:
    """Make a figure of the house's width and style.

    Parameters
    ----------
    columns, rows
        How many panels side by side and below each other.
    height
        Height of one row, in inches; the width is always 7.2.
    **options
        Passed on to :meth:`matplotlib.figure.Figure.subplots` (``sharey=True`` and the like).

    Returns
    -------
    (Figure, Axes or tuple of Axes)
        One panel comes alone, several as a flat tuple, row by row.

    Examples
    --------
    >>> from dlchecked.plotting import panels
    >>> fig, (left, right) = panels(2)
    >>> fig.get_size_inches().tolist()
    [7.2, 3.0]
    """
    if columns < 1 or rows < 1:
        raise ValueError(f"columns and rows must be at least 1, got {columns} and {rows}")
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, height * rows), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False, **options).ravel()
    return fig, (axes[0] if len(axes) == 1 else tuple(axes))


@dataclass(frozen=True)
class Picture:
    """A finished figure: what :func:`figure` returns and a notebook shows.

    Attributes
    ----------
    name
        The label that the book's references use, such as ``fig-dot-spread``.
    caption
        The finding, in Markdown.
    alt
        What is seen, in plain text.
    svg
        The drawing.
    """

    name: str
    caption: str
    alt: str
    svg: str

    def __repr__(self) -> str:
        return f"[{self.name}] {self.caption}\n{self.alt}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        payload = {"name": self.name, "caption": self.caption, "alt": self.alt, "svg": self.svg}
        html = f"<figure>{self.svg}<figcaption>{escape(self.caption)}</figcaption></figure>"
        return {MIME_TYPE: payload, "text/html": html, "text/plain": repr(self)}


def figure(fig: Figure, *, name: str, caption: str, alt: str) -> Picture:
    """Finish a figure: demand what a reader needs, and draw it for light and dark pages.

    Parameters
    ----------
    fig
        A figure from :func:`panels`. Every panel that shows its axes must label both.
    name
        The label, ``fig-`` and words joined by hyphens.
    caption
        The finding, in Markdown, math included.
    alt
        What is seen, in plain text, for those who cannot see it.

    Returns
    -------
    Picture
        Shown by being the last expression of a cell.

    Raises
    ------
    ValueError
        For a missing or malformed name, caption, text alternative or axis label.
    """
    _demand_texts(name, caption, alt)
    _demand_labels(fig.axes)
    _settle(fig)
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        fig.savefig(buffer, format="svg", metadata=nothing)
    return Picture(name, caption, alt, _for_a_page(buffer.getvalue(), name, alt))


def _demand_texts(name: str, caption: str, alt: str) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"name must look like fig-dot-spread, got {name!r}")
    for argument, text in (("caption", caption), ("alt", alt)):
        if not (isinstance(text, str) and len(text.split()) >= 4):
            raise ValueError(f"{argument} must be a sentence of at least four words, got {text!r}")
    if alt.strip() == caption.strip():
        raise ValueError("alt must say what is seen, and caption what it shows: they are the same")


def _demand_labels(axes: list[Axes]) -> None:
    for ax in axes:
        bare = ax.get_label() == "<colorbar>" or not ax.axison
        if bare:
            continue
        for which, shared in (("x", ax.get_shared_x_axes()), ("y", ax.get_shared_y_axes())):
            relatives = shared.get_siblings(ax)
            if not any(getattr(a, f"get_{which}label")() for a in relatives):
                raise ValueError(
                    f"a panel of the figure has no {which}-axis label: set_{which}label"
                )


def _settle(fig: Figure) -> None:
    """Give what was added after :func:`panels` the style too: legends, notes, black text."""
    for legend in fig.findobj(Legend):
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_fontsize(STYLE["legend.fontsize"])
    for text in fig.findobj(Text):
        if mpl.colors.same_color(text.get_color(), "black"):
            text.set_color(INK)


def _for_a_page(svg: str, name: str, alt: str) -> str:
    """Strip what only a file needs, make ids unique on a page, and turn colours into roles."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    # Nobody refers to an image's id, and two equal images have the same one.
    svg = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    for role, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--dlc-{role}, {colour})")
    svg = svg.replace("#000000", f"var(--dlc-ink, {INK})")
    size = re.search(r'<svg[^>]*? width="([\d.]+)pt"', svg)
    width = f"{float(size.group(1)) / 72:.2f}in" if size else "100%"
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="width: 100%; max-width: {width}"'
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", opening, 1).strip()
