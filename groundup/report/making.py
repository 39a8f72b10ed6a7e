"""What the model is made from: corpus, tokenizer, network, and what its attention does.

Enters: a ``Draft``. Leaves: JSON objects for ``making.typ``; a section whose main file is absent is
``{"missing": "<file>"}``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from groundup.report import charts, shape
from groundup.report.facts import Facts
from groundup.report.readings import Draft, Section, visible
from groundup.report.wording import (
    ABSENT,
    clean,
    count,
    decimal,
    listed,
    one_line,
    percent,
    short,
    size,
)

ATTENTION = "evaluate/attention.json"
COMPARISON = "tokenizer/comparison.json"
#: The parts of the text.
SPLITS = ("train", "validation")


def corpus(draft: Draft) -> Section:
    """Sources with licence and hash, and the funnel that cleans them."""
    facts, file = draft.facts, "corpus/funnel.json"
    if not facts.has(file):
        return {"missing": file}
    steps, kept, removed, notes, reasons = [], [], [], [], []
    for index in range(facts.length(file, "steps")):
        key = f"steps.{index}"
        name = one_line(facts.text(file, f"{key}.step", "Cleaning step") or f"step {index + 1}", 28)
        before = facts.number(file, f"{key}.bytes_in", "Bytes before the step") or 0.0
        after = facts.number(file, f"{key}.bytes_out", "Bytes after the step") or 0.0
        documents = facts.number(file, f"{key}.documents_out", "Documents after the step")
        steps.append(name)
        kept.append(after)
        removed.append(max(0.0, before - after))
        notes.append(f"{count(documents)} documents")
        for item in range(facts.length(file, f"{key}.removed")):
            reason = f"{key}.removed.{item}"
            reasons.append(
                [
                    name,
                    one_line(facts.text(file, f"{reason}.reason", "Reason of removal") or ABSENT, 80),
                    count(facts.number(file, f"{reason}.documents", "Documents removed")),
                    size(facts.number(file, f"{reason}.bytes", "Bytes removed")),
                ]
            )
    sides = [name for name in (*SPLITS, "test") if name in SPLITS or facts.names(file, name)]
    split = [
        [name, count(facts.number(file, f"{name}.documents", f"{name.title()} documents")),
         size(facts.number(file, f"{name}.bytes", f"{name.title()} text"))]
        for name in sides
    ]  # fmt: skip
    first = facts.number(file, "steps.0.bytes_in", "Bytes before the step")
    share = None
    if first and kept:
        share = facts.computed("Share of bytes kept", kept[-1] / first, file, "last bytes_out / first bytes_in")
    chart = draft.chart("funnel", charts.funnel(steps, kept, removed, notes)) if steps else None
    return {
        "sources": _sources(facts),
        "read": size(first),
        "share": percent(share, 0),
        "split": split,
        "reasons": reasons,
        "chart": chart,
    }


def _sources(facts: Facts) -> list[list[str]]:
    file = "corpus/sources.json"
    rows = []
    for index in range(facts.length(file)):

        def read(name: str, index: int = index) -> str:
            return one_line(facts.text(file, f"{index}.{name}", f"Source: {name}") or ABSENT, 90)

        package = " ".join(part for part in (read("package"), read("version")) if part != ABSENT)
        rows.append(
            [
                read("name"),
                package or ABSENT,
                read("licence"),
                count(facts.number(file, f"{index}.files", "Source: files")),
                size(facts.number(file, f"{index}.bytes", "Source: bytes")),
                one_line(facts.text(file, f"{index}.sha256", "Source: SHA-256") or ABSENT, 90),
            ]
        )
    return rows


def tokenizer(draft: Draft) -> Section:
    """Numbers of the vocabulary, the first merges, the longest tokens, and a sentence in pieces."""
    facts, file = draft.facts, "tokenizer/facts.json"
    if not facts.has(file):
        return {"missing": file}

    def over_splits(name: str, words: str, show: Callable[[float | None], str]) -> list[str]:
        """A row of the table: a quantity on the training and on the validation text."""
        values = (facts.number(file, f"{split}.{name}", f"Tokenizer: {words.lower()}") for split in SPLITS)
        return [words, *map(show, values)]

    def drawn(key: str, label: str, most: int) -> list[str]:
        return [visible(piece) for piece in facts.texts(file, key, label)[:most]]

    rows = [
        over_splits("bytes", "Text", size),
        over_splits("words", "Words", count),
        over_splits("tokens", "Tokens", count),
        over_splits("bytes_per_token", "Bytes per token", decimal),
        over_splits("tokens_per_word", "Tokens per word", decimal),
        over_splits("single_byte_share", "Tokens of a single byte", percent),
    ]
    return {
        "rows": [row for row in rows if any(cell != ABSENT for cell in row[1:])],
        "vocabulary": count(facts.number(file, "vocab_size", "Tokenizer: vocabulary size")),
        "learned": count(facts.number(file, "merges", "Tokenizer: merges")),
        "validation": decimal(facts.number(file, "validation.bytes_per_token", "Tokenizer: bytes per token")),
        "pieces": drawn("example.pieces", "Example pieces", 48),
        "merges": drawn("first_merges", "First merges", 20),
        "longest": drawn("longest_tokens", "Longest tokens", 16),
        "cost": _cost(draft),
    }


def _cost(draft: Draft) -> Section:
    """What texts of many kinds cost with the run's vocabulary, its first, and with those of other models."""
    facts, unit = draft.facts, "Tokens for 100 bytes"
    names = [
        one_line(facts.text(COMPARISON, f"tokenizers.{index}.name", "Vocabulary") or ABSENT, 16)
        if index
        else "this run"
        for index in range(facts.length(COMPARISON, "tokenizers"))
    ]
    kinds = facts.names(COMPARISON, "tokenizers.0.kinds")
    if not kinds:
        return {"missing": COMPARISON}
    width = facts.number("pretrain/model.json", "config.width", "Model: width of the residual stream")
    rows = []
    for index, name in enumerate(names):
        key = f"tokenizers.{index}"
        ids = facts.number(COMPARISON, f"{key}.vocab_size", "Vocabulary: ids")
        weights = ids and width and facts.computed(
            "Weights of the embedding", ids * width, COMPARISON, f"{key}.vocab_size × width of the model"
        )  # fmt: skip
        by_kind = [facts.number(COMPARISON, f"{key}.kinds.{kind}.tokens_per_100_bytes", unit) for kind in kinds]
        rows.append([name, count(ids), short(weights), *map(count, by_kind)])
    prices: dict[str, dict[str, list[float]]] = {}
    for index in range(facts.length(COMPARISON, "texts")):
        kind = facts.text(COMPARISON, f"texts.{index}.kind", "Kind of sample") or ABSENT
        sample = one_line(facts.text(COMPARISON, f"texts.{index}.name", "Sample") or ABSENT, 24)
        price = facts.number(COMPARISON, f"texts.{index}.tokens_per_100_bytes", unit)
        prices.setdefault(kind, {}).setdefault(sample, []).append(price or 0.0)
    if not prices or not all(
        len(costs) == len(names) and all(costs) for texts in prices.values() for costs in texts.values()
    ):
        return {"missing": COMPARISON}
    parallel = facts.texts(COMPARISON, "parallel", "Kinds that are translations")
    halves: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for kind, texts in prices.items():
        halves[kind not in parallel][kind.capitalize()] = texts
    translations = {sample: costs for texts in halves[0].values() for sample, costs in texts.items()}
    drawing = charts.costs([half for half in halves if half], "this run", "the others")
    return {
        "kinds": [one_line(clean(kind.capitalize()), 24) for kind in kinds],
        "rows": rows,
        "finding": _dearest(facts, translations, names) if len(translations) > 1 else "",
        "chart": draft.chart("vocabulary", drawing),
    }


