"""What can go wrong, by who is at fault.

    HarnessError
    ├── UsageError                   the user's input; one line, exit code 4, no traceback
    │   ├── SpecError                a spec file: file, key, value, rule
    │   ├── ModelError               an ONNX file that cannot be taken: broken, unsafe, unsupported
    │   └── DataError                input, calibration or label data
    ├── BackendError                 the runtime or its environment
    │   ├── BackendUnavailableError  not installed or not usable here; says how to get it
    │   ├── NotHonouredError         what was asked cannot be given, or was silently not given
    │   ├── BuildError               an engine could not be built
    │   │   └── NotDeployableError   because the target refuses what the model holds
    │   └── RunError                 an engine could not be loaded or run
    │       ├── DeviceLostError      the GPU is unusable until the process ends
    │       └── DiedError            a child process crashed, hung or ran out of memory
    ├── LoweringError                a pass broke its own pre- or postcondition: a bug of this project
    └── CacheError                   the cache folder itself cannot be used

Stages chain: ``raise BuildError(f"{spec.name}[{plan}]: ...") from error``.
"""

from __future__ import annotations

MAX_LINE = 2000
"""Characters of a user's mistake; names in models may be a megabyte long."""


class HarnessError(Exception):
    """Base of every error that this project raises on purpose; its text is safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(HarnessError):
    """The user's input is at fault; the message is one line and complete."""

    def __str__(self) -> str:
        return for_terminal(" ".join(super().__str__().split("\n")))


class SpecError(UsageError):
    """A spec breaks a rule; the line names file, key, value and rule."""

    def __init__(self, file: object, key: str, value: object, rule: str) -> None:
        self.file, self.key, self.value, self.rule = str(file), key, value, rule
        super().__init__(f"{file}: {key} = {shorten(value)}: {rule}" if key else f"{file}: {rule}")


class ModelError(UsageError):
    """An ONNX model that is broken, unsafe or that no backend here takes."""


class DataError(UsageError):
    """Input, calibration or label data that does not fit the model."""


class BackendError(HarnessError):
    """A runtime or its environment is at fault."""


class BackendUnavailableError(BackendError):
    """A runtime is not installed or not usable on this machine."""


class NotHonouredError(BackendError):
    """A backend cannot, or silently did not, do what was asked."""


class BuildError(BackendError):
    """A backend refused or failed to build an engine."""


class NotDeployableError(BuildError):
    """A target refuses what the model holds."""


class RunError(BackendError):
    """An engine could not be loaded or run."""


class DeviceLostError(RunError):
    """The GPU failed in a way that CUDA keeps until the process ends."""


class DiedError(RunError):
    """A process of its own died of what it was given; `stack`: its last words and innermost frames."""

    def __init__(self, message: str, stack: str = "") -> None:
        self.stack = stack
        super().__init__(message)


class LoweringError(HarnessError):
    """A pass broke its own pre- or postcondition."""


class CacheError(HarnessError):
    """The cache folder cannot be used at all."""


def shorten(value: object, limit: int = 200) -> str:
    """`repr` of `value`, cut in the middle to `limit` characters, on one line."""
    text = repr(value)
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def printable(text: str) -> str:
    """`text` with whatever a terminal would act on as backslash escapes; line breaks and tabs stay.

    Names in models and files are any text: colours, cursor moves, titles, text that runs backwards.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def for_terminal(text: str) -> str:
    """`text` as it may go to a terminal: printable, no line longer than MAX_LINE."""
    lines = printable(text).split("\n")
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..." for line in lines)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
