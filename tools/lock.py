"""Compile requirements.txt, every pin direct and indirect, from requirements.in.

The compiler itself is no part of the environment: it gets one of its own, in a temporary folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILER = "pip-tools==7.6.2"
HEAD = """\
# Every package the book is built, tested and linted with, direct and indirect, exact.
# Compiled from requirements.in by `make lock`: edit that file, not this one.
#
# torch comes without a build's suffix, so that any build of that version fits: on Linux, plain pip
# brings the one for CUDA and the libraries it needs, which are not listed here. README.md tells how
# to have the smaller one for CPUs.
"""


def compiled(source: Path) -> str:
    """The pins for `source`, without the hosts and local builds of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        subprocess.run([binaries / "pip", "install", "--quiet", COMPILER], check=True)
        target = Path(folder) / "requirements.txt"
        options = (
            "--quiet --allow-unsafe --strip-extras --no-header --annotation-style=line "
            "--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options"
        )
        command = [binaries / "pip-compile", *options.split(), "-o", target, source.name]
        subprocess.run(command, check=True, cwd=source.parent)
        lines = target.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    return HEAD + "\n".join(sorted(map(without_build, pins), key=str.lower)) + "\n"


def without_build(pin: str) -> str:
    """``torch==2.13.0+cpu  # via …`` without what follows the plus sign."""
    requirement, comment, via = pin.partition("#")
    plain = requirement.split("+")[0].rstrip()
    return f"{plain:34}  {comment}{via}".rstrip()


if __name__ == "__main__":
    (ROOT / "requirements.txt").write_text(compiled(ROOT / "requirements.in"), encoding="utf-8")