def _dearest(facts: Facts, prices: dict[str, list[float]], names: list[str]) -> str:
    """How many times its original the dearest translation costs, with ours and with the fairest of the others.

    ``prices``: translation → tokens by vocabulary, the original first.
    """
    (original, first), *translations = prices.items()
    dearest = []
    for index, name in enumerate(names):
        ratio, sample = max((costs[index] / first[index], sample) for sample, costs in translations)
        formula = f"tokens for {sample} / tokens for {original}, the largest with {name}"
        dearest.append((facts.computed("A translation over its original", ratio, COMPARISON, formula), sample, name))
    ours, *others = dearest
    sentence = f"With the vocabulary of this run a page of {ours[1]} costs {decimal(ours[0], 1)} pages of {original}"
    if not others:
        return f"{sentence}."
    least, _, fairest = min(others)
    return f"{sentence}; with {fairest} no language costs more than {decimal(least, 1)}."


def model(draft: Draft) -> Section:
    """The shape of the network, and what its attention does on a real sentence."""
    facts, file = draft.facts, shape.FILE
    if not facts.has(file):
        return {"missing": file}
    network = shape.Shape(facts)
    parameters = facts.number(file, "parameters", "Parameters")
    active = facts.number(file, "active_parameters", "Parameters that a token passes")
    heads, kv_heads = (facts.number(file, f"config.{key}", f"Model: {key}") for key in ("heads", "kv_heads"))
    rows = [*network.rows(), ["Vocabulary", count(facts.number(file, "vocab_size", "Model: vocabulary"))]]
    rows.append(["Parameters", count(parameters)])
    if active != parameters:
        rows.append(["Parameters that a token passes", count(active)])
    return {
        "rows": rows,
        "layers": count(network.number("layers", "Layers")),
        "width": count(network.number("width", "Width of the residual stream")),
        "context": count(network.number("context", "Context")),
        "parameters": short(parameters),
        "block": network.block(),
        **network.ends(),
        "grouped": heads is not None and kv_heads is not None and kv_heads < heads,
        "windowed": network.is_on("attention.window"),
        "experts": network.is_on("experts.count"),
        "latent": network.is_on("latent.key_rank"),
        "attention": _attention(draft),
    }


