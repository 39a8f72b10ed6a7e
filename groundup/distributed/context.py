"""Context parallelism: long sequences, each on several processes, which have some of its tokens each.

Enters: a model, and batches of whole rows. Leaves: the same model, that can be asked for some of each row's tokens, and
batches that ask for this process's. Only attention looks at other tokens; their keys and values reach the queries in
one of two ways:

- *Around a ring* (Liu et al. 2023, "Ring attention with blockwise transformers"): each process's keys and values visit
  all the others, and what a query reads of each is merged by the logarithms of the sums of its weights. No process ever
  has more than two parts of them. For all attention that nothing but order rules, by PyTorch's fused kernels.
- *Gathered* (Grattafiori et al. 2024, "The Llama 3 herd of models", 3.3.2): each process has all keys and values of a
  layer, and a mask says which its queries see. For everything else, which is then computed as on one device: packed
  sequences, windows, ALiBi, sinks, soft caps, dropout, smeared keys, latent attention (whose small vectors are sent).

A causal query looks at what is before it, so that the last tokens have the most to do. Of 2n chunks of a row, process r
of n has chunk r and chunk 2n - 1 - r: all have the same to do, in every step of the ring.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from groundup.dataloader import IGNORED, Batch
from groundup.model import Transformer

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

#: What a model is told of whole rows, and what stands there behind a row's end.
_WHOLE = {"inputs": 0, "positions": 0, "segments": -1}


def divide_sequences(model: Transformer, mesh: "DeviceMesh") -> None:
    """Let ``model`` compute some of each row's tokens, while the others of ``mesh`` [processes] compute the rest.

    Nothing changes for passes over whole rows: validation and generating text.

    Args:
        model: is told who the others are. Its context is a multiple of twice their number.
        mesh: the processes that share every sequence.
    """
    model.others = Others(mesh.get_group().group_name)


def slice_of(batch: Batch, number: int, count: int) -> Batch:
    """Process ``number``'s part of the tokens of a batch, of ``count`` processes.

    The model is told of whole rows, and ``places`` [rows, tokens] says which of their tokens to compute; what is
    compared with the result ([rows, time]: targets, earlier log-probabilities) is of these tokens alone. Rows that
    cannot be cut into equal chunks get a tail, which nobody sees and where nothing is learned.
    """
    rows, time = batch.tensors["inputs"].shape
    padded = -(-time // (2 * count)) * 2 * count
    places = places_of(padded, number, count, batch.tensors["inputs"].device)
    tensors = {}
    for name, tensor in batch.tensors.items():
        if tensor.ndim == 2:
            tensor = F.pad(tensor, (0, padded - time), value=IGNORED if name == "targets" else _WHOLE.get(name, 0))
            tensor = tensor if name in _WHOLE else tensor[:, places]
        tensors[name] = tensor
    weight = batch.weight if batch.paired else int((tensors["targets"] != IGNORED).sum())
    tensors["places"] = places.expand(rows, -1)
    return replace(batch, tensors=tensors, weight=weight, metrics=dict(batch.metrics))


def places_of(time: int, number: int, count: int, device: torch.device | None = None) -> Tensor:
    """Which of ``time`` tokens are process ``number``'s of ``count``: an early chunk and a late one [time / count]."""
    chunk = time // (2 * count)
    starts = (number * chunk, (2 * count - 1 - number) * chunk)
    return torch.cat([torch.arange(start, start + chunk, device=device) for start in starts])


class Others:
    """The processes that compute the other tokens of the same rows: :class:`groundup.model.attention.Others`.

    ``group`` is the name of PyTorch's group of them: compiled code can hold a name.
    """

    def __init__(self, group: str) -> None:
        self.group = group

    def whole(self, part: Tensor) -> Tensor:
        """Of these tokens [batch, heads, time, size] → of all, in their order [batch, heads, length, size]."""
        found: Tensor = _gathered(part, self.group)
        return found

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Causal attention of these tokens to all, each [batch, its heads, time, size]."""
        device = query.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
        mixed: Tensor = _ring(query.to(dtype), key.to(dtype), value.to(dtype), scale, self.group)[0]
        return mixed

    def summed(self, part: Tensor) -> Tensor:
        """Of numbers about these tokens, the same about all."""
        total: Tensor = _Sum.apply(part, self.group)
        return total


class _Sum(torch.autograd.Function):
    """Every process goes on from the sum to the same loss, which counts once: each has the gradient of its part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: str) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total, group=_group(group))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        return above, None


# --- Gathering -------------------------------------------------------------------------------------------------------


@torch.library.custom_op("groundup::gathered_sequence", mutates_args=())
def _gathered(part: Tensor, group: str) -> Tensor:
    count, moves = _group(group).size(), torch.ops._c10d_functional
    parts = moves.wait_tensor(moves.all_gather_into_tensor(part.contiguous(), count, group))
    return in_order(parts.unflatten(0, (count, -1)))


