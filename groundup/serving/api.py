"""An OpenAI-compatible HTTP API: ``/v1/chat/completions`` (streaming or not), ``/v1/models``, ``/health``.

Enters: JSON over HTTP, from clients such as the ``openai`` package. Leaves: JSON, or server-sent events.
All clients share the engine's batch; a client that goes away frees its place.
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.progress import say
from groundup.core.seeding import derive_seed
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.serving.text import TextStream
from groundup.serving.worker import BusyError, Ticket, Worker
from groundup.tasks.conversation import Conversation
from groundup.tokenizer.chat import Template

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What one client, and all together, may ask for."""

    max_body_bytes: int = 1 << 20
    """Largest request body."""
    max_pending: int = 256
    """Most completions that run or wait; beyond it the answer is 429."""
    max_tokens: int = 4096
    """Longest completion that may be asked for."""
    max_choices: int = 16
    """Largest `n`."""
    max_stops: int = 4
    """Most stop strings, as in the OpenAI API."""


class TextPart(BaseModel):
    """A piece of a message's content."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn; who may speak when is the chat template's affair."""

    model_config = ConfigDict(extra="forbid")
    role: str
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """The body of ``/v1/chat/completions``. A field that would be ignored is refused, unless it changes nothing."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1 << 31)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int = Field(1, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None

    @property
    def stops(self) -> list[str]:
        """Stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ApiError(Exception):
    """An error in the shape that OpenAI clients understand."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """``{"error": {...}}``."""
        kind = {429: "rate_limit_error", 404: "not_found_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(self.body, self.status, headers={"Retry-After": "1"} if self.status == 429 else None)

    @classmethod
    def of(cls, error: Exception) -> "ApiError":
        """What a client is told about ``error``."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, BusyError):
            return cls(429, str(error), "too_many_requests")
        if isinstance(error, UsageError | DataError):
            return cls(400, str(error), "invalid_request")
        return cls(500, str(error) if isinstance(error, GroundupError) else "internal error", "internal_error")


