"""Strongly typed networks: TensorRT 10.0 and later by choice, 11.0 and later and TensorRT-RTX always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import NotHonouredError
from harness.precision import Precision

if TYPE_CHECKING:
    import tensorrt as trt


def create_network(api: trt.Module, builder: trt.Builder) -> trt.INetworkDefinition:
    """An empty network in which the graph alone says every type."""
    return builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def constrain(
    api: trt.Module,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    precision: Precision,
    kept: Sequence[str],
    barred: Sequence[str] = (),
) -> None:
    """Nothing: the graph carries the plan.  Raises NotHonouredError if the network is not typed so."""
    del config, precision, kept, barred
    if not network.get_flag(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED):
        raise NotHonouredError("asked for a strongly typed network, TensorRT made a weakly typed one")
