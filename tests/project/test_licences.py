"""Licence, third-party list and locked versions cover what is installed and bundled."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(version for _, _, version in pins)
    return {canonicalize_name(name): version for name, _, version in pins}


def listed() -> set[str]:
    text = (ROOT / "THIRD_PARTY.md").read_text()
    return {canonicalize_name(name) for name in re.findall(r"^\| ([\w.-]+) \| [^|?]+ \|", text, re.M)}


def test_the_licence_is_the_one_that_the_package_states() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


def test_every_requirement_is_locked_within_its_bounds() -> None:
    pins = locked()
    here = [
        Requirement(text) for text in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    ]
    wanted = [r for r in here if r.marker is None or r.marker.evaluate({"platform_machine": "x86_64"})]
    assert [r.name for r in wanted if canonicalize_name(r.name) not in pins] == []
    assert [r.name for r in wanted if not r.specifier.contains(pins[canonicalize_name(r.name)])] == []


def test_every_locked_package_has_its_licence_listed() -> None:
    assert sorted(locked().keys() - listed()) == []


def test_every_bundled_model_has_its_licence_listed() -> None:
    text = (ROOT / "suites" / "models" / "LICENSES.md").read_text()
    models = [path.parent.name for path in (ROOT / "suites" / "models").glob("*/spec.toml")]
    assert models
    assert [name for name in models if not re.search(rf"\b{name}\b", text)] == []
