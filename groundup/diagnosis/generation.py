"""Do the sampled texts read like text?

Enters: the last samples of a stage, the words of its corpus. Leaves: findings.
"""

from collections.abc import Collection, Iterator, Sequence

from groundup.diagnosis.data import words
from groundup.diagnosis.finding import Finding
from groundup.diagnosis.records import Stage

#: Words of a repeated phrase, and the share of a sample's phrases that repeat an earlier one from which it loops.
PHRASE, LOOPING = 3, 0.5
#: Characters of a repeated run, for text without words.
CHARACTERS = 10
#: Share of the samples, relative to that of the corpus, that words of the corpus make up: below it they are gibberish;
#: and the bits per byte from which on a model writes mostly real words.
KNOWN, BITS = 0.25, 1.5
#: Characters of all samples together from which on their words are judged.
LEAST_CHARACTERS = 50
#: Share of answers that end by themselves below which the end was not learnt.
STOPPED = 0.5


def check_samples(stage: Stage) -> Iterator[Finding]:
    """Samples that repeat themselves, or are no words."""
    texts = [text for text in stage.samples if len(text.strip()) >= 2 * CHARACTERS]
    if not texts:
        return
    where = f"{stage.name}/samples.jsonl"
    shares = [repeated(text) for text in texts]
    looping = sum(share > LOOPING for share in shares)
    if 2 * looping > len(texts):
        evidence = f"{looping} of {len(texts)} samples mostly say again what they have said: {_quoted(texts[0])}"
        remedy = "sample with a temperature (0.8) instead of the likeliest token; if it stays, train for longer"
        numbers = {"repeated": max(shares)}
        yield Finding("samples-repeat", "warning", "the samples repeat themselves", evidence, remedy, where, numbers)
        return
    yield from _gibberish(stage, texts, where)


def _gibberish(stage: Stage, texts: Sequence[str], where: str) -> Iterator[Finding]:
    """Words that never stand in the corpus, although the validation says that the model knows them."""
    _, bits = stage.series("validation_bits_per_byte")
    if not len(bits) or bits[-1] > BITS:
        return  # so early every model writes gibberish
    vocabulary: set[str] = set()
    usual = 0.0
    for document in stage.documents("train"):
        vocabulary.update(words(document.text))
        usual = usual or spelt(document.text, vocabulary)  # the rest are signs
    if not usual or sum(map(len, texts)) < LEAST_CHARACTERS:
        return
    share = spelt("".join(texts), vocabulary) / usual
    if share >= KNOWN:
        return
    evidence = (
        f"words of the corpus make up {share:.0%} of the samples, although validation is {bits[-1]:.2f} bits per byte: "
        f"{_quoted(texts[0])}"
    )
    remedy = (
        "what is sampled is not what was validated: compare tokenizer, mask and cache of generation with training's"
    )
    yield Finding(
        "samples-gibberish", "failure", "the samples are gibberish", evidence, remedy, where, {"known": share}
    )


def spelt(text: str, vocabulary: Collection[str]) -> float:
    """Share of the visible characters of a text that are words of the vocabulary."""
    visible = sum(not character.isspace() for character in text)
    return sum(len(word) for word in words(text) if word in vocabulary) / max(1, visible)


def repeated(text: str) -> float:
    """Share of the phrases of a text that stand earlier in it."""
    spoken = words(text)
    parts: list[object]
    if len(spoken) >= 4 * PHRASE:
        parts = [tuple(spoken[place : place + PHRASE]) for place in range(len(spoken) - PHRASE + 1)]
    else:
        parts = [text[place : place + CHARACTERS] for place in range(len(text) - CHARACTERS + 1)]
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def _quoted(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return f'"{line[:length]}…"' if len(line) > length else f'"{line}"'


def check_stops(stage: Stage) -> Iterator[Finding]:
    """Answers that never end by themselves, where the stage samples answers."""
    steps, stopped = stage.series("stopped")
    if len(stopped) < 5:
        return
    last = float(stopped[-5:].mean())
    if last < STOPPED:
        evidence = f"{last:.0%} of the answers of the last steps ended by themselves, {stopped[:5].mean():.0%} at first"
        remedy = f"fine-tune for longer before (--sft.steps), or raise --{stage.name}.max-tokens"
        where = stage.steps(steps[-5], steps[-1])
        yield Finding("end-never-learnt", "warning", "answers do not end", evidence, remedy, where, {"stopped": last})
