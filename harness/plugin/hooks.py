"""The hooks of a run: header, cases, and the records.  `trt_harness_pytest` loads them where they are used.

Importing it imports no runtime and no graph library; collecting the suites doesn't either.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import errors
from harness.api.suites import folder
from harness.backends.cuda import gpus
from harness.latency.points import points
from harness.options import Options
from harness.plugin import selection, xfails
from harness.plugin.heartbeat import Heartbeat
from harness.plugin.keys import BEAT, RECORDS, RUN
from harness.plugin.outcome import ONE_LINE, ToldOnce, checked, fail_regressed, lost, one_line, phase, refused
from harness.plugin.parallel import Parallel, worker_count
from harness.plugin.run import Run
from harness.plugin.selection import Case
from harness.report.collect import Collector, rank

pytest_plugins = ("trt_harness_pytest",)

LOST = pytest.StashKey[bool]()
MISTAKE = pytest.StashKey[errors.UsageError]()
TOLD = pytest.StashKey[ToldOnce]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; choose the report's folder before JUnit's plugin looks for its own.

    In a worker, before anything uses CUDA: see only the GPU that is its own.
    """
    if _is_worker(config):
        gpus.settle(vars(config)["workerinput"], os.environ)
    bundled = _bundled(config)
    xfail_file = config.rootpath / (config.getini("trt_xfails") or "suites/xfails.txt")
    with _usage():
        options = Options.parse(vars(config.option))
    concerned = _concerns(config, options, bundled)
    with _usage():
        selection.require_folders(config.getini("trt_models"))
        if concerned:
            xfails.require(config.getini("trt_xfails"), config.rootpath)
    command, again = config.invocation_params.args, config.getini("trt_command")
    run = config.stash[RUN] = Run(options, bundled, xfail_file, concerned, command, again)
    run.narrowed = _narrowed(config, options)
    if concerned and not _is_worker(config) and not config.option.collectonly:
        with _usage():
            collector = run.start_report(config.rootpath)
        config.option.xmlpath = getattr(config.option, "xmlpath", None) or str(collector.folder / "junit.xml")
        # Descriptor 1 is the terminal's here; during tests it is the capture's.
        terminal = os.fdopen(os.dup(1), "w", errors="backslashreplace")
        config.add_cleanup(terminal.close)
        config.stash[BEAT] = Heartbeat(lambda text: print(text, end="", file=terminal, flush=True))
        if config.pluginmanager.hasplugin("dsession") or config.pluginmanager.hasplugin("xdist"):
            workers = len(config.getoption("tx", None) or ())
            parallel = Parallel(run, workers)
            if workers:
                with _usage():
                    _ = parallel.pool
            config.pluginmanager.register(parallel, "trt-harness-parallel")
        config.pluginmanager.register(Watch(run, collector, config.stash[BEAT]), "trt-harness-watch")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Read specs and expected failures: a mistake in them ends the run here, in one line."""
    run = session.config.stash[RUN]
    if run.concerned:
        with _usage():
            _ = run.selection, run.xfails, run.baseline
            _ = [points(case.spec) for case in run.selection.cases]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is under test."""
    run = config.stash[RUN]
    return run.header() if run.concerned else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each case to the tests that ask for one, through whatever fixture."""
    if "trt_case" not in metafunc.fixturenames:
        return
    try:
        cases = metafunc.config.stash[RUN].selection.require()
        if "loop_question" in metafunc.fixturenames:
            cases = tuple(case for case in cases if case.spec.loop is not None)
        pointed = "point" in metafunc.fixturenames
        pairs = [(case, point) for case in cases for point in points(case.spec)] if pointed else []
    except errors.UsageError as error:
        if _is_worker(metafunc.config):
            raise pytest.Collector.CollectError(str(error)) from None
        metafunc.config.stash[MISTAKE] = error
        return
    if pointed:
        ids = [f"{case.id}:{point.id}" for case, point in pairs]
        metafunc.parametrize(("trt_case", "point"), pairs, ids=ids, indirect=["trt_case"], scope="session")
    else:
        ids = [case.id for case in cases]
        metafunc.parametrize("trt_case", cases, ids=ids, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect without looking for garbage in what only grows: it takes a fifth of the time of 1,000 specs.

    A user's mistake found on the way ends the run after that: in a module it would be an error of its code.
    """
    pause = session.config.stash[RUN].concerned and gc.isenabled()
    if pause:
        gc.disable()
    try:
        found = yield
    finally:
        if pause:
            gc.enable()
    end_on_mistake(session)
    return found


