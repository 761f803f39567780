"""Reading a chapter's source: its code cells, what they import, which files they name."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

_OPENING = re.compile(r"^(?P<fence>`{3,}|:{3,})\{code-cell\}\s*\S*\s*$")
_LEDGER_KINDS = frozenset(
    ("prove", "count", "agree", "observe", "measure", "refute", "quote", "record")
)


@dataclass(frozen=True)
class Cell:
    """One code cell: its source and the line (from 1) on which that source begins."""

    line: int
    source: str
    tags: tuple[str, ...] = ()


def code_cells(text: str) -> list[Cell]:
    """The code cells of a MyST page, in order, options stripped."""
    cells = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        at += 1
        if not opening:
            continue
        fence, body, first = opening["fence"], [], at + 1
        tags: list[str] = []
        while at < len(lines) and lines[at].rstrip() != fence:
            option = re.match(r":(\w+):\s*(.*)$", lines[at])
            if option and not body:
                first = at + 2
                if option[1] == "tags":
                    tags = re.findall(r"[\w-]+", option[2])
            else:
                body.append(lines[at])
            at += 1
        cells.append(Cell(first, "\n".join(body), tuple(tags)))
        at += 1
    return cells


def parse(source: str) -> ast.Module:
    """Python's tree of a cell or a module; a cell that is not Python reads as empty.

    The error of a cell that cannot be parsed belongs to its execution, which shows it in place.
    """
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def imported(tree: ast.Module, package: str, *, inside: str = "") -> set[str]:
    """The names in `package` that a tree imports; `inside` is the name of its own module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = inside.split(".")[: -node.level]
                base = ".".join([*parent, *([base] if base else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in found if name == package or name.startswith(f"{package}.")}


def module_file(name: str, code: Path) -> Path | None:
    """The file of a module, or None when `name` is no module (a function, say)."""
    base = code.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def modules_used(trees: list[ast.Module], code: Path, package: str = "dlchecked") -> set[Path]:
    """The package's files that cells import, directly or through one another."""
    waiting = set().union(*(imported(tree, package) for tree in trees)) if trees else set()
    seen: set[str] = set()
    files: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting |= {name.rpartition(".")[0]} - {""}
        file = module_file(name, code)
        if file is None:
            continue
        files.add(file)
        inside = name if file.name != "__init__.py" else f"{name}.__init__"
        waiting |= imported(parse(file.read_text(encoding="utf-8")), package, inside=inside)
    return files


def files_named(trees: list[ast.Module], folders: list[Path]) -> set[Path]:
    """The files that string literals name, relative to any of the folders."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= _files_at(node.value, folders)
    return found


def _files_at(text: str, folders: list[Path]) -> set[Path]:
    if not re.fullmatch(r"[\w./-]+\.\w+", text):
        return set()
    return {path.resolve() for folder in folders if (path := folder / text).is_file()}


def claims_checked(text: str) -> dict[str, int]:
    """The ids that a page's cells check, with the line of the call."""
    found: dict[str, int] = {}
    for cell in code_cells(text):
        for node in ast.walk(parse(cell.source)):
            if isinstance(node, ast.Call) and _is_check(node.func) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.setdefault(first.value, cell.line + node.lineno - 1)
    return found


def _is_check(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _LEDGER_KINDS