def create_app(
    engine: Engine,
    template: Template,
    model_name: str,
    sampling: Sampling | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The API as an ASGI application; a thread works with the engine while the application runs.

    Args:
        engine: belongs to the application from now on.
        template: of the model's tokenizer.
        model_name: the only name that requests may ask for.
        sampling: defaults for what a request leaves open. Without a seed of its own, request i draws from (seed, i).
        limits: bounds on requests.
    """
    server = _ChatServer(Worker(engine, (limits or Limits()).max_pending), template, model_name, sampling, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.worker.start()
        yield
        await server.worker.stop()

    app = FastAPI(title="groundup", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response

    @app.get("/health")
    async def health() -> Response:
        alive = server.worker.alive
        return JSONResponse({"status": "ok" if alive else "engine stopped"}, 200 if alive else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [server.card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        server.check_name(name)
        return server.card

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await server.complete(request)

    return app


class _ChatServer:
    """What the endpoints share."""

    def __init__(
        self, worker: Worker, template: Template, name: str, sampling: Sampling | None, limits: Limits | None
    ) -> None:
        self.worker = worker
        self.template = template
        self.name = name
        self.sampling = sampling or Sampling()
        self.limits = limits or Limits()
        self.created = int(time.time())
        self.served = 0

    @property
    def card(self) -> dict[str, Any]:
        """The model as ``/v1/models`` lists it."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "groundup"}

    def check_name(self, name: str) -> None:
        """Refuse a model that is not served here."""
        if name != self.name:
            raise ApiError(
                404, f"the model {name!r} is not served here; ask for {self.name!r}", "model_not_found", "model"
            )

    async def complete(self, request: Request) -> Response:
        """Answer one ``/v1/chat/completions`` request."""
        asked = parse(await read_body(request, self.limits.max_body_bytes))
        self.check_name(asked.model)
        self._check_limits(asked)
        try:
            messages = [{"role": message.role, "content": message.text} for message in asked.messages]
            prompt = self.template.prompt(Conversation.from_json(messages))
            self._check_length(prompt)
            self.worker.reserve(asked.n)
            self.served += 1
            tickets = [self.worker.submit(prompt, sampling) for sampling in self._samplings(asked)]
        except GroundupError as error:
            raise ApiError.of(error) from error
        answer = _Answer(asked, tickets, self)
        if asked.stream:
            return StreamingResponse(answer.server_sent_events(), media_type="text/event-stream")
        try:
            return JSONResponse(await unless_disconnected(request, answer.whole()))
        except Exception as error:
            raise ApiError.of(error) from error
        finally:
            answer.cancel()

    def _check_limits(self, asked: ChatRequest) -> None:
        for name, value, limit in (
            ("max_tokens", asked.max_tokens, self.limits.max_tokens),
            ("max_completion_tokens", asked.max_completion_tokens, self.limits.max_tokens),
            ("n", asked.n, self.limits.max_choices),
            ("stop", len(asked.stops), self.limits.max_stops),
        ):
            if value is not None and value > limit:
                raise ApiError(400, f"{name} is {value}, the limit is {limit}; ask for less", "invalid_request", name)

    def _check_length(self, prompt: list[int]) -> None:
        context = self.worker.engine.context
        if len(prompt) >= context:
            text = f"the messages take {len(prompt)} tokens, the context {context}; send fewer"
            raise ApiError(400, text, "context_length_exceeded", "messages")

    def _samplings(self, asked: ChatRequest) -> list[Sampling]:
        """One per choice; a request's own seed alone decides its draws."""
        own = asked.max_completion_tokens or asked.max_tokens or min(self.sampling.max_tokens, self.limits.max_tokens)
        seed = derive_seed(self.sampling.seed, "request", self.served) if asked.seed is None else asked.seed
        base = replace(
            self.sampling,
            temperature=self.sampling.temperature if asked.temperature is None else asked.temperature,
            top_p=self.sampling.top_p if asked.top_p is None else asked.top_p,
            top_k=self.sampling.top_k if asked.top_k is None else asked.top_k,
            max_tokens=own,
        )
        return [replace(base, seed=derive_seed(seed, "choice", index)) for index in range(asked.n)]


class _Answer:
    """The choices of one request while they are generated."""

    def __init__(self, asked: ChatRequest, tickets: list[Ticket], server: _ChatServer) -> None:
        self.asked = asked
        self.tickets = tickets
        self.worker = server.worker
        self.streams = [TextStream(server.template.tokenizer, asked.stops) for _ in tickets]
        self.reasons = [""] * len(tickets)
        self.drawn = 0
        self.head = {
            "id": f"chatcmpl-{os.urandom(12).hex()}",
            "created": int(time.time()),
            "model": server.name,
        }

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and drawn; stop tokens count as drawn."""
        read = len(self.tickets[0].prompt)
        return {"prompt_tokens": read, "completion_tokens": self.drawn, "total_tokens": read + self.drawn}

    def cancel(self) -> None:
        """Free the places of the choices that have not finished."""
        for ticket in self.tickets:
            self.worker.cancel(ticket)

    async def pieces(self, index: int) -> AsyncIterator[str]:
        """Text of one choice as it grows; sets its finish reason."""
        stream, ticket = self.streams[index], self.tickets[index]
        async for event in ticket:
            self.drawn += 1
            piece = stream.push(event.token) if event.token is not None else ""
            if stream.stopped or event.finish_reason is not None:
                self.worker.cancel(ticket)
                piece += stream.finish()
                self.reasons[index] = "stop" if stream.stopped else str(event.finish_reason)
            if piece:
                yield piece
            if stream.stopped:
                return

    async def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""

        async def text(index: int) -> str:
            return "".join([piece async for piece in self.pieces(index)])

        texts = await asyncio.gather(*(text(index) for index in range(len(self.tickets))))
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": self.reasons[index],
            }
            for index, text in enumerate(texts)
        ]
        return {**self.head, "object": "chat.completion", "choices": choices, "usage": self.usage}

    async def server_sent_events(self) -> AsyncIterator[str]:
        """The chunks of a streamed answer; the choices' chunks come as they are drawn."""
        chunks: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()

        async def pump(index: int) -> None:
            try:
                chunks.put_nowait(self._chunk(index, {"role": "assistant", "content": ""}))
                async for piece in self.pieces(index):
                    chunks.put_nowait(self._chunk(index, {"content": piece}))
                chunks.put_nowait(self._chunk(index, {}, self.reasons[index]))
                chunks.put_nowait(None)
            except Exception as error:
                chunks.put_nowait(error)

        pumps = [asyncio.create_task(pump(index)) for index in range(len(self.tickets))]
        options = self.asked.stream_options
        try:
            open_choices = len(pumps)
            while open_choices:
                chunk = await chunks.get()
                if isinstance(chunk, Exception):
                    yield _event(ApiError.of(chunk).body)
                    return
                if chunk is None:
                    open_choices -= 1
                else:
                    yield _event(chunk)
            if options is not None and options.include_usage:
                yield _event({**self.head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage})
            yield "data: [DONE]\n\n"
        finally:  # also when the client goes away
            for task in pumps:
                task.cancel()
            self.cancel()

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}


def _event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body, refused as soon as it exceeds ``limit`` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, f"the request body exceeds {limit} bytes; send less", "request_too_large")
    return bytes(body)


def parse(body: bytes) -> ChatRequest:
    """The body as a request.

    Raises:
        ApiError: 400 naming the first field that is wrong.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"{place} is not supported; leave it out"
        else:
            message = f"{place or 'the body'}: {first['msg']}"
        raise ApiError(400, message, "invalid_request", place or None) from error


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result:
    """Wait for ``work``; give it up when the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client went away")
        return task.result()
    finally:
        task.cancel()
        watch.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, so that a port in use is known before anything else starts.

    Raises:
        GroundupError: the port is in use, or the address cannot be had.
        UsageError: there is no such port.
    """
    if not 0 <= port <= 65_535:
        raise UsageError(f"port {port} does not exist; choose one from 0 (any free one) to 65535 with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere this option would let two servers share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise GroundupError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from error
    return bound


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until Ctrl-C; port 0 takes a free one. Reachable from this machine only, unless ``host`` says otherwise.

    Raises:
        GroundupError: the port is in use, or the address cannot be had.
    """
    bound = listen(host, port)
    name = f"[{host}]" if ":" in host else host
    say(f"Serving on http://{name}:{bound.getsockname()[1]}/v1 — Ctrl-C stops it.")
    # Streams still open five seconds after Ctrl-C are cut.
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with contextlib.closing(bound), contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
