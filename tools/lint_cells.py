"""Lint the chapters' code cells as Python: ruff's rules and format, and mypy.

The cells of a page become one module with every line where it stands in the page, so that what the
tools report points at the page. ``--fix`` formats the cells in place.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from dlchecked_site.chapters import code_cells  # noqa: E402

# A cell may end in an expression, which is shown; imports may stand in later cells' solutions.
# Imports are sorted cell by cell, for between cells there is text.
RULES = ["--extend-ignore", "B018,E402,D,E731,ANN,I", "--line-length", "100"]
# A cell is read, not imported: its functions carry no types, and what it calls is checked anyway.
TYPES = """[mypy]
mypy_path = {code}
check_untyped_defs = true
ignore_missing_imports = true
allow_redefinition = true

[mypy-sympy.*,scipy.*,sklearn.*,matplotlib.*,myst_nb.*]
follow_imports = skip
"""
LONGEST_CELL = 30
# What fits beside the page's margins without scrolling.
FORMAT = ["--config", str(ROOT / "pyproject.toml"), "--line-length", "80"]


def as_module(page: str) -> str:
    """The page's cells at their lines, everything else blank."""
    lines = [""] * (len(page.splitlines()) + 1)
    for cell in code_cells(page):
        for at, line in enumerate(cell.source.splitlines()):
            lines[cell.line - 1 + at] = line
    return "\n".join(lines).rstrip() + "\n"


def too_long(page: Path) -> list[str]:
    """Cells over the limit: what is longer belongs in the module."""
    return [
        f"{page}:{cell.line}: a cell of {n} lines, over {LONGEST_CELL}: make it a function"
        for cell in code_cells(page.read_text(encoding="utf-8"))
        if (n := len(cell.source.strip().splitlines())) > LONGEST_CELL
    ]


def formatted(page: str) -> str:
    """The page with its cells in ruff's format."""
    lines = page.splitlines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = code_cells(page)
        for cell in cells:
            (folder / f"{cell.line}.py").write_text(cell.source + "\n", encoding="utf-8")
        _run([sys.executable, "-m", "ruff", "format", *FORMAT, "."], folder)
        for cell in reversed(cells):
            new = (folder / f"{cell.line}.py").read_text(encoding="utf-8").splitlines()
            lines[cell.line - 1 : cell.line - 1 + len(cell.source.splitlines())] = new
    return "\n".join(lines) + "\n"


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def with_cells(pages: Iterable[Path]) -> list[Path]:
    """Those that have code cells."""
    return [page for page in sorted(pages) if code_cells(page.read_text(encoding="utf-8"))]


def check(pages: list[Path]) -> int:
    """Check pages with code cells; return how many tools found something."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cells").mkdir()
        for page in pages:
            text = page.read_text(encoding="utf-8")
            (folder / f"{page.stem}_page.py").write_text(as_module(text), encoding="utf-8")
            for cell in code_cells(text):
                file = folder / "cells" / f"{page.stem}_line_{cell.line}.py"
                file.write_text(cell.source + "\n", encoding="utf-8")
        (folder / "mypy.ini").write_text(TYPES.format(code=ROOT / "code"), encoding="utf-8")
        config = ["--config", str(ROOT / "pyproject.toml")]
        modules = [f"{page.stem}_page.py" for page in pages]
        commands = [
            ["ruff", "check", *config, *RULES, *modules],
            ["ruff", "check", *config, "--select", "I", "cells"],
            ["ruff", "format", "--diff", *FORMAT, "cells"],
            ["mypy", "--config-file", "mypy.ini", *modules],
        ]
        for command in commands if pages else []:
            code, said = _run([sys.executable, "-m", *command], folder)
            if code:
                failed += 1
                print(said.replace("_page.py", ".md"))
    long = [line for page in pages for line in too_long(page)]
    print("\n".join(long) or f"cells of {len(pages)} pages: {failed or 'no'} complaints")
    return failed + bool(long)


def main() -> int:
    """Check the pages named, or all; with ``--fix`` format their cells first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, help="all of book/ if none is named")
    parser.add_argument("--fix", action="store_true", help="format the cells of these pages")
    arguments = parser.parse_args()
    pages = with_cells(arguments.pages or ROOT.glob("book/*.md"))
    for page in pages if arguments.fix else []:
        text = page.read_text(encoding="utf-8")
        if (tidy := formatted(text)) != text:
            page.write_text(tidy, encoding="utf-8")
    return check(pages)


if __name__ == "__main__":
    sys.exit(main())
