"""Continuous batching: every step is one forward pass for all running requests (Yu et al. 2022, Orca).

Enters: prompts (token ids) with their sampling options. Leaves: tokens as they are drawn, or whole completions.

A request waits, runs, and finishes. Running requests share one key/value cache, one row each. Newcomers are
prefilled together, identical prompts once, and join the batch. Changing the batch copies the cache, which costs about
as much as a forward pass; so finished rows are dropped, and a nearly full batch is refilled, an eighth at a time.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, UsageError
from groundup.core.progress import Progress
from groundup.core.seeding import derive_seed, numpy_rng
from groundup.distributed.sharding import without_gradients
from groundup.inference.sampling import Sampling, pick
from groundup.model.cache import KVCache
from groundup.model.transformer import Transformer

FinishReason = Literal["stop", "length", "cancelled"]

#: The cache grows by this many positions at a time, so that it is rarely copied and never far larger than its content.
CACHE_STEP = 64
#: Padded tokens in one prefill pass: bounds the memory of long prompts, and of padding short ones.
PREFILL_TOKENS = 4096


@dataclass(eq=False)
class Request:
    """One completion on its way."""

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    """Most tokens to draw: the sampling's limit, or what the context leaves."""
    uniforms: np.ndarray
    """One number in [0, 1) per token to draw: all the randomness of this request."""
    picked: list[int] = field(default_factory=list)
    """Tokens drawn so far, a stop token included."""
    log_probabilities: list[float] = field(default_factory=list)
    """Natural logarithm of each picked token's probability under the model, before any sampling option."""
    finish_reason: FinishReason | None = None
    """None while the request waits or runs."""


@dataclass(frozen=True)
class Event:
    """What one step did for one request."""

    request: Request
    token: int | None
    """The drawn token; None when it was a stop token."""
    finish_reason: FinishReason | None
    """Set on the request's last event."""


@dataclass(frozen=True)
class Completion:
    """A finished request."""

    ids: tuple[int, ...]
    """The generated tokens, without the stop token."""
    finish_reason: FinishReason
    picked: tuple[int, ...]
    """All drawn tokens: ``ids``, and the stop token if there was one."""
    log_probabilities: tuple[float, ...]
    """Of each picked token, natural, under the model's own distribution: temperature 1, no filter."""


