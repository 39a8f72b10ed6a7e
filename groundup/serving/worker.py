"""One thread that owns the engine, and the many coroutines that wait for its tokens.

Enters: prompts from any number of clients. Leaves: each client's events, through a queue of its own. All clients
share every forward pass of the engine.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from groundup.core.errors import GroundupError
from groundup.inference.engine import Engine, Event, Request
from groundup.inference.sampling import Sampling

#: What a client is sent: an event of its request, or the error that ended it.
Letter = Event | Exception

LOG = logging.getLogger(__name__)


class BusyError(GroundupError):
    """Too many requests wait already."""


@dataclass(eq=False)
class Ticket:
    """One client's place in the engine."""

    prompt: list[int]
    sampling: Sampling
    events: asyncio.Queue[Letter] = field(default_factory=asyncio.Queue)
    request: Request | None = None
    """Set by the worker once the engine has taken the prompt."""

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events up to the last one; an error in the engine is raised here."""
        while True:
            event = await self.events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if event.finish_reason is not None:
                return


class Worker:
    """Runs ``engine.step()`` in a thread while there is something to do. Its methods belong to one event loop."""

    def __init__(self, engine: Engine, max_pending: int) -> None:
        self.engine = engine
        self.max_pending = max_pending
        self.pending: set[Ticket] = set()
        """Tickets whose last event has not been delivered; touched by the event loop only."""
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets: dict[Request, Ticket] = {}
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """The thread is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; call inside the event loop that will be served."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step."""
        if self._thread is not None:
            self._commands.put(None)
            await asyncio.to_thread(self._thread.join)

    def reserve(self, count: int) -> None:
        """Check that ``count`` more requests may come.

        Raises:
            BusyError: they may not.
        """
        if len(self.pending) + count > self.max_pending:
            raise BusyError(
                f"{len(self.pending)} requests are pending, the limit is {self.max_pending}; try again later"
            )

    def submit(self, prompt: list[int], sampling: Sampling) -> Ticket:
        """Hand a prompt to the engine; its events arrive by iterating over the ticket."""
        self.reserve(1)
        ticket = Ticket(prompt, sampling)
        self.pending.add(ticket)
        self._commands.put(lambda: self._take(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Free the ticket's place; harmless when it has finished."""
        if ticket in self.pending:
            self.pending.discard(ticket)
            self._commands.put(lambda: self._drop(ticket))

    # Everything below runs in the thread, except _deliver.

    def _run(self) -> None:
        while True:
            try:
                command = self._commands.get(block=self.engine.idle)
            except queue.Empty:
                self._step()
                continue
            if command is None:
                return
            command()

    def _take(self, ticket: Ticket) -> None:
        try:
            ticket.request = self.engine.submit(ticket.prompt, ticket.sampling)
            self._tickets[ticket.request] = ticket
        except Exception as error:
            self._post([(ticket, error)])

    def _drop(self, ticket: Ticket) -> None:
        if ticket.request is not None:
            self.engine.cancel(ticket.request)
            self._tickets.pop(ticket.request, None)

    def _step(self) -> None:
        """One step; an error goes to every client, and the thread goes on with whoever comes next."""
        letters: list[tuple[Ticket, Letter]] = []
        try:
            for event in self.engine.step():
                letters.append((self._tickets[event.request], event))
                if event.finish_reason is not None:
                    del self._tickets[event.request]
        except Exception as error:
            LOG.exception("a step of the engine failed; its %d requests are given up", len(self._tickets))
            letters = [(ticket, error) for ticket in self._tickets.values()]
            for request in self._tickets:
                self.engine.cancel(request)
            self._tickets.clear()
        self._post(letters)

    def _post(self, letters: list[tuple[Ticket, Letter]]) -> None:
        """Hand all of a step's letters to the event loop at once."""
        self._loop.call_soon_threadsafe(self._deliver, letters)

    def _deliver(self, letters: list[tuple[Ticket, Letter]]) -> None:
        for ticket, event in letters:
            ticket.events.put_nowait(event)
            if isinstance(event, Exception) or event.finish_reason is not None:
                self.pending.discard(ticket)
