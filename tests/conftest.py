"""What several tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from books import ROOT, TinyBook, make_site, new_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def tiny_book(tmp_path: Path) -> TinyBook:
    return new_book(tmp_path / "book")


@pytest.fixture(scope="session")
def site() -> Path:
    """The whole book, built from the working tree, as `make book` builds it."""
    done = make_site(ROOT)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs one of these browsers: {', '.join(BROWSERS)}")
        pytest.skip("no browser on the PATH")
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()
