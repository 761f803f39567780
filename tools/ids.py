"""Add the claims that the book now makes to the list of permanent ids. The list only ever grows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from dlchecked_site.claims import IDS, permanent_ids  # noqa: E402

_CLAIM = re.compile(r"^(?:`{3,}|:{3,})\{claim\}\s+([a-z0-9-]+)\s*$", re.MULTILINE)


def claims_made(book: Path) -> list[tuple[str, str]]:
    """Every claim's id with its page, in the order of pages and lines."""
    return [
        (name, f"{book.name}/{page.stem}")
        for page in sorted(book.glob("*.md"))
        for name in _CLAIM.findall(page.read_text(encoding="utf-8"))
    ]


def main() -> None:
    """Append what is new, and say so."""
    listed = {name for name, _ in permanent_ids(ROOT / IDS)}
    new = [(name, page) for name, page in claims_made(ROOT / "book") if name not in listed]
    with (ROOT / IDS).open("a", encoding="utf-8") as file:
        file.writelines(f"{name} {page}\n" for name, page in new)
    print(f"{len(new)} new: {', '.join(name for name, _ in new) or 'none'}")


if __name__ == "__main__":
    main()
