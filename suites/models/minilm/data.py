"""Real English sentences (scikit-learn's descriptions of its data sets), tokenised as BERT does."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SENTENCES, LENGTH = 64, 64
MARKUP = r"[`*=|_~#-]{2,}|`|\|"


def sentences(assets: Mapping[str, Path]) -> list[str]:
    """Sentences of 25 to 300 characters, markup taken off."""
    texts = [path.read_text("utf-8") for name, path in sorted(assets.items()) if name != "vocabulary"]
    prose = re.sub(r"\s+", " ", re.sub(MARKUP, " ", "\n\n".join(texts)))
    found = [s.strip() for s in re.split(r"(?<=[.!?])\s+", prose)]
    return [s for s in found if 25 < len(s) < 300]


def pieces(word: str, vocabulary: Mapping[str, int]) -> Iterator[int]:
    """The longest pieces that make up `word`; one unknown token if none do."""
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if prefix + word[start:e] in vocabulary), None)
        if end is None:
            return iter([vocabulary["[UNK]"]])
        found.append(vocabulary[prefix + word[start:end]])
        start = end
    return iter(found)


def tokens(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Token ids of `text` in lower case without accents, [CLS] first and [SEP] last, at most 64."""
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    words = re.findall(r"[a-z0-9]+|[^\sa-z0-9]", plain)
    ids = [i for word in words for i in pieces(word, vocabulary)]
    return [vocabulary["[CLS]"], *ids[: LENGTH - 2], vocabulary["[SEP]"]]


def input_ids(assets: Mapping[str, Path]) -> NDArray[np.int64]:
    """[64, 64], padded with 0."""
    vocabulary = {t: i for i, t in enumerate(assets["vocabulary"].read_text("utf-8").splitlines())}
    rows = [tokens(text, vocabulary) for text in sentences(assets)[:SENTENCES]]
    return np.array([row + [0] * (LENGTH - len(row)) for row in rows], np.int64)


def attention_mask(assets: Mapping[str, Path]) -> NDArray[np.int64]:
    """1 where there is a token, 0 where there is padding: [64, 64]."""
    return (input_ids(assets) != 0).astype(np.int64)
