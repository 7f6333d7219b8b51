"""Versions in a report: what is imported counts, not what metadata describes."""

import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from harness.report import environment

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@pytest.fixture(name="installed")
def _installed(monkeypatch):
    """Packages with metadata, by name; no onnxruntime is imported."""
    found = {}

    def version(name):
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    return found


def test_without_an_import_metadata_count(installed):
    installed["onnxruntime-gpu"] = "1.30.0"
    assert environment.versions(RUNTIMES) == {"onnxruntime-gpu": "1.30.0"}


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_imported_copy_is_asked_itself(installed, monkeypatch, name):
    installed[name] = "1.30.0"
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="1.31.1"))
    assert environment.versions(RUNTIMES) == {name: "1.31.1"}


def test_an_imported_copy_without_any_metadata_is_told(installed, monkeypatch):
    assert environment.versions(RUNTIMES) == {}
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="1.31.1"))
    assert installed == {}
    assert environment.versions(RUNTIMES) == {"onnxruntime": "1.31.1"}
