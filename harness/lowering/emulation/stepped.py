"""GRU, LSTM and RNN written out step by step: what kernels do that keep their state in 16 bits.

1. Each recurrent node with 16-bit tensors becomes a Scan for each direction.  At every step the gates and the
   new state are rounded; sums are FP32, as everywhere in the emulation.
2. With `sequence_lens` a state stays as it is after its row's end, and outputs there are zero; the reverse
   direction turns each row within its length.
3. Names stay: the node's goes to its first Scan, outputs keep name and type behind a Cast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from harness.errors import LoweringError
from harness.graph.walk import all_nodes
from harness.lowering.edit import Editor, is_tensor
from harness.lowering.emulation.cells import GATES, STEPS, Activation, Cell, activations_of
from harness.lowering.emulation.writer import Writer
from harness.lowering.model import LoweringSummary
from harness.lowering.operators import RECURRENT
from harness.lowering.passes.base import Pass, run

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOAT, _INT64, _BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL


def has_recurrence(model: ir.Model) -> bool:
    """Whether a recurrent node of `model` has 16-bit tensors."""
    return any(_is_recurrent(node) for node in all_nodes(model.graph))


def stepped(model: ir.Model) -> ir.Model:
    """`model` with its 16-bit recurrent nodes written out; itself where it has none."""
    return run(SteppedPass(), model)[0] if has_recurrence(model) else model


class SteppedPass(Pass):
    """Writes 16-bit recurrent nodes out; see the module's rules."""

    name = "stepping"

    def apply(self, model: ir.Model) -> LoweringSummary:
        """See the module's rules."""
        editor = Editor(model)
        for node in list(all_nodes(model.graph)):
            if _is_recurrent(node):
                _write_out(node, editor)
        editor.settle()
        return LoweringSummary(casts=editor.casts)


def _is_recurrent(node: ir.Node) -> bool:
    if node.domain or node.op_type not in RECURRENT:
        return False
    return any(is_tensor(value, *_HALVES) for value in (*node.inputs, *node.outputs))


@dataclass(frozen=True)
class _Source:
    """The inputs of one recurrent node in FLOAT, the first axis of X the steps; None where not given."""

    node: ir.Node
    write: Writer
    half: ir.DataType
    x: ir.Value
    lengths: ir.Value | None
    directions: int

    def given(self, index: int) -> ir.Value | None:
        """Input `index` of the node in FLOAT."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            return None
        return self.write.editor.as_type(value, _FLOAT, self.node, "__e32")

    def part(self, index: int, direction: int) -> ir.Value | None:
        """Input `index` of one direction; states are the batch's second axis where the layout says so."""
        value = self.given(index)
        if value is None:
            return None
        axis = 1 if self.batch_first and index in (5, 6) else 0
        return self.write("Gather", value, self.write.integer(direction), axis=axis)

    @property
    def batch_first(self) -> bool:
        return self.integer("layout") == 1

    def integer(self, name: str) -> int:
        """An integer attribute, 0 by default."""
        found = self.node.attributes.get(name)
        return 0 if found is None else found.as_int()

    def backwards(self, direction: int) -> bool:
        """Whether the direction runs from the last step to the first."""
        found = self.node.attributes.get("direction")
        return direction == 1 or (found is not None and found.as_string() == "reverse")


def _write_out(node: ir.Node, editor: Editor) -> None:
    source = _source(node, editor)
    activations = activations_of(node, source.directions)
    made = [_direction(source, k, activations[k]) for k in range(source.directions)]
    _connect(source, made)
    name, graph = node.name, node.graph
    assert graph is not None
    graph.remove(node, safe=True)
    scan = made[0][0][0].producer()
    assert scan is not None
    scan.name = name


def _source(node: ir.Node, editor: Editor) -> _Source:
    assert node.graph is not None
    half = next(v.dtype for v in (*node.inputs, *node.outputs) if v is not None and is_tensor(v, *_HALVES))
    write = Writer(editor, node.graph, node.name or node.op_type, node)
    assert half is not None
    assert node.inputs[0] is not None
    x = editor.as_type(node.inputs[0], _FLOAT, node, "__e32")
    lengths = node.inputs[4] if len(node.inputs) > 4 else None
    if lengths is not None:
        lengths = write("Cast", lengths, dtype=_INT64, to=int(_INT64))
    way = node.attributes.get("direction")
    both = way is not None and way.as_string() == "bidirectional"
    source = _Source(node, write, half, x, lengths, 2 if both else 1)
    return replace(source, x=write("Transpose", x, perm=[1, 0, 2])) if source.batch_first else source


def _direction(
    source: _Source, direction: int, activations: tuple[Activation, ...]
) -> tuple[list[ir.Value], ir.Value]:
    """States at the end, and the output of every step, of one direction."""
    backwards = source.backwards(direction)
    turned = backwards and source.lengths is not None
    x = _turned(source, source.x) if turned else source.x
    cell, streams = _cell(source, direction, activations, x)
    states, y = _scan(source, cell, streams, _start(source, direction, x), backwards and not turned)
    return states, _turned(source, y) if turned else y


def _turned(source: _Source, x: ir.Value) -> ir.Value:
    return source.write("ReverseSequence", x, source.lengths, batch_axis=1, time_axis=0)


