"""The versions of the bindings that the backend is checked against, and their stubs in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from tests.conformance.probe import probe
from tests.conformance.stub import write_stub

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Version:
    """A version of the bindings: what users call it, its wheel, and the newest Python with a wheel."""

    label: str
    package: str
    release: str
    newest_python: tuple[int, int]

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return "rtx" in self.package

    @property
    def number(self) -> tuple[int, ...]:
        """The release, to compare with others of the same product."""
        return tuple(map(int, self.release.split(".")))


VERSIONS = (
    Version("8.6", "tensorrt-bindings", "8.6.1", (3, 11)),
    Version("10.0", "tensorrt-cu12-bindings", "10.0.1", (3, 12)),
    Version("10.3", "tensorrt-cu12-bindings", "10.3.0", (3, 12)),
    Version("10.8", "tensorrt-cu12-bindings", "10.8.0.43", (3, 12)),
    Version("10.13", "tensorrt-cu12-bindings", "10.13.3.9", (3, 13)),
    Version("10.16", "tensorrt-cu12-bindings", "10.16.1.11", (3, 13)),
    Version("11.0", "tensorrt-cu13-bindings", "11.0.0.114", (3, 13)),
    Version("11.4", "tensorrt-cu13-bindings", "11.4.0.106", (3, 13)),
    Version("rtx-1.4", "tensorrt-rtx-cu13-bindings", "1.4.0.76", (3, 13)),
    Version("rtx-1.7", "tensorrt-rtx-cu13-bindings", "1.7.1.116", (3, 13)),
)


def stub_folder(version: Version) -> Path:
    """The folder that, on MYPYPATH, offers `tensorrt` as it is in `version`; made once per user."""
    tools = b"".join((HERE / name).read_bytes() for name in ("probe.py", "stub.py"))
    name = f"{version.package}-{version.release}-{hashlib.sha256(tools).hexdigest()[:12]}"
    target = user_cache_path("trt-harness") / "conformance" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            _make(version, target)
    return target


def _make(version: Version, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, "stub")
        write_stub(probe(version.package, version.release), made)
        shutil.move(made, target)
