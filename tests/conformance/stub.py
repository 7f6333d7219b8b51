"""A type stub that mypy takes for `tensorrt`, out of what `probe` found.

It has exactly the classes, members, enum members and overloads of that version; what a property cannot be set
to is read-only, and what its documentation says may be None is Optional.  `Module` is the module as a value.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any

HEAD = """\
# Generated from {package} {version}: what the bindings say of themselves.
# mypy: disable-error-code="type-arg,override,overload-overlap,overload-cannot-match,explicit-override,misc"
import builtins
import collections.abc
import typing
import numpy
import numpy.typing
import typing_extensions
"""
TYPES = """
from tensorrt._module import Module as Module
__version__: str
_Shape = typing.Union[Dims, collections.abc.Iterable[int]]
_Values = typing.Union[Weights, numpy.typing.NDArray[typing.Any]]
_Order = typing.Union[Permutation, collections.abc.Iterable[int]]
"""
BUILTINS = ("bool", "int", "float", "str", "bytes", "memoryview", "list", "tuple", "dict", "slice", "type")
# pybind11's names for what is not a class of the module.
WORDS = {
    "capsule": "typing.Any",
    "CapsuleType": "typing.Any",
    "buffer": "typing_extensions.Buffer",
    "Buffer": "typing_extensions.Buffer",
    "List": "builtins.list",
    "Tuple": "builtins.tuple",
    "Dict": "builtins.dict",
    "Sequence": "collections.abc.Sequence",
    "Iterable": "collections.abc.Iterable",
    "Iterator": "collections.abc.Iterator",
    "Callable": "collections.abc.Callable[..., typing.Any]",
    "function": "collections.abc.Callable[..., typing.Any]",
    "ndarray": "numpy.typing.NDArray[typing.Any]",
    "SupportsInt": "builtins.int",
    "SupportsFloat": "builtins.float",
    "SupportsIndex": "typing.SupportsIndex",
    "IEngineInspector": "EngineInspector",
    "IBuilder": "Builder",
    "IParserError": "ParserError",
    "Optional": "typing.Optional",
    "Union": "typing.Union",
    "None": "None",
    **{name: f"builtins.{name}" for name in BUILTINS},
}
TAKES = {"Dims": "_Shape", "Weights": "_Values", "Permutation": "_Order"}  # implicit conversions
ENUM = """\
    __members__: typing.ClassVar[builtins.dict[builtins.str, typing_extensions.Self]]
    def __init__(self, value: builtins.int) -> None: ...
    def __int__(self) -> builtins.int: ...
    def __index__(self) -> builtins.int: ...
    def __hash__(self) -> builtins.int: ...
    def __eq__(self, other: builtins.object) -> builtins.bool: ...
    @property
    def name(self) -> builtins.str: ...
    @property
    def value(self) -> builtins.int: ...
