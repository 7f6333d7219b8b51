"""What a TensorRT builder, parser or runtime says, kept as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt

Made = TypeVar("Made")
LOUD = ("INTERNAL_ERROR", "ERROR", "WARNING")
# Each follows another message on a machine without a driver, and says nothing of the engine.
NOISE = ("Thread context has not been set!", "[checkMacros.cpp::catchCudaError")
LAYERS = ("Layers:\n", "Engine Layer Information:\n")
"""How the message begins in which a builder lists the engine's layers: from TensorRT 10 on, and before."""


@dataclass(frozen=True)
class Message:
    """One message: severity by name (INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE) and its text."""

    severity: str
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


class Log:
    """Collects messages; its `log` is what ILogger wants."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Keep one message; of the verbose ones, which are many, only the list of layers."""
        if severity.name != "VERBOSE" or msg.startswith(LAYERS):
            self.messages.append(Message(severity.name, msg))

    def take(self) -> tuple[Message, ...]:
        """All messages so far; the log is empty afterwards."""
        taken = tuple(self.messages)
        self.messages.clear()
        return taken


def create_log(api: trt.Module) -> Any:
    """An ILogger of the module `api` that is a Log too."""
    return implement(api.ILogger, Log)()


def made(make: Callable[[Any], Made], log: Any) -> Made:
    """The builder or the runtime that `make` makes.  Raises BackendError with why TensorRT makes none.

    Without a GPU, or with too old a driver, it makes none, which pybind11 tells by a TypeError.
    """
    try:
        return make(log)
    except TypeError as error:
        said = "; ".join(loud(log.messages)) or "TensorRT gave no reason"
        raise BackendError(f"TensorRT does not start: {said}") from error


def implement(interface: type, methods: type) -> Callable[..., Any]:
    """The class with `methods` that TensorRT takes for its `interface`.

    pybind11 calls an override only on a subclass whose `__init__` ran the interface's own.
    """

    def __init__(self: Any, *args: object) -> None:  # noqa: N807
        interface.__init__(self)  # type: ignore[misc]
        methods.__init__(self, *args)  # type: ignore[misc]

    return type(methods.__name__, (methods, interface), {"__init__": __init__})


def loud(messages: Iterable[Message]) -> tuple[str, ...]:
    """Warnings and errors as text, each once, in order, without what follows any message anyway."""
    kept = (m for m in messages if m.severity in LOUD and not m.text.startswith(NOISE))
    return tuple(dict.fromkeys(str(m) for m in kept))


def words(messages: Iterable[Message], limit: int = 4) -> str:
    """The last few errors, as one line for the end of an error message."""
    errors = [m.text for m in messages if m.severity in LOUD[:2] and not m.text.startswith(NOISE)]
    return "; ".join(" ".join(e.split()) for e in errors[-limit:]) or "TensorRT gave no reason"