@torch.library.custom_op("groundup::scattered_sequence", mutates_args=())
def _scattered(whole: Tensor, group: str) -> Tensor:
    """The sum of what all have for this process's tokens; in float32, whatever goes in and out."""
    count, moves = _group(group).size(), torch.ops._c10d_functional
    parts = dealt(whole, count).float().flatten(0, 1)
    total: Tensor = moves.wait_tensor(moves.reduce_scatter_tensor(parts, "sum", count, group))
    return total.to(whole.dtype)


def in_order(parts: Tensor) -> Tensor:
    """The tokens of all processes [processes, ..., time, size] → in the order of the row [..., length, size]."""
    early, late = parts.chunk(2, dim=-2)
    return torch.cat([*early.unbind(), *late.flip(0).unbind()], dim=-2)


def dealt(whole: Tensor, count: int) -> Tensor:
    """The opposite of :func:`in_order`: [..., length, size] → [processes, ..., time, size]."""
    chunks = torch.stack(whole.chunk(2 * count, dim=-2))
    return torch.cat((chunks[:count], chunks[count:].flip(0)), dim=-2)


@_gathered.register_fake
def _(part: Tensor, group: str) -> Tensor:
    return part.new_empty(*part.shape[:-2], part.shape[-2] * _group(group).size(), part.shape[-1])


