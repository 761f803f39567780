"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from books import ROOT, TinyBook, make_site, new_book


@pytest.fixture
def tiny_book(tmp_path: Path) -> TinyBook:
    return new_book(tmp_path / "book")


@pytest.fixture(scope="session")
def site() -> Path:
    """The whole book, built from the working tree, as `make book` builds it."""
    done = make_site(ROOT)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return ROOT / "_build" / "html"