def _attention(draft: Draft) -> Section:
    """Three heads chosen by what they look at, and all of them small."""
    facts = draft.facts
    tokens = facts.texts(ATTENTION, "tokens", "Tokens of the sentence")
    raw = facts.array(ATTENTION, "layers", "Attention weights")
    try:
        layers = [[np.asarray(head, dtype=float) for head in heads] for heads in raw]
    except (TypeError, ValueError):
        layers = []
    square = (len(tokens), len(tokens))
    if len(tokens) < 2 or not layers or any(head.shape != square for heads in layers for head in heads):
        return {"missing": ATTENTION}
    behaviours: dict[str, Callable[[np.ndarray], float]] = {
        "the previous token": lambda head: float(np.diagonal(head, offset=-1).mean()),
        "the first token": lambda head: float(head[1:, 0].mean()),
    }
    chosen: list[tuple[int, int]] = []
    titles, lines = [], []
    for what, weight in behaviours.items():
        layer, head = _strongest(layers, weight, chosen)
        share = facts.computed(
            f"Attention: weight on {what}", weight(layers[layer][head]), ATTENTION,
            f"mean weight on {what}, layer {layer + 1}, head {head + 1} (the largest of all heads)",
        )  # fmt: skip
        chosen.append((layer, head))
        titles.append(f"Layer {layer + 1}, head {head + 1}")
        lines.append(f"layer {layer + 1}, head {head + 1} gives {percent(share, 0)} of its weight to {what}")
    layer, head = _strongest(layers, _spread, chosen)
    spread = facts.computed(
        "Attention: tokens attended to", float(np.exp(_spread(layers[layer][head]))), ATTENTION,
        f"exp of the mean entropy, layer {layer + 1}, head {head + 1} (the largest of the other heads)",
    )  # fmt: skip
    chosen.append((layer, head))
    titles.append(f"Layer {layer + 1}, head {head + 1}")
    lines.append(f"layer {layer + 1}, head {head + 1} spreads it over {decimal(spread, 1)} tokens")
    pictures = [(title, layers[at][head]) for title, (at, head) in zip(titles, chosen, strict=True)]
    labels = [one_line(token, 12) or visible(token) for token in tokens]
    return {
        "text": one_line(facts.text(ATTENTION, "text", "The sentence") or "".join(tokens), 200),
        "heads": draft.chart("attention-heads", charts.attention_heads(pictures, labels)),
        "all": draft.chart("attention-all", charts.attention_overview(layers)),
        "lines": listed(lines),
    }


def _strongest(
    layers: list[list[np.ndarray]], measure: Callable[[np.ndarray], float], taken: list[tuple[int, int]]
) -> tuple[int, int]:
    """The head (layer, head) with the largest measure, other than those taken unless there is no other."""
    places = [(layer, head) for layer, heads in enumerate(layers) for head in range(len(heads))]
    return max(
        [place for place in places if place not in taken] or places, key=lambda at: measure(layers[at[0]][at[1]])
    )


def _spread(head: np.ndarray) -> float:
    """Mean entropy of the rows, in nats."""
    return float(-(head * np.log(np.maximum(head, 1e-12))).sum(axis=1).mean())
