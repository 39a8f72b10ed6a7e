"""One text through one model, looked at from the inside.

Enters: a model, its tokenizer and a text. Leaves: an :class:`Inspection`, which is drawn (``figures``) and written as
JSON. The model is run as it is: it records what it computes anyway, and nothing is hooked into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, UsageError
from groundup.core.seeding import torch_rng
from groundup.inspection.measures import (
    Load,
    Standing,
    Stream,
    head_statistics,
    induction_scores,
    load,
    neighbours,
    settled,
    standing,
    stream,
)
from groundup.model.config import ModelConfig
from groundup.model.transformer import Record, Transformer
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.show import Token, named, tokens_of, visible

#: Most tokens of a text: a picture of more cannot be read, and attention weights grow with the square.
MOST_TOKENS = 128
#: The random tokens that are repeated to find induction heads, and how many such sequences are averaged.
REPEATED, SEQUENCES = 24, 4
#: What ``inspection.json`` says it is.
FORMAT = "groundup inspection 1"


@dataclass(frozen=True)
class Prediction:
    """What would be predicted if the stream went to the output head after the embedding or after any block.

    This is the logit lens (nostalgebraist 2020): the final norm and the head are applied to every state of the stream.
    """

    top_ids: Tensor
    """The most probable tokens, the best first [layers + 1, time, top]."""
    top_probabilities: Tensor
    """[layers + 1, time, top]."""
    final: Standing
    """Of the token that the model predicts in the end."""
    following: Standing
    """Of the token that follows in the text; one position fewer."""

    @property
    def settled(self) -> Tensor:
        """After how many blocks the prediction stays as it is in the end [time]."""
        return settled(self.final.rank)


@dataclass(frozen=True)
class Neighbours:
    """The tokens nearest to one token of the text in the embedding, the nearest first."""

    token: Token
    nearest: Sequence[tuple[Token, float]]
    """With the cosine."""


@dataclass(frozen=True)
class Inspection:
    """Everything that was seen. Layers and heads count from 1 wherever a person reads them."""

    name: str
    """Of the model."""
    config: ModelConfig
    parameters: int
    text: str
    tokens: Sequence[Token]
    attention: Tensor
    """Who looks at whom [layers, heads, time, time]."""
    heads: dict[str, Tensor]
    """What each head does [layers, heads]: see :func:`~groundup.inspection.measures.head_statistics`."""
    prediction: Prediction
    known: dict[int, Token]
    """Every token that a prediction names, by its id."""
    stream: Stream
    neighbours: Sequence[Neighbours]
    experts: dict[int, Load]
    """By layer, of those that have experts."""

    def to_json(self, layers: Sequence[int]) -> dict[str, Any]:
        """Plain values for programs, attention of ``layers`` (from 0) only; ``docs/inspect.md`` explains the keys."""
        config, prediction = self.config, self.prediction
        return {
            "format": FORMAT,
            "model": {
                "name": self.name,
                "layers": config.layers,
                "heads": config.heads,
                "width": config.width,
                "parameters": self.parameters,
            },
            "text": well_formed(self.text),
            "tokens": [_told(token) for token in self.tokens],
            "prediction": {
                "top": [
                    [
                        [
                            {**_told(self.known[token_id]), "probability": significant(probability)}
                            for token_id, probability in zip(*position, strict=True)
                        ]
                        for position in zip(*layer, strict=True)
                    ]
                    for layer in zip(prediction.top_ids.tolist(), prediction.top_probabilities.tolist(), strict=True)
                ],
                "final": _standing_told(prediction.final),
                "following": _standing_told(prediction.following),
                "settled": prediction.settled.tolist(),
            },
            "stream": {
                "norm": significant(self.stream.norm.tolist()),
                "added": significant(self.stream.added.tolist()),
                "cosine": significant(self.stream.cosine.tolist()),
            },
            "heads": {name: significant(values.tolist()) for name, values in self.heads.items()},
            "neighbours": [
                {
                    **_told(one.token),
                    "nearest": [{**_told(token), "cosine": significant(cosine)} for token, cosine in one.nearest],
                }
                for one in self.neighbours
            ],
            "experts": [
                {
                    "layer": layer + 1,
                    "tokens": significant(one.tokens.tolist()),
                    "weight": significant(one.weight.tolist()),
                    "chosen": (one.chosen + 1).tolist(),
                }
                for layer, one in self.experts.items()
            ],
            "attention": [
                {
                    "layer": layer + 1,
                    "weights": [
                        [[round(weight, 4) for weight in row[: place + 1]] for place, row in enumerate(head)]
                        for head in self.attention[layer].tolist()
                    ],
                }
                for layer in layers
            ],
        }


@torch.no_grad()
def inspect(
    model: Transformer, tokenizer: Tokenizer, text: str, *, begin: Sequence[int] = (), name: str = "", top: int = 5
) -> Inspection:
    """Run ``text`` through ``model`` and look at everything.

    Args:
        model: in evaluation mode.
        tokenizer: the model's own.
        text: of at most :data:`MOST_TOKENS` tokens.
        begin: ids that stand before every text, such as the document token of our own models.
        name: of the model, for titles.
        top: how many predictions and neighbours are kept of each token.

    Raises:
        UsageError: the text is empty, or longer than the model or a picture can take.
        ArtifactError: the model computes numbers that are not finite.
    """
    if not text:
        raise UsageError("the text is empty; give some words to look at")
    tokens = [*named(tokenizer, begin), *tokens_of(tokenizer, text)]
    config = model.config
    room = min(config.context, MOST_TOKENS)
    if len(tokens) > room:
        bound = "the model's context is" if room == config.context else "a picture has room for"
        raise UsageError(f"the text has {len(tokens):,} tokens, and {bound} {room}; give a shorter text")
    device = model.embedding.weight.device
    ids = torch.tensor([token.id for token in tokens], device=device)
    record = Record()
    logits = model(ids[None], record=record)
    residuals = torch.cat(record.residuals).float()
    if not (logits.isfinite().all() and residuals.isfinite().all()):
        raise ArtifactError(f"{name or 'the model'} computes numbers that are not finite; its weights are damaged")
    attention = torch.cat(record.attention).float()
    prediction = _predicted(model, torch.cat(record.residuals), ids, top)
    statistics = [head_statistics(layer) for layer in attention]
    heads = {key: torch.stack([layer[key] for layer in statistics]) for key in statistics[0]}
    if not config.attention.sinks:
        del heads["nothing"]
    if (induction := _induction(model, tokenizer, begin)) is not None:
        heads["induction"] = induction
    routed = [layer for layer in range(config.layers) if config.routed(layer)]
    return Inspection(
        name=name,
        config=config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        text=text,
        tokens=tokens,
        attention=attention.cpu(),
        heads={key: values.cpu() for key, values in heads.items()},
        prediction=prediction,
        known={
            token_id: _token(tokenizer, token_id)
            for token_id in {*prediction.top_ids.flatten().tolist(), *prediction.final.ids.tolist()}
        },
        stream=stream(residuals.cpu()),
        neighbours=_neighbours(model, tokenizer, tokens, top),
        experts={
            layer: load(routing.chosen.cpu(), routing.weights.cpu(), config.experts.count)
            for layer, routing in zip(routed, record.routing, strict=True)
        },
    )


def _predicted(model: Transformer, residuals: Tensor, ids: Tensor, top: int) -> Prediction:
    """The logit lens; one layer at a time, for a vocabulary is large."""
    final_ids = model.logits(residuals[-1]).argmax(-1)
    following_ids = ids[1:]
    rows = []
    for state in residuals:
        log_probabilities = model.logits(state).log_softmax(-1)
        best = log_probabilities.topk(min(top, log_probabilities.shape[-1]), dim=-1)
        final = standing(log_probabilities, final_ids)
        following = standing(log_probabilities[:-1], following_ids)
        rows.append((best.indices, best.values.exp(), *final, *following))
    top_ids, top_probabilities, *both = (torch.stack(column).cpu() for column in zip(*rows, strict=True))
    return Prediction(
        top_ids, top_probabilities, Standing(final_ids.cpu(), *both[:2]), Standing(following_ids.cpu(), *both[2:])
    )


def _induction(model: Transformer, tokenizer: Tokenizer, begin: Sequence[int]) -> Tensor | None:
    """Induction scores [layers, heads] on random tokens that come twice; None where the context is too short."""
    start = len(begin)
    length = min(REPEATED, (model.config.context - start) // 2)
    special = set(tokenizer.special_tokens.values())
    ordinary = torch.tensor([token_id for token_id in range(tokenizer.vocab_size) if token_id not in special])
    if length < 2 or len(ordinary) < 2:
        return None
    drawn = torch.randint(len(ordinary), (SEQUENCES, length), generator=torch_rng(0, "inspect", "induction"))
    half = ordinary[drawn]
    ids = torch.cat((torch.tensor(begin, dtype=torch.long).expand(SEQUENCES, -1), half, half), dim=1)
    record = Record(wants_residuals=False, wants_routing=False)
    model(ids.to(model.embedding.weight.device), record=record)
    return torch.stack([induction_scores(layer[..., start:, start:].float(), length) for layer in record.attention])


def _neighbours(model: Transformer, tokenizer: Tokenizer, tokens: Sequence[Token], count: int) -> list[Neighbours]:
    """Of each distinct token, in the order of the text."""
    distinct = list({token.id: token for token in tokens}.values())
    embedding = model.embedding.weight[: tokenizer.vocab_size]  # models pad their vocabulary with rows nobody trains
    ids = torch.tensor([token.id for token in distinct], device=embedding.device)
    cosines, nearest = neighbours(embedding, ids, count)
    return [
        Neighbours(token, [(_token(tokenizer, other), cosine) for other, cosine in zip(*row, strict=True)])
        for token, *row in zip(distinct, nearest.tolist(), cosines.tolist(), strict=True)
    ]


def _token(tokenizer: Tokenizer, token_id: int) -> Token:
    """The token of an id, which may be one of those that only pad a vocabulary."""
    if token_id >= tokenizer.vocab_size:
        return Token(token_id, b"", f"<|unused {token_id}|>")
    return named(tokenizer, [token_id])[0]


def spelled(token: Token, encoding: str = "utf-8") -> str:
    """A token as it can be read: see :func:`~groundup.tokenizer.show.visible`."""
    return token.name or visible(token.bytes, encoding) or "(empty)"


def significant(value: Any) -> Any:
    """Numbers, in lists of any depth, with four significant digits."""
    if isinstance(value, list):
        return [significant(item) for item in value]
    return float(f"{value:.4g}")


def _told(token: Token) -> dict[str, Any]:
    return {"id": token.id, "token": spelled(token)}


def _standing_told(one: Standing) -> dict[str, Any]:
    return {
        "id": one.ids.tolist(),
        "probability": significant(one.probability.tolist()),
        "rank": one.rank.tolist(),
    }
