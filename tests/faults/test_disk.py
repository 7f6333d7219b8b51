"""A full disk and a read-only cache are told in one line, and the run goes on without the cache."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engines import trial
from harness.precision import Precision
from tests.faults.subject import made_subject, use

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory; only root may."""
    place = tmp_path / "mounted"

    def mounted(options: str) -> Path:
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system needs root")
        return place

    yield mounted
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "isolated", lambda function, *args, **_: function(*args))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "isolated", lambda function, *args, **_: function(*args))
        return use(made_subject(folder / "model", folder / "cache"))


@pytest.mark.parametrize("room", [0, 20_000, 60_000])
def test_a_full_disk_costs_the_cache_not_the_run(
    tmp_path: Path, mount: Mount, expected: dict[str, list[float]], room: int
) -> None:
    disk = mount("size=1m")
    with (disk / "filler").open("wb") as filler:
        filler.write(bytes((1 << 20) - 4096 * (room // 4096 + 1)))
    subject = made_subject(tmp_path / "model", disk / "cache")
    assert use(subject) == expected
    assert "No space left on device" in subject.engine(Precision.INT8).reason
    assert "\n" not in subject.engine(Precision.INT8).reason


def test_a_read_only_cache_is_read_and_not_missed(
    tmp_path: Path, mount: Mount, expected: dict[str, list[float]]
) -> None:
    disk = mount("size=8m")
    made_subject(tmp_path / "model", disk / "cache").engine(Precision.FP16)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    subject = made_subject(tmp_path / "model", disk / "cache")
    assert use(subject) == expected
    assert subject.engine(Precision.FP16).reason == "hit"
    assert "Read-only file system" in subject.engine(Precision.INT8).reason


def _engine(model: Path, cache: Path) -> tuple[str, str]:
    trial.isolated = lambda function, *args, **_: function(*args)  # type: ignore[assignment]
    built = made_subject(model, cache).engine(Precision.INT8)
    return built.reason, built.manifest.hash


@pytest.mark.slow
def test_eight_processes_build_one_engine_once(tmp_path: Path) -> None:
    made_subject(tmp_path / "model", tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        jobs = [pool.apply_async(_engine, (tmp_path / "model", tmp_path / "cache")) for _ in range(8)]
        found = [job.get(timeout=300) for job in jobs]
    assert sorted(reason for reason, _ in found) == ["absent"] + ["hit"] * 7
    assert len({digest for _, digest in found}) == 1
