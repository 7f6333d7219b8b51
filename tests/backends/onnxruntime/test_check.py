"""The start-up self-test: a runtime that loses a rounding that emulations rely on is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime import check, probes
from harness.backends.onnxruntime.models import run_model
from harness.backends.onnxruntime.session import SessionSettings
from harness.errors import BackendUnavailableError
from harness.lowering.emulation import emulate as emulation
from harness.lowering.operators import MOVES, PASS_THROUGH
from harness.precision import Precision

REFUSED = r"ONNX Runtime \d+\.\d+\.\d+ removes Casts that the graph has: "
HALVES = tuple(check.PROBES)
OUTPUTS = tuple(str(value.name) for value in probes.probe(HALVES[0]).graph.outputs)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache for proofs."""
    monkeypatch.setattr(check, "default_cache_dir", lambda: tmp_path)
    check.self_test.cache_clear()
    yield tmp_path
    check.self_test.cache_clear()


def test_this_runtime_keeps_casts() -> None:
    check.prove()


def test_every_operator_that_follows_its_producer_is_probed() -> None:
    newer = {"TensorScatter"}  # of opset 24, which has no 16-bit form that TensorRT takes
    assert PASS_THROUGH - newer <= probes.OPERATORS
    assert {"If", "Loop", "Scan"} <= probes.OPERATORS


def test_every_level_of_an_emulation_is_proven() -> None:
    assert {check.emulation_level(precision) for precision in Precision} <= set(check.LEVELS)


@pytest.mark.parametrize("level", check.LEVELS)
def test_moves_that_are_not_written_out_lose_their_rounding_and_are_named(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself is the faulty runtime: it has no FP16 kernel for four of them on the CPU."""
    every = emulation._is_written_out
    monkeypatch.setattr(emulation, "_is_written_out", lambda n: n.op_type not in MOVES and every(n))
    model = probes.emulated(HALVES[0])
    got = run_model(model, probes.ones(model), settings=SessionSettings(level=level))
    lost = {n.split("/")[0] for n, a in got.items() if not (a == probes.EXPECTED[n.split("/")[1]]).all()}
    assert {"Tile", "Where", "DepthToSpace", "SpaceToDepth"} <= lost < probes.OPERATORS
    with pytest.raises(BackendUnavailableError, match=REFUSED + r"(Tile|Where) \((alone|chained)\)"):
        check.prove()


@pytest.mark.parametrize("kept", ["direct", "between"])
def test_a_runtime_that_removes_casts_is_refused_with_its_version(
    monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    def removes(_: ir.Model, feeds: Any, **__: Any) -> Any:
        rounded = np.full(2, np.inf, np.float32)
        return {name: rounded if name == kept else feeds["x"] for name in ("direct", "between")}

    monkeypatch.setattr(check, "run_model", removes)
    with pytest.raises(BackendUnavailableError, match=REFUSED + "120000.0"):
        check.prove()


@pytest.mark.parametrize("operator", sorted(probes.OPERATORS))
def test_one_element_of_one_operator_is_enough(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = f"{operator}/{probes.CHAINED}"

    def loses(model: ir.Model, feeds: Any, **settings: Any) -> Any:
        if "x" in feeds:
            return run_model(model, feeds, **settings)
        kinds = {name: probes.EXPECTED[name.split("/")[1]] for name in OUTPUTS}
        got = {name: np.full((2, 2), value, np.float32) for name, value in kinds.items()}
        got[spoilt][-1, -1] = 1.0
        return got

    monkeypatch.setattr(probes, "emulated", probes.probe)
    monkeypatch.setattr(check, "run_model", loses)
    with pytest.raises(BackendUnavailableError, match=REFUSED + operator):
        check.prove()


def test_the_proof_is_kept_for_one_version_of_the_runtime(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    monkeypatch.setattr(check, "prove", lambda: runs.append(1))
    for _ in range(2):
        check.self_test()
        check.self_test.cache_clear()
    assert len(runs) == 1
    monkeypatch.setattr(check.ort, "__version__", "0.0.1")
    check.self_test()
    assert len(runs) == 2
    assert any(fresh.iterdir())


def test_no_emulation_gets_a_level_without_the_proof(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> None:
        raise BackendUnavailableError("lost")

    monkeypatch.setattr(check, "prove", refuses)
    for _ in range(2):  # a failed proof is not kept
        with pytest.raises(BackendUnavailableError, match="lost"):
            check.emulation_level(Precision.FP16)
    assert check.emulation_level(Precision.INT8) == "none"
    assert not list(fresh.glob("rounding/*/manifest*"))
