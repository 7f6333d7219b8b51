"""What was asked of TensorRT against what the network and the engine say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.backends.base import Audit
from harness.backends.tensorrt.builder.build import Built
from harness.backends.tensorrt.layers import (
    BIAS,
    NARROW,
    EngineLayer,
    count_precisions,
    layer_of_node,
    operands,
)
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


def audit(
    built: Built, precision: Precision, kept: Sequence[str], outputs: Sequence[str], *, weak: bool = False
) -> Audit:
    """Compare a build with what was asked for.

    `kept`: ONNX nodes that stay FP32 by the plan; `outputs`: the model's output names; `weak`: types were
    left to the builder, so that the network does not tell them.
    """
    problems = (
        *_missing_outputs(built, outputs),
        *missing_precisions(built, precision, weak=weak),
        *narrowed(built.network, kept),
        *narrowed_layers(built.engine, built.network, kept),
    )
    return Audit(
        requested=precision,
        nodes=count_precisions(built.engine) or network_precisions(built.network),
        fp32_kept=tuple(kept),
        problems=problems,
        unknown=tuple(unknowns(built, precision, kept, weak=weak)),
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


def missing_precisions(built: Built, precision: Precision, *, weak: bool = False) -> Iterator[str]:
    """A problem for each type that the precision is named after and that nothing in the build has.

    Where that is not known it is none, see `unknowns`.
    """
    if _all_told(built, weak=weak):
        for needed in _absent(built, precision):
            found = _join(_shown(built, needed))
            yield f"asked for {precision}, but no layer has {needed} (found: {found})"


def _absent(built: Built, precision: Precision) -> list[str]:
    return [needed for needed in NEEDS.get(precision, ()) if needed not in _shown(built, needed)]


def _shown(built: Built, needed: str) -> set[str]:
    """Types where `needed` must be: a 16-bit one may live inside fused layers, INT8 must be in the engine."""
    network, engine = _types(built.network), set(_engine_types(built.engine))
    return engine if built.engine and needed in NARROW else network | engine


def _all_told(built: Built, *, weak: bool) -> bool:
    """Whether a type that no layer shows is in no layer; without engine layers, a strong network tells it."""
    if built.unread:
        return False
    return all(layer.told for layer in built.engine) if built.engine else not weak


def unknowns(built: Built, precision: Precision, kept: Sequence[str], *, weak: bool) -> Iterator[str]:
    """What neither the network nor the engine tells, one line each."""
    if built.unread:
        lines = "line of its layers is" if len(built.unread) == 1 else "lines of its layers are"
        yield f"not known: {len(built.unread)} {lines} in no known form: {built.unread[0][:100]!r}"
    if not _all_told(built, weak=weak):
        why = _silence(built)
        yield from (f"not known: whether a layer has {name}: {why}" for name in _absent(built, precision))
    yield from _unseen(built, kept, weak=weak)


def _silence(built: Built) -> str:
    untold = sum(not layer.told for layer in built.engine)
    if not built.engine:
        return "no engine layer is listed"
    return f"{untold} of {len(built.engine)} engine layers do not tell their types"


def _unseen(built: Built, kept: Sequence[str], *, weak: bool) -> Iterator[str]:
    """Nodes kept FP32 whose precision nothing shows: in the network for all, in the engine for products."""
    named = {layer.node for layer in built.network}
    mapped = layer_of_node(layer for layer in built.engine if layer.told or _operands(layer))
    products = _products(built.network)
    for node in kept:
        start = f"not known: node {node!r} stays FP32 in the plan, but no"
        if weak and node not in named:
            yield f"{start} network layer is said to come from it"
        elif built.engine and node in products and node not in mapped:
            yield f"{start} engine layer tells its precision"


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
    products = _products(network)
    for layer in engine:
        nodes = products.intersection(layer.nodes)
        found = _operands(layer) if nodes and nodes.issubset(kept) else set()
        if found and "FP32" not in found:
            names = ", ".join(map(repr, sorted(nodes)))
            yield f"{names}: FP32 in the plan, {_join(found)} in engine layer {layer.name!r}"


def _products(network: Iterable[NetworkLayer]) -> set[str]:
    return {layer.node for layer in network if layer.type in PRODUCTS and layer.node is not None}


def _operands(layer: EngineLayer) -> set[str]:
    """Types of what a product multiplies: no factors, and nothing that is added afterwards."""
    weights = (part for part in layer.constants if part.count != 1 and part.name != BIAS)
    tensors = (*operands(layer.inputs), *weights)
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
        yield from layer.types


def _types(layers: Iterable[NetworkLayer]) -> set[str]:
    names = (tensor.dtype for layer in layers for tensor in layer.outputs)
    return {NAMES.get(name, name) for name in names} & {"FP32", *NARROWER}


def _join(types: Iterable[str]) -> str:
    return "+".join(sorted(types))
