"""The TensorRT backends, type-checked against the bindings of every version that they serve."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.probe import missing_tools
from tests.conformance.versions import VERSIONS, Version, stub_folder

ROOT = Path(__file__).parents[2]
BACKENDS = ROOT / "harness" / "backends"
PATTERNS = ("tensorrt/**/*.py", "cuda/device.py")
# Files that serve some versions only; the backend asks before it uses them.
SERVES: dict[str, Callable[[Version], bool]] = {
    "builder/strong.py": lambda v: v.rtx or v.number >= (10,),
    "builder/weak.py": lambda v: not v.rtx and v.number < (11,),
    "builder/calibrator.py": lambda v: not v.rtx and v.number < (11,),
    "builder/progress.py": lambda v: v.rtx or v.number >= (10,),
    "run/debug.py": lambda v: v.rtx or v.number >= (10,),
    "run/unfused.py": lambda v: v.rtx or v.number >= (10, 12),
    "rtx.py": lambda v: v.rtx,
}
LINE = re.compile(r"^(?P<path>[^:]+):\d+: error: (?P<text>.*)$")
every_version = pytest.mark.parametrize("version", VERSIONS, ids=[version.label for version in VERSIONS])
pytestmark = pytest.mark.slow


@pytest.fixture(name="stubs")
def _stubs(version: Version) -> Path:
    if sys.version_info[:2] > version.newest_python:
        newest = ".".join(map(str, version.newest_python))
        pytest.skip(f"{version.package} {version.release} has wheels up to Python {newest}")
    if missing := missing_tools():
        pytest.fail(f"needs {', '.join(missing)}: install a C compiler and binutils", pytrace=False)
    return stub_folder(version)


@pytest.fixture(name="check", scope="session")
def _check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Version, Path, Path], list[str]]:
    """Errors of mypy --strict in the sources under a root that serve a version; one cache for all runs."""
    cache = tmp_path_factory.mktemp("mypy")

    def check(version: Version, stubs: Path, root: Path) -> list[str]:
        files = [path for pattern in PATTERNS for path in (root / "harness" / "backends").glob(pattern)]
        command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}"]
        done = subprocess.run([*command, *map(str, sorted(files))], cwd=root, capture_output=True, text=True,
                              env={**os.environ, "MYPYPATH": str(stubs)}, check=False)  # fmt: skip
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return [line for line in done.stdout.splitlines() if _concerns(line, version)]

    return check


def _concerns(line: str, version: Version) -> bool:
    found = LINE.match(line)
    if found is None or not found["path"].startswith("harness/backends/"):
        return False
    serves = SERVES.get(found["path"].removeprefix("harness/backends/tensorrt/"))
    return serves is None or serves(version)


@every_version
def test_the_backend_fits_the_bindings(
    version: Version, stubs: Path, check: Callable[[Version, Path, Path], list[str]]
) -> None:
    assert check(version, stubs, ROOT) == []


@dataclass(frozen=True)
class Fault:
    """In `file`, `wrong` in the place of `right`; `where`: the versions in which that is an error."""

    file: str
    right: str
    wrong: str
    where: Callable[[Version], bool] = lambda _: True


def _from_10(version: Version) -> bool:
    return version.rtx or version.number >= (10,)


CALL, OPEN, OPTIONS = "run/call.py", "run/opening.py", "options.py"
FAULTS = {
    "an old execution call": Fault(CALL, "execute_async_v3(", "execute_async_v2([], ", _from_10),
    "a misspelt member": Fault(CALL, "set_tensor_address", "set_tensor_adress"),
    "an engine that may be None": Fault(OPEN, "if engine is None:", "if runtime is None:"),
    "a flag that is gone": Fault(
        OPTIONS, "BuilderFlag.TF32", "BuilderFlag.FP16", lambda v: v.label in ("11.0", "11.4", "rtx-1.7")
    ),
    "a property that is gone": Fault(
        OPTIONS, "builder_optimization_level = level", "max_workspace_size = level", _from_10
    ),
    "a number for an enum": Fault(OPTIONS, "api.ProfilingVerbosity.DETAILED", "2"),
    "a missing argument": Fault("builder/build.py", "(site.network, site.config)", "(site.network)"),
    "a layer that may be None": Fault("network.py", "if layer is None:", "if layer == 0:"),
}


PLANTED = [
    pytest.param(version, fault, id=f"{version.label}-{name}")
    for version in VERSIONS
    for name, fault in FAULTS.items()
    if version.label in ("8.6", "11.4", "rtx-1.7") and fault.where(version)
]


@pytest.mark.parametrize(("version", "planted"), PLANTED)
def test_a_planted_fault_is_found(
    version: Version,
    stubs: Path,
    planted: Fault,
    check: Callable[[Version, Path, Path], list[str]],
    tmp_path: Path,
) -> None:
    shutil.copytree(ROOT / "harness", tmp_path / "harness")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "harness" / "backends" / "tensorrt" / planted.file
    source = path.read_text()
    assert planted.right in source, f"{planted.file} has no {planted.right!r} any more: plant it elsewhere"
    path.write_text(source.replace(planted.right, planted.wrong))
    assert any(f"backends/tensorrt/{planted.file}" in line for line in check(version, stubs, tmp_path))
