"""A build that failed once fails until it is mended.

Sphinx keeps what it has read, warnings not included: a page that warned would pass, unmended, the
next time. So a mark is set while a build is under way and taken away when it ends without a
warning; a build that finds the mark forgets what was read. Executed cells stay in their own cache.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config


def _mark(app: Sphinx) -> Path:
    return Path(app.doctreedir) / "unfinished"


def begin(app: Sphinx, config: Config) -> None:
    """Forget the environment of an unfinished build, and mark this one (``config-inited``)."""
    mark = _mark(app)
    if mark.exists():
        (mark.parent / "environment.pickle").unlink(missing_ok=True)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def end(app: Sphinx, exception: Exception | None) -> None:
    """Take the mark away if nothing went wrong (``build-finished``)."""
    if exception is None and app.statuscode == 0 and app._warncount == 0:
        _mark(app).unlink(missing_ok=True)
