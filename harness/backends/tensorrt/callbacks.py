"""Callbacks that TensorRT makes into Python, and what becomes of their errors.

The bindings swallow an exception that leaves a callback (of a debug listener also its answer), or answer for
it.  So callbacks keep their errors, and whoever made the call raises them after it.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from harness.errors import HarnessError, RunError

Method = TypeVar("Method", bound=Callable[..., Any])


class Callback:
    """Keeps the first error of its callbacks in `error`."""

    error: HarnessError | None = None

    def keep(self, error: Exception) -> None:
        """Keep an error, unless there is one already."""
        self.error = self.error or _bare(error)

    def forget(self) -> HarnessError | None:
        """The error that was kept, once."""
        kept, self.error = self.error, None
        return kept

    def raise_kept(self) -> None:
        """Raise the error that was kept, once."""
        if kept := self.forget():
            raise kept


def _bare(error: Exception) -> HarnessError:
    """The error without its traceback, whose frames would keep what must be freed; its place in words."""
    told = f"{type(error).__name__}: {error}{_place(error)}"
    found = error if isinstance(error, HarnessError) else RunError(told)
    return found.with_traceback(None)


def _place(error: Exception) -> str:
    places = traceback.extract_tb(error.__traceback__)
    return f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""


def keeping(answer: Any) -> Callable[[Method], Method]:
    """Decorates a method of a Callback: whatever it raises is kept, and TensorRT is told `answer`."""

    def wrapped(method: Method) -> Method:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - kept, and raised by whoever made the call
                self.keep(error)
                return answer

        return cast(Method, call)

    return wrapped
