"""The decoder: embed, repeat (attend, transform), normalise, project to the vocabulary.

Enters: ids [batch, time]. Leaves: logits [batch, time, vocabulary].
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.core.errors import ArtifactError, UsageError
from groundup.model.attention import Attention, LatentAttention, Others, Pass, Record
from groundup.model.cache import KVCache
from groundup.model.config import ModelConfig
from groundup.model.experts import Experts
from groundup.model.layers import FeedForward, LayerNorm, RMSNorm, dropout, norm, table
from groundup.model.positions import Angles, alibi_slopes, rotary_angles, sinusoidal

#: The layers that write to the residual stream.
WRITERS = (
    "attention.output.weight",
    "feed_forward.down.weight",
    "feed_forward.down",
    "feed_forward.shared.down.weight",
)


class Block(nn.Module):
    """x + attention(x), then x + feed_forward(x), normalised where the configuration says."""

    def __init__(self, config: ModelConfig, layer: int, vocab_size: int) -> None:
        super().__init__()
        before = config.norm_place in ("pre", "sandwich")
        after = config.norm_place in ("output", "sandwich", "post")
        self.post = config.norm_place == "post"
        self.dropout = config.dropout
        self.attention_norm = norm(config) if before else nn.Identity()
        self.attention = (
            LatentAttention(config, layer) if config.latent.key_rank else Attention(config, layer, vocab_size)
        )
        self.attention_output_norm = norm(config) if after else nn.Identity()
        self.feed_forward_norm = norm(config) if before else nn.Identity()
        self.feed_forward = Experts(config) if config.routed(layer) else FeedForward(config, config.hidden)
        self.feed_forward_output_norm = norm(config) if after else nn.Identity()

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        x = self._joined(x, self.attention(self.attention_norm(x), shared), self.attention_output_norm)
        inner = self.feed_forward_norm(x)
        if isinstance(self.feed_forward, Experts):
            added = self.feed_forward(inner, shared.record)
        else:
            added = self.feed_forward(inner)
        return self._joined(x, added, self.feed_forward_output_norm)

    def _joined(self, x: Tensor, added: Tensor, output_norm: nn.Module) -> Tensor:
        if self.post:
            return output_norm(x + dropout(added, self.dropout, self.training))
        return x + dropout(output_norm(added), self.dropout, self.training)


class Transformer(nn.Module):
    """A decoder-only language model."""

    others: Others | None = None
    """Who computes the other tokens, in passes over some of each row's."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config = config.resolved()
        self.vocab_size = vocab_size
        self.embedding = table(vocab_size, config.width)
        learned = config.positions.kind == "learned"
        self.position_embedding = table(config.context, config.width) if learned else None
        self.ngram_embedding = nn.ModuleList(
            table(config.ngram_rows, config.width) for _ in range(2, config.ngrams + 1)
        )
        self.blocks = nn.ModuleList(Block(config, layer, vocab_size) for layer in range(config.layers))
        self.stream_scales = nn.Parameter(torch.ones(config.layers, 2)) if config.residual_scalars else None
        self.norm = nn.Identity() if config.norm_place == "post" else norm(config)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    @classmethod
    def from_weights(cls, config: ModelConfig, vocab_size: int, weights: Mapping[str, Tensor]) -> "Transformer":
        """A model in evaluation mode whose parameters *are* the given tensors: nothing is copied.

        Raises:
            ArtifactError: a tensor is missing, left over, or of another shape; the message names it.
        """
        with torch.device("meta"):
            model = cls(config, vocab_size)
        weights = dict(weights)
        if model.config.tied:
            weights["head.weight"] = weights.get("embedding.weight", torch.empty(0))
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for name in sorted(expected.keys() | weights.keys()):
            found = tuple(weights[name].shape) if name in weights else None
            if found != expected.get(name):
                raise ArtifactError(
                    f"the weights do not fit the configuration: {name} is {found or 'missing'}, "
                    f"expected {expected.get(name) or 'none'}"
                )
        model.load_state_dict(weights, assign=True)
        if model.config.tied:
            model.head.weight = model.embedding.weight
        for module in model.modules():
            if isinstance(module, Experts):
                module.load = torch.zeros(module.load.shape, device=module.up.device)
        return model.eval()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> "Transformer":
        """Draw all weights as ``config.init`` says.

        - zero: normal with deviation 1/√fan-in, the embedding with 0.02; what writes to the residual stream starts at
          zero, so that every block starts as the identity, which trains steadily at any depth (Zhang et al. 2019) and
          is μP's initialisation (Yang et al. 2022).
        - depth-scaled: normal with deviation 0.02; the layers that write to the stream, of which there are two per
          block, divided by √(2 · layers) (Radford et al. 2019, GPT-2).
        - normal: 0.02 everywhere.
        """
        for name, parameter in self.named_parameters():
            self._draw(name, parameter, generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            if self.config.init == "zero" and self.config.norm_place in ("output", "sandwich"):
                # A norm after a layer that gives zero has a gradient of 1/√epsilon: let the norm give the zero instead.
                for after in (block.attention_output_norm, block.feed_forward_output_norm):
                    assert isinstance(after, RMSNorm | LayerNorm)
                    after.scale.fill_(-1.0 if self.config.norm_offset else 0.0)
        return self

    def _draw(self, name: str, parameter: Tensor, generator: torch.Generator) -> None:
        leaf = name.rpartition(".")[2]
        writes = name.endswith(WRITERS)
        if leaf in ("bias", "sinks"):
            parameter.zero_()
        elif name == "stream_scales":
            parameter.copy_(torch.tensor([1.0, 0.0]))
        elif parameter.ndim < 2:
            parameter.fill_(0.0 if leaf == "scale" and self.config.norm_offset else 1.0)
        elif "value_embedding." in name or name.startswith("ngram_embedding."):
            parameter.zero_()
        elif self.config.init != "zero":
            scaled = writes and self.config.init == "depth-scaled"
            parameter.normal_(0.0, 0.02 / math.sqrt(2 * self.config.layers) if scaled else 0.02, generator=generator)
        elif writes and self.config.norm_place in ("pre", "post"):
            parameter.zero_()
        else:
            parameter.normal_(0.0, self._deviation(name, parameter.shape[-1]), generator=generator)

    def _deviation(self, name: str, fan_in: int) -> float:
        """Of the weights of ``init`` zero."""
        if name in ("embedding.weight", "position_embedding.weight"):
            return 0.02
        wider = 1 / self.config.logits_scale
        if name == "head.weight":  # μP: as at the tuned width, since it is the logits that are scaled
            return (fan_in / wider) ** -0.5
        if name.endswith("router.weight"):  # μP: what gives a fixed number of scores starts smaller than what is wide
            return (fan_in * wider) ** -0.5
        return float(fan_in**-0.5)

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """For keys and values of ``rows`` sequences of up to ``capacity`` tokens, in the dtype of the weights."""
        return KVCache.empty(self.config, rows, capacity, self.embedding.weight)

    def rebalance(self) -> None:
        """After an optimizer step: routers with a balancing bias move it against their experts' load."""
        for block in self.blocks:
            if isinstance(block.feed_forward, Experts):
                block.feed_forward.rebalance()

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
        record: Record | None = None,
        head: bool = True,
        places: Tensor | None = None,
    ) -> Tensor:
        """Logits [batch, time, vocabulary] for the token after each position, in float32.

        Args:
            ids: token ids [batch, time].
            positions: place of each token in its own sequence [batch, time]; default 0, 1, 2 …
            segments: number of the packed sequence that each token belongs to [batch, time]; a token sees only
                its own segment. None: the row is one sequence.
            cache: keys and values of what came before; the new tokens are written to it. The caller then calls
                ``cache.advance`` with the number of real (not padding) tokens of each row.
            record: what to keep for looking at.
            head: without, what the output head reads is returned instead: the normalised stream
                [batch, time, width], of which :meth:`project` makes logits.
            places: of the tokens to compute [batch, fewer], the same in every row; ``others`` compute the rest of them
                at the same time. The result is of these, all other arguments are of whole rows. None: all.

        Raises:
            UsageError: a position lies beyond the model's context.
        """
        x = self.norm(self._stream(ids, positions, segments, cache, record, places))
        return self.project(x) if head else x

    def logits(self, residual: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32 of a residual stream [..., width], the last one or any before it.

        Of those before it they are the logit lens (nostalgebraist 2020): what the model would say by then.
        """
        return self.project(self.norm(residual))

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32 of the normalised stream [..., width], bounded as configured."""
        logits = self.head(hidden).float()
        if self.config.logits_scale != 1.0:
            logits = logits * self.config.logits_scale
        cap = self.config.logits_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def _stream(
        self,
        ids: Tensor,
        positions: Tensor | None,
        segments: Tensor | None,
        cache: KVCache | None,
        record: Record | None,
        places: Tensor | None,
    ) -> Tensor:
        shared, positions = self._shared(ids, positions, segments, cache, record, places)
        x = first = self._embedded(ids, positions, segments, cache, places)
        kept = record.residuals if record is not None and record.wants_residuals else None
        if kept is not None:
            kept.append(x)
        for layer, block in enumerate(self.blocks):
            if self.stream_scales is not None:
                x = self.stream_scales[layer, 0] * x + self.stream_scales[layer, 1] * first
            x = block(x, shared)
            if kept is not None:
                kept.append(x)
        return x

    def _embedded(
        self,
        ids: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        cache: KVCache | None,
        places: Tensor | None,
    ) -> Tensor:
        x = self.embedding(_at(places, ids))
        if self.ngram_embedding:
            ngrams = self._ngrams(ids, positions, segments, cache)
            for rows, embedding in zip(ngrams, self.ngram_embedding, strict=True):
                x = x + embedding(_at(places, rows))
        if self.config.embedding_scale != 1.0:
            x = x * self.config.embedding_scale
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        elif self.config.positions.kind == "sinusoidal":
            x = x + sinusoidal(positions, self.config.width).to(x.dtype)
        return dropout(x, self.config.dropout, self.training)

    def _ngrams(
        self, ids: Tensor, positions: Tensor, segments: Tensor | None, cache: KVCache | None
    ) -> Iterator[Tensor]:
        """For the pairs, triples … that each token ends: their rows [batch, time]; 0 where a sequence is too short."""
        seen = None if cache is None else cache.write_ids(ids, positions)
        code, rows = ids, self.config.ngram_rows - 1
        for before in range(1, self.config.ngrams):
            if seen is not None:
                earlier = seen.gather(1, (positions - before).clamp(min=0))
                whole = positions >= before
            else:
                earlier = F.pad(ids, (before, 0))[:, : ids.shape[1]]
                whole = torch.arange(ids.shape[1], device=ids.device)[None] >= before
                if segments is not None:
                    whole = whole & (F.pad(segments, (before, 0), value=-1)[:, : ids.shape[1]] == segments)
            code = (code + earlier * pow(self.vocab_size, before, rows)) % rows
            yield torch.where(whole, code + 1, 0)

    def _shared(
        self,
        ids: Tensor,
        positions: Tensor | None,
        segments: Tensor | None,
        cache: KVCache | None,
        record: Record | None,
        computed: Tensor | None = None,
    ) -> tuple[Pass, Tensor]:
        """What all layers need to know, and the positions [batch or 1, time] of the tokens that are ``computed``."""
        assert cache is None or segments is None, "packed sequences are not cached"
        config, time = self.config, ids.shape[1]
        places = torch.arange(time, device=ids.device)[None]  # of the queries among the keys
        end = time
        if cache is not None:
            end = cache.longest + time
            places = positions = cache.positions(time)
        if end > config.context:
            raise UsageError(f"{end} tokens exceed the model's context of {config.context}")
        fresh, others = cache is None or cache.longest == 0, None
        if computed is not None:
            assert cache is None and self.others is not None, "nobody computes the other tokens"
            places, others, fresh = computed[:1], self.others, self._meets_all(record)
            ids, positions = ids.gather(1, computed), None if positions is None else positions.gather(1, computed)
        if positions is None:
            positions = places
        mask = local_mask = self._mask(places, end, segments, 0, fresh)
        if config.attention.window:
            local_mask = self._mask(places, end, segments, config.attention.window, fresh)
        angles: Angles | None = None
        if config.positions.kind == "rotary":
            angles = rotary_angles(positions, config.rotary_size, config.positions)
        local_angles = angles
        if config.positions.local_base:
            local_angles = rotary_angles(positions, config.rotary_size, config.positions, local=True)
        shared = Pass(ids, (angles, local_angles), (mask, local_mask), segments, cache, places, end, record, others)
        return shared, positions

    def _meets_all(self, record: Record | None) -> bool:
        """Whether the queries of some tokens can meet the keys of all without having them, where nothing but order
        rules: everything else wants all keys at once."""
        config, attention = self.config, self.config.attention
        noise = attention.dropout if self.training else 0.0
        special = attention.softcap or attention.sinks or noise or config.key_smear or config.latent.key_rank
        looks = record is not None and record.wants_attention
        return not special and not looks

    def _mask(self, places: Tensor, end: int, segments: Tensor | None, window: int, fresh: bool) -> Tensor | None:
        """What the queries at ``places`` [batch or 1, time] may see of ``end`` keys; None is causal."""
        alibi = self.config.positions.kind == "alibi"
        windowed = 0 < window < end
        if fresh and segments is None and not windowed and not alibi:
            return None
        keys = torch.arange(end, device=places.device)
        distance = places[:, None, :, None] - keys  # [batch or 1, 1, time, end]
        seen = distance >= 0
        if windowed:
            seen = seen & (distance < window)
        if segments is not None:
            own = segments if places.shape[1] == end else segments[:, places[0]]
            seen = seen & (own[:, None, :, None] == segments[:, None, None, :])
        if not alibi:
            return seen
        slopes = alibi_slopes(self.config.heads, places.device)[:, None, None]
        return torch.where(seen, -slopes * distance, -torch.inf).to(self.embedding.weight.dtype)


def _at(places: Tensor | None, of_rows: Tensor) -> Tensor:
    """What stands at these places [batch, fewer] of rows [batch, time]; all of it without them."""
    return of_rows if places is None else of_rows.gather(1, places)
