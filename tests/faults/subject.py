"""A small model whose engines, scales and references fill a cache; nothing runs in processes of its own."""

from __future__ import annotations

from pathlib import Path

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.helpers.project import write_case

PRECISIONS = (Precision.FP16, Precision.INT8)


def made_subject(folder: Path, cache: Path) -> Subject:
    """The subject of the spec in `folder`, which is written if it is not there."""
    path = folder / "spec.toml"
    spec = read_spec(path if path.is_file() else write_case(folder, precisions=[str(p) for p in PRECISIONS]))
    return Subject(spec, OnnxRuntimeBackend(isolate=False, intra_op_threads=1), Cache(cache))


def use(subject: Subject) -> dict[str, list[float]]:
    """Engines, reference, floor and emulations at opt: everything that is cached; outputs by precision."""
    feed = subject.feeds.feed({"x": (2, 4)})
    reference = subject.reference()
    found = {"reference": reference.outputs(feed)["y"].ravel().tolist()}
    reference.floor(feed)
    for precision in PRECISIONS:
        with subject.engine(precision).open() as engine:
            found[str(precision)] = engine.run(feed)["y"].ravel().tolist()
        subject.emulation(precision).outputs(feed)
    reference.close()
    return found
