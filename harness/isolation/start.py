"""How a process is started: nothing that lies in the current folder is imported or run by it.

Python puts the current folder before the standard library for `-c` and `-m`; PATH and PYTHONPATH may hold
relative entries; npm reads settings there.  Whoever starts a process takes its parts from here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

NEUTRAL = os.path.abspath(os.sep)
"""A folder that holds nothing to import, and that only an administrator can put something in."""


def python(*arguments: str) -> list[str]:
    """The command that runs this interpreter without the current folder, or a script's, on its path."""
    return [sys.executable, "-P", *arguments]


def environment() -> dict[str, str]:
    """This process's variables, without the entries of PYTHONPATH that mean a folder by where one stands."""
    found = dict(os.environ)
    if named := found.pop("PYTHONPATH", ""):
        kept = [entry for entry in named.split(os.pathsep) if os.path.isabs(entry)]
        found |= {"PYTHONPATH": os.pathsep.join(kept)} if kept else {}
    return found


def tool(name: str) -> str | None:
    """The absolute path of the program `name` in PATH, whose relative entries do not count."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, entries)))
    return found if found and os.path.isabs(found) else None


def module_path(own: Iterable[str], parent: Iterable[str], folder: str) -> list[str]:
    """`sys.path` of a child: its parent's, but no module of the current folder hides an installed one.

    `own` is the child's path as it started.  What `parent` has inside `folder`, the current one, goes last,
    unless the child started with it too: an environment may lie there.
    """
    first = list(dict.fromkeys(own))
    given = dict.fromkeys(
        entry if entry in first else os.path.normpath(os.path.join(folder, entry)) for entry in parent
    )
    last = [entry for entry in given if entry not in first and _inside(entry, folder)]
    named = [entry for entry in given if entry not in last]
    return [*named, *(entry for entry in first if entry not in named), *last]


def _inside(entry: str, folder: str) -> bool:
    return Path(entry).resolve().is_relative_to(Path(folder).resolve())
