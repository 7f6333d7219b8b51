"""What steps are fed, and the mistakes of specs and models that only a loop can make."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.data.inputs import Feeds
from harness.engines.subject import Subject
from harness.errors import DataError, RunError, SpecError, UsageError
from harness.loops.feeding import Feeding, after
from harness.loops.judge import answer_loop
from harness.loops.question import loop_question
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.spec.loop import Fed
from harness.storage.cache import Cache

SPEC = """
name = "counter"
[model]
onnx = "model.onnx"
[inputs.x]
dtype = "float32"
data = { generator = "normal" }
[inputs.past]
dtype = "float32"
data = { generator = "normal" }
[inputs.ids]
dtype = "int64"
data = { generator = "integers", low = 0, high = 4 }
[[profiles]]
axes.past = { min = 0, opt = 2, max = 6 }
shapes.x = [1, 4]
shapes.past = [1, "past", 4]
shapes.ids = [1, 1]
[loop]
steps = 4
start = { past = 0 }
feed = { present = "past" }
series = ["x"]
"""


def model():
    """`present` is `past` with x appended; `grown` doubles itself until it is infinite; `logits` is x."""
    value = helper.make_tensor_value_info
    kinds = TensorProto.FLOAT, TensorProto.INT64
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["row"], "row"),
        helper.make_node("Concat", ["past", "row"], ["present"], "present", axis=1),
        helper.make_node("Mul", ["x", "huge"], ["big"], "big"),
        helper.make_node("Mul", ["big", "big"], ["overflows"], "overflows"),
        helper.make_node("Add", ["ids", "one"], ["next"], "next"),
        helper.make_node("Identity", ["x"], ["logits"], "logits"),
    ]
    weights = [
        helper.make_tensor("one", kinds[1], [1], [1]),
        helper.make_tensor("huge", kinds[0], [], [1e30]),
    ]
    inputs = [
        value("x", kinds[0], [1, 4]),
        value("past", kinds[0], [1, "past", 4]),
        value("ids", kinds[1], [1, 1]),
    ]
    outputs = [
        value("present", kinds[0], [1, "past + 1", 4]),
        value("next", kinds[1], [1, 1]),
        value("logits", kinds[0], [1, 4]),
        value("overflows", kinds[0], [1, 4]),
    ]
    graph = helper.make_graph(nodes, "counter", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def subject_of(tmp_path):
    """A subject of the spec above, with parts of its text replaced."""

    def make(*changes, extra='[outputs.overflows]\ncompare = "ignore"\n'):
        onnx.save(model(), tmp_path / "model.onnx")
        text = SPEC + extra
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "spec.toml").write_text(text)
        return Subject(read_spec(tmp_path / "spec.toml"), OnnxRuntimeBackend(), Cache(tmp_path / "cache"))

    return make


def answered(subject):
    with (
        subject.engine(Precision.FP32).open() as engine,
        loop_question(subject, Precision.FP32, engine, emulated=True) as question,
    ):
        return answer_loop(question)


def test_a_cache_grows_and_a_series_runs_on(subject_of):
    subject = subject_of()
    feeding = Feeding(subject.spec, subject.spec.loop, Feeds(subject.spec))
    first = feeding.first()
    assert first.feeds["past"].shape == (1, 0, 4)
    second = feeding.next(first, {"present": first.feeds["x"][None]}, None)
    assert second.number == 2
    assert second.feeds["past"].shape == (1, 1, 4)
    assert not np.array_equal(first.feeds["x"], second.feeds["x"])
    assert answered(subject).triage.verdict == "pass"


def test_states_are_replaced_appended_rolled_or_cut():
    state, output = np.arange(6.0).reshape(1, 3, 2), np.full((1, 1, 2), 9.0)
    assert after(Fed(to="s"), state, output) is output
    assert after(Fed(to="s", grow=1), state, output).shape == (1, 4, 2)
    rolled = after(Fed(to="s", roll=1), state, output)
    assert rolled[0, :, 0].tolist() == [2.0, 4.0, 9.0]
    cut = after(Fed.model_validate({"to": "s", "window": {"axis": 1, "size": 2}}), output, state)
    assert cut[0, :, 0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "present =",
            "presents =",
            "loop.feed.presents = 'presents': the model has no such output; did you mean",
        ),
        ('"past" }\nseries', '"pasta" }\nseries', "loop.feed.present = 'pasta': no such input"),
        ('present = "past"', 'next = "past"', "the output is int64, this input float32"),
        ('present = "past"', 'logits = "past"', "the output has 2 axes, this input 3"),
        ("steps = 4", "steps = 0", "loop.steps = 0: must be >= 1"),
        (
            "start = { past = 0 }",
            "start = { passed = 0 }",
            "no profile has an axis 'passed'; they have 'past'",
        ),
        ('series = ["x"]', 'series = ["past"]', "the input 'past' is filled twice"),
        ('feed = { present = "past" }\n', "", "needs `feed` or `tokens`"),
        ('series = ["x"]', 'tokens = { from = "logits", to = "x" }', "tokens are whole numbers"),
        ('series = ["x"]', 'tokens = { from = "logit", to = "ids" }', "the model has no such output"),
        ('series = ["x"]', 'tokens = { from = "logits", to = "ids", choose = "best" }', "must be argmax or"),
        ('"past" }\nseries', '{ to = "past", grow = 7 } }\nseries', "there is no axis 7"),
        ('"past" }\nseries', '{ to = "past", grow = 1, roll = 1 } }\nseries', "exclude each other"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(old, new, said, subject_of):
    with pytest.raises(SpecError) as caught:
        check_spec(subject_of((old, new)).spec, Options())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_that_outgrows_every_profile_is_one_line_with_the_step(subject_of):
    with pytest.raises(DataError) as caught:
        answered(subject_of(("steps = 4", "steps = 9")))
    assert "loop: step 8: no profile holds" in str(caught.value)
    assert "past=1x7x4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_second_step_that_the_model_refuses_is_one_line_with_the_step(subject_of):
    window = '{ to = "past", grow = 2 } }\nseries'
    with pytest.raises((DataError, RunError), match="step 2") as caught:
        answered(subject_of(('"past" }\nseries', window)))
    assert "\n" not in str(caught.value)


def test_a_reference_that_is_not_finite_is_one_line_with_the_step(subject_of):
    with pytest.raises(DataError, match="step 1: 'overflows' of the FP32 reference is not finite"):
        answered(subject_of(extra=""))


def test_a_function_that_chooses_is_code(subject_of, tmp_path):
    (tmp_path / "mine.py").write_text("def best(logits):\n    return logits.argmax(-1)\n")
    choose = 'tokens = { from = "logits", to = "ids", choose = "mine.py:best" }\n'
    subject = subject_of(('series = ["x"]', choose + 'series = ["x"]'))
    assert answered(subject).triage.verdict == "pass"
    with pytest.raises(UsageError, match=r"loop\.tokens\.choose = 'mine\.py:best': runs Python code"):
        check_spec(subject.spec, Options(allow_code=False))
