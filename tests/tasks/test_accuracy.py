"""The task metric: right on what is known, and failing where it must."""

from dataclasses import replace

import numpy as np
import pytest

from harness.data.inputs import Feeds
from harness.errors import DataError, UsageError
from harness.spec.file import read_spec
from harness.tasks.accuracy import Accuracy, joined, task_of, top1
from tests.helpers.project import write_case

WANTED = np.array([0, 1, 1, 0])
SCORES = np.array([[2, 1], [0, 3], [5, 1], [1, 0.5]], np.float32)


def test_top1_is_the_share_of_right_rows():
    assert top1(SCORES, WANTED) == 0.75


def test_a_row_with_nan_is_wrong_even_where_argmax_would_be_right():
    broken = SCORES.copy()
    broken[1, 1] = np.nan
    assert np.argmax(broken[1]) == WANTED[1]
    assert top1(broken, WANTED) == 0.5


@pytest.mark.parametrize(
    ("shapes", "samples", "shape"),
    [
        ([(2, 3), (2, 3)], 4, (4, 3)),
        ([(2, 3), (2, 3)], 3, (3, 3)),
        ([(1, 3), (1, 3)], 2, (2, 3)),
        ([(2, 1, 5)] * 3, 3, (3, 2, 1, 5)),
        ([()] * 3, 3, (3,)),
    ],
)
def test_feeds_are_joined_to_one_row_a_sample(shapes, samples, shape):
    assert joined([np.zeros(one) for one in shapes], samples).shape == shape


def test_outputs_with_too_few_rows_are_refused():
    with pytest.raises(DataError, match="2 rows for 5 samples"):
        joined([np.zeros((1, 3)), np.zeros((1, 3))], 5)


@pytest.fixture
def spec(tmp_path):
    return read_spec(write_case(tmp_path / "net"))


def labelled(start, count):
    scores = np.zeros((count, 2), np.float32)
    scores[np.arange(count), (start + np.arange(count)) % 2] = 1
    return scores


@pytest.mark.parametrize("rows", [1, 3, 5, 16])
def test_every_labelled_sample_counts_once_whatever_the_batch(spec, rows):
    task, starts = task_of(spec, ("y",)), iter(range(0, 100, rows))
    score = task.score(
        lambda feed: {"y": labelled(next(starts), len(feed["x"]))}, Feeds(spec), {"x": (rows, 4)}
    )
    assert score == 1.0


def test_samples_in_the_wrong_order_are_found(spec):
    task = task_of(spec, ("y",))
    score = task.score(lambda feed: {"y": labelled(1, len(feed["x"]))}, Feeds(spec), {"x": (16, 4)})
    assert score == 0.0


def test_a_metric_of_the_users_gets_outputs_by_name(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "metric.py").write_text(
        "def least(outputs, labels):\n    return outputs['y'].min()\n"
    )
    extra = '[task]\nmetric = "metric.py:least"\nlabels = { npz = "data.npz", member = "labels" }\n'
    spec = read_spec(write_case(tmp_path / "net", extra=extra))
    task = task_of(spec, ("y",))
    assert (
        task.score(lambda feed: {"y": np.full((len(feed["x"]), 2), 7.0)}, Feeds(spec), {"x": (4, 4)}) == 7.0
    )
    with pytest.raises(UsageError, match="--trt-no-code"):
        task_of(spec, ("y",), allow_code=False)


def test_a_spec_without_labels_has_no_task(tmp_path):
    assert task_of(read_spec(write_case(tmp_path / "net", extra="")), ("y",)) is None


@pytest.mark.parametrize(
    ("engine", "passes"), [(0.987, True), (0.982, True), (0.99, True), (0.981, False), (float("nan"), False)]
)
def test_a_drop_within_the_allowance_passes(engine, passes):
    found = Accuracy("top1", 0.987, engine, 0.005, 1000)
    assert found.passes is passes


def test_a_drop_is_explained():
    text = Accuracy("top1", 0.987, 0.95, 0.005, 1000).explain("net[int8]", "pytest x")
    assert text.splitlines()[0] == "net[int8]: top1 0.9500, a drop of 0.0370 > 0.0050"
    assert "0.9870" in text
    assert text.endswith("reproduce: pytest x")


def test_an_output_that_is_the_class_itself():
    assert top1(np.array([0, 1, 0, 0]), WANTED) == 0.75


@pytest.mark.parametrize(
    ("scores", "wanted", "rule"),
    [
        (SCORES[:, :1], WANTED, "top1 needs a score for each class"),
        (SCORES, WANTED + 1, "labels are 1 to 2, the output has 2 classes"),
        (SCORES, -WANTED, "labels are -1 to 0"),
    ],
)
def test_scores_that_do_not_fit_the_labels_are_no_accuracy(scores, wanted, rule):
    with pytest.raises(DataError, match=rule):
        top1(scores, wanted)


def test_labels_that_do_not_fit_the_scores_name_the_spec(spec):
    found = task_of(spec, ("y",))
    with pytest.raises(DataError, match=r"spec\.toml: task: labels are 1 to 2"):
        found.metric({"y": SCORES}, WANTED + 1)


@pytest.mark.parametrize("labels", [np.zeros((16, 2), int), np.array(["a"] * 16), np.zeros(16, bool)])
def test_labels_must_be_one_number_for_each_sample(spec, labels):
    data = np.load(spec.folder / "data.npz")
    np.savez(spec.folder / "data.npz", x=data["x"], labels=labels)
    with pytest.raises(DataError, match=r"task\.metric = 'top1': labels are .* must be one number"):
        task_of(spec, ("y",))


def test_labels_in_a_column(spec):
    data = np.load(spec.folder / "data.npz")
    np.savez(spec.folder / "data.npz", x=data["x"], labels=data["labels"].reshape(-1, 1))
    assert task_of(spec, ("y",)).labels.shape == (16,)


def test_a_metric_that_is_no_number(spec):
    task = replace(task_of(spec, ("y",)), metric=lambda *_: "good")
    with pytest.raises(DataError, match=r"task\.metric: returned 'good', must return a number"):
        task.score(lambda feed: {"y": labelled(0, len(feed["x"]))}, Feeds(spec), {"x": (4, 4)})


@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_labels_that_are_no_class_are_not_only_wrong(spec, wrong):
    data = np.load(spec.folder / "data.npz")
    np.savez(spec.folder / "data.npz", x=data["x"], labels=data["labels"] + wrong)
    with pytest.raises(DataError, match=r"task\.metric = 'top1': labels must be whole numbers"):
        task_of(spec, ("y",))
