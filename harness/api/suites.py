"""The suites run in a process of their own: pytest started in a neutral folder, away from the user's files.

So neither settings of pytest, conftest files nor packages called `harness` of the folder where the user
stands take part, and only the plugins that the suites need are loaded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BackendError, UsageError
from harness.isolation import start

PASSED, FAILED, INTERRUPTED, INTERNAL, USAGE, NOTHING = range(6)
"""Exit codes of pytest."""
PLUGINS = ("trt_harness_pytest", "pytest_benchmark.plugin")
IGNORED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST")
SETTINGS = """\
[pytest]
addopts = --import-mode=importlib --strict-markers --strict-config -ra --tb=short
  --benchmark-columns=min,median,iqr,rounds --benchmark-max-time=0.2
xfail_strict = true
filterwarnings = error
trt_command = {command}
"""


@dataclass(frozen=True)
class SuiteRun:
    """What is to be run: arguments of pytest as `--trt-*`, the checks, and the command that failures name.

    `checks`: names out of `names()`, empty for all.  `workers`: processes of pytest-xdist, 0 for none.
    """

    arguments: Sequence[str]
    report_dir: Path
    checks: Sequence[str] = ()
    command: str = ""
    workers: str = "0"


def folder() -> Path:
    """The folder of the suites: inside the installed package, or beside it.  Raises UsageError."""
    package = Path(__file__).resolve().parents[1]
    for place in (package, package.parent):
        if (place / "suites" / "test_engines.py").is_file():
            return place / "suites"
    raise UsageError(f"{package}: the suites are not there; install trt-harness again")


def names() -> tuple[str, ...]:
    """The checks: what stands between `test_` and `.py`."""
    return tuple(sorted(file.stem.removeprefix("test_") for file in folder().glob("test_*.py")))


def require_known(option: str, checks: Sequence[str]) -> None:
    """Raise UsageError for the first of `checks` that there is not."""
    for name in checks:
        if name not in names():
            raise UsageError(f"{option} = {name!r}: must be one of {', '.join(names())}")


def execute(run: SuiteRun, neutral: Path, *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run pytest on the suites from the folder `neutral`; `quiet` keeps what it says.

    Its exit code is pytest's; Ctrl-C reaches it by itself, and it then writes what it has.
    """
    settings = SETTINGS.format(command=run.command.replace("\n", " "))
    (neutral / "pytest.ini").write_text(settings, encoding="utf-8")
    return subprocess.run(
        _command(run, neutral),
        cwd=neutral,
        env=_environment(),
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        errors="backslashreplace",
        check=False,
    )


def exit_code(status: int) -> int:
    """0: all passed; 1: something failed, or broke; 4: a user's mistake, or nothing to test."""
    return {PASSED: 0, USAGE: 4, NOTHING: 4}.get(status, 1)


def require_fine(done: subprocess.CompletedProcess[str]) -> None:
    """Raise UsageError with the line that pytest ended with, BackendError where it broke."""
    if done.returncode in (PASSED, FAILED):
        return
    said = [line.strip() for line in (done.stdout or "").splitlines() if line.strip()]
    told = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    exits = [
        line.strip("! ").removeprefix("_pytest.outcomes.Exit: ") for line in said if "outcomes.Exit: " in line
    ]
    if done.returncode == USAGE and (told or exits):
        raise UsageError((told or exits)[-1])
    if done.returncode == NOTHING:
        raise UsageError("nothing to test: no check fits what was chosen")
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    raise BackendError("the suites broke:\n" + "\n".join(said[-20:]))


def _command(run: SuiteRun, neutral: Path) -> list[str]:
    suites = folder()
    files = [str(suites / f"test_{name}.py") for name in run.checks] or [str(suites)]
    xdist = run.workers != "0"
    plugins = (*PLUGINS, "xdist.plugin") if xdist else PLUGINS
    return [
        *start.python("-m", "pytest", "-c", str(neutral / "pytest.ini")),
        *(f"--rootdir={suites.parent}", "-p", "no:cacheprovider"),
        *(word for name in plugins for word in ("-p", name)),
        *(("-n", run.workers) if xdist else ()),
        f"--trt-report-dir={run.report_dir.absolute()}",
        *run.arguments,
        *files,
    ]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in start.environment().items() if name not in IGNORED}
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
