"""Start a chapter: its page, its module and its test, copied from the template and renamed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE, NAME = ROOT / "book" / "_template", "geometric_sum"


def rooms(topic: str, root: Path) -> dict[Path, Path]:
    """Where the template's three files go for a topic."""
    return {
        TEMPLATE / f"{NAME}.md": root / "book" / f"{topic}.md",
        TEMPLATE / f"{NAME}.py": root / "code" / "dlchecked" / f"{topic}.py",
        TEMPLATE / f"test_{NAME}.py": root / "tests" / f"test_{topic}.py",
    }


def start(topic: str, root: Path = ROOT) -> list[Path]:
    """Copy the three files under the topic's name; refuse to overwrite."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", topic):
        raise SystemExit(f"TOPIC must be words in snake_case, got {topic!r}")
    targets = rooms(topic, root)
    if taken := [str(path) for path in targets.values() if path.exists()]:
        raise SystemExit(f"already there: {', '.join(taken)}")
    for source, target in targets.items():
        text = source.read_text(encoding="utf-8").replace(NAME, topic)
        text = text.replace(NAME.replace("_", "-"), topic.replace("_", "-"))
        target.write_text(text, encoding="utf-8")
    return list(targets.values())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("say which: make chapter TOPIC=kernel_attention")
    made = start(sys.argv[1])
    print("\n".join(str(path.relative_to(ROOT)) for path in made))
    print("Next: add it to _toc.yml and book/api.md, write, then `make ids book test lint`.")
