"""Runs first in every chapter's kernel: no file of the repository is read unseen by the build.

A page is run again when a file changes that its cells import or name in a string. A file that a
cell reaches in any other way (a computed path, an import by name) would go stale unnoticed, so
opening it is an error here.
"""


def _install() -> None:
    import os
    import sys
    from importlib.util import source_from_cache

    root = os.environ["DLCHECKED_ROOT"] + os.sep
    inputs = frozenset(os.environ["DLCHECKED_INPUTS"].split(os.pathsep))
    elsewhere = tuple(root + name + os.sep for name in (".git", ".venv", "_build"))
    environment = os.path.realpath(sys.prefix) + os.sep

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str):
            return
        path = os.path.abspath(arguments[0])
        if not path.startswith(root) or path.startswith(elsewhere):
            return
        if path.startswith(environment):
            return
        if path.endswith(".pyc"):
            path = source_from_cache(path)
        path = os.path.realpath(path)
        if path not in inputs:
            raise PermissionError(
                f"this cell opens {path[len(root) :]}, which the build does not see: import the "
                "module, or write the data file's path as one string literal in a cell"
            )

    sys.addaudithook(watch)


_install()
del _install
