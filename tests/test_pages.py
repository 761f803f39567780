"""The built site: nothing from another host, nothing broken, legible for everybody."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from books import ROOT
from bs4 import BeautifulSoup


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, BeautifulSoup]:
    """Every page of the book proper, parsed."""
    found = {
        str(path.relative_to(site)): BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    assert "index.html" in found
    return found


def articles(pages: dict[str, BeautifulSoup]) -> dict[str, BeautifulSoup]:
    """Pages written by us, without the generated index, search and sources."""
    ours = ("index.html", *(f"book/{path.stem}.html" for path in (ROOT / "book").glob("*.md")))
    return {name: pages[name] for name in ours}


def is_elsewhere(address: str) -> bool:
    return bool(urlparse(address.strip()).netloc)


def test_no_page_loads_anything_from_another_host(pages):
    loads = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
             "audio": "src", "embed": "src", "object": "data", "input": "src"}  # fmt: skip
    found = []
    for name, page in pages.items():
        addresses = [tag.get(key) for tag, key in loads.items() for tag in page.find_all(tag)]
        addresses += [tag.get("srcset", "").split(" ")[0] for tag in page.find_all(srcset=True)]
        addresses += [
            tag.get("href")
            for tag in page.find_all("link")
            if not {"next", "prev", "author", "license", "canonical"} & set(tag.get("rel", []))
        ]
        found += [(name, a) for a in addresses if a and is_elsewhere(a)]
    assert found == []


def test_no_style_or_inline_script_names_another_host(site, pages):
    pattern = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"]|fetch\(\s*['"])(?:https?:)?//""")
    texts = {str(p): p.read_text("utf-8", errors="ignore") for p in site.rglob("*.css")}
    for name, page in pages.items():
        styles = page.find_all("style") + [t for t in page.find_all("script") if not t.get("src")]
        texts[name] = "\n".join(tag.get_text() for tag in styles)
    assert [name for name, text in texts.items() if pattern.search(text)] == []


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    ids = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for link in page.find_all("a", href=True):
            address = urlparse(link["href"])
            if address.scheme or address.netloc:
                continue
            path = (site / name).parent / unquote(address.path) if address.path else site / name
            target = path.resolve()
            key = str(target.relative_to(site)) if target.is_relative_to(site) else ""
            missing = not target.is_file()
            if missing or (address.fragment and unquote(address.fragment) not in ids.get(key, ())):
                broken.append((name, link["href"]))
    # Links that scripts make work, on pages that Sphinx generates.
    broken = [(n, h) for n, h in broken if h not in ("#", "#pst-back-to-top")]
    assert broken == []


def test_each_page_says_what_it_is(pages):
    for name, page in articles(pages).items():
        assert page.html.get("lang") == "en", name
        assert len(page.find_all("h1")) == 1, name
        description = page.find("meta", attrs={"name": "description"})
        assert description, name
        assert 40 <= len(description["content"]) <= 170, (name, len(description["content"]))


def test_titles_and_ids_are_unique(pages):
    titles = [page.title.get_text(strip=True) for page in articles(pages).values()]
    assert len(set(titles)) == len(titles)
    for name, page in articles(pages).items():
        counts = Counter(tag["id"] for tag in page.find_all(id=True))
        assert [i for i, n in counts.items() if n > 1] == [], name


def test_math_is_there_without_a_script_and_speaks_mathml(pages):
    for name, page in articles(pages).items():
        formulas = page.select("article .math")
        for formula in formulas:
            assert formula.find("math"), (name, formula.get_text()[:60])
            assert formula.select_one(".katex-html[aria-hidden=true]"), name
        assert not page.select(".katex-error"), name
        assert not any("mathjax" in (tag.get("src") or "").lower() for tag in page("script")), name
    chapters = [page for page in articles(pages).values() if page.select(".dlc-claim")]
    assert chapters
    assert all(len(page.select("article .math")) > 50 for page in chapters)


def test_no_tex_is_left_over(pages):
    for name, page in articles(pages).items():
        article = BeautifulSoup(str(page.find("article")), "html.parser")
        for tag in article.select(".math, pre, code, svg, script"):
            tag.decompose()
        text = article.get_text()
        left = re.findall(r"\\(?:frac|sqrt|operatorname|mathbb|sigma|cdot)|\$[^$\n]{1,80}\$", text)
        assert left == [], (name, left)


def test_sympys_results_are_math_too(pages):
    outputs = [o for page in articles(pages).values() for o in page.select(".cell_output .math")]
    assert outputs
    assert all(output.find("math") for output in outputs)


