"""The Python API of a TensorRT binding wheel as JSON, without TensorRT, CUDA or a GPU.

The extension module in such a wheel needs libnvinfer and others, but only a dozen extern "C" factories of
them.  Empty libraries with the right sonames are built beside it (its RPATH has $ORIGIN), so that it
imports.  Each factory returns NULL: no builder, runtime or parser can be made, but every class, member,
signature and enum is there.  Needs readelf, nm, cc, and pip; run as a script it describes one package.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TOOLS = ("cc", "nm", "readelf")
DEPRECATED = re.compile(r"(?<!\()\[DEPRECATED\b[^]]*\](?:[^\d\n]*(\d+\.\d+))?|\(Deprecated\)|Deprecated, use")
HIDDEN = re.compile("_+(pybind11|module|doc|dict|weakref|new)")
LEFT_OVER = ("attr", "value", "common_enter", "common_exit")  # names of loops in the wheels' __init__


def missing_tools() -> list[str]:
    """Programs that probing needs and that are not on the PATH."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def probe(package: str, version: str) -> dict[str, Any]:
    """What the binding wheel `package` of `version` offers: enums, classes, functions, constants."""
    with tempfile.TemporaryDirectory() as folder:
        site, out = Path(folder, "site").resolve(), Path(folder, "api.json")
        _fetch(package, version, site)
        (extension,) = site.glob("tensorrt*_bindings/tensorrt*.so")
        _stand_ins(extension)
        command = [sys.executable, __file__, extension.parent.name, str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(site)})
        return {"package": package, **json.loads(out.read_text())}


def _fetch(package: str, version: str, site: Path) -> None:
    """Unpack the wheel for this interpreter into `site`."""
    with tempfile.TemporaryDirectory() as folder:
        _run(sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:",
             "-d", folder, f"{package}=={version}")  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        zipfile.ZipFile(wheel).extractall(site)


def _run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options)
    return str(done.stdout)


def _stand_ins(extension: Path) -> None:
    """Build, beside `extension`, a library for each of NVIDIA's that it needs."""
    needed = re.findall(r"\(NEEDED\).*\[(lib(?:nv|tensorrt)[^]]*)\]", _run("readelf", "-d", extension))
    source = "".join(map(_definition, _undefined(extension)))
    for soname in needed:
        _run("cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{soname}", "-o", extension.parent / soname,
             "-x", "c", "-", input=source if soname is needed[0] else "")  # fmt: skip


def _undefined(extension: Path) -> list[str]:
    """Symbols that neither libc nor the interpreter has."""
    process = ctypes.CDLL(None)
    found = re.findall(r"^\s+U (\S+)$", _run("nm", "-D", "--undefined-only", extension), re.M)
    return [s for s in found if "@" not in s and not re.match("_?Py", s) and not hasattr(process, s)]


def _definition(symbol: str) -> str:
    """C for a symbol: space for a vtable, type information or its name, else a factory of NULL."""
    data = re.match("_ZT[VIS]", symbol)
    return f"char {symbol}[4096];\n" if data else f"void *{symbol}(void) {{ return 0; }}\n"


def since(text: str | None) -> str | None:
    """The release from which `text` calls something deprecated (`yes` if it names none), or None."""
    found = DEPRECATED.findall(text or "")
    return next(filter(None, found), "yes") if found else None


def signatures(doc: str | None, prefix: str) -> list[str]:
    """The pybind11 signatures in a docstring, one for each overload, without the module's name."""
    found = re.findall(r"^(?:\d+\. )?(\w*\(.*\) -> .*)$", doc or "", re.M)
    return [signature.replace(prefix, "") for signature in found]


def describe(value: Any, prefix: str) -> dict[str, Any]:
    """What `value`, found in a class or in the module, is."""
    if isinstance(value, property):
        return _property(value, prefix)
    if isinstance(value, type):
        return {"kind": "class", "name": value.__qualname__}
    if not callable(value):
        return {"kind": "value", "type": type(value).__qualname__, "value": str(value)}
    return _function(value, prefix)


