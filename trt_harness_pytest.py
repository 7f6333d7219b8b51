"""pytest's entry point of trt-harness: the options, and nothing more where a run does not use them.

A module with a name of its own, because `harness` may be another package where pytest runs: then nothing of
this project is imported, and a `--trt-*` option ends the run.  The fixtures are light and always there; the
hooks load when an option, a setting, the suites or one of the fixtures is used.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
HOOKS = "harness.plugin.hooks"
MARK = Path("plugin", "hooks.py")
"""What this project's package holds, in whatever version, and another of its name hardly does."""
OTHER = (
    "{what}: `harness` is {place} here, not the package of trt-harness, and two of one name cannot share a "
    "process: its pytest plugin stays out; `trt-harness validate MODEL` works from here"
)
JOINED = pytest.StashKey[bool]()


def _table() -> ModuleType:
    """The options, from their file: `import harness` might find another package, and would keep it."""
    name = "trt_harness_flags"
    if name not in sys.modules:
        found = importlib.util.spec_from_file_location(name, HERE / "harness" / "flags.py")
        assert found is not None
        assert found.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and ini settings."""
    group = parser.getgroup("trt", "TensorRT harness")
    for flag in _table().FLAGS:
        group.addoption(flag.name, **flag.settings)
    for name, text, kind, default in _table().SETTINGS:
        parser.addini(name, text, kind, **({} if kind else {"default": default}))


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Join a run before other plugins act on its options."""
    _join(early_config, early_config.known_args_namespace)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Join a run that loaded this module from a conftest file."""
    _join(config, config.option)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Load the hooks for the first test that asks for a fixture of ours."""
    if not metafunc.config.pluginmanager.hasplugin(HOOKS) and _uses_fixtures(metafunc):
        load(metafunc.config).pytest_generate_tests(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """End a run for a mistake that was found by hooks which loaded during collection."""
    found = yield
    if hooks := session.config.pluginmanager.getplugin(HOOKS):
        hooks.end_on_mistake(session)
    return found


def load(config: pytest.Config) -> Any:
    """The module of the hooks, registered."""
    config.pluginmanager.import_plugin(HOOKS)
    return config.pluginmanager.getplugin(HOOKS)


def _join(config: pytest.Config, values: Any) -> None:
    if JOINED in config.stash:
        return
    config.stash[JOINED] = True
    used = _used(config, values)
    if other := other_package(config, getattr(values, "file_or_dir", ())):
        if used and not config.pluginmanager.hasplugin(HOOKS):
            raise pytest.UsageError(OTHER.format(what=used[0], place=other))
        return
    for name in _fixtures():
        config.pluginmanager.import_plugin(name)
    if used or _near_suites(config, getattr(values, "file_or_dir", ())):
        load(config)


def _used(config: pytest.Config, values: Any) -> list[str]:
    """The options and settings of ours that are given."""
    flags = [(flag.name, flag.dest, flag.settings["default"]) for flag in _table().FLAGS]
    given = [name for name, dest, default in flags if getattr(values, dest, default) != default]
    return given + [name for name, *_ in _table().SETTINGS if config.getini(name)]


def _near_suites(config: pytest.Config, arguments: Iterable[str]) -> bool:
    """Whether the suites may be run: those of a checkout, or the installed ones, by name or path."""
    installed = HERE / "harness" / "suites"
    named = any("harness.suites" in word or _below(word, config, installed) for word in arguments)
    return named or (config.rootpath / "suites" / "models").is_dir()


def _below(argument: str, config: pytest.Config, folder: Path) -> bool:
    path = config.invocation_params.dir / argument.partition("::")[0]
    return path == folder or folder in path.parents


def _fixtures() -> list[str]:
    """The modules of fixtures: inside the package, or beside it in a checkout."""
    inside = HERE / "harness" / "fixtures"
    folder = inside if inside.is_dir() else HERE / "fixtures"
    names = sorted(file.stem for file in folder.glob("*.py"))
    return [f"harness.fixtures.{name}" for name in names if name != "__init__"]


def _uses_fixtures(metafunc: pytest.Metafunc) -> bool:
    known = getattr(metafunc, "_arg2fixturedefs", {})
    makers = (known[name][-1].func for name in metafunc.fixturenames if known.get(name))
    return any(maker.__module__.startswith("harness.fixtures.") for maker in makers)


def other_package(config: pytest.Config, arguments: Iterable[str] = ()) -> Path | None:
    """Another package called `harness` that the tests of this run import, or will; None if there is none."""
    found = importlib.util.find_spec("harness")
    here = [Path(found.origin)] if found is not None and found.origin else []
    near = (file for place in _places(config, arguments) for file in _packages(place))
    return next((file for file in (*here, *near) if not _is_ours(file)), None)


def _is_ours(file: Path) -> bool:
    return file.name == "__init__.py" and (file.parent / MARK).is_file()


def _packages(place: Path) -> Iterator[Path]:
    """The file of `import harness`, if `place` is searched for modules and holds one."""
    files = (place / "harness" / "__init__.py", place / "harness.py")
    return (file for file in files if file.is_file())


def _places(config: pytest.Config, arguments: Iterable[str]) -> Iterator[Path]:
    """Folders that pytest may put on the path: those of tests, as far as they are no packages themselves."""
    root, here = config.rootpath, config.invocation_params.dir
    named = [here / word.partition("::")[0] for word in (*arguments, *config.getini("testpaths"))]
    inside = [folder for path in named for folder in (path, *path.parents) if folder.is_relative_to(root)]
    yield from dict.fromkeys(folder for folder in (root, here, *inside) if not _is_package(folder))
    for folder in (path.parent for path in root.glob("*/harness*")):
        if not _is_package(folder) and any(folder.glob("*test*.py")):
            yield folder


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()
