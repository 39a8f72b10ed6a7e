"""The API through the real ``openai`` client, over a real socket on the loopback."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from groundup.core.errors import GroundupError, UsageError
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.serving.api import Limits, create_app, listen, serve
from groundup.tokenizer.chat import ChatTemplate

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")

Build = Callable[..., Engine]
HI = [{"role": "user", "content": "Hi"}]


class Served:
    """A running server, its client, and the engine behind it."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine = engine
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx.Client(trust_env=False, timeout=60),
        )

    def ask(self, messages: list[dict[str, Any]] = HI, **options: Any) -> Any:
        return self.client.chat.completions.create(model="tiny", messages=messages, **{"temperature": 0, **options})

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            time.sleep(0.01)


@pytest.fixture
def serving(template: ChatTemplate) -> Iterator[Callable[..., Served]]:
    with contextlib.ExitStack() as stack:

        def start(engine: Engine, **options: Any) -> Served:
            app = create_app(engine, template, "tiny", **options)
            bound = listen("127.0.0.1", 0)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join()
                bound.close()

            stack.callback(stop)
            served = Served(engine, bound.getsockname()[1])
            stack.callback(served.http.close)
            stack.callback(served.client.close)
            served.until(lambda: server.started)
            return served

        yield start


def test_answer_and_usage(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("né→ok!"))
    answer = served.ask()
    assert answer.choices[0].message.content == "né→ok!"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "tiny"
    prompt = 7  # <|document|> <|user|> space H i <|end|> <|assistant|>
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (prompt, 10, 17)


def test_length_is_respected(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("abcdef"))
    for name in ("max_tokens", "max_completion_tokens"):
        answer = served.ask(**{name: 3})
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("abc", "length")
        assert answer.usage.completion_tokens == 3


def test_stream_equals_the_whole(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("né→ok!"))
    chunks = list(served.ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert pieces == ["n", "é", "→", "o", "k", "!"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 10
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["de", ["xyz", "de"]])
def test_stop_strings_end_the_answer(
    serving: Callable[..., Served], saying: Build, stop: str | list[str], stream: bool
) -> None:
    served = serving(saying("abcdef", ends=False))
    answer = served.ask(stop=stop, stream=stream)
    if stream:
        chunks = list(answer)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert (text, reason) == ("abc", "stop")
    served.until(lambda: served.engine.idle)


def test_seed_decides_and_choices_differ(serving: Callable[..., Served], babbling: Build) -> None:
    served = serving(babbling())
    options = {"temperature": 1, "max_tokens": 10, "n": 3}
    first, second, other = (
        [choice.message.content for choice in served.ask(seed=seed, **options).choices] for seed in (1, 1, 2)
    )
    assert first == second != other
    assert len(set(first)) == 3
    unseeded = [served.ask(temperature=1, max_tokens=10).choices[0].message.content for _ in range(2)]
    assert unseeded[0] != unseeded[1]
    texts = ["", "", ""]
    for chunk in served.ask(seed=1, stream=True, **options):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == first


def test_clients_together_get_what_each_gets_alone(serving: Callable[..., Served], babbling: Build) -> None:
    served = serving(babbling(max_rows=4))
    questions = [[{"role": "user", "content": "word " * (1 + n % 7) + str(n)}] for n in range(12)]

    def ask(question: list[dict[str, Any]]) -> str:
        return served.ask(question, max_tokens=20).choices[0].message.content

    alone = [ask(question) for question in questions]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, questions)) == alone
    assert len(set(alone)) > 1


def test_multi_turn_and_text_parts(serving: Callable[..., Served], babbling: Build) -> None:
    served = serving(babbling())
    turns = [{"role": "system", "content": "S"}, *HI, {"role": "assistant", "content": "Yes"}, *HI]
    parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    answers = {served.ask(messages, max_tokens=8).choices[0].message.content for messages in (turns, parts)}
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"messages": [*HI, *HI]}, "message 2"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 500}]}, "take 505 tokens, the context 128"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens is 1000000000, the limit is 4096"),
        ({"n": 1000}, "n is 1000"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"tools": []}, "tools is not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_wrong_requests_are_refused(
    serving: Callable[..., Served], saying: Build, change: dict[str, Any], words: str
) -> None:
    served = serving(saying("ok"))
    response = served.http.post("/v1/chat/completions", json={"model": "tiny", "messages": HI, **change})
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert re.search(words, error["message"]), error["message"]
    assert served.ask().choices[0].message.content == "ok"


