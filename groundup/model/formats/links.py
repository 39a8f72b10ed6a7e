"""Our tensors and where the same numbers lie in another format.

Enters: a mapping of foreign names to tensors, and links that say which of them make which of ours. Leaves: our state
dictionary, or theirs. Nothing is dropped: what no link names, and what a link misses, is listed and refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError

Change = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def _same(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors


@dataclass(frozen=True)
class Link:
    """Some of our tensors, the foreign ones that hold the same numbers, and the way there and back."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Change = _same
    """Foreign tensors → ours, in the order of the names."""
    write: Change = _same
    """Our tensors → foreign ones."""


def same(ours: str, theirs: str) -> Link:
    """One tensor under two names."""
    return Link((ours,), (theirs,))


def transposed(ours: str, theirs: str) -> Link:
    """A matrix that the other format stores as [in, out]."""
    return Link((ours,), (theirs,), lambda t: [t[0].T], lambda t: [t[0].T.contiguous()])


def stacked(ours: str, theirs: Sequence[str]) -> Link:
    """Our tensor [n, ...] is n foreign ones, one after the other."""
    return Link(
        (ours,), tuple(theirs), lambda t: [torch.stack(list(t))], lambda t: [part.contiguous() for part in t[0]]
    )


def joined(ours: Sequence[str], theirs: str, sizes: Sequence[int], *, transpose: bool = False) -> Link:
    """Several of ours, of ``sizes`` rows, are one foreign tensor; with ``transpose`` it is stored as [in, out]."""

    def read(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        whole = tensors[0].T if transpose and tensors[0].ndim == 2 else tensors[0]
        return whole.split(list(sizes))

    def write(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        whole = torch.cat(list(tensors))
        return [whole.T.contiguous() if transpose and whole.ndim == 2 else whole]

    return Link(tuple(ours), (theirs,), read, write)


def read_links(
    links: Iterable[Link], tensors: Mapping[str, Callable[[], Tensor]], where: str, ignored: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Our state dictionary from foreign tensors, each fetched once, by calling it.

    Args:
        links: every tensor of ours.
        tensors: the foreign ones.
        where: the file or folder, for the message.
        ignored: foreign names that hold nothing of ours (stored masks, frequencies).

    Raises:
        ArtifactError: foreign tensors are missing or left over; the message lists them.
    """
    links = list(links)
    wanted = {name for link in links for name in link.theirs}
    if missing := sorted(wanted - tensors.keys()):
        raise ArtifactError(f"{where} lacks {_listed(missing)}; it is damaged, or not the model that it says it is")
    if unknown := sorted(tensors.keys() - wanted - set(ignored)):
        raise ArtifactError(f"{where} holds {_listed(unknown)}, which its kind of model has no place for")
    ours: dict[str, Tensor] = {}
    for link in links:
        ours.update(zip(link.ours, link.read([tensors[name]() for name in link.theirs]), strict=True))
    return ours


def write_links(links: Iterable[Link], ours: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Foreign names and tensors from our state dictionary, one link at a time."""
    for link in links:
        yield from zip(link.theirs, link.write([ours[name] for name in link.ours]), strict=True)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more tensors"
