"""A TensorRT network: made from ONNX, its profiles set, its layers listed as data."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.tensorrt.log import Log, words
from harness.errors import BuildError, NotDeployableError
from harness.spec.model_spec import Profile, ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NetworkTensor:
    """Name, TensorRT dtype name and shape (-1 where dynamic) of a tensor of a network.

    `holds_shape`: it is computed on the host, for shapes.
    """

    name: str
    dtype: str
    shape: Shape
    holds_shape: bool = False


@dataclass(frozen=True)
class NetworkLayer:
    """One layer of a network; `node` is the ONNX node that it comes from, if any."""

    name: str
    type: str
    node: str | None
    inputs: tuple[NetworkTensor, ...]
    outputs: tuple[NetworkTensor, ...]


def parse_onnx(parser: trt.OnnxParser, log: Log, path: Path) -> None:
    """Parse the ONNX file at `path` into the parser's network.

    Raises BuildError with node, op type and reason of every error; also where the parser gives none.
    """
    if parser.parse_from_file(str(path)) and parser.num_errors == 0:
        return
    errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    raise NotDeployableError("the ONNX parser refuses it: " + ("; ".join(errors) or words(log.messages)))


def _parser_error(error: trt.ParserError) -> str:
    # TensorRT 8.6 has the node's index alone.
    name, op_type = (getattr(error, key, str)() for key in ("node_name", "node_operator"))
    index = f"node {error.node()}" if error.node() >= 0 else "model"
    where = f"node {name!r} ({op_type})" if name or op_type else index
    return f"{where}: {error.code().name}: {' '.join(error.desc().split())}"


def add_profiles(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    profiles: Sequence[Profile],
    log: Log,
) -> None:
    """Add one optimisation profile for each of `profiles`, in order.

    Raises BuildError where names, ranks or fixed sizes do not fit the network, or TensorRT drops a profile.
    """
    made = {tensor.name for tensor in network_outputs(network)}
    inputs = {original_name(tensor.name, made): tensor for tensor in network_inputs(network)}
    for index, profile in enumerate(profiles):
        problem = profile_problem(inputs, profile)
        if problem:
            raise BuildError(f"profile {profile.name!r}: {problem}")
        added = builder.create_optimization_profile()
        for name, shapes in profile.shapes.items():
            _set_shape(added, inputs[name].name, shapes, profile.name)
        if config.add_optimization_profile(added) != index:
            raise BuildError(f"profile {profile.name!r}: TensorRT does not take it: {words(log.messages)}")


def profile_problem(inputs: Mapping[str, NetworkTensor], profile: Profile) -> str | None:
    """Why `profile` does not fit the network's inputs, by the model's names of them; None if it does."""
    missing, unknown = inputs.keys() - profile.shapes.keys(), profile.shapes.keys() - inputs.keys()
    if missing or unknown:
        return f"lacks {sorted(missing)}" if missing else f"names no input of the network: {sorted(unknown)}"
    for name, shapes in profile.shapes.items():
        fixed = inputs[name].shape
        if len(fixed) != len(shapes.min):
            return f"{name!r}: rank {len(shapes.min)}, but the network's input has rank {len(fixed)}"
        for shape in (shapes.min, shapes.max):
            if any(size not in (-1, asked) for size, asked in zip(fixed, shape, strict=True)):
                return f"{name!r}: shape {list(shape)} does not fit the network's {list(fixed)}"
    return None


def original_name(name: str, outputs: Container[str]) -> str:
    """The model's name of a network's input: parsers put `__` before one that is an output too.

    (`importModel` of onnx-tensorrt, all versions.)
    """
    original = name.removeprefix("__")
    return original if name != original and original in outputs else name


def _set_shape(profile: trt.IOptimizationProfile, name: str, shapes: ShapeRange, label: str) -> None:
    asked = [shapes.min, shapes.opt, shapes.max]
    profile.set_shape(name, *asked)
    got = [tuple(shape) for shape in profile.get_shape(name)]
    if got != asked:
        raise BuildError(f"profile {label!r}: {name!r}: asked for {asked}, TensorRT made it {got}")


def network_inputs(network: trt.INetworkDefinition) -> tuple[NetworkTensor, ...]:
    """The network's inputs, in order."""
    return tuple(_tensors(network.get_input(i) for i in range(network.num_inputs)))


def network_outputs(network: trt.INetworkDefinition) -> tuple[NetworkTensor, ...]:
    """The network's outputs, in order."""
    return tuple(_tensors(network.get_output(i) for i in range(network.num_outputs)))


def network_layers(network: trt.INetworkDefinition, barred: Sequence[str] = ()) -> tuple[NetworkLayer, ...]:
    """The network's layers, in order; `barred`: names of ONNX nodes that hold a bar."""
    return tuple(_layer(network.get_layer(index), barred) for index in range(network.num_layers))


def _layer(layer: trt.ILayer | None, barred: Sequence[str]) -> NetworkLayer:
    if layer is None:
        raise BuildError("TensorRT gives no layer for an index below num_layers")
    return NetworkLayer(
        layer.name,
        layer.type.name,
        node_of(layer.metadata, barred),
        tuple(_tensors(layer.get_input(i) for i in range(layer.num_inputs))),
        tuple(_tensors(layer.get_output(i) for i in range(layer.num_outputs))),
    )


def _tensors(tensors: Iterator[trt.ITensor | None]) -> Iterator[NetworkTensor]:
    """An optional input of a layer is None and left out."""
    for tensor in tensors:
        if tensor is not None:
            shape = shape_of(tensor.shape)
            yield NetworkTensor(tensor.name, tensor.dtype.name, shape, tensor.is_shape_tensor)


def shape_of(dims: trt.Dims) -> Shape:
    """A shape as a tuple; unknown rank, which has no length, is ()."""
    try:
        return tuple(dims)
    except ValueError:
        return ()


PREFIX = "[ONNX Layer: "
BAR = " | "


def node_of(metadata: str, barred: Sequence[str] = ()) -> str | None:
    """The ONNX node named in the metadata of a layer, None if it names none.

    Parsers add their own words behind a bar: doc strings (8.6), local functions (10.x), the nodes around it
    (RTX).  `barred` are the names of nodes that hold a bar themselves.
    """
    if not metadata.startswith(PREFIX):
        return None
    said = metadata.removeprefix(PREFIX).removesuffix("]")
    whole = (name for name in sorted(barred, key=len, reverse=True) if f"{said}{BAR}".startswith(name + BAR))
    return next(whole, said.split(BAR, 1)[0])
