"""The command lines of the scripts here: `--help` shows a script's own text, a mistake is one line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.cli import Parser


def arguments(script: str, text: str | None, **known: Any) -> argparse.Namespace:
    """What the command line of `script` says; `known`: arguments by name, each the keywords of add_argument.

    A mistake ends the process with one line and exit code 4.
    """
    parser = Parser(
        prog=f"python -m benchmarks.{Path(script).stem}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, settings in known.items():
        parser.add_argument(name, **settings)
    return parser.parse_args()


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number >= 1")
    return int(text)


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """For argparse: takes one of `names`; its own `choices` refuse none at all of several."""
    known = list(names)

    def check(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} must be one of {', '.join(known)}")
        return text

    return check


@contextmanager
def folder(script: str, text: str | None) -> Iterator[Path]:
    """The folder that the command line of `script` names, made if it is not there, or a temporary one."""
    help_ = "where the generated models are kept (default: a temporary folder)"
    named = arguments(script, text, folder={"nargs": "?", "metavar": "FOLDER", "help": help_}).folder
    if named is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        yield made(named)


def made(name: str) -> Path:
    """The folder `name`, made if it is not there; a name that no folder can have ends the process."""
    found = Path(name)
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"FOLDER = {name!r}: cannot be made: {error.strerror}")
    return found