def _cell(
    source: _Source, direction: int, activations: tuple[Activation, ...], x: ir.Value
) -> tuple[Cell, list[ir.Value]]:
    """The cell, and what the input adds to each gate at every step."""
    node, write, gates = source.node, source.write, GATES[source.node.op_type]
    weights = write("Transpose", source.part(1, direction), perm=[1, 0])
    streams = _split(write, write("MatMul", x, weights), gates, -1)
    alone = {2} if node.op_type == "GRU" and source.integer("linear_before_reset") else set[int]()
    own = {gate: write.number(0) for gate in alone}
    if (bias := source.part(3, direction)) is not None:
        every = _split(write, bias, 2 * gates, 0)
        own = {gate: every[gates + gate] for gate in alone}
        streams = [write("Add", stream, one) for stream, one in zip(streams, every[:gates], strict=True)]
        streams = [s if k in alone else write("Add", s, every[gates + k]) for k, s in enumerate(streams)]
    recurrent = _split(write, source.part(2, direction), gates, 0)
    looks = source.part(7, direction) if node.op_type == "LSTM" else None
    clip = node.attributes.get("clip")
    cell = Cell(
        source.half,
        activations,
        0.0 if clip is None else clip.as_float(),
        tuple(write("Transpose", one, perm=[1, 0]) for one in recurrent),
        own,
        {} if looks is None else dict(enumerate(_split(write, looks, 3, 0))),
        coupled=source.integer("input_forget") == 1,
    )
    return cell, streams


def _split(write: Writer, x: ir.Value | None, count: int, axis: int) -> list[ir.Value]:
    if x is None:
        raise LoweringError("a recurrent node lacks its weights")
    return [x] if count == 1 else write.several("Split", x, count=count, axis=axis, num_outputs=count)


def _start(source: _Source, direction: int, x: ir.Value) -> list[ir.Value]:
    """The states before the first step; zeros where the node is given none."""
    count = 2 if source.node.op_type == "LSTM" else 1
    given = [source.part(5 + k, direction) for k in range(count)]
    return [_zeros(source, x) if one is None else one for one in given]


def _zeros(source: _Source, x: ir.Value) -> ir.Value:
    write, weights = source.write, source.given(2)
    batch = write("Shape", x, dtype=_INT64, start=1, end=2)
    hidden = write("Shape", weights, dtype=_INT64, start=2, end=3)
    return write("ConstantOfShape", write("Concat", batch, hidden, dtype=_INT64, axis=0))


def _scan(
    source: _Source, cell: Cell, streams: list[ir.Value], states: list[ir.Value], backwards: bool
) -> tuple[list[ir.Value], ir.Value]:
    inside = [] if source.lengths is None else [_inside(source, streams[0])]
    body = _body(source, cell, len(streams), masked=bool(inside))
    scanned = [*streams, *inside]
    *ends, y = source.write.several(
        "Scan",
        *(*states, *scanned),
        count=len(states) + 1,
        body=body,
        num_scan_inputs=len(scanned),
        scan_input_directions=[int(backwards)] * len(scanned),
        scan_output_directions=[int(backwards)],
    )
    return ends, y


def _inside(source: _Source, stream: ir.Value) -> ir.Value:
    """Whether each step is one of each row's: steps x rows x 1."""
    write, zero, one = source.write, source.write.integer(0), source.write.integer(1)
    count = write("Squeeze", write("Shape", stream, dtype=_INT64, start=0, end=1), dtype=_INT64)
    steps = write(
        "Unsqueeze", write("Range", zero, count, one, dtype=_INT64), write.integers(1), dtype=_INT64
    )
    rows = write("Unsqueeze", source.lengths, write.integers(0), dtype=_INT64)
    return write("Unsqueeze", write("Less", steps, rows, dtype=_BOOL), write.integers(2), dtype=_BOOL)


def _body(source: _Source, cell: Cell, gates: int, *, masked: bool) -> ir.Graph:
    graph = ir.Graph([], [], nodes=[], name=source.write.fresh("step"))
    write = Writer(source.write.editor, graph, source.node.name or source.node.op_type)
    states = [write.value("state") for _ in range(2 if source.node.op_type == "LSTM" else 1)]
    streams = [write.value("gate") for _ in range(gates)]
    inside = [write.value("inside", _BOOL)] if masked else []
    graph.inputs.extend((*states, *streams, *inside))
    new: Sequence[ir.Value] = STEPS[source.node.op_type](write, cell, streams, tuple(states))
    y = new[0]
    for mask in inside:
        y = write("Where", mask, y, write.number(0))
        new = [write("Where", mask, one, old) for one, old in zip(new, states, strict=True)]
    graph.outputs.extend((*new, write("Identity", y)))
    return graph


def _connect(source: _Source, made: Sequence[tuple[list[ir.Value], ir.Value]]) -> None:
    """Give the node's outputs, names and users to what the directions made."""
    y, *states = source.node.outputs
    _replace(source, y, [one for _, one in made], 1, [2, 0, 1, 3])
    for k, value in enumerate(states):
        _replace(source, value, [ends[k] for ends, _ in made], 0, [1, 0, 2])


def _replace(source: _Source, old: ir.Value, parts: list[ir.Value], axis: int, turn: list[int]) -> None:
    if not old.name:
        return
    write = source.write
    whole = write("Concat", *(write("Unsqueeze", part, write.integers(axis)) for part in parts), axis=axis)
    if source.batch_first:
        whole = write("Transpose", whole, perm=turn)
    new = write("Cast", whole, dtype=source.half, to=int(source.half))
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.shape, name = old.shape, old.name
    old.name = write.fresh("replaced")
    new.name = name
