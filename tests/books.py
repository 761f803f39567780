"""Tiny books in temporary folders, with the real settings, extension and Makefile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FRONT = """\
---
file_format: mystnb
kernelspec:
  name: python3
  display_name: Python 3
---
"""


def make_site(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the book in a folder exactly as `make book` does, in the environment of the tests."""
    code = str(folder / "code")
    environment = {**os.environ, "PYTHONPATH": code, "NO_COLOR": "1"}
    command = ["make", "--no-print-directory", "site", f"VENV={sys.prefix}"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )


@dataclass
class TinyBook:
    """A book of a few lines with the real settings, extension and Makefile."""

    folder: Path

    def page(self, name: str, text: str) -> Path:
        """Write a page with code cells."""
        path = self.folder / "book" / f"{name}.md"
        path.write_text(FRONT + text, encoding="utf-8")
        pages = sorted(p.stem for p in path.parent.glob("*.md"))
        chapters = "".join(f"  - file: book/{page}\n" for page in pages)
        toc = f"format: jb-book\nroot: index\ndefaults:\n  numbered: true\nchapters:\n{chapters}"
        (self.folder / "_toc.yml").write_text(toc, encoding="utf-8")
        return path

    def module(self, name: str, text: str) -> Path:
        """Write a module of the book's package."""
        path = self.folder / "code" / "dlchecked" / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        return path

    def ids(self, *names: str, page: str = "book/toy_topic") -> None:
        """List ids as published."""
        lines = "".join(f"{name} {page}\n" for name in names)
        (self.folder / "book" / "ledger_ids.txt").write_text(lines, encoding="utf-8")

    def build(self) -> tuple[int, str]:
        """Build; return the exit status and all that was printed."""
        done = make_site(self.folder)
        return done.returncode, done.stdout + done.stderr

    def html(self, name: str) -> str:
        """A built page."""
        return (self.folder / "_build" / "html" / "book" / f"{name}.html").read_text("utf-8")


TOYS = """
class Verdict:
    def __init__(self, id, holds=True, wrong=("a slip",), rejected=True, kind="prove"):
        rows = [{"label": w, "rejected": rejected, "finding": ""} for w in wrong]
        self.payload = {"id": id, "kind": kind, "word": "proved", "holds": holds,
                        "summary": "so it is", "wrong": rows, "sizes": {}, "also_at": [],
                        "seed": None, "detail": {}}

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"application/vnd.dlchecked.verdict+json": self.payload, "text/plain": "verdict"}


def prove(id, **options):
    return Verdict(id, **options)
"""


def new_book(folder: Path) -> TinyBook:
    """A book without pages but the first."""
    for name in ("_config.yml", "requirements.txt", "Makefile"):
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("book/_ext", "book/_static", "code"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "book" / "references.bib").write_text("", encoding="utf-8")
    (folder / "index.md").write_text("# A tiny book\n\nWith one page.\n", encoding="utf-8")
    book = TinyBook(folder)
    book.ids()
    # Verdicts without the ledger's imports, so that a tiny book builds in seconds.
    book.module("toys", TOYS)
    return book
