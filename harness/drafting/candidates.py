"""Sizes, values and ranges that are tried in turn, likely ones first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from harness.drafting.guesses import DraftInput, Values
from harness.drafting.result import Ranges, Sizes

SIDES = (64, 32, 128, 224, 48, 96, 256, 299, 320, 640, 16, 8, 1)
LENGTHS = (32, 16, 64, 8, 128, 1, 2, 4, 48, 80, 100, 160, 256, 400, 512, 1024, 4096, 16000)
FEW = (32, 48, 64, 128, 224, 320, 1, 2)
SLOW_S, VERY_SLOW_S = 0.3, 2.0


def sizes_to_try(symbols: Mapping[str, str]) -> Iterator[Sizes]:
    """Sizes to try, likely ones first: sides alike and lengths alike, then every symbol on its own."""
    batches = {s: 1 for s, kind in symbols.items() if kind == "batch"}
    sides = [s for s, kind in symbols.items() if kind == "side"]
    lengths = [s for s, kind in symbols.items() if kind == "length"]
    for side, length in itertools.product(SIDES if sides else (1,), LENGTHS if lengths else (1,)):
        yield batches | dict.fromkeys(sides, side) | dict.fromkeys(lengths, length)
    free = sides + lengths
    if 1 < len(free) <= 3:
        for mixed in itertools.product(FEW, repeat=len(free)):
            yield batches | dict(zip(free, mixed, strict=True))


def values_to_try(inputs: Sequence[DraftInput]) -> Iterator[dict[str, Values]]:
    """Values to try: as guessed, floats positive, flags set, ids small, integers all one, all zero."""
    yield {i.name: i.values for i in inputs}
    positive: Values = {"generator": "uniform"}
    floats = {i.name: positive for i in inputs if "float" in i.dtype}
    if floats:
        yield {i.name: i.values for i in inputs} | floats
    for integers in (_flags_set(inputs), _below(inputs, 10), *(_only(inputs, k) for k in (1, 0))):
        if integers:
            yield {i.name: i.values for i in inputs} | floats | integers


def _flags_set(inputs: Sequence[DraftInput]) -> dict[str, Values]:
    """Masks and flags all one; ids as guessed."""
    flags = [i for i in inputs if i.values["generator"] == "mask" or i.values.get("high") == 2]
    return {one.name: {"generator": "integers", "low": 1, "high": 2} for one in flags}


def _below(inputs: Sequence[DraftInput], bound: int) -> dict[str, Values]:
    """Ids below `bound`, still different ones; masks and flags all one."""
    ids = [i for i in inputs if i.values["generator"] == "integers" and i.values.get("low") == 0]
    small: Values = {"generator": "integers", "low": 0, "high": bound}
    wide = {i.name: small for i in ids if float(i.values["high"]) > bound}
    return wide and {**wide, **_flags_set(inputs)}


def _only(inputs: Sequence[DraftInput], number: int) -> dict[str, Values]:
    table: Values = {"generator": "integers", "low": number, "high": number + 1}
    return {i.name: table for i in inputs if "float" not in i.dtype}


def ranges_to_try(
    opt: Sizes, symbols: Mapping[str, str], free: set[str], multiple: int, seconds: float
) -> Iterator[Ranges]:
    """Ranges around `opt` for the `free` symbols, wide ones first; batches smaller where a run is slow."""
    batch = (1, 1) if seconds > VERY_SLOW_S else (2, 4) if seconds > SLOW_S else (4, 8)
    for divisor, factor in ((0, 2), (2, 2), (2, 1)):
        low, usual, high, steps = dict(opt), dict(opt), dict(opt), dict.fromkeys(opt, 1)
        for symbol in free:
            if symbols[symbol] == "batch":
                usual[symbol], high[symbol] = (size * opt[symbol] for size in batch)
            elif multiple:
                side, size = symbols[symbol] == "side", opt[symbol]
                shrunk = size // (divisor or (2 if side else size)) // multiple * multiple
                low[symbol], steps[symbol] = max(multiple, shrunk), multiple
                high[symbol] = size if side else size * factor
        yield Ranges(low, usual, high, steps)