def end_on_mistake(session: pytest.Session) -> None:
    """Raise pytest's UsageError for a user's mistake that was found while tests were collected."""
    if MISTAKE in session.config.stash:
        with _usage():
            raise session.config.stash[MISTAKE]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark expected failures, note stale ones, let no warning of a runtime fail a case, engines first."""
    run = config.stash[RUN]
    if not run.concerned:
        return
    items[:] = [item for item in items if not _of_no_loop(item)]
    reasons = {entry.nodeid: entry.reason for entry in run.xfails}
    forgiving = pytest.mark.filterwarnings("default")
    for item in items:
        if _case_of(item):
            item.add_marker(forgiving)
        if item.nodeid in reasons:
            item.add_marker(pytest.mark.xfail(reason=reasons[item.nodeid], strict=True))
    items.sort(key=lambda item: rank(item.nodeid))
    _note_stale(config, [item.nodeid for item in items])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: as many workers as GPUs, where the suites run on GPUs."""
    with _usage():
        options = Options.parse(vars(config.option))
        if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or not _concerns(config, options, _bundled(config)):
            return None
        return worker_count(options.backend, options.provider)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Note stale expected failures on the controller, which collects nothing itself."""
    _note_stale(node.config, ids)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Check every spec against its model and data before the first test runs."""
    config = session.config
    if not config.stash[RUN].concerned or _is_worker(config) or config.option.collectonly:
        return
    from harness.plugin.preflight import check

    # On xdist's controller, which collects nothing, any case may be chosen.
    chosen = [case for item in session.items if (case := _case_of(item))]
    with _usage():
        check(chosen if session.items else config.stash[RUN].selection.cases, config.stash[RUN].options)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A worker whose GPU is lost to it ends here, reports sent; xdist puts a new one in its place."""
    done = yield
    if _is_worker(item.config) and item.stash.get(LOST, False):
        os._exit(1)
    return done


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send a test's records along with its report; say in one line what is no fault of the code."""
    if call.excinfo and isinstance(call.excinfo.value, pytest.fail.Exception | pytest.skip.Exception):
        call.excinfo.value.msg = errors.for_terminal(call.excinfo.value.msg or "")
    report = yield
    # Plain data in the report's __dict__ crosses xdist's processes; user_properties would fill JUnit's XML.
    report.__dict__["trt_records"] = item.stash.get(RECORDS, [])
    report.__dict__["trt_checked"] = checked(call)
    report.__dict__["trt_refused"] = refused(call)
    item.stash[RECORDS] = []
    if report.passed and report.when == "call":
        fail_regressed(report, item.config.stash[RUN])
    item.stash[LOST] = item.stash.get(LOST, False) or lost(call)
    if report.failed and call.excinfo and isinstance(call.excinfo.value, ONE_LINE):
        one_line(report, call.excinfo.value)
        if (case := _case_of(item)) and not item.stash[LOST]:
            item.config.stash.setdefault(TOLD, ToldOnce()).shorten(report, case.id)
    return report


@dataclass(frozen=True)
class Watch:
    """Follows a run where its reports arrive, and writes it at its end; absent in xdist's workers."""

    run: Run
    collector: Collector
    beat: Heartbeat

    def pytest_sessionstart(self) -> None:
        """The run begins."""
        self.beat.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self.collector.begin(nodeid)
        self.beat.begin(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test ended, or a worker crashed in it (phase `???`) or right after it."""
        self.run.usage_error |= getattr(report, "trt_usage", False)
        if str(report.when) == "???" and any(test.nodeid == report.nodeid for test in self.collector.tests):
            return  # It had ended, and has its record: its worker left because its GPU is lost.
        self.collector.add(report.nodeid, phase(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test ended."""
        self.beat.end(nodeid)
        self.collector.end(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the run, however it ended; a user's mistake found on the way decides the exit status."""
        self.beat.close()
        if self.run.usage_error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self.run.finish_report(int(session.exitstatus), complete)
        if (self.run.trouble or self.run.losses) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """A run that ended before its first test leaves no folder, not even with JUnit's file of no tests."""
        if not self.collector.begun:
            with suppress(OSError):
                (self.collector.folder / "junit.xml").unlink(missing_ok=True)
                self.collector.folder.rmdir()
            if self.run.own_reports:
                with suppress(OSError):
                    self.collector.folder.parent.rmdir()

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Verdicts, stale expected failures, where the pages are: below the tables of other plugins."""
        lines = self.run.closing_lines()
        if lines:
            terminalreporter.section("TensorRT harness")
            for line in lines:
                terminalreporter.line(line)


@contextmanager
def _usage() -> Iterator[None]:
    """A user's mistake becomes pytest's: one line, exit code 4."""
    try:
        yield
    except (errors.UsageError, errors.BackendUnavailableError) as error:
        raise pytest.UsageError(str(error)) from error


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _bundled(config: pytest.Config) -> tuple[Path, ...]:
    """The folders of specs: those of the setting, of the checkout, or of the suites that are named."""
    own, suites = config.rootpath / "suites" / "models", folder()
    named = any(path == suites or suites in path.parents for path in _argument_paths(config))
    return tuple(config.getini("trt_models")) or ((suites / "models",) if named else (own,))


def _concerns(config: pytest.Config, options: Options, bundled: tuple[Path, ...]) -> bool:
    return selection.concerns(_argument_paths(config), bundled) or bool(options.specs or options.onnx)


def _narrowed(config: pytest.Config, options: Options) -> bool:
    """Whether the run was asked for a part of the suites, by pytest's options or by ours."""
    own = options.specs or options.onnx or options.models or options.precisions
    chosen = any(config.getoption(name, None) for name in ("keyword", "markexpr", "lf", "deselect"))
    return bool(own) or chosen or not all(path.is_dir() for path in _argument_paths(config))


def _argument_paths(config: pytest.Config) -> list[Path]:
    here, suites = config.invocation_params.dir, "harness.suites"
    if config.option.pyargs and any(word.startswith(suites) for word in config.args):
        return [folder()]
    return [Path(os.path.normpath(here / argument.partition("::")[0])) for argument in config.args]


def _case_of(item: pytest.Item) -> Case | None:
    callspec = getattr(item, "callspec", None)
    case: Case | None = callspec.params.get("trt_case") if callspec else None
    return case


def _of_no_loop(item: pytest.Item) -> bool:
    """Whether a test of loops was left without a case: no spec of the run has one."""
    return "loop_question" in getattr(item, "fixturenames", ()) and not isinstance(_case_of(item), Case)


def _note_stale(config: pytest.Config, nodeids: list[str]) -> None:
    run = config.stash[RUN]
    whole_files = not any("::" in argument for argument in config.args)
    run.stale = xfails.stale(run.xfails, nodeids, run.selection.ids, whole_files=whole_files)