class Engine:
    """Runs a model for many requests at once. Not thread-safe: one thread owns it."""

    def __init__(
        self, model: Transformer, stop_ids: frozenset[int], max_rows: int = 64, capacity: int | None = None
    ) -> None:
        """
        Args:
            model: shared, not copied; its weights may change between steps through :meth:`update_weights`.
            stop_ids: tokens that end a completion.
            max_rows: most requests that run at the same time; the others wait in order.
            capacity: most tokens of prompt and completion together; the model's context when None.
        """
        if max_rows < 1:
            raise UsageError(f"max-rows is {max_rows}; the engine needs at least 1")
        if capacity is not None and capacity < 2:
            raise UsageError(f"capacity is {capacity}; a prompt and its completion need at least 2 tokens")
        self.model = model
        self.stop_ids = stop_ids
        self.max_rows = max_rows
        self.context = min(capacity or model.config.context, model.config.context)
        self.waiting: deque[Request] = deque()
        self._batch = _Batch()

    @property
    def running(self) -> list[Request]:
        """Requests that draw a token in every step."""
        return [request for request in self._batch.requests if request.finish_reason is None]

    @property
    def idle(self) -> bool:
        """Nothing waits or runs."""
        return not self.waiting and not self.running

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> Request:
        """Queue a prompt; the following :meth:`step` calls answer it.

        Raises:
            UsageError: the prompt is empty, leaves no room in the context, or holds an id beyond the vocabulary.
        """
        room = self.context - len(prompt)
        if not prompt:
            raise UsageError("the prompt is empty; give at least one token")
        if room < 1:
            raise UsageError(f"the prompt has {len(prompt)} tokens, the context {self.context}; shorten it below that")
        if min(prompt) < 0 or max(prompt) >= self.model.vocab_size:
            worst = max(prompt) if min(prompt) >= 0 else min(prompt)
            raise UsageError(
                f"token {worst} is outside the vocabulary of {self.model.vocab_size}; use its own tokenizer"
            )
        max_tokens = min(sampling.max_tokens, room)
        uniforms = numpy_rng(sampling.seed, "sampling").random(max_tokens)
        request = Request(tuple(prompt), sampling, max_tokens, uniforms)
        self.waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """Stop a request and free its row, unless it has finished; ``request.picked`` keeps what was drawn."""
        if request.finish_reason is not None:
            return
        request.finish_reason = "cancelled"
        if request in self.waiting:
            self.waiting.remove(request)
        elif self.running:
            with without_gradients(self.model):
                self._batch.free(self._batch.requests.index(request))
        else:
            self._batch = _Batch()

    def step(self) -> list[Event]:
        """Draw one token for every running request, newcomers included; an empty list when there is nothing to do.

        Raises:
            TrainingError: the model's logits are not finite numbers. The requests stay as they were.
        """
        with without_gradients(self.model):
            newcomers = self._admit()
            try:
                with evaluating(self.model):
                    return self._draw(self._forward(newcomers)) if newcomers or self._batch.requests else []
            except BaseException:
                self._requeue(newcomers)  # an interrupted pass leaves rows half-written
                raise

    def _admit(self) -> list[Request]:
        """Drop finished rows and take requests from the queue, where enough rows change to be worth the copy."""
        alive = self.running
        worthwhile = max(1, self.max_rows // 8)
        finished = len(self._batch.requests) - len(alive)
        free = self.max_rows - len(alive)
        admitting = bool(self.waiting) and (free >= worthwhile or not alive)
        if not alive:
            self._batch = _Batch()
        elif finished and (admitting or finished >= max(1, len(alive) // 8)):
            self._batch = self._batch.alive()
        return [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))] if admitting else []

    def _forward(self, newcomers: list[Request]) -> Tensor:
        """One token for every row, and the newcomers' prompts; logits [rows, vocabulary] of what follows."""
        logits = self._batch.decode(self.model) if self._batch.requests else None
        if newcomers:
            arrived, first = prefill(self.model, newcomers)
            self._batch = self._batch.joined(newcomers, arrived)
            logits = first if logits is None else torch.cat([logits, first])
        assert logits is not None
        return logits

    def _requeue(self, newcomers: Sequence[Request] = ()) -> None:
        """Put all running requests back to the front of the queue, to read their tokens again."""
        self.waiting.extendleft(reversed(list(dict.fromkeys([*self.running, *newcomers]))))
        self._batch = _Batch()

    def _draw(self, logits: Tensor) -> list[Event]:
        """Pick a token per row of logits [rows, vocabulary] and record it."""
        batch = self._batch
        uniforms = [r.uniforms[min(len(r.picked), r.max_tokens - 1)] for r in batch.requests]
        tokens = pick(logits, torch.tensor(uniforms, dtype=torch.double, device=logits.device), *batch.options(logits))
        log_probabilities = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
        batch.last = tokens
        events = []
        rows = zip(batch.requests, tokens.tolist(), log_probabilities.tolist(), strict=True)
        for row, (request, token, log_probability) in enumerate(rows):
            if request.finish_reason is not None:
                continue
            request.picked.append(token)
            request.log_probabilities.append(log_probability)
            if token in self.stop_ids:
                request.finish_reason = "stop"
            elif len(request.picked) == request.max_tokens:
                request.finish_reason = "length"
            if request.finish_reason is not None:
                batch.free(row)
            events.append(Event(request, None if request.finish_reason == "stop" else token, request.finish_reason))
        return events

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        progress: str | None = None,
    ) -> list[Completion]:
        """Complete every prompt; the answers come in the prompts' order.

        Args:
            prompts: token ids of each prompt.
            sampling: one per prompt, or one for all: prompt i then draws from (seed, i), so that equal prompts
                get different answers.
            progress: description to show on stderr while it works; None is silent.
        """
        if isinstance(sampling, Sampling):
            each = [replace(sampling, seed=derive_seed(sampling.seed, index)) for index in range(len(prompts))]
        else:
            each = list(sampling)
        requests: list[Request] = []
        try:
            requests.extend(self.submit(prompt, own) for prompt, own in zip(prompts, each, strict=True))
            # Switching the modes of all modules costs a fifth of a small model's step: once here, not in every step.
            with evaluating(self.model), Progress(progress or "", total=len(requests), unit="answer") as shown:
                for events in self._steps_until_finished(requests):
                    if progress is not None:
                        shown.advance(sum(event.finish_reason is not None for event in events))
        finally:
            for request in requests:
                self.cancel(request)
        return [completion(request) for request in requests]

    def _steps_until_finished(self, requests: list[Request]) -> Iterator[list[Event]]:
        open_requests = set(requests)
        while open_requests:
            events = self.step()
            open_requests.difference_update(event.request for event in events if event.finish_reason is not None)
            yield events

    @torch.no_grad()
    def update_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copy new weights into the model, between two steps.

        Running requests go on with the new weights: their keys and values are computed again from their tokens.

        Raises:
            ArtifactError: a weight is missing, unknown or of another shape; then nothing is changed.
        """
        parameters = dict(self.model.named_parameters())  # names a shared (tied) matrix once
        known = self.model.state_dict()
        missing = sorted(parameters.keys() - state.keys())
        unknown = sorted(state.keys() - known.keys())
        reshaped = sorted(
            name for name in parameters.keys() & state.keys() if parameters[name].shape != state[name].shape
        )
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped)):
            if names:
                raise ArtifactError(f"{len(names)} weights are {what}, first {names[0]}; they belong to another model")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
        self._requeue()


@contextlib.contextmanager
def evaluating(model: Transformer) -> Iterator[None]:
    """Put the model in evaluation mode, and back in training mode if it was."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def completion(request: Request) -> Completion:
    """What became of a finished request."""
    assert request.finish_reason is not None
    picked = tuple(request.picked)
    ids = picked[:-1] if request.finish_reason == "stop" else picked
    return Completion(ids, request.finish_reason, picked, tuple(request.log_probabilities))


