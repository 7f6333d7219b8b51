"""All labelled samples are compared: what is wrong once in many is found, and counted."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data.inputs import Feeds
from harness.verdict.all_data import Watch
from harness.verdict.tasks import fed, tasks_of
from harness.verdict.validate import answer
from tests.verdict.test_validate import exact, halved, question

SAMPLES, ROWS = 192, 4


def watched(tmp_path, run, samples=SAMPLES):
    """What is seen of an engine that is fed `samples` samples, four at a time."""
    asked = question(tmp_path, halved)
    feeds = [asked.feeds.feed({"x": (ROWS, 4)}, start) for start in range(0, samples, ROWS)]
    asked = replace(asked, engine=SimpleNamespace(run=lambda feed, _: run(feed)))
    watch = Watch(asked, samples, [exact(feed) for feed in feeds])
    for feed in feeds:
        watch.run(feed)
    return asked, watch.finish()


def once_in(count, spoil):
    """An engine that is wrong at every sample `count` of all that it is fed."""
    seen = iter(range(10**6))

    def run(feed):
        y = halved(feed)["y"]
        for row in y:
            if next(seen) % count == count - 1:
                spoil(row)
        return {"y": y}

    return run


def _zeroed(row):
    row[:] = 0


def _stale(row):
    row[:] = row[::-1].copy() + 1


def _nan(row):
    row[0] = np.nan


def test_a_right_engine_is_seen_whole(tmp_path):
    _, seen = watched(tmp_path, halved)
    assert (seen.samples, seen.of, seen.failed, seen.worst) == (SAMPLES, SAMPLES, 0, None)
    assert str(seen) == "192 of 192 samples compared"
    assert 0 < seen.mre < 1e-3


@pytest.mark.parametrize("spoil", [_zeroed, _stale, _nan])
@pytest.mark.parametrize("count", [20, 97, 191])
def test_an_engine_that_is_wrong_once_in_many_fails(tmp_path, spoil, count):
    asked, seen = watched(tmp_path, once_in(count, spoil))
    assert seen.samples == SAMPLES
    assert seen.failed == 8 * len({k // 8 for k in range(count - 1, SAMPLES, count)})
    assert seen.worst.start % 8 == 0
    assert "worst from sample" in str(seen)
    right = replace(asked, engine=SimpleNamespace(run=lambda feed, _: exact(feed)))
    assert answer(right, seen.worst).found.quality


def test_a_last_group_may_be_smaller(tmp_path):
    _, seen = watched(tmp_path, once_in(20, _zeroed), samples=20)
    assert (seen.samples, seen.failed) == (20, 4)
    assert seen.worst.start == 16


def test_the_feeds_of_a_task_are_made_again(tmp_path):
    asked = question(tmp_path, halved)
    for task in tasks_of(asked.spec, Feeds(asked.spec), "normal"):
        again = fed(task.without_feeds(), asked.feeds)
        assert len(again) == len(task.feeds)
        assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(again, task.feeds, strict=True))