@_scattered.register_fake
def _(whole: Tensor, group: str) -> Tensor:
    return whole.new_empty(*whole.shape[:-2], whole.shape[-2] // _group(group).size(), whole.shape[-1])


def _remember_group(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
    ctx.group = inputs[1]


def _gathered_backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
    return _scattered(above, ctx.group), None


_gathered.register_autograd(_gathered_backward, setup_context=_remember_group)


# --- The ring --------------------------------------------------------------------------------------------------------

#: Whose they are, and the keys and values [2, batch, kv_heads, time, size].
Visit = tuple[int, Tensor]


@torch.library.custom_op("groundup::ring_attention", mutates_args=())
def _ring(query: Tensor, key: Tensor, value: Tensor, scale: float, group: str) -> tuple[Tensor, Tensor]:
    """Attention [batch, heads, time, size], and the logarithm of each query's sum of weights [batch, heads, time]."""
    members = _group(group)
    return attended(query, _visits(torch.stack((key, value)), members), members.rank(), scale)


@torch.library.custom_op("groundup::ring_attention_backward", mutates_args=())
def _ring_backward(
    above: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, total: Tensor, scale: float, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value. Those of keys and values travel behind them, and end where they began."""
    members = _group(group)
    visits = _visits(torch.stack((key, value)), members)
    of_query = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
    travelling, works = torch.empty(0), list[distributed.Work]()
    for gradient in gradients_of(above, query, mixed, total, visits, members.rank(), scale, of_query):
        if works:
            _wait(works)
            gradient += travelling
        travelling, works = _passed_on(gradient, members)
    _wait(works)
    of_key, of_value = travelling.to(key.dtype).unbind()
    return of_query.to(query.dtype), of_key.clone(), of_value.clone()


def attended(query: Tensor, visits: Iterable[Visit], rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """What the queries of process ``rank`` [batch, heads, time, size] read of all visits, its own first, and the
    logarithm of the sum of each one's weights [batch, heads, time]."""
    mixed, total = torch.empty(0), torch.empty(0)
    for source, (key, value) in visits:
        asked, seen, causal = _meeting(rank, source, query.shape[2])
        found, weight = _attend(query[:, :, asked], key[:, :, seen], value[:, :, seen], causal, scale)
        if source == rank:
            mixed, total = found.float(), weight
            continue
        before = total[:, :, asked]
        both = torch.logaddexp(before, weight)
        kept, added = (before - both).exp()[..., None], (weight - both).exp()[..., None]
        mixed[:, :, asked] = kept * mixed[:, :, asked] + added * found
        total[:, :, asked] = both
    return mixed.to(query.dtype).contiguous(), total.contiguous()


def gradients_of(
    above: Tensor,
    query: Tensor,
    mixed: Tensor,
    total: Tensor,
    visits: Iterable[Visit],
    rank: int,
    scale: float,
    of_query: Tensor,
) -> Iterator[Tensor]:
    """For each visit the gradient of its keys and values, in float32; that of the queries is added to ``of_query``.

    The weights of a part are those of the whole row, exp(score - ``total``), and a score's gradient needs nothing
    else of the other parts but the result: so each part is what a kernel computes for one sequence.
    """
    for source, (key, value) in visits:
        asked, seen, causal = _meeting(rank, source, query.shape[2])
        slope, asking, found, weight = (each[:, :, asked].contiguous() for each in (above, query, mixed, total))
        keys, values = key[:, :, seen], value[:, :, seen]
        added, *of_pair = _attend_backward(slope, asking, found, weight, keys, values, causal, scale)
        of_query[:, :, asked] += added
        gradient = torch.zeros(2, *key.shape, dtype=torch.float32, device=key.device)
        gradient[:, :, :, seen] = torch.stack(of_pair).float()
        yield gradient


def _meeting(rank: int, source: int, time: int) -> tuple[slice, slice, bool]:
    """Which of the queries of ``rank`` look at which of the keys of ``source``, and whether causally or at all."""
    half, everything = time // 2, slice(None)
    if source == rank:
        return everything, everything, True
    if source < rank:  # its early chunk is before both of ours, its late one behind
        return everything, slice(half), False
    return slice(half, None), everything, False  # our late chunk is behind both of its, our early one before


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of each query's sum of weights."""
    if query.device.type == "cpu":
        mixed, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
        return mixed, total
    if _has_flash(query):
        mixed, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scale
        )
        return mixed, total
    return plain_attend(query, key, value, causal, scale)


def _attend_backward(
    above: Tensor,
    query: Tensor,
    mixed: Tensor,
    total: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = (above, query, key, value, mixed, total)
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*tensors, 0.0, causal, scale=scale)
    if _has_flash(query):
        noise = torch.zeros(2, dtype=torch.uint64, device=query.device)  # of dropout, of which there is none
        lengths = (None, None, query.shape[2], key.shape[2])
        return torch.ops.aten._scaled_dot_product_flash_attention_backward(
            *tensors, *lengths, 0.0, causal, noise, noise, scale=scale
        )
    return plain_attend_backward(above, query, mixed, total, key, value, causal, scale)


def _has_flash(query: Tensor) -> bool:
    """Whether CUDA's kernel of FlashAttention takes it (Dao 2023)."""
    size, halves = query.shape[-1], (torch.float16, torch.bfloat16)
    modern = query.is_cuda and torch.cuda.get_device_capability(query.device) >= (8, 0)
    return modern and query.dtype in halves and size % 8 == 0 and size <= 256


def plain_attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """The same on any device, with all scores in memory."""
    scores = _scores(query, key, causal, scale)
    total = scores.logsumexp(dim=-1)
    return ((scores - total[..., None]).exp() @ _for_heads(value, query)).to(query.dtype), total


def plain_attend_backward(
    above: Tensor,
    query: Tensor,
    mixed: Tensor,
    total: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Its gradients (Dao et al. 2022, "FlashAttention", appendix B.2)."""
    above = above.float()
    weights = (_scores(query, key, causal, scale) - total[..., None]).exp()
    slope = above @ _for_heads(value, query).transpose(-2, -1) - (above * mixed.float()).sum(dim=-1, keepdim=True)
    slope = weights * slope * scale
    of_key, of_value = slope.transpose(-2, -1) @ query.float(), weights.transpose(-2, -1) @ above
    of_key, of_value = (each.unflatten(1, (key.shape[1], -1)).sum(dim=2) for each in (of_key, of_value))
    return slope @ _for_heads(key, query), of_key, of_value


def _scores(query: Tensor, key: Tensor, causal: bool, scale: float) -> Tensor:
    scores = query.float() @ _for_heads(key, query).transpose(-2, -1) * scale
    if not causal:
        return scores
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -torch.inf)


def _for_heads(part: Tensor, query: Tensor) -> Tensor:
    """Keys or values, each as often as query heads read it, in float32."""
    return part.float().repeat_interleave(query.shape[1] // part.shape[1], dim=1)


def _visits(own: Tensor, members: distributed.ProcessGroup) -> Iterator[Visit]:
    """Each process's tensor in turn, this one's first; the next one is on its way while one is looked at."""
    count = members.size()
    for step in range(count):
        coming, works = _passed_on(own, members) if step + 1 < count else (own, [])
        yield (members.rank() - step) % count, own
        _wait(works)
        own = coming


def _passed_on(tensor: Tensor, members: distributed.ProcessGroup) -> tuple[Tensor, list[distributed.Work]]:
    """Send it to the next process; what comes from the one before, once the works are done."""
    tensor = tensor.contiguous()
    coming, rank, count = torch.empty_like(tensor), members.rank(), members.size()
    to, origin = (distributed.get_global_rank(members, place % count) for place in (rank + 1, rank - 1))
    sent = distributed.P2POp(distributed.isend, tensor, to, members)
    received = distributed.P2POp(distributed.irecv, coming, origin, members)
    return coming, distributed.batch_isend_irecv([sent, received])


def _wait(works: Iterable[distributed.Work]) -> None:
    for work in works:
        work.wait()


@_ring.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, scale: float, group: str) -> tuple[Tensor, Tensor]:
    return query.new_empty(query.shape), query.new_empty(query.shape[:-1], dtype=torch.float32)


@_ring_backward.register_fake
def _(
    above: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, total: Tensor, scale: float, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, str], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.group = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    return *_ring_backward(above.contiguous(), *ctx.saved_tensors, ctx.scale, ctx.group), None, None


_ring.register_autograd(_backward, setup_context=_remember)


def _group(name: str) -> distributed.ProcessGroup:
    resolve: Any = distributed.distributed_c10d._resolve_process_group
    group: distributed.ProcessGroup = resolve(name)
    return group
