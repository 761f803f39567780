"""Running chapters, and running them again exactly when something they depend on has changed.

The key of a chapter's execution covers its cells, every module of the package that they import
(directly or through others), every data file that they name, and the pins. It is written into the
notebook's kernel name, which is part of what jupyter-cache compares. While a chapter runs, a guard
refuses to open any file of the repository that the key does not cover, so nothing can go stale.

Chapters run side by side, one thread each: the results do not depend on how many cores there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.util.display import status_iterator

from .chapters import code_cells, files_named, modules_used, parse

logger = logging.getLogger(__name__)
_KERNEL = re.compile(r"^(  display_name:\s*)(Python 3)\s*$", re.MULTILINE)
#: What colours a traceback in a terminal.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
GUARD = Path(__file__).with_name("guard.py")
SETTINGS = {
    # One thread a kernel: sums are then rounded the same way on every number of cores.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # The kernel of this environment, and nobody's personal settings.
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PYTHONNOUSERSITE": "1",
}


class ChapterError(SphinxError):
    """A cell of a chapter raised; the build stops here, every time."""

    category = "A chapter's cells failed"


@dataclass(frozen=True)
class Chapter:
    """A page with code cells, ready to run."""

    docname: str
    path: Path
    notebook: Any
    inputs: frozenset[Path]


def inputs_of(text: str, root: Path) -> frozenset[Path]:
    """Every file of the repository that a page's cells may read."""
    trees = [parse(cell.source) for cell in code_cells(text)]
    modules = modules_used(trees, root / "code")
    named = files_named(trees, [root, root / "book"])
    for module in modules:
        named |= files_named([parse(module.read_text(encoding="utf-8"))], [module.parent])
    return frozenset(path.resolve() for path in modules | named)


def key_of(text: str, root: Path) -> str:
    """The digest of all that decides what a page's cells put out, but the cells themselves."""
    digest = hashlib.sha256()
    digest.update(f"python {sys.version_info[:2]} {sorted(SETTINGS.items())}".encode())
    fixed = [root / "requirements.txt", GUARD]
    for path in [*fixed, *sorted(inputs_of(text, root))]:
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        content = path.read_bytes()
        digest.update(f"\n{name} {hashlib.sha256(content).hexdigest()}".encode())
    return digest.hexdigest()[:16]


# During one build no input changes, and each page asks several times.
_inputs_now, _key_now = lru_cache(None)(inputs_of), lru_cache(None)(key_of)


def with_key(text: str, root: Path, docname: str) -> str:
    """The page's source with its key in the kernel's display name."""
    if not code_cells(text):
        return text
    stamped, found = _KERNEL.subn(rf"\1\2 ({_key_now(text, root)})", text, count=1)
    if not found:
        raise ChapterError(
            f"{docname}: a page with code cells needs `kernelspec:` with `name: python3` and "
            "`display_name: Python 3` in its front matter (see book/_template.md)"
        )
    return stamped


