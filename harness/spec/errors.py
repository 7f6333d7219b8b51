"""From pydantic's errors to one line that names file, dotted key, value and rule."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from harness.errors import SpecError
from harness.spec.model_spec import ModelSpec
from harness.spec.types import PATTERN_RULES, Part

RULES: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is required",
        "string_type": "must be text, in quotes",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list",
        "dict_type": "must be a table",
        "model_type": "must be a table",
        "finite_number": "must be a finite number",
        "greater_than": "must be > {gt:g}",
        "greater_than_equal": "must be >= {ge}",
        "less_than_equal": "must be <= {le}",
        "string_too_short": "must not be empty",
        "string_too_long": "must be of at most {max_length} characters",
        "too_short": "must not be empty",
    }
)
"""What each of pydantic's error types asks for, in words; its context fills the gaps."""


def spec_error(file: object, error: ValidationError) -> SpecError:
    """`error` as one line about `file`: one broken rule in full, the others by key."""
    errors = _without_echoes(error.errors(include_url=False))
    # A misspelt key is also a missing one: the misspelling is what the user wants to hear.
    errors.sort(key=lambda e: e["type"] != "extra_forbidden")
    (key, value, rule), *others = [_explain(e) for e in errors]
    if others:
        rule += f" (and {len(others)} more: {shorten_text(', '.join(k for k, _, _ in others))})"
    return SpecError(file, key, value, rule)


def _without_echoes(errors: Sequence[Any]) -> list[Any]:
    """`errors` without those of a table that only follow from an error inside it."""
    places = [tuple(e["loc"]) for e in errors]

    def echoed(place: tuple[int | str, ...]) -> bool:
        return any(len(p) > len(place) and p[: len(place)] == place for p in places)

    return [e for e, place in zip(errors, places, strict=True) if not (place and echoed(place))]


def _explain(error: Any) -> tuple[str, object, str]:
    """Dotted key, value and rule of one of pydantic's errors."""
    context: Mapping[str, Any] = error.get("ctx", {})
    loc = tuple(part for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "broken_rule":
            return context["key"], context["value"], context["rule"]
        case "broken_inside":
            return dotted((*loc, *context["path"])), context["value"], context["rule"]
        case "extra_forbidden":
            return dotted(loc), error["input"], _unknown_key(loc)
        case "missing":
            return dotted(loc), "(nothing)", RULES["missing"]
        case "enum" | "literal_error":
            return dotted(loc), error["input"], _one_of(error["input"], context["expected"])
        case "string_pattern_mismatch":
            return dotted(loc), error["input"], PATTERN_RULES[context["pattern"]]
        case kind if kind in RULES:
            return dotted(loc), error["input"], RULES[kind].format_map(context)
        case _:
            return dotted(loc), error["input"], one_line(error["msg"]).removeprefix("Value error, ")


def _one_of(value: object, expected: str) -> str:
    """The rule of a word that must be one of those in pydantic's list `expected`."""
    known = re.findall(r"'([^']*)'", expected)
    return f"must be one of {', '.join(known)}{_near(str(value), known)}"


def _unknown_key(loc: Sequence[str | int]) -> str:
    table = _table_at(loc[:-1])
    known = list(table.model_fields) if table else []
    return f"unknown key{_near(str(loc[-1]), known)}; known here: {', '.join(known)}"


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word[:100], known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _table_at(loc: Sequence[str | int]) -> type[Part] | None:
    """The table class at `loc` of a spec."""
    table: type[Part] | None = ModelSpec
    rest = list(loc)
    while rest and table is not None:
        field = table.model_fields.get(str(rest.pop(0)))
        if field is None:
            return None
        if _is_container(field) and rest:
            rest.pop(0)
        table = _part_in(field.annotation)
    return table


def _is_container(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (dict, tuple)


def _part_in(annotation: Any) -> type[Part] | None:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((found for a in get_args(annotation) if (found := _part_in(a))), None)


def dotted(loc: Iterable[str | int]) -> str:
    """`("profiles", 0, "shapes", "a b")` as `profiles[0].shapes."a b"`, as TOML would write it."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += "." * bool(text) + shorten_text(part if bare else json.dumps(part))
    return text


def one_line(error: object, limit: int = 300) -> str:
    """The text of `error` on one line, cut to `limit` characters."""
    return shorten_text(" ".join(str(error).split()), limit)


def shorten_text(text: str, limit: int = 200) -> str:
    """`text` cut in the middle to `limit` characters."""
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"
