"""Build the book from nothing in two places and compare every file, byte by byte."""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_sources(target: Path) -> None:
    """Copy what git tracks or would track: what a fresh clone has."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def build(target: Path) -> Path:
    """Build the copy as `make book` does; return the folder of its pages."""
    copy_sources(target)
    environment = {**os.environ, "PYTHONPATH": str(target / "code")}
    command = ["make", "--no-print-directory", "site", f"VENV={Path(sys.prefix)}"]
    done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\nthe build in {target} failed")
    return target / "_build" / "html"


def differences(one: Path, two: Path) -> list[str]:
    """Files that only one folder has, or that differ."""
    files = [{str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()} for top in (one, two)]
    lonely = sorted(files[0] ^ files[1])
    shared = sorted(files[0] & files[1])
    _, unequal, unread = filecmp.cmpfiles(one, two, shared, shallow=False)
    return [*lonely, *unequal, *unread]


def first_difference(one: Path, two: Path, around: int = 120) -> str:
    """Where two files part, with what stands there in each."""
    if not (one.is_file() and two.is_file()):
        return "it is in one build only"
    left, right = one.read_bytes(), two.read_bytes()
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    at = min(len(left), len(right)) if at is None else at
    shown = [content[max(0, at - around) : at + around] for content in (left, right)]
    return f"from byte {at}:\n  {shown[0]!r}\n  {shown[1]!r}"


def main() -> int:
    """Compare two clean builds, or one with the pages of an earlier one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="pages of a clean build made elsewhere")
    against = parser.parse_args().against
    with tempfile.TemporaryDirectory(prefix="dlchecked-a-") as a, \
         tempfile.TemporaryDirectory(prefix="dlchecked-another-place-") as b:  # fmt: skip
        first = against or build(Path(a))
        second = build(Path(b) / "deeper")
        found = differences(first, second)
        found = [f"{name}: {first_difference(first / name, second / name)}" for name in found]
        count = sum(1 for path in second.rglob("*") if path.is_file())
    if found:
        print("\n".join(["two clean builds differ in:", *found]))
        return 1
    print(f"two clean builds are identical: {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
