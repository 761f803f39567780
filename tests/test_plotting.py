"""Figures: what is demanded of them, and that they are legible to everybody."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from books import ROOT

from dlchecked.plotting import DARK, LIGHT, MIME_TYPE, PALETTE, Picture, figure, panels

TEXTS = {
    "name": "fig-two-lines",
    "caption": "The second line is *steeper*: $y = 2x$.",
    "alt": "Two straight lines from the origin.",
}


def two_lines() -> Picture:
    fig, ax = panels()
    ax.plot([0, 1], [0, 1], label="one")
    ax.plot([0, 1], [0, 2], label="two")
    ax.set(xlabel="x", ylabel="y")
    ax.text(0.5, 0.5, "here")
    ax.legend()
    return figure(fig, **TEXTS)


def test_a_figure_is_drawn_the_same_twice():
    assert two_lines().svg == two_lines().svg


def test_it_travels_with_its_caption_and_alternative():
    bundle = two_lines()._repr_mimebundle_()
    assert bundle[MIME_TYPE] == {**TEXTS, "svg": two_lines().svg}
    assert bundle["text/html"].startswith("<figure><svg")
    assert TEXTS["alt"] in bundle["text/plain"]


def test_its_colours_are_roles_with_a_fallback_and_nothing_stays_black():
    svg = two_lines().svg
    for role in ("ink", "muted", "grid", "series-1", "series-2"):
        assert f"var(--dlc-{role}, {LIGHT[role]})" in svg
    outside = re.sub(r"var\([^)]*\)", "", svg)
    assert set(re.findall(r"#[0-9a-f]{6}", outside)) == set()
    # Text without a colour of its own would be black on a dark page.
    glyphs = re.findall(r'<g style="([^"]*)" transform', svg)
    assert glyphs
    assert all("fill: var(" in style for style in glyphs)


def test_its_ids_are_its_own_and_it_says_what_is_seen():
    svg = two_lines().svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("fig-two-lines-") for name in ids)
    assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids)
    assert f'role="img" aria-label="{TEXTS["alt"]}"' in svg
    assert "<metadata>" not in svg


def test_two_equal_pictures_in_a_figure_do_not_share_an_id():
    fig, axes = panels(2)
    for ax in axes:
        ax.imshow(np.eye(3))
        ax.set(xlabel="x", ylabel="y")
    svg = figure(
        fig,
        name="fig-twice",
        caption="One picture, shown twice over.",
        alt="Two equal squares, side by side.",
    ).svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert svg.count("<image") == 2
    assert len(ids) == len(set(ids)) > 0


def test_quotes_in_the_alternative_do_not_end_the_attribute():
    fig, ax = panels()
    ax.set(xlabel="x", ylabel="y")
    svg = figure(fig, **{**TEXTS, "alt": 'A "quoted" <word> stands here.'}).svg
    assert 'aria-label="A &quot;quoted&quot; &lt;word&gt; stands here."' in svg


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "two-lines"}, "name must look like fig-"),
        ({"name": "fig_two"}, "name must look like fig-"),
        ({"name": None}, "name must look like fig-"),
        ({"caption": ""}, "caption must be a sentence"),
        ({"caption": "Two lines"}, "caption must be a sentence"),
        ({"caption": None}, "caption must be a sentence"),
        ({"alt": ""}, "alt must be a sentence"),
        ({"alt": "a plot"}, "alt must be a sentence"),
        ({"alt": TEXTS["caption"]}, "they are the same"),
    ],
)
def test_texts_are_demanded(change, words):
    fig, ax = panels()
    ax.set(xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match=words):
        figure(fig, **{**TEXTS, **change})


@pytest.mark.parametrize("labelled", ["x", "y"])
def test_axis_labels_are_demanded(labelled):
    fig, ax = panels()
    getattr(ax, f"set_{labelled}label")("something")
    with pytest.raises(ValueError, match="axis label"):
        figure(fig, **TEXTS)


def test_one_label_serves_panels_that_share_an_axis():
    fig, (left, right) = panels(2, sharey=True)
    left.set(xlabel="x", ylabel="y")
    right.set(xlabel="x")
    assert "<svg" in figure(fig, **TEXTS).svg


def test_panels_come_alone_or_as_a_flat_tuple():
    fig, ax = panels()
    assert fig.axes == [ax]
    fig, axes = panels(2, 3)
    assert list(axes) == fig.axes
    assert len(axes) == 6
    with pytest.raises(ValueError, match="columns and rows must be at least 1"):
        panels(0)


def test_the_style_sheet_has_the_same_colours():
    sheet = (ROOT / "book" / "_static" / "dlchecked.css").read_text("utf-8")
    light, dark = sheet.split('html[data-theme="dark"]')
    for role in LIGHT:
        assert f"--dlc-{role}: {LIGHT[role]};" in light
        assert f"--dlc-{role}: {DARK[role]};" in dark


def channels(colour: str) -> np.ndarray:
    """Linear red, green and blue of a hex colour."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, two: str) -> float:
    """The contrast ratio of WCAG 2."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(channels(c) @ weights) for c in (one, two))
    return (high + 0.05) / (low + 0.05)


GROUNDS = [(LIGHT, "#ffffff"), (DARK, "#121212")]


@pytest.mark.parametrize(("colours", "ground"), GROUNDS, ids=["light", "dark"])
def test_lines_and_text_stand_out_from_the_ground(colours, ground):
    for role, colour in colours.items():
        least = {"ink": 7.0, "muted": 4.5, "grid": 1.0}.get(role, 3.0)
        assert contrast(colour, ground) >= least, role


# Brettel, Viénot and Mollon's dichromats in linear RGB, as Machado, Oliveira and Fernandes (2009)
# give them at full severity.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", BLINDNESS)
def test_neighbours_in_the_palette_stay_apart_for_the_colour_blind(colours, kind):
    matrix = np.array(BLINDNESS[kind])
    seen = [lab(matrix @ channels(colours[f"series-{i}"])) for i in range(1, 7)]
    distances = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))
                 for pair in combinations(range(6), 2)}  # fmt: skip
    assert min(distances.values()) > 10, min(distances.items(), key=lambda item: item[1])


def test_the_palette_is_the_cycle():
    ax = panels()[1]
    drawn = [ax.plot([0, 1])[0] for _ in PALETTE]
    assert [line.get_color() for line in drawn] == list(PALETTE)
    assert len({line.get_linestyle() for line in drawn[:4]}) >= 2
