"""One small change at a time to the source of a module: what a test suite should notice.

Changed are comparisons, `and` and `or`, conditions, arithmetic, `min` and `max`, `any` and `all`, numbers,
truth values, and keyword arguments that are left out.  Annotations, docstrings, decorators and texts stay.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A changed module.  `key` names the change by function and text, whatever line it is on."""

    key: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module's source; equal changes in one function are numbered."""
    tree, seen = ast.parse(source), Counter[str]()
    for path, where, node in _walk(tree, (), "module"):
        for changed in _changes(node):
            whole = copy.deepcopy(tree)
            _replace(whole, path, changed)
            key = f"{where}: {_words(node, changed)}"
            seen[key] += 1
            yield Mutant(
                f"{key} #{seen[key]}" if seen[key] > 1 else key, ast.unparse(ast.fix_missing_locations(whole))
            )


Path = tuple[tuple[str, int | None], ...]
LEFT = {"annotation", "returns", "decorator_list", "type_comment"}


def _walk(node: ast.AST, path: Path, where: str) -> Iterator[tuple[Path, str, ast.AST]]:
    """Every expression and statement that may be changed, the fields that lead to it, and its function."""
    for name, value in ast.iter_fields(node):
        if name in LEFT:
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in items:
            if not isinstance(child, ast.AST) or _is_text(child):
                continue
            inside = child.name if isinstance(child, ast.FunctionDef | ast.ClassDef) else where
            place = (*path, (name, index))
            yield place, inside, child
            yield from _walk(child, place, inside)


def _is_text(node: ast.AST) -> bool:
    """Whether a node is a docstring, a text, or a name's type."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _replace(tree: ast.AST, path: Path, new: ast.AST) -> None:
    for name, index in path[:-1]:
        value = getattr(tree, name)
        tree = value if index is None else value[index]
    name, index = path[-1]
    if index is None:
        setattr(tree, name, new)
    else:
        getattr(tree, name)[index] = new


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The changes of one node."""
    if isinstance(node, ast.Compare):
        yield from _compare(node)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _of_text(node):
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant):
        yield from _constant(node.value)
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(NAMES[node.id], ast.Load())
    elif isinstance(node, ast.Call):
        yield from _without_keyword(node)


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for k, op in enumerate(node.ops):
        if type(op) in COMPARISONS:
            ops = [*node.ops[:k], COMPARISONS[type(op)](), *node.ops[k + 1 :]]
            yield ast.Compare(node.left, ops, node.comparators)


def _of_text(node: ast.BinOp) -> bool:
    return any(_is_text(side) for side in (node.left, node.right))


def _constant(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(2.05 * value if value else 1.0)


def _without_keyword(node: ast.Call) -> Iterator[ast.AST]:
    for k, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield ast.Call(node.func, node.args, [*node.keywords[:k], *node.keywords[k + 1 :]])


def _words(old: ast.AST, new: ast.AST) -> str:
    if isinstance(old, ast.Call) and isinstance(new, ast.Call):
        left = next(k.arg for k in old.keywords if k not in new.keywords)
        return f"{_text(old.func)}() without {left}="
    return f"{_text(old)} -> {_text(new)}"


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