def stamp(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give myst-nb the page with its key (event ``source-read``)."""
    if app.env.doc2path(docname).endswith(".md"):
        source[0] = with_key(source[0], Path(app.srcdir), docname)


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """The pages whose key differs from the last build's (event ``env-get-outdated``)."""
    _inputs_now.cache_clear()
    _key_now.cache_clear()
    root, keys = Path(app.srcdir), {}
    for docname in sorted(env.found_docs):
        path = Path(env.doc2path(docname))
        if path.suffix == ".md" and code_cells(text := path.read_text(encoding="utf-8")):
            keys[docname] = _key_now(text, root)
    before: dict[str, str] = getattr(env, "dlchecked_keys", {})
    env.dlchecked_keys = keys  # type: ignore[attr-defined]
    return [docname for docname, key in keys.items() if before.get(docname) != key]


def execute(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run every outdated chapter whose results are not in the cache (``env-before-read-docs``)."""
    folder = env.mystnb_config.execution_cache_path  # type: ignore[attr-defined]
    cache = get_cache(folder or ".jupyter_cache")
    chapters = [c for d in docnames if (c := _chapter(app, d)) and not _cached(cache, c)]
    if not chapters:
        return
    home = Path(tempfile.mkdtemp(prefix="dlchecked-kernels-"))
    try:
        _provide_guard(home)
        _run_all(chapters, cache, home, Path(app.srcdir), env.mystnb_config.execution_timeout)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _chapter(app: Sphinx, docname: str) -> Chapter | None:
    env, root = app.env, Path(app.srcdir)
    path = Path(env.doc2path(docname))
    if path.suffix != ".md" or not code_cells(original := path.read_text(encoding="utf-8")):
        return None
    text = with_key(original, root, docname)
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    if reader is None:
        raise ChapterError(f"{docname}: a page with code cells needs `file_format: mystnb` on top")
    return Chapter(docname, path, reader.read(text), _inputs_now(original, root))


def _cached(cache: Any, chapter: Chapter) -> bool:
    try:
        cache.match_cache_notebook(chapter.notebook)
    except KeyError:
        return False
    return True


def _provide_guard(home: Path) -> None:
    startup = home / "profile_default" / "startup"
    startup.mkdir(parents=True)
    shutil.copy(GUARD, startup / "00-guard.py")


def _run_all(
    chapters: list[Chapter], cache: Any, home: Path, root: Path, timeout: float | None
) -> None:
    failures = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        running = {pool.submit(_run, c, home, root, timeout): c for c in chapters}
        finished = status_iterator(
            as_completed(running), "running chapters... ", "brown", len(running),
            stringify_func=lambda future: running[future].docname,
        )  # fmt: skip
        for future in finished:
            chapter, (seconds, error) = running[future], future.result()
            if error:
                failures.append(error)
                continue
            data = {"execution_seconds": seconds}
            bundle = CacheBundleIn(chapter.notebook, str(chapter.path), data=data)
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            logger.info("%s ran in %.1f s", chapter.docname, seconds)
    if failures:
        raise ChapterError("\n\n".join(failures))


def _run(
    chapter: Chapter, home: Path, root: Path, timeout: float | None
) -> tuple[float, str | None]:
    """Run one chapter; return the seconds it took and what went wrong, if anything."""
    began = time.perf_counter()
    client = NotebookClient(
        chapter.notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        # A kernel sends what is printed in pieces, cut wherever its clock says. Joined as they
        # are they do not tell; myst-nb's own way of merging puts line breaks between them.
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(chapter.path.parent)}},
    )
    inputs = os.pathsep.join(sorted(map(str, chapter.inputs)))
    guard = {"IPYTHONDIR": str(home), "DLCHECKED_ROOT": str(root), "DLCHECKED_INPUTS": inputs}
    try:
        client.execute(env={**os.environ, **SETTINGS, **guard})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return time.perf_counter() - began, _explain(chapter, error)
    for cell in chapter.notebook.cells:
        # What a cell prints on its error channel is meant for its author: a warning is a defect.
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                where = f"{chapter.path}:{_line(chapter, cell)}"
                return 0.0, f"{where}: the cell wrote to its error channel\n{output['text']}"
    return time.perf_counter() - began, None


def _explain(chapter: Chapter, error: Exception) -> str:
    """Name the page and line of the cell that failed, and what it raised."""
    failed = next((c for c in chapter.notebook.cells if _has_error(c)), None)
    where = f"{chapter.path}:{_line(chapter, failed)}" if failed else str(chapter.path)
    return f"{where}: {COLOUR.sub('', str(error))}"


def _has_error(cell: nbformat.NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _line(chapter: Chapter, cell: nbformat.NotebookNode) -> int:
    lines = chapter.notebook.metadata.get("source_map", [])
    at = chapter.notebook.cells.index(cell)
    return int(lines[at]) + 1 if at < len(lines) else 1
