"""Several distributions of ONNX Runtime, and what is left where one of them was removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.backends import packages
from harness.backends.tensorrt.bindings import INSTALL

ROOT = Path(__file__).resolve().parents[2]
REMAINS = {
    "a folder": {"onnxruntime/capi/libonnxruntime.so": ""},
    "no native library": {"onnxruntime/__init__.py": "from onnxruntime.capi import _pybind_state\n"},
    "a broken library": {"onnxruntime/__init__.py": "raise ImportError('undefined symbol: x\\nand more')\n"},
}


def test_one_distribution_is_no_clash() -> None:
    assert packages.clash(("onnxruntime",)) is None
    assert packages.clash(()) is None


def test_two_are_told_in_one_line_with_the_commands_that_mend_it() -> None:
    told = packages.clash(("onnxruntime", "onnxruntime-gpu"))
    assert told is not None
    assert "\n" not in told
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime" in told


def test_the_vendor_s_index_is_named_word_for_word() -> None:
    assert (
        "pip install --extra-index-url https://pypi.nvidia.com 'trt-harness[tensorrt]'" in INSTALL["tensorrt"]
    )


def both(folder: Path) -> None:
    """The metadata of two distributions."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        info = folder / f"{name.replace('-', '_')}-1.22.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.22.0\n")


@pytest.mark.parametrize("remains", REMAINS)
def test_doctor_survives_a_half_removed_install(tmp_path: Path, remains: str) -> None:
    both(tmp_path)
    for name, text in REMAINS[remains].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if remains == "a folder":  # as a namespace it stands behind any whole package
        code = "import sys, types; sys.modules['onnxruntime'] = types.ModuleType('onnxruntime')"
        (tmp_path / "sitecustomize.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-P", "-m", "harness.cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.split()[1:2] == ["onnxruntime"]]
    assert any("trap" in line and "pip uninstall -y onnxruntime onnxruntime-gpu" in line for line in lines)
    assert any(line.startswith("no") and "installed in part" in line for line in lines)
