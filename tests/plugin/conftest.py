"""A project as users have one, run in this process."""

import pytest

from tests.helpers.project import SUITES, write_project

ROOT = SUITES.parent


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(pytester, monkeypatch, shared_cache):
    """A project with the suite of outputs; runs happen in this process."""
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(shared_cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_project(pytester.path, "outputs")
    return pytester
