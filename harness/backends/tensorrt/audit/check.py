"""What was asked of TensorRT against what the network and the engine say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.backends.base import Audit
from harness.backends.tensorrt.builder.build import Built
from harness.backends.tensorrt.layers import NARROW, EngineLayer, count_precisions, layer_of_node
from harness.backends.tensorrt.network import NetworkLayer
from harness.precision import Precision

NAMES = {"FLOAT": "FP32", "HALF": "FP16"}
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY")
NARROWER = {"FP16", "BF16", "INT8", "FP8", "INT4", "FP4"}
NEEDS: Mapping[Precision, tuple[str, ...]] = {
    Precision.FP16: ("FP16",),
    Precision.BF16: ("BF16",),
    Precision.INT8: ("INT8",),
    Precision.INT8_FP16: ("INT8", "FP16"),
}


def audit(built: Built, precision: Precision, kept: Sequence[str], outputs: Sequence[str]) -> Audit:
    """Compare a build with what was asked for.

    `kept`: ONNX nodes that stay FP32 by the plan; `outputs`: the model's output names.
    """
    problems = (
        *_missing_outputs(built, outputs),
        *missing_precisions(built, precision),
        *narrowed(built.network, kept),
        *narrowed_layers(built.engine, built.network, kept),
    )
    return Audit(
        requested=precision,
        nodes=count_precisions(built.engine) or network_precisions(built.network),
        fp32_kept=tuple(kept),
        problems=problems,
        messages=built.messages,
        details=_details(built, kept),
    )


def _details(built: Built, kept: Sequence[str]) -> dict[str, object]:
    mapped = layer_of_node(built.engine)
    nodes = {layer.node for layer in built.network if layer.node is not None}
    return {
        "version": built.version,
        "build_s": built.duration_s,
        "network_layers": len(built.network),
        "engine_layers": len(built.engine),
        "nodes_in_network": len(nodes),
        "nodes_in_engine": len(nodes & mapped.keys()),
        "fp32_layers": {node: list(mapped[node]) for node in kept if node in mapped},
        "counted": "engine layers" if built.engine else "network layers",
    }


def _missing_outputs(built: Built, outputs: Sequence[str]) -> Iterator[str]:
    missing = [name for name in outputs if name not in built.outputs]
    if missing:
        yield f"outputs missing from the engine: {missing}"


def missing_precisions(built: Built, precision: Precision) -> Iterator[str]:
    """A problem for each type that the precision is named after and that nothing in the build has.

    A 16-bit type may live inside fused layers alone, so the network counts too; INT8 must be in the engine.
    """
    network, engine = _types(built.network), set(_engine_types(built.engine))
    for needed in NEEDS.get(precision, ()):
        found = engine if engine and needed in NARROW else network | engine
        if needed not in found:
            yield f"asked for {precision}, but no layer has {needed} (found: {_join(found)})"


def narrowed(layers: Iterable[NetworkLayer], kept: Sequence[str]) -> Iterator[str]:
    """A problem for each layer of a node kept FP32 that gives out a narrower type."""
    nodes = set(kept)
    for layer in layers:
        found = _types((layer,)) & NARROWER
        if layer.node in nodes and found:
            yield f"node {layer.node!r} stays FP32 in the plan, but layer {layer.name!r} is {_join(found)}"


def narrowed_layers(
    engine: Iterable[EngineLayer], network: Iterable[NetworkLayer], kept: Sequence[str]
) -> Iterator[str]:
    """A problem for each engine layer that computes matrix products of kept nodes in a narrower type.

    Builders do that to a product that stands alone between two Casts, whatever its weights hold.  Layers
    that hold products of other nodes besides say nothing of the kept ones.
    """
    products = {layer.node for layer in network if layer.type in PRODUCTS and layer.node is not None}
    for layer in engine:
        nodes = products.intersection(layer.nodes)
        found = _operands(layer) if nodes and nodes.issubset(kept) else set()
        if found and "FP32" not in found:
            names = ", ".join(map(repr, sorted(nodes)))
            yield f"{names}: FP32 in the plan, {_join(found)} in engine layer {layer.name!r}"


def _operands(layer: EngineLayer) -> set[str]:
    """Types of what a product multiplies; single factors apart."""
    tensors = (*layer.inputs, *(constant for constant in layer.constants if constant.count != 1))
    return {tensor.dtype for tensor in tensors} & {"FP32", *NARROWER}


def network_precisions(layers: Iterable[NetworkLayer]) -> dict[str, int]:
    """How many network layers give out each type."""
    counts: dict[str, int] = {}
    for layer in layers:
        key = _join(_types((layer,))) or "other"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def _engine_types(layers: Iterable[EngineLayer]) -> Iterator[str]:
    for layer in layers:
        yield from (tensor.dtype for tensor in (*layer.inputs, *layer.outputs) if tensor.dtype)


def _types(layers: Iterable[NetworkLayer]) -> set[str]:
    names = (tensor.dtype for layer in layers for tensor in layer.outputs)
    return {NAMES.get(name, name) for name in names} & {"FP32", *NARROWER}


def _join(types: Iterable[str]) -> str:
    return "+".join(sorted(types))