"""
# Protocols that members do not show: iteration by index, and buffers before Python 3.12.
UNSEEN = {
    "Dims": "def __iter__(self) -> collections.abc.Iterator[builtins.int]: ...",
    "IHostMemory": "def __buffer__(self, flags: builtins.int, /) -> builtins.memoryview: ...",
}
SPECIAL = {
    "__enter__": "def __enter__(self) -> typing_extensions.Self: ...",
    "__exit__": "def __exit__(self, *args: typing.Any) -> None: ...",
}


def write_stub(api: dict[str, Any], folder: Path) -> None:
    """Write the package `tensorrt` that describes `api` into `folder`."""
    package = folder / "tensorrt"
    package.mkdir(parents=True)
    writer = Writer(api)
    head = HEAD.format(**api)
    (package / "__init__.pyi").write_text(head + TYPES + "\n".join(writer.module()) + "\n")
    (package / "_module.pyi").write_text(head + "\n".join(writer.module_as_value()) + "\n")


class Writer:
    """Lines of a stub for one API."""

    def __init__(self, api: dict[str, Any]) -> None:
        self.api = api
        self.known = dict.fromkeys([*api["classes"], *api["enums"]])

    def module(self) -> list[str]:
        """Lines of the module itself."""
        lines = self.classes()
        for name, entry in self.api["functions"].items():
            lines += self.function(name, entry, "")
        return lines + [f"{name}: {entry['type']}" for name, entry in self.api["constants"].items()]

    def module_as_value(self) -> list[str]:
        """Lines of the class whose attributes are the module's."""
        lines = ["import tensorrt as _trt", "from tensorrt import *", "class Module:", "    __version__: str"]
        lines += [f"    {name} = _trt.{name}" for name in self.known if "." not in name]
        for name, entry in self.api["functions"].items():
            lines += self.function(name, {**entry, "kind": "static method"}, "    ")
        return lines + [f"    {n}: _trt.{e['type']}" for n, e in self.api["constants"].items()]

    def type(self, text: str, *, argument: bool = False) -> str:
        """A pybind11 type as Python's; what the module does not know is Any."""

        def word(match: re.Match[str]) -> str:
            name = match[0].replace("::", ".").split("nvinfer1.")[-1].split("nvonnxparser.")[-1]
            name = re.sub(r"^v_\d+_\d+\.", "", name)
            if name in self.known:
                return TAKES.get(name, name) if argument else name
            return WORDS.get(name.split(".")[-1], "typing.Any")

        return re.sub(r"[A-Za-z_][\w.:]*", word, re.sub(r"[\w:]+<.*>", "object", text))

    def arguments(self, text: str) -> list[str]:
        """The parameter list of a signature; what has no name of its own is positional-only."""
        out: list[str] = []
        defaulted = False
        for index, part in enumerate(split_arguments(text)):
            name, _, rest = part.partition(":")
            kind, _, default = (piece.strip() for piece in rest.partition(" = "))
            if not part or (index == 0 and name in ("self", "arg0", "this")):
                continue
            defaulted = defaulted or bool(default)
            out.append(self._argument(name, kind, default, defaulted))
        unnamed = sum(bool(re.match(r"arg\d+:", argument)) for argument in out)
        return [*out[:unnamed], "/", *out[unnamed:]] if unnamed else out

    def _argument(self, name: str, kind: str, default: str, defaulted: bool) -> str:
        if not kind:  # *args, /, or of a function that is written in Python
            return f"{name}: typing.Any" if name not in "*/" else name
        named = f"{name}{'_' * keyword.iskeyword(name)}: {self.type(kind, argument=True)}"
        return f"{named}{' | None' if default == 'None' else ''}{' = ...' * defaulted}"

    def function(self, name: str, entry: dict[str, Any], indent: str) -> list[str]:
        """One `def` for each overload."""
        texts = entry["signatures"] or ["(*args, **kwargs) -> object"]
        defs = list(dict.fromkeys(self._definition(name, entry, text, bool(indent)) for text in texts))
        marks = ["@typing.overload"] if len(defs) > 1 else []
        marks += ["@staticmethod"] if entry["kind"] == "static method" else []
        return [indent + line for one in defs for line in (*marks, one)]

    def _definition(self, name: str, entry: dict[str, Any], text: str, inside_class: bool) -> str:
        body = text[text.index("(") + 1 :]
        inside, _, result = body.rpartition(" -> ") if " -> " in body else (body, "", "object")
        optional = " | None" if entry.get("may_be_none") else ""
        result = "None" if name == "__init__" else self.type(result) + optional
        own = ["self"] if inside_class and entry["kind"] == "method" else []
        arguments = ", ".join(own + self.arguments(inside.rstrip().removesuffix(")")))
        return f"def {name}({arguments}) -> {result}: ..."

    def property(self, name: str, entry: dict[str, Any], indent: str) -> list[str]:
        """A property with its setter, or a class variable."""
        given = entry["signatures"]
        value = self.type(given[0].rpartition(" -> ")[2]) if given else "typing.Any"
        if entry["kind"] == "static property":
            return [f"{indent}{name}: typing.ClassVar[{value}]"]
        result = value if entry["readable"] else "typing.NoReturn"
        lines = ["@property", f"def {name}(self) -> {result}: ..."]
        if entry["settable"]:
            lines += [f"@{name}.setter", f"def {name}(self, value: {self._set_to(entry)}) -> None: ..."]
        return [indent + line for line in lines]

    def _set_to(self, entry: dict[str, Any]) -> str:
        """What a property can be set to; None resets a pointer."""
        arguments = self.arguments(entry["setter"][0].rpartition(" -> ")[0][1:-1]) if entry["setter"] else []
        given = arguments[0].partition(": ")[2] if arguments else "typing.Any"
        return f"{given} | None" if re.match(r"I[A-Z]", given) else given

    def classes(self, owner: str = "") -> list[str]:
        """The classes and enums whose qualified name is `owner` and one word."""
        lines: list[str] = []
        for full in [name for name in self.known if name.rpartition(".")[0] == owner.rstrip(".")]:
            indent = "    " * owner.count(".")
            lines += self.enum(full, indent) if full in self.api["enums"] else self.one_class(full, indent)
        return lines

    def enum(self, full: str, indent: str) -> list[str]:
        """An enum of pybind11, which is no Enum of Python's."""
        inner = indent + "    "
        lines = [f"{indent}class {full.rpartition('.')[2]}:"]
        lines += [indent + line for line in ENUM.splitlines()]
        lines += [f"{inner}{key}: typing.ClassVar[{full}]" for key in self.api["enums"][full]]
        if full == "DataType":  # the package's __init__ adds it
            lines += [f"{inner}@property", f"{inner}def itemsize(self) -> builtins.float | None: ..."]
        return lines

    def one_class(self, full: str, indent: str) -> list[str]:
        """A class with what it holds."""
        entry, inner = self.api["classes"][full], indent + "    "
        bases = [base for base in entry["bases"] if base in self.known][:1]
        lines = [f"{indent}class {full.rpartition('.')[2]}{'(' + bases[0] + ')' if bases else ''}:"]
        lines += self.classes(full + ".") or [f"{inner}__module__: str"]
        lines += [inner + UNSEEN[full]] if full in UNSEEN else []
        for key, member in entry["members"].items():
            lines += self.member(full, key, member, inner)
        return lines

    def member(self, full: str, key: str, member: dict[str, Any], inner: str) -> list[str]:
        """One member of the class `full`."""
        if member["kind"] == "class":
            return [] if f"{full}.{key}" in self.known else [f"{inner}{key} = {member['name']}"]
        if member["kind"] == "value":
            typed = self.type(member["type"]) if member["type"] in self.known else "typing.Any"
            return [f"{inner}{key}: typing.ClassVar[{typed}]"] if key != "__hash__" else []
        if "property" in member["kind"]:
            return self.property(key, member, inner)
        return [inner + SPECIAL[key]] if key in SPECIAL else self.function(key, member, inner)


def split_arguments(text: str) -> list[str]:
    """The parts of a parameter list between its outer commas."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[(<{") - (char in "])>}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]
