"""Model specs as TOML files: found, read, and changed with their comments kept."""

from __future__ import annotations

import codecs
import json
import os
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError
from tomlkit.items import InlineTable, Table

from harness.errors import SpecError
from harness.paths import SPEC_NAME, no_file, nothing_at
from harness.precision import Precision
from harness.spec.errors import dotted, one_line, spec_error
from harness.spec.model_spec import DataSource, ModelSpec, Profile

MAX_BYTES = 4 * 2**20
"""A spec larger than this is no spec."""


def find_specs(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Spec files named by `paths`: files as they are, folders searched for `spec.toml`; sorted, each once.

    Raises SpecError where a path is missing or a folder holds none.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if why := nothing_at(path):
            raise SpecError(path, "", None, why)
        here = sorted(path.rglob(SPEC_NAME)) if path.is_dir() else [path]
        if not here:
            raise SpecError(path, "", None, f"the folder holds no {SPEC_NAME}")
        found.update((p.resolve(), None) for p in here)
    return list(found)


def find_spec(path: str | os.PathLike[str]) -> Path:
    """The spec file that `path` names: itself, or the only `spec.toml` in the folder.  Raises SpecError."""
    found = find_specs([path]) if Path(path).is_dir() else [Path(path)]
    if len(found) > 1:
        raise SpecError(path, "", None, f"the folder holds {len(found)} specs: name one, say {found[0]}")
    return found[0]


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The spec in the TOML file `path`, with every file that it names there.

    Raises SpecError: one line naming file, dotted key, value and rule.
    """
    file = Path(path)
    spec = parse_spec(_read_text(file), file)
    spec._path = file.resolve()
    _check_files(spec)
    return spec


def parse_spec(text: str, file: object = "<spec>") -> ModelSpec:
    """The spec in the TOML `text`; `file` is what errors name.  Raises SpecError."""
    try:
        # JSON mode is strict about scalars and still takes arrays for tuples and words for enums.
        data = json.dumps(tomllib.loads(text), default=str)
        return ModelSpec.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise spec_error(file, error) from error
    except (ValueError, RecursionError) as error:
        raise SpecError(file, "", None, f"not TOML: {one_line(error)}") from error


def write_fp32_nodes(path: str | os.PathLike[str], precision: Precision, names: Sequence[str]) -> None:
    """Set `fp32_nodes` of `precision` in the spec file `path` to `names`, keeping comments and order.

    Op types that stay FP32 are left as they are.  Raises SpecError if the result would be no valid spec.
    """
    file = Path(path)
    text = _read_text(file)
    parse_spec(text, file)
    document = tomlkit.parse(text)
    part = _sub_table(_sub_table(document, "precision", super_table=True), str(precision))
    trivia = _taken_trivia(part)
    fresh = not part and not trivia
    part["fp32_nodes"] = tomlkit.array().multiline(len(names) > 1)
    part["fp32_nodes"].extend(list(names))
    for item in [tomlkit.nl()] if fresh and isinstance(part, Table) else trivia:
        part.add(item)
    text = _with_ends_of(text, tomlkit.dumps(document))
    parse_spec(text, file)
    _replace(file, text)


def _with_ends_of(before: str, after: str) -> str:
    """`after` with the line ends of `before`: those of Windows where it has any."""
    lines = after.replace("\r\n", "\n")
    return lines.replace("\n", "\r\n") if "\r\n" in before else lines


def write_spec(spec: ModelSpec, path: Path) -> Path:
    """Write `spec`, made or changed in memory, to `path`, with its files by their whole paths.

    Raises SpecError where it names code, which must lie beside its spec.
    """
    tables = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for key, name in _named_files(spec):
        if key.endswith(("loader", "metric", "network")):
            rule = "names code, which must lie beside the spec: save the spec beside it"
            raise SpecError(spec.name, key, name, rule)
    tables["profiles"] = [_profile_table(profile) for profile in spec.profiles]
    _made_absolute(tables, spec.folder.resolve())
    path.write_text(tomlkit.dumps(tables), encoding="utf-8")
    return path


def _profile_table(profile: Profile) -> dict[str, Any]:
    """A profile with its shapes as they follow from its axes, where it names them."""
    named = {name: list(part.dims) for name, part in profile.shapes.items() if part.dims is not None}
    axes = {name: axis.model_dump(mode="json", exclude_none=True) for name, axis in profile.axes.items()}
    plain = profile.model_dump(mode="json", exclude_none=True)
    return {**plain, "axes": axes, "shapes": {**plain["shapes"], **named}}


def _made_absolute(tables: Any, folder: Path) -> None:
    """Make every path in `tables` start from the root."""
    if not isinstance(tables, dict):
        return
    for key, value in tables.items():
        if key in ("onnx", "npz", "npy", "weights", "engine", "calibration_cache") and isinstance(value, str):
            tables[key] = str(folder / value)
        elif key == "plugins" and isinstance(value, list):
            tables[key] = [str(folder / one) for one in value]
        else:
            _made_absolute(value, folder)


def _sub_table(table: Any, key: str, *, super_table: bool = False) -> Any:
    if key not in table:
        inline = isinstance(table, InlineTable)
        table[key] = tomlkit.inline_table() if inline else tomlkit.table(is_super_table=super_table)
    return table[key]


def _taken_trivia(table: Any) -> list[Any]:
    """Blank lines and comments of a table without keys: the next table's, so a first key goes before them."""
    if table or not isinstance(table, Table):
        return []
    items = [item for _, item in table.value.body]
    table.value.body.clear()
    return items


def _replace(file: Path, text: str) -> None:
    """Write `text` in one step, through a file beside the target (whose link, if any, is followed)."""
    target = file.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise SpecError(file, "", None, f"cannot be written: {error.strerror}") from error


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if file.suffix == ".onnx":
            raise SpecError(file, "", None, "is a model, not a spec, which `trt-harness init` writes for it")
        if len(raw) > MAX_BYTES:
            raise SpecError(file, "", None, f"larger than {MAX_BYTES} bytes, so no spec")
        if raw.startswith(codecs.BOM_UTF8):
            raise SpecError(file, "", None, "starts with a byte order mark: save it as UTF-8 without one")
        return raw.decode("utf-8")
    except IsADirectoryError as error:
        raise SpecError(file, "", None, f"is a folder: name the {SPEC_NAME} in it") from error
    except OSError as error:
        raise SpecError(file, "", None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(file, "", None, f"not UTF-8 text (byte {error.start})") from error


def _check_files(spec: ModelSpec) -> None:
    """Raise SpecError for the first file that the spec names and that is not there."""
    for key, name in _named_files(spec):
        if rule := no_file(spec.folder / name):
            raise SpecError(spec.path, key, name, f"{rule} (paths start from the spec's folder)")


def _named_files(spec: ModelSpec) -> Iterable[tuple[str, str]]:
    for key in ("onnx", "weights", "engine", "network"):
        if value := getattr(spec.model, key):
            yield f"model.{key}", _code_file(value) if key == "network" else value
    for key, source in data_sources(spec):
        for kind in ("npz", "npy", "loader"):
            if value := getattr(source, kind):
                yield f"{key}.{kind}", _code_file(value) if kind == "loader" else value
    if spec.task and spec.task.metric != "top1":
        yield "task.metric", _code_file(spec.task.metric)
    if spec.loop and spec.loop.tokens and spec.loop.tokens.choose != "argmax":
        yield "loop.tokens.choose", _code_file(spec.loop.tokens.choose)


def data_sources(spec: ModelSpec) -> Iterable[tuple[str, DataSource]]:
    """Every data source of `spec` with its dotted key."""
    for name, part in spec.inputs.items():
        yield dotted(("inputs", name, "data")), part.data
    for precision, own in spec.precision.items():
        for name, source in own.calibration.data.items():
            yield dotted(("precision", str(precision), "calibration", "data", name)), source
    if spec.task:
        yield "task.labels", spec.task.labels


def _code_file(reference: str) -> str:
    return reference.rpartition(":")[0]