def test_every_picture_has_a_text_alternative(pages):
    for name, page in articles(pages).items():
        for image in page.select("article img"):
            assert (image.get("alt") or "").strip(), name
        for figure in page.select("figure.dlc-figure"):
            drawing = figure.find("svg")
            assert drawing["role"] == "img", name
            assert len(drawing["aria-label"].split()) >= 4, name
            assert len(figure.find("figcaption").get_text(strip=True)) > 20, name


def test_headings_do_not_skip_a_level(pages):
    for name, page in articles(pages).items():
        levels = [int(tag.name[1]) for tag in page.select("article h1, h2, h3, h4")]
        jumps = [(a, b) for a, b in pairwise(levels) if b > a + 1]
        assert jumps == [], name


def test_the_list_and_the_data_hold_the_same_claims(site, pages):
    data = json.loads((site / "book" / "claims.json").read_text("utf-8"))
    rows = pages["book/ledger.html"].select("table.dlc-ledger tbody tr")
    boxes = [box["id"] for page in pages.values() for box in page.select(".dlc-claim")]
    assert len(data) == len(rows) == len(boxes)
    assert {entry["id"] for entry in data} == set(boxes)
    for entry, row in zip(data, rows, strict=True):
        assert row.find("a")["href"].endswith(f"#{entry['id']}")
        assert entry["checks"]
        for check in entry["checks"]:
            assert check["holds"]
            unchecked = check["kind"] in ("quote", "record")
            assert unchecked or check["wrong"]
            assert all(wrong["rejected"] for wrong in check["wrong"])


def test_every_chapter_makes_eight_claims_and_shows_what_it_says(pages):
    for name, page in pages.items():
        if not page.select(".dlc-claim"):
            continue
        assert len(page.select(".dlc-claim")) >= 8, name
        assert len(page.select("figure.dlc-figure")) >= 3, name
        assert len(page.select(".exercise")) >= 3, name
        assert len(page.select(".solution")) == len(page.select(".exercise")), name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


@pytest.mark.parametrize("view", VIEWS)
def test_in_a_browser_pages_ask_no_other_host_and_fit(browser, address, pages, view):
    context = browser.new_context(**VIEWS[view])
    tab = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    # Going on to the next page may cut a request short, which says nothing about its file.
    tab.on(
        "requestfailed",
        lambda request: (
            None
            if "ERR_ABORTED" in (request.failure or "")
            else said.append(f"failed: {request.url}")
        ),
    )
    tab.on(
        "response",
        lambda answer: (
            said.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
        ),
    )
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    for name in articles(pages):
        tab.goto(f"{address}/{name}", wait_until="networkidle")
        width = tab.evaluate("document.documentElement.scrollWidth")
        assert width <= VIEWS[view]["viewport"]["width"], f"{name} is {width} px wide"
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_in_a_browser_figures_follow_the_theme(browser, address, pages):
    name = next(name for name, page in pages.items() if page.select("figure.dlc-figure"))
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        tab = context.new_page()
        tab.goto(f"{address}/{name}")
        script = "() => getComputedStyle(document.documentElement).getPropertyValue('--dlc-ink')"
        colours[scheme] = tab.evaluate(script)
        context.close()
    assert colours["light"] != colours["dark"]


def test_in_a_browser_math_and_figures_need_no_script(browser, address, pages):
    name = next(name for name, page in pages.items() if page.select("figure.dlc-figure"))
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/{name}")
    for part in (".katex-html", "figure.dlc-figure svg", ".dlc-verdict"):
        box = tab.locator(part).first.bounding_box()
        assert box, part
        assert box["width"] > 5, part
        assert box["height"] > 5, part
    context.close()


RAW = re.compile(
    r"glue:text|\{(?:term|claim|eq|doc|ref|numref|func|class|mod|cite(?::[a-z]+)?)\}|\$"
)


def raw_markup(page: BeautifulSoup) -> list[str]:
    """Markup in what a reader sees, code and formulas left out: a role inside a formula, say."""
    shown = BeautifulSoup(str(page.find("article") or page), "html.parser")
    for tag in shown.select("pre, code, script, style, svg"):
        tag.decompose()
    for tag in shown.select("annotation"):
        # The source of a formula may hold a dollar, but no role.
        tag.string = tag.get_text().replace("$", "")
    text = shown.get_text()
    return [text[max(0, m.start() - 40) : m.end() + 40] for m in RAW.finditer(text)]


def test_raw_markup_is_found():
    page = BeautifulSoup("<p>x {term}`mask` y <code>{term}</code> $q$</p>", "html.parser")
    assert len(raw_markup(page)) == 3


def test_no_page_shows_raw_markup(pages):
    assert {name: raw for name, page in articles(pages).items() if (raw := raw_markup(page))} == {}
