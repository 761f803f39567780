"""Add the book's new claims, and the audit's new rows, to the lists of permanent ids.

The lists only ever grow.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from dlchecked_site import tables  # noqa: E402
from dlchecked_site.claims import IDS, permanent_ids  # noqa: E402

_CLAIM = re.compile(r"^(?:`{3,}|:{3,})\{claim\}\s+([a-z0-9-]+)\s*$", re.MULTILINE)


def claims_made(book: Path) -> list[tuple[str, str]]:
    """Every claim's id with its page, in the order of pages and lines."""
    return [
        (name, f"{book.name}/{page.stem}")
        for page in sorted(book.glob("*.md"))
        for name in _CLAIM.findall(page.read_text(encoding="utf-8"))
    ]


def extend(file: Path, lines: list[str], listed: set[str]) -> None:
    """Append the lines whose first word is new, and say so."""
    new = [line for line in lines if line.split()[0] not in listed]
    with file.open("a", encoding="utf-8") as opened:
        opened.writelines(f"{line}\n" for line in new)
    names = ", ".join(line.split()[0] for line in new) or "none"
    print(f"{file.relative_to(ROOT)}: {len(new)} new: {names}")


def main() -> None:
    """Extend both lists."""
    claims = [f"{name} {page}" for name, page in claims_made(ROOT / "book")]
    extend(ROOT / IDS, claims, {name for name, _ in permanent_ids(ROOT / IDS)})
    rows = ROOT / tables.IDS
    extend(rows, tables.addresses(ROOT), set(rows.read_text("utf-8").split()))


if __name__ == "__main__":
    main()