def _property(value: property, prefix: str) -> dict[str, Any]:
    return {
        "kind": "property" if type(value) is property else "static property",
        "readable": value.fget is not None,
        "settable": value.fset is not None,
        "signatures": signatures(getattr(value.fget, "__doc__", None), prefix),
        "setter": signatures(getattr(value.fset, "__doc__", None), prefix),
    }


def _function(value: Any, prefix: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": "static method" if isinstance(value, staticmethod) else "method"}
    if inspect.isfunction(value):  # written in Python, in the package's __init__
        entry["signatures"] = [value.__name__ + str(inspect.signature(value))]
    else:
        entry["signatures"] = signatures(value.__doc__, prefix)
        entry["may_be_none"] = bool(re.search(r":returns?:[^\n]*\bNone\b", value.__doc__ or ""))
    return {**entry, "deprecated": since(value.__doc__)}


def describe_enum(cls: type) -> dict[str, Any]:
    """Its members; pybind11 lists them as "  NAME : text" in the docstring."""
    doc = (cls.__doc__ or "").replace("\n\n  ", "\n  ")
    texts = dict(re.findall(r"^ {2}(\w+) : (.*?)(?=^ {2}\w+ : |\Z)", doc, re.M | re.S))
    members: dict[str, Any] = cls.__members__  # type: ignore[attr-defined]
    return {key: {"value": int(value), "deprecated": since(texts.get(key))} for key, value in members.items()}


def describe_class(cls: type, prefix: str) -> dict[str, Any]:
    """Its own members; what it inherits is in its bases."""
    head, *parts = re.split(r":ivar (\w+):", cls.__doc__ or "")
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    bases = [base.__qualname__ for base in cls.__mro__[1:] if base.__module__ == cls.__module__]
    members = {key: describe(value, prefix) for key, value in vars(cls).items() if not HIDDEN.match(key)}
    if not members.get("__init__", {}).get("signatures"):  # pybind11's "No constructor defined!"
        members.pop("__init__", None)
    for key in members.keys() & texts.keys():
        members[key]["deprecated"] = since(texts[key]) or members[key].get("deprecated")
    return {"bases": bases, "members": members, "deprecated": since(head)}


def describe_module(module: ModuleType, prefix: str) -> dict[str, Any]:
    """Everything that the module offers, nested classes by their qualified names."""
    api: dict[str, Any] = {"enums": {}, "classes": {}, "functions": {}, "constants": {}}
    for key, value in _public(module):
        if not isinstance(value, type):
            api["functions" if callable(value) else "constants"][key] = describe(value, prefix)
    for cls in _classes(module):
        enum = hasattr(cls, "__members__")
        api["enums" if enum else "classes"][cls.__qualname__] = (
            describe_enum(cls) if enum else describe_class(cls, prefix)
        )
    return {"version": module.__version__, **api}


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for key, value in vars(module).items():
        if not inspect.ismodule(value) and not key.startswith("_") and key not in LEFT_OVER:
            yield key, value


def _classes(module: ModuleType) -> list[type]:
    """Each class once, nested ones after the one that holds them."""
    todo = [value for _, value in _public(module) if isinstance(value, type)]
    for cls in todo:  # grows as it goes
        todo += [value for value in vars(cls).values() if isinstance(value, type)]
    return list({cls.__qualname__: cls for cls in reversed(todo)}.values())[::-1]


def main() -> None:
    """Describe the package named first into the file named second, then leave."""
    name, out = sys.argv[1:]
    module = __import__(name)
    prefix = next(key for key in sys.modules if key.startswith(f"{name}.tensorrt")) + "."
    Path(out).write_text(json.dumps(describe_module(module, prefix)))
    os._exit(0)  # nothing of it runs its destructors against the stand-ins


if __name__ == "__main__":
    main()
