"""On what terms outputs are judged; made once from a spec, handed on whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.precision import TOLERANCES, Precision, Tolerance
from harness.spec.parts import OutputSpec

EVERY_NUMBER = OutputSpec()
NOT_COMPARED = OutputSpec(compare="ignore")


@dataclass(frozen=True)
class Terms:
    """A precision, its tolerance, and by output name what to ignore and how to compare.

    What `rules` does not name is compared as numbers.
    """

    precision: Precision
    tolerance: Tolerance
    rules: Mapping[str, OutputSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, precision: Precision) -> Terms:
        """Those of the tolerance table."""
        return cls(precision, TOLERANCES[precision])

    def rule(self, name: str) -> OutputSpec:
        """The rule of output `name`."""
        return self.rules.get(name, EVERY_NUMBER)

    def ignoring(self, names: Iterable[str]) -> Terms:
        """The same without the outputs `names`."""
        return replace(self, rules={**self.rules, **dict.fromkeys(names, NOT_COMPARED)})

    def without_rules(self) -> Terms:
        """The same for tensors that are no outputs."""
        return replace(self, rules={})
