"""Workers and GPUs of tests: a fake nvidia-smi, and a worker that notes which tests it is sent."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

SMI = """#!/bin/sh
echo GPU-aa
echo GPU-bb
"""


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = SMI) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(text)
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


class Node:
    """A worker that notes which tests it is sent."""

    def __init__(self, name: str) -> None:
        self.gateway, self.workerinput = SimpleNamespace(id=name), {}
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True
