"""The models in the box: specs that read, data that fit, figures that the specs' comments claim."""

from pathlib import Path

import numpy as np
import pytest

from harness.backends.onnxruntime.backend import open_model, run_model
from harness.data.inputs import Feeds, cases_of, labels
from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from harness.spec.assets import missing, model_path
from harness.spec.check import check_against_model
from harness.spec.file import find_specs, read_spec

MODELS = Path(__file__).parents[2] / "suites" / "models"
IN_THE_BOX = (
    "char_decoder",
    "gru_steps",
    "mnist_cnn",
    "overflow_transformer",
    "residual_cnn",
    "silero_vad",
    "silero_vad_stream",
    "tabular_mlp",
)
FETCHED = ("doc_orientation", "magika", "minilm", "ppocrv4_det", "ppocrv4_rec")


def spec_of(name):
    """A bundled spec; the test is skipped where its files are not fetched."""
    spec = read_spec(MODELS / name / "spec.toml")
    if missing(spec):
        pytest.skip("not fetched: make zoo")
    return spec


def normalised(spec):
    """The FP32 model of a spec."""
    return normalise(onnx_file.read(model_path(spec)))


def mre(actual, expected):
    """Mean relative error."""
    return np.abs(actual.astype(np.float64) - expected).sum() / np.abs(expected.astype(np.float64)).sum()


def emulated(model, plan, feeds):
    """Outputs of `model` lowered by `plan`, every rounding explicit."""
    return run_model(emulate(lower(model, plan)), feeds)


def test_every_spec_reads_and_is_known_here():
    specs = [read_spec(path) for path in find_specs([MODELS])]
    assert sorted(spec.name for spec in specs) == sorted(IN_THE_BOX + FETCHED)
    for spec in specs:
        assert spec.folder.name == spec.name
        assert spec.license
        assert (spec.model.packaged is None) == (spec.name in IN_THE_BOX)


def test_every_licence_is_listed():
    text = (MODELS / "LICENSES.md").read_text()
    for name in IN_THE_BOX + FETCHED:
        assert name in text


@pytest.mark.parametrize("name", IN_THE_BOX)
def test_models_in_the_box_are_small(name):
    assert sum(file.stat().st_size for file in (MODELS / name).iterdir() if file.is_file()) < 2_000_000


@pytest.mark.parametrize("name", IN_THE_BOX + FETCHED)
def test_specs_fit_their_models_and_references_run(name):
    spec = spec_of(name)
    model = normalised(spec)
    check_against_model(spec, model)
    feeds = Feeds(spec)
    for profile in spec.profiles:
        outputs = run_model(model, feeds.feed(cases_of(profile)[0].shapes))
        assert all(np.isfinite(np.asarray(output, np.float64)).all() for output in outputs.values())


@pytest.mark.parametrize(
    ("name", "right"),
    [("mnist_cnn", 0.987), ("tabular_mlp", 168 / 171), ("magika", 1.0), ("doc_orientation", 1.0)],
)
def test_labels_match_what_the_model_says(name, right):
    spec = spec_of(name)
    model, feeds, wanted = normalised(spec), Feeds(spec), labels(spec)
    output = spec.task.output or str(model.graph.outputs[0].name)
    shapes = {key: ranges.max for key, ranges in spec.profiles[-1].shapes.items()}
    starts = range(0, len(wanted), feeds.rows(shapes))
    with open_model(model) as engine:
        found = np.concatenate([engine.run(feeds.feed(shapes, start))[output] for start in starts])
    said = found[: len(wanted)].argmax(-1)
    assert (said == wanted).mean() == pytest.approx(right)
    assert (said == np.roll(wanted, 1)).mean() < right


def test_a_feed_forward_of_the_transformer_reaches_3e5():
    spec = spec_of("overflow_transformer")
    feeds = Feeds(spec).feed({"tokens": (4, 32)})
    name = "layer2/feed_forward/first/Add_out"
    peak = np.abs(run_model(normalised(spec), feeds, [name])[name]).max()
    assert 2.5e5 < peak < 3.5e5


def test_the_transformer_needs_each_of_its_five_fp32_nodes():
    spec = spec_of("overflow_transformer")
    model, plan = normalised(spec), spec.plan(Precision.FP16)
    feeds = Feeds(spec).feed({"tokens": (2, 16)})
    expected = run_model(model, feeds)["hidden"]
    assert len(plan.fp32_nodes) == 5
    assert mre(emulated(model, plan, feeds)["hidden"], expected) < spec.tolerance(Precision.FP16).limit
    for node in plan.fp32_nodes:
        without = plan.with_fp32_nodes(set(plan.fp32_nodes) - {node})
        assert np.isnan(emulated(model, without, feeds)["hidden"]).any()


def test_magika_needs_its_two_fp32_nodes():
    """What they leave is the rounding of the last logits: at most 1e-5 where the model is sure."""
    spec = spec_of("magika")
    model, plan = normalised(spec), spec.plan(Precision.FP16)
    feeds = Feeds(spec).feed({"bytes": (14, 2048)})
    expected = run_model(model, feeds)["target_label"]
    assert len(plan.fp32_nodes) == 2
    found = emulated(model, plan, feeds)["target_label"]
    assert mre(found, expected) < 3e-4
    sure = expected.max(-1) > 0.999995
    assert sure.sum() >= 3
    assert min(mre(found[[row]], expected[[row]]) for row in np.flatnonzero(~sure)) > 1e-5
    assert mre(found[sure], expected[sure]) < 1e-5
    without = emulated(model, PrecisionPlan(Precision.FP16), feeds)["target_label"]
    assert mre(without, expected) > 1.5
    assert not (without.argmax(-1) == labels(spec)).any()
