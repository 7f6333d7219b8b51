"""Processors that a process may use, by affinity and by cgroups as containers have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import processors
from harness.doctor import checks as doctor
from harness.plugin.parallel import worker_count


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 processors without limits; the folder where its cgroups lie."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(processors, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def cgroup(machine: Path, membership: str, **files: str) -> None:
    """`files`: contents by path, with `__` for the slash."""
    (machine / "membership").write_text(membership)
    for name, text in files.items():
        path = machine / "cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.usefixtures("machine")
def test_without_limits_all_are_usable() -> None:
    assert (processors.usable(), processors.limited()) == (64, None)
    assert list(processors.limits()) == []


@pytest.mark.usefixtures("machine")
def test_affinity_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3}, raising=False)
    assert (processors.usable(), processors.limited(), processors.allowed()) == (2, 2, (3, 5))


@pytest.mark.parametrize(
    ("membership", "files", "usable"),
    [
        ("0::/\n", {"cpu_max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu_max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu_max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu_max": "9900000 100000\n"}, 64),
        ("0::/\n", {"cpu_max": "0 0\n"}, 64),
        ("0::/\n", {"cpu_max": "garbage"}, 64),
        ("0::/jobs/one\n", {"jobs__one__cpu_max": "800000 100000", "jobs__cpu_max": "400000 100000"}, 4),
        ("0::/docker/abc\n", {"cpu_max": "300000 100000"}, 3),
        (
            "7:memory:/a\n4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct__a__cfs_quota_us": "600000\n", "cpu,cpuacct__a__cfs_period_us": "100000\n"},
            6,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {"cpu,cpuacct__cfs_quota_us": "-1\n", "cpu,cpuacct__cfs_period_us": "100000\n"},
            64,
        ),
        ("nonsense", {"cpu_max": "200000 100000"}, 2),
    ],
)
def test_cgroups_limit(machine: Path, membership: str, files: dict[str, str], usable: int) -> None:
    cgroup(machine, membership, **files)
    assert processors.usable() == usable
    assert processors.limited() == (usable if usable < 64 else None)


def test_the_tightest_limit_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup(machine, "0::/\n", cpu_max="400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3}, raising=False)
    assert processors.usable() == 3


def test_the_doctor_says_how_many_are_left(machine: Path) -> None:
    def said() -> list[str]:
        return [found.text for found in doctor.examine() if found.subject == "processors"]

    assert said() == ["64"]
    cgroup(machine, "0::/\n", cpu_max="400000 100000")
    assert said() == ["4 of 64: affinity or the container's CPU limit leaves no more"]


def test_workers_and_threads_keep_to_the_limit(machine: Path) -> None:
    from harness.backends.onnxruntime.session import SessionSettings

    assert worker_count("onnxruntime", None) is None
    cgroup(machine, "0::/\n", cpu_max="400000 100000")
    assert worker_count("onnxruntime", None) == 4
    assert SessionSettings().options().intra_op_num_threads == 4
