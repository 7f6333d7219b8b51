"""In a repository that does not use it, the plugin costs next to nothing; where it is used, it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import write_project

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("harness", "harness.fixtures", "harness.plugin", "harness.plugin.keys")
PROBE = """
def pytest_unconfigure():
    import sys
    names = {name.partition(".")[0] for name in sys.modules} & {"numpy", "onnx", "onnxruntime", "pydantic"}
    ours = {name for name in sys.modules if name.startswith("harness")}
    print("loaded:", *sorted(names | ours))
"""
USES = """
def test_one(backend, trt_options, engine_cache):
    assert backend.name == "onnxruntime"
"""


@pytest.fixture
def repository(pytester):
    """A repository of tests that know nothing of this project."""
    pytester.makeconftest(PROBE)
    pytester.makepyfile(test_one="def test_one():\n    pass\n")
    return pytester


def loaded(done):
    """The modules that a run of `repository` had loaded at its end."""
    (line,) = [line for line in done.outlines if line.startswith("loaded:")]
    return set(line.split()[1:])


def test_an_unused_plugin_loads_fixtures_alone(repository):
    done = repository.runpytest_subprocess("-p", "trt_harness_pytest")
    done.assert_outcomes(passed=1)
    heavy = {n for n in loaded(done) if n not in LIGHT and not n.startswith("harness.fixtures.")}
    assert heavy == set()
    assert not (repository.path / "reports").exists()


def test_what_is_loaded_unused_costs_less_than_a_tenth_of_a_second():
    code = """
import pytest, time
from importlib import import_module
before = time.process_time()
import trt_harness_pytest
for name in trt_harness_pytest._fixtures():
    import_module(name)
print(time.process_time() - before)
"""
    command = [sys.executable, "-c", code]
    runs = [float(subprocess.check_output(command, cwd=ROOT, text=True)) for _ in range(3)]
    assert min(runs) < 0.1


def test_a_fixture_of_ours_brings_the_hooks(repository):
    repository.makepyfile(test_two=USES)
    done = repository.runpytest_subprocess("-p", "trt_harness_pytest", "--trt-backend=onnxruntime")
    done.assert_outcomes(passed=2)
    assert "harness.plugin.hooks" in loaded(done)


def test_a_fixture_brings_the_hooks_without_any_option(repository):
    repository.makepyfile(
        test_two="def test_two(request):\n    assert request.getfixturevalue('trt_options')\n"
    )
    repository.makepyfile(
        test_three="def test_three(trt_options):\n    assert trt_options.backend == 'auto'\n"
    )
    done = repository.runpytest_subprocess("-p", "trt_harness_pytest")
    done.assert_outcomes(passed=3)


def test_a_test_of_cases_without_a_model_is_a_mistake_in_one_line(repository):
    repository.makepyfile(test_two="def test_two(case):\n    pass\n")
    done = repository.runpytest_subprocess("-p", "trt_harness_pytest")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: no model to test: set trt_models *"])


@pytest.mark.parametrize("own", ["harness/__init__.py", "harness.py", "tests/harness/__init__.py"])
def test_another_package_of_the_name_is_found_before_anything_is_imported(repository, own):
    file = repository.path / own
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("NAME = 'theirs'\n")
    test = (
        file.parent / "test_theirs.py"
        if own == "harness.py"
        else repository.path / "tests" / "test_theirs.py"
    )
    test.parent.mkdir(exist_ok=True)
    test.write_text("def test_theirs():\n    import harness\n    assert harness.NAME == 'theirs'\n")
    path = "" if "tests/" in own else "-opythonpath=."
    done = repository.runpytest_subprocess("-p", "trt_harness_pytest", *([path] if path else []))
    done.assert_outcomes(passed=2)
    asked = repository.runpytest_subprocess(
        "-p", "trt_harness_pytest", "--trt-strict", *([path] if path else [])
    )
    assert asked.ret == pytest.ExitCode.USAGE_ERROR
    asked.stderr.fnmatch_lines([f"ERROR: --trt-strict: `harness` is *{own} here*"])


def test_another_version_of_this_project_is_no_other_package(repository):
    (repository.path / "harness" / "plugin").mkdir(parents=True)
    for name in ("harness/__init__.py", "harness/plugin/hooks.py"):
        (repository.path / name).touch()
    from trt_harness_pytest import other_package

    config = repository.parseconfig("-p", "no:trt_harness_pytest")
    assert other_package(config) is None


def test_a_run_of_no_test_leaves_no_folder(pytester):
    write_project(pytester.path, "outputs")
    done = pytester.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-k", "no_such_name")
    assert done.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not (pytester.path / "reports").exists()
    (pytester.path / "reports").mkdir()
    pytester.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-k", "no_such_name")
    assert list((pytester.path / "reports").iterdir()) == []
