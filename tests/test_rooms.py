"""One topic, one name, three rooms; and reading order is import order."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from books import ROOT

from dlchecked_site.chapters import imported, parse

PACKAGE = ROOT / "code" / "dlchecked"
#: Rooms that every chapter may use, in the order in which they may use each other.
SHARED = ["arguments", "proving", "ledger", "plotting", "counting", "training", "resnet"]
#: Pages that are no chapters.
OTHER_PAGES = {"ledger", "problems", "audit", "notation", "glossary", "api", "references"}


def chapters() -> list[str]:
    """Topics in the book's order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    topics = [file.removeprefix("book/") for file in files]
    return [topic for topic in topics if topic not in OTHER_PAGES]


def modules() -> set[str]:
    return {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}


def test_the_book_has_chapters():
    assert chapters()[0] == "scaled_dot_product"


@pytest.mark.parametrize("topic", chapters())
def test_each_chapter_has_its_page_module_and_test(topic: str):
    assert (ROOT / "book" / f"{topic}.md").is_file()
    assert (PACKAGE / f"{topic}.py").is_file()
    assert (ROOT / "tests" / f"test_{topic}.py").is_file()


def test_no_module_is_without_a_chapter_and_no_shared_room_without_a_test():
    assert modules() == {*chapters(), *SHARED}
    assert [room for room in SHARED if not (ROOT / "tests" / f"test_{room}.py").is_file()] == []


def test_no_page_is_left_out_of_the_contents():
    pages = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert pages == {*chapters(), *OTHER_PAGES}


@pytest.mark.parametrize("name", sorted({path.stem for path in PACKAGE.glob("*.py")}))
def test_a_module_imports_only_what_comes_before_it(name: str):
    order = [*SHARED, *chapters()]
    tree = parse((PACKAGE / f"{name}.py").read_text("utf-8"))
    uses = {found.split(".")[1] for found in imported(tree, "dlchecked") if "." in found}
    allowed = set(order[: order.index(name)]) if name in order else set()
    assert uses <= allowed, f"{name} imports {sorted(uses - allowed)}"


def test_the_package_is_described_whole_on_the_api_page():
    page = (ROOT / "book" / "api.md").read_text("utf-8")
    missing = [name for name in sorted(modules()) if f"automodule:: dlchecked.{name}\n" not in page]
    assert missing == []


def test_the_source_root_does_not_shadow_the_standard_librarys_code():
    assert not (ROOT / "code" / "__init__.py").exists()
    command = "import code, pdb; assert hasattr(code, 'InteractiveConsole')"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_room_is_called_after_nothing_in_particular():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    named = [f for f in tracked if vague & {part.split(".")[0] for part in f.split("/")}]
    assert named == []
