"""How long this process waits for messages of others.

On a CPU a process waits itself, and that is what is counted here. On an accelerator the device waits, and the process
goes on: there a profiler must be asked (``groundup profile``).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import distributed
from torch.profiler import record_function

#: What waiting is called in a profile.
NAME = "groundup: wait"


@dataclass
class Waited:
    """Grows while :func:`waits` is entered."""

    seconds: float = 0.0


@contextmanager
def waits(compiled: bool = False) -> Iterator[Waited]:
    """Count the seconds in which this process waits for an exchange of tensors to be done.

    All of PyTorch's exchanges end in ``Work.wait`` or, those of DTensor, in ``wait_tensor``. The latter is left alone
    in compiled code, which would be compiled again.
    """
    waited = Waited()
    if not distributed.is_available():
        yield waited
        return
    from torch.distributed import _functional_collectives as functional

    def counted(wait: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                with record_function(NAME):
                    return wait(*arguments, **options)
            finally:
                waited.seconds += time.perf_counter() - begun

        return timed

    places: list[tuple[Any, str]] = [(distributed.Work, "wait")]
    if not compiled:
        places.append((functional, "wait_tensor"))
    before = [getattr(place, name) for place, name in places]
    try:
        for (place, name), wait in zip(places, before, strict=True):
            setattr(place, name, counted(wait))
        yield waited
    finally:
        for (place, name), wait in zip(places, before, strict=True):
            setattr(place, name, wait)
