"""Bits per byte: how well a model predicts raw text, whatever its tokenizer.

A window slides over each document so that every predicted token sees at least ``context - stride`` tokens
before it (but for the beginning of a document). Bits are divided by the raw UTF-8 bytes of the text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from groundup.core.device import autocast, choose_dtype
from groundup.core.progress import track
from groundup.dataloader import IGNORED
from groundup.model import Transformer
from groundup.tokenizer import BytePairTokenizer

#: Ids of a document.
Document = Sequence[int] | NDArray[Any]
#: Windows in one forward pass.
ROWS = 32


@dataclass(frozen=True)
class Bits:
    """What each window cost: bits and the bytes that they spell, both [windows]."""

    bits: NDArray[np.float64]
    bytes: NDArray[np.float64]

    @property
    def per_byte(self) -> float:
        """Total bits over total bytes."""
        return float(self.bits.sum() / self.bytes.sum())


def windows_of(length: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, first predicted, end) of the windows over a document of ``length`` tokens.

    A window reads the tokens [start, end - 1) and predicts [first predicted, end); together they predict
    every token but the first exactly once.
    """
    spans = []
    predicted = 1
    while predicted < length:
        end = min(length, predicted + (context if predicted == 1 else stride))
        spans.append((max(0, end - 1 - context), predicted, end))
        predicted = end
    return spans


@torch.no_grad()
def document_bits(
    model: Transformer,
    documents: Sequence[Document],
    tokenizer: BytePairTokenizer,
    stride: int | None = None,
    limit: int | None = None,
    progress: str | None = None,
) -> Bits:
    """Bits and bytes of each window.

    Args:
        model: in evaluation mode.
        documents: ids of whole documents, each begun by the document token, which is given, not predicted.
        tokenizer: says how many bytes a token spells.
        stride: new tokens per window; default half the context.
        limit: at most this many windows, evenly spread over the documents; None for all.
        progress: description to show; None is silent.
    """
    context = model.config.context
    device = model.embedding.weight.device
    spans = [
        (number, *span)
        for number, document in enumerate(documents)
        for span in windows_of(len(document), context, stride or max(1, context // 2))
    ]
    if limit is not None and limit < len(spans):
        spans = [spans[i * len(spans) // limit] for i in range(limit)]
    lengths = np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
    bits, sizes = [], []
    starts = range(0, len(spans), ROWS)
    for begin in track(starts, progress, len(starts), "batch") if progress else starts:
        group = spans[begin : begin + ROWS]
        inputs = torch.zeros(len(group), context, dtype=torch.long)
        targets = torch.full((len(group), context), IGNORED)
        for row, (number, start, first, end) in enumerate(group):
            window = torch.as_tensor(np.asarray(documents[number][start:end], dtype=np.int64))
            inputs[row, : len(window) - 1] = window[:-1]
            targets[row, first - start - 1 : len(window) - 1] = window[first - start :]
            sizes.append(lengths[np.asarray(documents[number][first:end])].sum())
        with autocast(device, choose_dtype("auto", device)):
            logits = model(inputs.to(device))
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.to(device).flatten(), ignore_index=IGNORED, reduction="none"
        )
        bits += (losses.view(len(group), -1).double().sum(dim=1) / math.log(2)).tolist()
    return Bits(np.array(bits), np.array(sizes, dtype=np.float64))
