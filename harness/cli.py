"""`trt-harness`: one subcommand a file in `harness.commands`, each with `add(subparsers)` and `run(args)`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NoReturn, TextIO

from harness import __version__
from harness.commands import COMMANDS
from harness.errors import (
    BackendError,
    BackendUnavailableError,
    CacheError,
    HarnessError,
    UsageError,
    printable,
)
from harness.options import cache_folder

CACHE_VARIABLE = "TRT_HARNESS_CACHE"
USAGE_ERROR = 4
FAILURE = 1
INTERRUPTED = 130
CLOSED = 141
"""Nobody reads the output any more, as shells count it: 128 and the number of SIGPIPE."""


class Parser(argparse.ArgumentParser):
    """Tells a wrong command line in one line, with pytest's exit code for it."""

    def error(self, message: str) -> NoReturn:
        """End with the line and exit code 4."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """The parser with every subcommand."""
    top = Parser(prog="trt-harness", description="Validate TensorRT engines against their ONNX models.")
    top.add_argument("--version", action="version", version=f"trt-harness {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        import_module(f"harness.commands.{name}").add(subparsers)
    for command in subparsers.choices.values():
        _take_cache_dir(command)
    return top


def _take_cache_dir(command: argparse.ArgumentParser) -> None:
    """Let every command take `--cache-dir`, which those that use no cache may ignore."""
    with contextlib.suppress(argparse.ArgumentError):
        command.add_argument(
            "--cache-dir", dest="kept_in", metavar="PATH", help="(default: the user's cache folder)"
        )


@contextlib.contextmanager
def _cache(folder: str | None) -> Iterator[None]:
    """While a command runs, `folder` is the cache, for its child processes too."""
    before = os.environ.get(CACHE_VARIABLE)
    if folder is not None:
        os.environ[CACHE_VARIABLE] = str(cache_folder("--cache-dir", folder).absolute())
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(CACHE_VARIABLE)
        if before is not None:
            os.environ[CACHE_VARIABLE] = before


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code.

    0: good; 1: failed; 4: a user's mistake, a file that cannot be used, a runtime that is not there.
    """
    args = parser().parse_args(arguments)
    module = import_module(f"harness.commands.{args.command.replace('-', '_')}")
    try:
        with _cache(getattr(args, "kept_in", None)), contextlib.redirect_stdout(_Printable(sys.stdout)):
            code = int(module.run(args))
            sys.stdout.flush()
            return code
    except (UsageError, BackendUnavailableError) as error:
        return _say(error, USAGE_ERROR)
    except (BackendError, CacheError) as error:
        return _say(error, FAILURE)
    except BrokenPipeError:
        # What reads the output, `head` for one, has enough; nothing more may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except OSError as error:
        if error.filename is None:
            raise
        return _say(UsageError(f"{error.filename}: {error.strerror}"), USAGE_ERROR)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


class _Printable(io.TextIOBase):
    """Standard output to which names out of models and results may be printed as they are."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Write `text` with whatever a terminal would act on escaped."""
        self._out.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flush what it writes to."""
        self._out.flush()


def _say(error: HarnessError, code: int) -> int:
    print(f"trt-harness: error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
