"""What stands beside the emulation: the other end of recurrence, and the oracle that checks it.

Words and data alone; `validate` asks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from harness.precision import Precision
from harness.verdict.triage import SEARCH, Triage

LOST = (
    "the emulation does not show this error, mre {:.1e}, but the same model run node by node does, "
    "mre {:.1e}: the emulation is wrong here, not the engine; please report it with the model"
)
AGREED = (
    "run node by node, the lowered model shows mre {:.1e}: that does not explain the engine's error either"
)
UNASKED = "the lowered model could not be run node by node to check the emulation: {}"


@dataclass(frozen=True)
class Recurrence:
    """The error at both ends of what kernels do with the state of GRU, LSTM and RNN, each an `mre`.

    `stepped`: rounded at every step, as TensorRT declares it, which is what is judged.  `kept`: in FP32 to
    the end of the sequence.
    """

    stepped: float
    kept: float

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)

    def words(self) -> str:
        """Both figures in one line."""
        return (
            f"recurrent state rounded at every step, as TensorRT declares it: mre {self.stepped:.1e}; "
            f"kernels that keep the state in FP32: {self.kept:.1e}"
        )


@dataclass(frozen=True)
class Opinion:
    """What the lowered model, run node by node, says of an engine that its emulation does not explain.

    `mre`: its own error; `emulated`: the emulation's; `explains`: whether it explains the engine's error;
    `unasked`: why it could not be run, and then there is no `mre`.
    """

    emulated: float
    mre: float | None = None
    explains: bool = False
    unasked: str = ""

    def to_json(self) -> dict[str, float | bool | str | None]:
        """Plain data."""
        return asdict(self)

    def on(self, triage: Triage, precision: Precision) -> Triage:
        """`triage` in the light of this."""
        if self.mre is None:
            return replace(triage, warnings=(*triage.warnings, UNASKED.format(self.unasked)))
        if not self.explains:
            return replace(triage, warnings=(*triage.warnings, AGREED.format(self.mre)))
        warnings = (*triage.warnings, LOST.format(self.emulated, self.mre))
        return replace(
            triage, verdict="precision-limited", advice=SEARCH.format(precision), warnings=warnings
        )
