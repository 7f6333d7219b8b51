"""Hides from the project what Linux has and others lack: a folder with this file goes onto PYTHONPATH."""

import builtins
import ctypes
import io
import os
import sys
from pathlib import Path

HIDDEN_MODULES = ("resource", "fcntl")
HIDDEN_FOLDERS = ("/proc", "/sys/fs/cgroup")
FOR = ("harness", "trt_harness_pytest", "filelock")
"""Whose imports and files are hidden; psutil and others know other systems by themselves."""
_import, _open, _stat, _cdll = builtins.__import__, io.open, os.stat, ctypes.CDLL.__getattr__


def _ours(depth=2):
    name = sys._getframe(depth).f_globals.get("__name__", "")
    return name.partition(".")[0] in FOR or name == "pathlib"


def _bare_import(name, *given, **named):
    scope = given[0] if given else named.get("globals")
    asker = (scope or {}).get("__name__", "").partition(".")[0]
    if name in HIDDEN_MODULES and asker in FOR:
        raise ModuleNotFoundError(f"No module named {name!r} (hidden)", name=name)
    return _import(name, *given, **named)


def _hidden(path):
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(HIDDEN_FOLDERS)


def _bare_open(file, *args, **settings):
    if _hidden(file) and _ours():
        raise FileNotFoundError(2, "hidden", str(file))
    return _open(file, *args, **settings)


def _bare_stat(path, *args, **settings):
    if _hidden(path) and _ours():
        raise FileNotFoundError(2, "hidden", str(path))
    return _stat(path, *args, **settings)


def _bare_symlink(*_, **__):
    raise OSError(1314, "hidden: a required privilege is not held by the client")


def _bare_function(self, name):
    if name == "prctl":
        raise AttributeError("hidden: prctl")
    return _cdll(self, name)


builtins.__import__ = _bare_import
builtins.open = io.open = _bare_open
os.stat = _bare_stat
os.symlink = _bare_symlink
Path.symlink_to = _bare_symlink
ctypes.CDLL.__getattr__ = _bare_function
for _name in ("sched_getaffinity", "sched_setaffinity"):
    delattr(os, _name)
