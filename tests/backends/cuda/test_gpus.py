"""GPUs and processors shared out among workers."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

from harness.backends.cuda import gpus, presence
from harness.backends.cuda.gpu_facts import gpu_facts, visible_gpu
from harness.backends.cuda.gpus import Pool, gpu_names, settle, share, uses_gpus
from harness.backends.onnxruntime import session as ort_session
from harness.errors import BackendUnavailableError
from harness.plugin.parallel import worker_count
from tests.helpers.workers import fake_smi


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,2", ("0", "2")), (" GPU-x , 1", ("GPU-x", "1")), ("", ()), ("-1", ()), ("1,-1,2", ("1",))],
)
def test_gpus_are_those_that_cuda_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == names


def test_without_the_variable_all_gpus_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch)
    assert gpu_names() == ("GPU-aa", "GPU-bb")
    assert worker_count("onnxruntime", "CUDAExecutionProvider") == 2


def test_a_driver_that_is_stuck_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpus, "SMI_S", 0.2)
    for ask in (gpu_names, gpu_facts.__wrapped__):
        with pytest.raises(BackendUnavailableError, match=r"nvidia-smi did not answer within 0\.2 s"):
            ask()


def test_a_tool_without_a_driver_means_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "#!/bin/sh\necho failed\nexit 9\n")
    assert gpu_names() == ()
    assert worker_count("onnxruntime", "CUDAExecutionProvider") is None


@pytest.mark.parametrize(
    ("backend", "provider", "uses"),
    [
        ("onnxruntime", None, False),
        ("onnxruntime", "CPUExecutionProvider", False),
        ("auto", "CUDAExecutionProvider", True),
        ("tensorrt", None, True),
    ],
)
def test_only_runs_on_gpus_count_gpus(
    monkeypatch: pytest.MonkeyPatch, backend: str, provider: str | None, uses: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert uses_gpus(backend, provider) == uses
    assert worker_count(backend, provider) == (3 if uses else None)


def test_every_worker_gets_a_gpu_and_its_share_of_processors() -> None:
    pool = Pool(("A", "B"), 2, tuple(range(8)))
    assert pool.take("gw0") == {gpus.GPU: "A", gpus.CPUS: [0, 1, 2, 3]}
    assert pool.take("gw1") == {gpus.GPU: "B", gpus.CPUS: [4, 5, 6, 7]}


def test_a_new_worker_gets_the_gpu_of_the_crashed_one() -> None:
    pool = Pool(("A", "B", "C"), 3)
    before = [pool.take(name)[gpus.GPU] for name in ("gw0", "gw1", "gw2")]
    pool.give_back("gw1")
    assert before == ["A", "B", "C"]
    assert pool.take("gw3")[gpus.GPU] == "B"


def test_more_workers_than_gpus_share_them_evenly() -> None:
    pool = Pool(("A", "B"), 4, (0,))
    found = [pool.take(f"gw{number}") for number in range(4)]
    assert [one[gpus.GPU] for one in found] == ["A", "B", "A", "B"]
    assert all(one[gpus.CPUS] == [0] for one in found)


def test_without_gpus_workers_are_told_nothing() -> None:
    assert Pool((), 2, (0, 1)).take("gw0") == {}


def test_shares_are_neighbours_and_cover_everything() -> None:
    assert [list(share(range(7), seat, 3)) for seat in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]


def test_settling_hides_other_gpus_and_binds_to_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *a: bound.append(a), raising=False)
    environment = {"OMP_NUM_THREADS": "1"}
    settle({gpus.GPU: "GPU-bb", gpus.CPUS: [4, 5]}, environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-bb"
    assert (environment["OMP_NUM_THREADS"], environment["OPENBLAS_NUM_THREADS"]) == ("1", "2")
    assert bound == [(0, [4, 5])]
    settle({}, environment)
    assert len(bound) == 1


def test_sessions_have_no_more_threads_than_the_process_has_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3}, raising=False)
    assert ort_session.SessionSettings().options().intra_op_num_threads == 2
    assert ort_session.SessionSettings(intra_op_threads=5).options().intra_op_num_threads == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert ort_session.SessionSettings().options().intra_op_num_threads == 0


class Driver:
    """libcuda of two GPUs, which it numbers the other way round than nvidia-smi does."""

    uuids = (b"\x02" * 16, b"\x01" * 16)

    def cuInit(self, _: int) -> int:  # noqa: N802 - CUDA's name
        return 0

    def cuDeviceGetCount(self, place: Any) -> int:  # noqa: N802
        place._obj.value = len(self.uuids)
        return 0

    def cuDeviceGet(self, place: Any, index: int) -> int:  # noqa: N802
        place._obj.value = index
        return 0

    def cuDeviceGetUuid(self, place: Any, handle: Any) -> int:  # noqa: N802
        place[:] = self.uuids[handle.value]
        return 0


@pytest.mark.parametrize(("index", "digit"), [(0, "02"), (1, "01")])
def test_a_gpu_is_the_one_that_cuda_numbers_so(
    monkeypatch: pytest.MonkeyPatch, index: int, digit: str
) -> None:
    monkeypatch.setattr(presence, "_driver", Driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    uuid = f"GPU-{digit * 4}-{digit * 2}-{digit * 2}-{digit * 2}-{digit * 6}"
    assert visible_gpu(index) == uuid
    assert presence.gpu_uuid(2) is None


def test_without_cuda_a_gpu_is_what_the_environment_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_driver", lambda: ctypes.CDLL("/nowhere/libcuda.so.1"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3")
    assert [visible_gpu(index) for index in range(3)] == ["GPU-a", "3", None]
