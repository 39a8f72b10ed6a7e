"""Is the text that was trained on what it should be?

Enters: the shards, the corpus, the tokenizer of a run. Leaves: findings: another tokenizer's ids, tokens out of order,
repeated text, epochs in the same order, documents without an end, validation text in the train split.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import regex
from numpy.typing import NDArray

from groundup.diagnosis.finding import Finding, worse
from groundup.diagnosis.probes import end_probability
from groundup.diagnosis.records import DOCUMENT, Ids, Numbers, Stage
from groundup.tokenizer import BytePairTokenizer

#: Documents of each split that are encoded again, and the characters of each that are.
COMPARED, CHARACTERS = 8, 4000
#: Order is lost if neighbouring tokens know less of each other than so many times what shuffled ones do.
INFORMATION = 1.3
#: Length of the runs that are compared: words (Brown et al. 2020, GPT-3) and tokens.
WORDS, RUN = 13, 32
#: Shares of repeated runs in a train split, and of validation runs found in it, from which they are told.
REPEATED, CONTAMINATED, CONTAMINATED_FAILURE = 0.2, 0.1, 0.3
#: Characters of the train split that are searched for validation text.
SEARCHED = 256_000_000
#: A model has not learnt the end if it gives it less than this part of its frequency, after having seen so many.
END_PART, ENDS_SEEN, ENDS_ASKED = 0.1, 100, 24
#: Correlation of the losses of two epochs from which their order counts as the same, in itself and in deviations of
#: that of independent losses.
SAME_ORDER, DEVIATIONS = 0.5, 4.0

_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Khmer}\p{Lao}]|[\p{L}\p{N}\p{M}]+")


def check_tokenizer(stage: Stage) -> Iterator[Finding]:
    """The checkpoint's tokenizer, the run's, and the one that the shard was made with are one."""
    own = stage.tokenizer
    if own is None:
        return
    where = f"{stage.name}, tokenizer"
    remedy = f"use the tokenizer that the weights were trained with, or delete {stage.folder} and train anew"
    recorded = stage.state.get("tokenizer", own.fingerprint)
    if recorded != own.fingerprint:
        evidence = (
            f"its weights were trained with {recorded[:12]}; tokenizer.json beside them is {own.fingerprint[:12]}"
        )
        yield Finding("wrong-tokenizer", "failure", "the checkpoint holds another tokenizer", evidence, remedy, where)
    elif stage.run_tokenizer is not None and stage.run_tokenizer.fingerprint != own.fingerprint:
        evidence = f"the run's is {stage.run_tokenizer.fingerprint[:12]}, the checkpoint's {own.fingerprint[:12]}"
        what = "the run's tokenizer is not the one that the model was trained with"
        yield Finding("wrong-tokenizer", "failure", what, evidence, remedy, where)


def check_shards(stage: Stage) -> Iterator[Finding]:
    """The shards hold the corpus, encoded by the tokenizer, in its order."""
    tokenizer = stage.tokenizer
    if tokenizer is None:
        return
    for split in ("train", "validation"):
        ids = stage.head(split)
        if ids is None:
            continue
        where = f"{stage.name}/tokens/{split}"
        finding = None
        if (largest := int(ids.max())) >= tokenizer.vocab_size:
            evidence = f"they hold the id {largest:,}; the tokenizer has {tokenizer.vocab_size:,}"
            finding = _foreign(stage, "the token ids were made by another tokenizer", evidence, where)
        elif stage.in_order(split):
            finding = _compared(stage, tokenizer, ids, split, where)
        if finding is None and len(ids) > 1000 and split == "train":
            finding = _information(stage, ids, where)
        if finding is not None:
            yield finding
            return


def _compared(stage: Stage, tokenizer: BytePairTokenizer, ids: Ids, split: str, where: str) -> Finding | None:
    """Encode the first documents again and compare with the shard; None where they agree, or there is no corpus."""
    texts = [document.text for document in islice(stage.documents(split), COMPARED)]
    starts = np.flatnonzero(ids == tokenizer.special_tokens[DOCUMENT])
    same = order = compared = 0
    for text, start in zip(texts, starts.tolist(), strict=False):
        expected = tokenizer.encode(text[:CHARACTERS])[: max(8, CHARACTERS // 8)]
        if len(text) > CHARACTERS:
            expected = expected[:-8]  # the cut may have changed the last tokens
        found = ids[start + 1 : start + 1 + len(expected)].tolist()
        whole = len(text) <= CHARACTERS and len(expected) < CHARACTERS // 8
        compared += 1
        same += found == expected
        order += whole and found != expected and sorted(found) == sorted(expected)
    if not compared or same >= compared / 2:
        return None
    evidence = f"of {compared} documents of corpus/{split}.jsonl, encoded again, {same} are what was trained on"
    if order > (compared - same) / 2:
        evidence += f"; {order} have the same tokens in another order"
        return _shuffled(stage, evidence, where)
    if (lost := _information(stage, ids, where)) is not None:
        return lost
    known = {word for text in texts for word in words(text)}
    decoded = words(tokenizer.decode(ids[:2000].tolist()))
    share = sum(word in known for word in decoded) / max(1, len(decoded))
    evidence += f"; {share:.0%} of the words that it decodes to are theirs"
    if share < 0.5:
        return _foreign(stage, "the token ids were made by another tokenizer", evidence, where)
    return _foreign(stage, "the token ids are those of another corpus", evidence, where, "stale-tokens")


def _foreign(stage: Stage, what: str, evidence: str, where: str, name: str = "wrong-tokenizer") -> Finding:
    remedy = f"delete {stage.folder} and run the stage again: the corpus is encoded anew with the run's tokenizer"
    return Finding(name, "failure", what, evidence, remedy, where)


def _shuffled(stage: Stage, evidence: str, where: str, numbers: dict[str, float] | None = None) -> Finding:
    remedy = f"shuffle documents or windows, never tokens; delete {stage.folder} and run the stage again"
    what = "the tokens are shuffled: there is nothing to learn but their frequencies"
    return Finding("tokens-shuffled", "failure", what, evidence, remedy, where, numbers or {})


def _information(stage: Stage, ids: Ids, where: str) -> Finding | None:
    """Whether neighbouring tokens know as little of each other as shuffled ones."""
    found = neighbour_information(ids)
    shuffled = neighbour_information(np.random.default_rng(0).permutation(ids))
    if found > INFORMATION * shuffled:
        return None
    evidence = f"a token tells {found:.2f} nats of the next; {shuffled:.2f} when they are shuffled on purpose"
    return _shuffled(stage, evidence, where, {"information": found, "shuffled": shuffled})


def neighbour_information(ids: Ids) -> float:
    """Mutual information of neighbouring tokens, in nats, as the counts have it (few tokens make it look larger)."""
    pairs = ids[:-1] * (int(ids.max()) + 1) + ids[1:]
    return 2 * _entropy(ids) - _entropy(pairs)


def _entropy(symbols: Ids) -> float:
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def check_repetition(stage: Stage) -> Iterator[Finding]:
    """Text that stands in the train split more than once."""
    ids = stage.head("train")
    if ids is None or len(ids) < 10 * RUN:
        return
    hashes = run_hashes(ids.astype(np.uint64), RUN)
    _, counts = np.unique(hashes, return_counts=True)
    share = float(counts[counts > 1].sum() / counts.sum())
    if share < REPEATED:
        return
    evidence = f"{share:.0%} of its runs of {RUN} tokens stand there more than once, up to {counts.max()} times"
    remedy = "lower corpus.resemblance and corpus.containment so that duplicates go, or look at what writes the tokens"
    where = f"{stage.name}/tokens/train"
    severity = worse(share > 0.5)
    numbers = {"share": share}
    yield Finding("text-repeats", severity, "the train split repeats itself", evidence, remedy, where, numbers)


def run_hashes(symbols: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A hash of each run of ``length`` symbols: a polynomial in an odd number modulo 2^64, [symbols − length + 1]."""
    if len(symbols) < length:
        return np.empty(0, np.uint64)
    base = np.uint64(0x9E3779B97F4A7C15)
    mixed = (symbols + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    hashes = np.zeros(len(symbols) - length + 1, np.uint64)
    for offset in range(length):
        hashes = hashes * base + mixed[offset : offset + len(hashes)]
    return hashes


def check_epochs(stage: Stage) -> Iterator[Finding]:
    """Losses that repeat themselves epoch by epoch: the batches come in the same order each time."""
    split = stage.tokens("train")
    steps, loss = stage.series("loss")
    _, tokens = stage.series("tokens")
    if split is None or len(loss) < 16 or len(tokens) != len(loss):
        return
    late = loss[len(loss) // 3 :]  # earlier, the fall of the loss hides how batches differ
    correlations = {lag: _correlation(late, lag) for lag in _lags(len(split), tokens[-1] / len(tokens), len(late))}
    if not correlations:
        return
    lag = max(correlations, key=lambda each: correlations[each])
    correlation, compared = correlations[lag], len(late) - lag
    if correlation > SAME_ORDER and correlation > DEVIATIONS / np.sqrt(compared):
        evidence = (
            f"the losses of steps {lag} apart, one epoch, go up and down together: correlation {correlation:.2f} over "
            f"{compared} steps"
        )
        remedy = "draw a new order in every epoch, from the seed and the number of the epoch (dataloader)"
        what, where = "every epoch has the same order", stage.steps(steps[0], steps[-1])
        yield Finding("same-order", "warning", what, evidence, remedy, where, {"correlation": correlation, "lag": lag})


def _lags(tokens: int, a_step: float, steps: int) -> range:
    """Steps that an epoch may take: its tokens by those of a step, a little less as windows do not fill it."""
    epoch = tokens / a_step
    return range(max(4, int(0.9 * epoch)), min(int(epoch) + 2, steps - 16))


def _correlation(loss: Numbers, lag: int) -> float:
    """Of the losses with those ``lag`` steps later, each without its trend."""
    trend = np.convolve(np.pad(loss, 3, mode="reflect"), np.ones(7) / 7, "valid")
    rest = loss - trend
    first, second = rest[:-lag], rest[lag:]
    return float(np.corrcoef(first, second)[0, 1]) if first.std() > 1e-9 and second.std() > 1e-9 else 0.0


def check_ends(stage: Stage) -> Iterator[Finding]:
    """Documents end with the next one's first token; the model must have seen it and expect it."""
    split, tokenizer = stage.tokens("train"), stage.tokenizer
    if split is None or tokenizer is None:
        return
    mark = tokenizer.special_tokens[DOCUMENT]
    marks = sum(int(np.count_nonzero(shard.ids == mark)) for shard in split.shards)
    documents = sum(1 for _ in stage.documents("train")) if stage.in_order("train") else 0
    where = f"{stage.name}/tokens/train"
    remedy = f"begin each document with {DOCUMENT} when encoding it; delete {stage.folder} and run the stage again"
    what = "the end of a text cannot be learnt"
    if documents > 1 and marks < 0.9 * documents:
        evidence = f"its {documents:,} documents have {marks:,} document tokens between them in {len(split):,} tokens"
        yield Finding("end-never-learnt", "failure", what, evidence, remedy, where, {"marks": marks})
    elif not marks:
        evidence = f"not one document token in {len(split):,} tokens"
        yield Finding("end-never-learnt", "failure", what, evidence, remedy, where, {"marks": 0})
    else:
        yield from _unexpected_end(stage, mark, marks / len(split))


def _unexpected_end(stage: Stage, mark: int, frequency: float) -> Iterator[Finding]:
    """A model that has seen many ends and still expects them less than a count of tokens would."""
    _, tokens = stage.series("tokens")
    seen = frequency * tokens[-1] if len(tokens) else 0.0
    asked = stage.head("validation")
    if stage.model is None or asked is None or seen < ENDS_SEEN:
        return
    places = np.flatnonzero(asked == mark)
    places = places[places > 8][:ENDS_ASKED]
    if not len(places):
        return
    expected = float(np.mean(end_probability(stage.model, asked, places.tolist(), mark)))
    if expected >= END_PART * frequency:
        return
    evidence = (
        f"where documents end the model gives the end a probability of {expected:.1e}; every {1 / frequency:,.0f}th "
        f"token is one, and it has seen {seen:,.0f}"
    )
    remedy = f"look at the mask of the targets: {DOCUMENT} must be one; --{stage.name}.steps for a longer training"
    where = f"{stage.name}, checkpoint of step {stage.state.get('step', '?')}"
    numbers = {"probability": expected, "frequency": frequency}
    yield Finding("end-never-learnt", "failure", "the end of a text was not learnt", evidence, remedy, where, numbers)


@dataclass(frozen=True)
class Overlap:
    """What of a validation split stands in the train split."""

    share: float
    """Of its runs of 13 words."""
    runs: int
    documents: tuple[str, ...]
    """Those of which more than half does."""


def check_contamination(stage: Stage) -> Iterator[Finding]:
    """Validation text that stands in the train split."""
    held_out = [(document.id, document.text) for document in stage.documents("validation")]
    found = overlap(held_out, (document.text for document in stage.documents("train")))
    if found is None or found.share < CONTAMINATED:
        return
    severity = worse(found.share > CONTAMINATED_FAILURE)
    evidence = (
        f"{found.share:.0%} of {found.runs:,} runs of {WORDS} words of the validation split stand in the train split"
    )
    if found.documents:
        named = ", ".join(found.documents[:3]) + (", …" if len(found.documents) > 3 else "")
        evidence += f"; {len(found.documents)} of {len(held_out)} documents more than half ({named})"
    remedy = (
        "lower corpus.resemblance and corpus.containment, remove what is there twice, and run from the corpus stage on"
    )
    where = f"{stage.name}, corpus/validation.jsonl"
    what = "the validation split is contaminated: its figures are too good"
    yield Finding("contaminated", severity, what, evidence, remedy, where, {"share": found.share})


def overlap(held_out: Iterable[tuple[str, str]], train: Iterable[str]) -> Overlap | None:
    """Runs of 13 words of the (id, text) of ``held_out`` that stand in ``train``; None where there is no such run."""
    hashes = {name: _word_hashes(text) for name, text in held_out}
    runs = sum(map(len, hashes.values()))
    if not runs:
        return None
    wanted = np.unique(np.concatenate(list(hashes.values())))
    met = np.zeros(len(wanted), bool)
    characters = 0
    for text in train:
        found = _word_hashes(text)
        if len(found):
            place = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
            met[place[wanted[place] == found]] = True
        characters += len(text)
        if characters > SEARCHED:
            break
    hits = {name: met[np.searchsorted(wanted, own)] for name, own in hashes.items()}
    leaked = tuple(name for name, hit in hits.items() if len(hit) and hit.mean() > 0.5)
    return Overlap(sum(int(hit.sum()) for hit in hits.values()) / runs, runs, leaked)


def words(text: str) -> list[str]:
    """Words in small letters; scripts that write no spaces by character."""
    return [found.group() for found in _WORD.finditer(text.casefold())]


def _word_hashes(text: str) -> NDArray[np.uint64]:
    """Of each run of 13 words. Python's own hash of a string holds within one process, which is enough."""
    return run_hashes(np.array([hash(word) for word in words(text)], np.int64).view(np.uint64), WORDS)
