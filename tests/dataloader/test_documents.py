"""Packed documents: every token once an epoch, nothing dropped, nothing seen that is not one's own."""

import json
from collections.abc import Mapping
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from groundup.core.errors import DataError
from groundup.dataloader import IGNORED, Batch, PackedDocuments, RowBatches, Tokens, documents, permutation
from groundup.dataloader.documents import Pieces
from groundup.dataloader.shards import Shard
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token

MARK, PADDING = 0, 500
DOCUMENTS = st.lists(st.lists(st.integers(1, 400), max_size=30).map(lambda ids: [MARK, *ids]), min_size=1, max_size=30)


def tokens_of(texts: list[list[int]], shards: int = 1) -> Tokens:
    """The documents, divided into shards of about the same number."""
    groups = [texts[len(texts) * n // shards : len(texts) * (n + 1) // shards] for n in range(shards)]
    return Tokens([Shard(np.array([token for text in group for token in text], np.uint16)) for group in groups])


def batches(source: PackedDocuments, rows: int, time: int) -> RowBatches:
    return RowBatches(source, rows, time, PADDING)


def sequences(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of each packed sequence, after its place in the row is checked."""
    found = []
    inputs, targets, positions, segments = (
        batch.tensors[name] for name in ("inputs", "targets", "positions", "segments")
    )
    for row in range(len(inputs)):
        numbers = segments[row].unique().tolist()
        assert numbers in (list(range(len(numbers))), list(range(-1, len(numbers) - 1)))
        for number in numbers:
            place = (segments[row] == number).nonzero().flatten()
            assert place.tolist() == list(range(int(place[0]), int(place[-1]) + 1))
            if number == -1:
                assert int(place[-1]) == inputs.shape[1] - 1
                assert (inputs[row, place] == PADDING).all() and (targets[row, place] == IGNORED).all()
                assert (positions[row, place] == 0).all()
            else:
                assert positions[row, place].tolist() == list(range(len(place)))
                found.append((inputs[row, place].tolist(), targets[row, place].tolist()))
    return found


def pieces_of(texts: list[list[int]], time: int) -> list[tuple[list[int], list[int]]]:
    """What an epoch must hold: each document and its end, cut at every multiple of ``time``."""
    return [
        (text[start : start + time], [*text[1:], MARK][start : start + time])
        for text in texts
        for start in range(0, len(text), time)
    ]


def an_epoch(source: PackedDocuments, time: int) -> list[tuple[list[int], list[int]]]:
    """All sequences of the rest of the source's epoch, row by row."""
    epoch, found = source.state_dict()["epoch"], []
    while source.state_dict()["epoch"] == epoch:
        found += sequences(next(iter(batches(source, 1, time))))
    return found


@settings(max_examples=40)
@given(
    texts=DOCUMENTS,
    time=st.integers(1, 20),
    block=st.integers(1, 30),
    shards=st.integers(1, 4),
    stride=st.integers(1, 5),
    drawn=st.sampled_from([0, 1000]),
)
def test_every_epoch_holds_every_token_once(
    texts: list[list[int]], time: int, block: int, shards: int, stride: int, drawn: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "STRIDE", stride)
        patch.setattr(documents, "COUNTED", 2 * stride)
        patch.setattr(permutation, "DRAWN", drawn)
        source = PackedDocuments(tokens_of(texts, shards), time, seed=1, block=block)
        for _ in range(2):
            assert sorted(an_epoch(source, time)) == sorted(pieces_of(texts, time))


@settings(max_examples=25)
@given(texts=DOCUMENTS, time=st.integers(1, 20), rows=st.integers(1, 4))
def test_what_only_fills_is_counted(texts: list[list[int]], time: int, rows: int) -> None:
    for batch in islice(batches(PackedDocuments(tokens_of(texts), time, seed=1), rows, time), 5):
        filled = int((batch.tensors["segments"] == -1).sum())
        assert batch.metrics["padding"] == pytest.approx(filled / (rows * time))
        assert batch.weight == rows * time - filled == int((batch.tensors["targets"] != IGNORED).sum())


def test_little_is_only_filled() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(4.5, 1, 20_000).astype(int), 2, None)
    ids = np.ones(lengths.sum(), np.uint16)
    ids[np.cumsum(lengths) - lengths] = MARK
    source = PackedDocuments(ids, 256, seed=1)
    padding = [batch.metrics["padding"] for batch in islice(batches(source, 16, 256), 300)]
    assert sum(padding) / 300 < 0.002  # measured: 0.0006


@settings(max_examples=40)
@given(
    texts=DOCUMENTS, time=st.integers(1, 20), block=st.integers(1, 9), before=st.integers(0, 30), rows=st.integers(1, 4)
)
def test_a_source_resumes_exactly(texts: list[list[int]], time: int, block: int, before: int, rows: int) -> None:
    def fresh() -> RowBatches:
        return batches(PackedDocuments(tokens_of(texts), time, seed=3, block=block), rows, time)

    source = fresh()
    stream = iter(source)
    for _ in range(before):
        next(stream)
    resumed = fresh()
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    for ours, theirs in zip(islice(resumed, 12), stream, strict=False):
        assert ours.metrics == theirs.metrics
        assert all(ours.tensors[name].equal(theirs.tensors[name]) for name in theirs.tensors)


@settings(max_examples=25)
@given(texts=DOCUMENTS, block=st.integers(1, 9), counts=st.lists(st.integers(0, 9), max_size=8))
def test_rows_are_the_same_however_many_are_taken_at_once(
    texts: list[list[int]], block: int, counts: list[int]
) -> None:
    some, one = (PackedDocuments(tokens_of(texts), 8, seed=2, block=block) for _ in range(2))
    for count in counts:
        expected = [one.take(1)[0] for _ in range(count)]
        assert [[span[1:] for span in row] for row in some.take(count)] == [
            [span[1:] for span in row] for row in expected
        ]
        assert some.state_dict() == one.state_dict()


def test_epochs_differ_and_are_counted() -> None:
    texts = [[MARK, *range(1, 3 + number % 17)] for number in range(200)]
    source = PackedDocuments(tokens_of(texts), 16, seed=1, block=40)
    first, counts = [], []
    while source.state_dict()["epoch"] == 0:
        first += source.take(1)
        counts.append(source.epochs["train"])
    assert counts == sorted(set(counts))
    assert counts[-1] == 1.0
    assert [[span[1:] for span in row] for row in first] != [
        [span[1:] for span in row] for row in source.take(len(first))
    ]


def test_pieces_of_one_document_are_spread_over_the_epoch() -> None:
    texts = [[MARK] + [number] * 639 for number in range(1, 11)]
    order = [inputs[1] for inputs, _ in an_epoch(PackedDocuments(tokens_of(texts), 16, seed=1, block=50), 16)]
    runs = sum(a != b for a, b in pairwise(order))
    assert runs > 300  # of 399; documents one after the other would give 9


def test_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="train has no tokens"):
        PackedDocuments(Tokens([]), 8, seed=1)


def test_pieces_know_their_documents_in_many_shards() -> None:
    texts = [[MARK, *range(1, number % 11 + 1)] for number in range(1000)]
    pieces = Pieces(tokens_of(texts, shards=13), 4)
    starts, lengths = pieces.spans(np.arange(len(pieces)))
    flat = [token for text in texts for token in text]
    found = [flat[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
    assert found == [inputs for inputs, _ in pieces_of(texts, 4)]


MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smeared keys": {"key_smear": True},
}


@pytest.mark.parametrize("kind", MODELS)
class TestIsolation:
    """With a real model in float64."""

    TIME = 24

    def model(self, kind: str) -> Transformer:
        config = ModelConfig(2, 16, 2, 1, 24, self.TIME, **MODELS[kind])
        model = Transformer(config, 501).double()
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():  # zeros would hide a way from one document to another
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
        return model.train()

    def batch(self) -> tuple[list[list[int]], Batch]:
        rng = np.random.default_rng(2)
        texts = [[MARK, *rng.integers(1, 400, length).tolist()] for length in (3, 40, 11, 7, 5, 0, 9, 14, 4, 6)]
        packed = batches(PackedDocuments(tokens_of(texts), self.TIME, seed=5), 5, self.TIME)
        return texts, next(iter(packed))

    def losses(self, model: Transformer, tensors: Mapping[str, Tensor]) -> Tensor:
        """-log p(target) [rows, time] in float64, 0 where nothing is learned."""
        given = {name: tensors.get(name) for name in ("positions", "segments")}
        logits = model(tensors["inputs"], **given, head=False) @ model.head.weight.T
        losses = F.cross_entropy(logits.flatten(0, 1), tensors["targets"].flatten(), reduction="none")
        return losses.view_as(tensors["targets"])

    def test_the_loss_is_that_of_the_documents_one_by_one(self, kind: str) -> None:
        texts, batch = self.batch()
        model = self.model(kind)
        packed, alone = self.losses(model, batch.tensors).sum(), torch.zeros((), dtype=torch.float64)
        for inputs, targets in pieces_of(texts, self.TIME):
            tensors = {"inputs": torch.tensor([inputs]), "targets": torch.tensor([targets])}
            alone = alone + self.losses(model, tensors).sum()
        assert batch.weight == sum(map(len, texts))
        torch.testing.assert_close(packed, alone, rtol=1e-12, atol=0)
        gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in (packed, alone)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # norms compute in float32
        assert float(next_token(model, batch).detach()) == pytest.approx(
            float(alone.detach()), rel=1e-6
        )  # sums in float32

    def test_no_document_has_a_gradient_from_another(self, kind: str) -> None:
        _, batch = self.batch()
        model = self.model(kind)
        embedded: list[Tensor] = []
        embed = model._embedded

        def keep(*arguments: Tensor) -> Tensor:
            embedded.append(embed(*arguments))
            return embedded[-1]

        model._embedded = keep  # type: ignore[method-assign]
        losses, segments = self.losses(model, batch.tensors), batch.tensors["segments"]
        checked = 0
        for row in range(len(losses)):
            for number in range(int(segments[row].max()) + 1):
                own = segments[row] == number
                (gradient,) = torch.autograd.grad(losses[row][own].sum(), embedded[0], retain_graph=True)
                assert gradient[row][own].abs().sum() > 0
                gradient[row, own] = 0
                assert torch.count_nonzero(gradient) == 0
                checked += 1
        assert checked > len(losses)  # rows hold several
