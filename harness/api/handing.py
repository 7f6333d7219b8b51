"""What one deploys is what was judged: the engine of a verdict, copied out with its manifest."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.api.engines import build_engine
from harness.api.lowering import lower
from harness.api.report import Report
from harness.api.sources import precision_of
from harness.api.validating import validate
from harness.engines.engine import BuiltEngine
from harness.errors import BackendError, UsageError
from harness.report.plain import dumps, write_text
from harness.spec.stored import sha256_of

ENGINE, MANIFEST = "engine", "manifest.json"


@dataclass(frozen=True)
class Asked:
    """A model at a precision on a backend, with data of its own or the spec's."""

    model: Path
    precision: str
    backend: str = "auto"
    data: Path | None = None
    cache_dir: Path | None = None

    @property
    def check(self) -> str:
        """The command that validates the same again."""
        words = ["trt-harness", "validate", str(self.model), f"--precision={self.precision}"]
        words += [f"--backend={self.backend}"] if self.backend != "auto" else []
        return shlex.join(words + ([f"--data={self.data}"] if self.data else []))


@dataclass(frozen=True)
class Given:
    """What was handed out: nothing if `folder` is None.  `files` are names in it."""

    report: Report
    verdict: str
    folder: Path | None = None
    files: tuple[str, ...] = ()
    check: str = ""


def hand_out(asked: Asked, folder: Path, *, anyway: bool = False) -> Given:
    """Validate what is asked, and copy its engine, its manifest and what was found into `folder`.

    Where ONNX Runtime is the backend, the lowered ONNX file comes besides, for a builder elsewhere.
    Nothing is written unless the verdict is `pass`, or `anyway`.  Raises UsageError, BackendError: also where
    the engine in the cache is not the one that was judged.
    """
    precision = str(precision_of(asked.precision))
    _require_empty(folder)
    report = validate(
        asked.model, precisions=precision, backend=asked.backend, data=asked.data, cache_dir=asked.cache_dir
    )
    verdict = report.verdicts.get(precision, "error")
    if verdict != "pass" and not anyway:
        return Given(report, verdict)
    built = build_engine(
        asked.model, precision, backend=asked.backend, data=asked.data, cache_dir=asked.cache_dir
    )
    _require_judged(report, built)
    files = _copied(asked, built, folder)
    write_text(folder / MANIFEST, dumps(_manifest(asked, report, built, folder, files), indent=1) + "\n")
    return Given(report, verdict, folder, (*files, MANIFEST), asked.check)


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: must be a new or empty folder")


def _require_judged(report: Report, built: BuiltEngine) -> None:
    judged = {record.manifest for record in report.records if record.manifest}
    if judged and built.manifest.hash not in judged:
        short = built.manifest.hash[:12]
        raise BackendError(f"the engine {short} is not the one that was judged: build it again")


def _copied(asked: Asked, built: BuiltEngine, folder: Path) -> tuple[str, ...]:
    """Copy the engine's own files, and write the lowered model where it is what will be built from."""
    shutil.copytree(built.folder, folder / ENGINE)
    files = [f"{ENGINE}/{path.relative_to(folder / ENGINE).as_posix()}" for path in _files(folder / ENGINE)]
    if built.manifest.backend == "onnxruntime":
        name = f"{built.manifest.name}-{asked.precision}.onnx"
        lower(asked.model, asked.precision, data=asked.data, cache_dir=asked.cache_dir).save(folder / name)
        files.insert(0, name)
    return tuple(files)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _manifest(
    asked: Asked, report: Report, built: BuiltEngine, folder: Path, files: tuple[str, ...]
) -> dict[str, Any]:
    row = report.rows.get(built.manifest.precision)
    return {
        "verdict": row.verdict if row else "error",
        "figures": json.loads(dumps(asdict(row))) if row else {},
        "check": asked.check,
        "sha256": {name: sha256_of(folder / name) for name in files},
        "engine": built.manifest.to_json(),
    }