def test_what_is_not_json_or_not_there(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("ok"), limits=Limits(max_body_bytes=1000))
    post = served.http.post
    assert post("/v1/chat/completions", content=b"{").status_code == 400
    assert post("/v1/chat/completions", content=b"\xff\xfe").status_code == 400
    assert post("/v1/chat/completions", content=b"[]").status_code == 400
    assert post("/v1/chat/completions", content=b" " * 1001).status_code == 413
    missing = served.http.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    with pytest.raises(openai.NotFoundError, match="'gpt-9' is not served here; ask for 'tiny'"):
        served.client.chat.completions.create(model="gpt-9", messages=HI)
    with pytest.raises(openai.BadRequestError, match="wizard"):
        served.ask([{"role": "wizard", "content": "x"}])


def test_models_and_health(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("ok"))
    assert [model.id for model in served.client.models.list()] == ["tiny"]
    assert served.client.models.retrieve("tiny").id == "tiny"
    assert served.http.get("/health").json() == {"status": "ok"}


class Gate:
    """Holds an engine's steps until opened, so that a test knows what is pending."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        step = engine.step
        monkeypatch.setattr(engine, "step", lambda: (self.open.wait(), step())[1])


def test_full_queue_is_refused_and_recovers(
    serving: Callable[..., Served], saying: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = saying("ok")
    gate = Gate(engine, monkeypatch)
    served = serving(engine, limits=Limits(max_pending=2))
    with ThreadPoolExecutor(2) as pool:
        pending = [pool.submit(served.ask) for _ in range(2)]
        served.until(lambda: len(engine.waiting) >= 1)
        try:
            response = served.http.post("/v1/chat/completions", json={"model": "tiny", "messages": HI, "n": 2})
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert "limit is 2" in response.json()["error"]["message"]
        finally:
            gate.open.set()
        assert [future.result().choices[0].message.content for future in pending] == ["ok", "ok"]
    assert served.ask().choices[0].message.content == "ok"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_row(
    serving: Callable[..., Served], saying: Build, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    engine = saying("abc", ends=False, context=4096)
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: (time.sleep(0.01), step())[1])  # 40 s if nobody cancelled it
    served = serving(engine)
    body = {"model": "tiny", "messages": HI, "temperature": 0, "max_tokens": 4000, "stream": stream}

    async def leave_early() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
        content = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        while not engine.running:
            await asyncio.sleep(0.01)
        if stream:
            await reader.readuntil(b'"content": "a"')
        writer.close()

    asyncio.run(leave_early())
    (request,) = engine.running or [None]
    served.until(lambda: engine.idle)
    assert request is None or request.finish_reason == "cancelled"
    assert request is None or len(request.picked) < 4000


def test_an_error_in_the_engine_reaches_the_client_and_the_server_goes_on(
    serving: Callable[..., Served], saying: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = saying("ok")
    served = serving(engine)
    forward = engine.model.forward

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(engine.model, "forward", broken)
    with pytest.raises(openai.InternalServerError, match="internal error") as error:
        served.ask()
    assert "secret" not in str(error.value)
    with pytest.raises(openai.APIError, match="internal error"):
        list(served.ask(stream=True))
    monkeypatch.setattr(engine.model, "forward", forward)
    assert served.ask().choices[0].message.content == "ok"


def test_a_port_in_use_is_one_clear_line(saying: Build, template: ChatTemplate) -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GroundupError, match=f"127.0.0.1 port {port}.*--port") as error:
            serve(create_app(saying("ok"), template, "tiny"), port=port)
    assert error.value.exit_code == 1
    for port in (-1, 70_000):
        with pytest.raises(UsageError, match=str(port)):
            listen("127.0.0.1", port)


SCRIPT = """
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.model.config import ModelConfig
from groundup.model.transformer import Transformer
from groundup.serving.api import create_app, serve
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.chat import ChatTemplate

template = ChatTemplate(BytePairTokenizer.from_merges([]))
model = Transformer(ModelConfig(1, 16, 1, 1, 16, 64), template.tokenizer.vocab_size)
serve(create_app(Engine(model, template.stop_ids), template, "tiny", Sampling()), port=0)
print("clean")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process")
def test_interrupt_shuts_the_server_down() -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "Serving on http://127.0.0.1:" in line, line
    port = int(line.split("127.0.0.1:")[1].split("/")[0])
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.05)
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out.strip()) == (0, "clean"), err
    assert "Traceback" not in err


def test_defaults_hold_where_the_request_is_silent(serving: Callable[..., Served], saying: Build) -> None:
    served = serving(saying("abcdef", ends=False), sampling=Sampling(temperature=0, max_tokens=5))
    answer = served.client.chat.completions.create(model="tiny", messages=HI)
    assert answer.choices[0].message.content == "abcde"