class _Batch:
    """The running requests: row i of every tensor belongs to request i. Finished ones linger until dropped."""

    def __init__(
        self, requests: list[Request] | None = None, cache: KVCache | None = None, last: Tensor | None = None
    ) -> None:
        self.requests = requests or []
        self.cache = cache
        self.last = last  # the token that each row drew last [rows]: it enters the model in the next step
        self._options: tuple[Tensor, Tensor, Tensor] | None = None

    def options(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Temperature, top-k and top-p of the rows, each [rows]; made once per change of the batch."""
        if self._options is None:
            chosen = [request.sampling for request in self.requests]
            self._options = (
                torch.tensor([s.temperature for s in chosen], dtype=torch.float, device=like.device),
                torch.tensor([s.top_k for s in chosen], device=like.device),
                torch.tensor([s.top_p for s in chosen], dtype=torch.float, device=like.device),
            )
        return self._options

    def free(self, row: int) -> None:
        """Nothing of this row is attended to from now on."""
        assert self.cache is not None
        self.cache.free(row)

    def alive(self) -> "_Batch":
        """Only the rows that have not finished."""
        assert self.cache is not None and self.last is not None
        rows = [row for row, request in enumerate(self.requests) if request.finish_reason is None]
        return _Batch([self.requests[row] for row in rows], self.cache.select(rows), self.last[rows])

    def joined(self, newcomers: list[Request], cache: KVCache) -> "_Batch":
        """These rows followed by the newcomers'."""
        return _Batch(self.requests + newcomers, cache if self.cache is None else self.cache.join(cache))

    def decode(self, model: Transformer) -> Tensor:
        """Feed every row its last token; logits [rows, vocabulary] of the next."""
        assert self.cache is not None and self.last is not None
        longest = max(len(r.prompt) + len(r.picked) for r in self.requests if r.finish_reason is None)
        if longest > self.cache.capacity:
            room = model.empty_cache(0, room_for(longest, model))
            self.cache = self.cache.join(room)
        logits = model(self.last[:, None], cache=self.cache)[:, -1]
        self.cache.advance(1)
        return logits


def room_for(tokens: int, model: Transformer) -> int:
    """Capacity for rows of ``tokens`` tokens that are about to grow."""
    return min(-(-(tokens + 1) // CACHE_STEP) * CACHE_STEP, model.config.context)


def prefill(model: Transformer, requests: Sequence[Request]) -> tuple[KVCache, Tensor]:
    """Read the requests' tokens, equal ones once; a row each in the cache and in the logits [rows, vocabulary].

    The logits are those after the last token. Prompts of similar length share a pass, padded on the right.
    """
    sequences = [(*request.prompt, *request.picked) for request in requests]
    distinct = sorted(set(sequences), key=len)
    parts = [_prefill_padded(model, group) for group in _groups(distinct)]
    cache, logits = parts[0]
    for more, more_logits in parts[1:]:
        cache, logits = cache.join(more), torch.cat([logits, more_logits])
    row_of = {sequence: row for row, sequence in enumerate(distinct)}
    rows = [row_of[sequence] for sequence in sequences]
    return (cache, logits) if rows == list(range(len(distinct))) else (cache.select(rows), logits[rows])


def _groups(sequences: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Split sequences of rising length into groups of at most ``PREFILL_TOKENS`` padded tokens."""
    group: list[tuple[int, ...]] = []
    for sequence in sequences:
        if group and (len(group) + 1) * len(sequence) > PREFILL_TOKENS:
            yield group
            group = []
        group.append(sequence)
    yield group


def _prefill_padded(model: Transformer, sequences: list[tuple[int, ...]]) -> tuple[KVCache, Tensor]:
    """One pass over sequences of rising length: their cache, and the logits after each one's last token."""
    weight = model.embedding.weight
    longest = len(sequences[-1])
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=weight.device)
    cache = model.empty_cache(len(sequences), room_for(longest, model))
    hidden = model(torch.from_numpy(ids).to(weight.device), cache=cache, head=False)
    cache.advance(lengths)
    # Only the last position becomes logits: a vocabulary is far wider than the residual stream.
    last = hidden[torch.arange(len(sequences), device=weight.device), lengths - 1]
    return cache, model.project(last)
