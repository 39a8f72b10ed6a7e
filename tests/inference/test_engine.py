"""The engine against decoding without a cache, one prompt at a time."""

import random

import pytest
import torch

from groundup.core.errors import ArtifactError, TrainingError, UsageError
from groundup.inference import engine as engine_module
from groundup.inference.engine import Engine, Request, completion
from groundup.inference.sampling import Sampling
from groundup.model.config import ModelConfig
from groundup.model.transformer import Transformer

VOCABULARY = 61
GREEDY = Sampling(temperature=0, max_tokens=12)


def tiny(seed: int = 0, **shape: int) -> Transformer:
    config = ModelConfig(**{"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "context": 96, **shape})
    model = Transformer(config, VOCABULARY)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough for answers that differ, and differ by more than rounding
            parameter.normal_(0, 0.6 if parameter.ndim > 1 else 1.0, generator=generator)
    return model


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny()


@torch.no_grad()
def recomputed(model: Transformer, prompt: list[int], count: int, stop: frozenset[int] = frozenset()) -> list[int]:
    """Greedy decoding that reads the whole sequence again for every token."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in stop:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def some_prompts(count: int, seed: int = 0, longest: int = 40) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCABULARY) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def run(engine: Engine, requests: list[Request]) -> list[list[int]]:
    while not engine.idle:
        engine.step()
    return [list(completion(request).ids) for request in requests]


def test_greedy_equals_recomputation(model: Transformer) -> None:
    for prompt in some_prompts(6):
        assert list(Engine(model, frozenset()).generate([prompt], GREEDY)[0].ids) == recomputed(model, prompt, 12)


@pytest.mark.parametrize("max_rows", [1, 3, 8, 64])
def test_any_batch_gives_the_same_greedy_answers(model: Transformer, max_rows: int) -> None:
    prompts = some_prompts(21, seed=1)
    stop = frozenset({3, 17, 40})
    options = [Sampling(temperature=0, max_tokens=1 + 2 * i) for i in range(21)]
    expected = [recomputed(model, p, s.max_tokens, stop) for p, s in zip(prompts, options, strict=True)]
    answers = Engine(model, stop, max_rows).generate(prompts, options)
    assert [list(answer.ids) for answer in answers] == expected
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}


def test_requests_that_come_and_go_at_any_time(model: Transformer) -> None:
    rng = random.Random(5)
    prompts = some_prompts(30, seed=2)
    engine = Engine(model, frozenset({7}), max_rows=8)
    requests: list[Request] = []
    cancelled: set[int] = set()
    for number, prompt in enumerate(prompts):
        requests.append(engine.submit(prompt, Sampling(temperature=0, max_tokens=1 + number % 20)))
        for _ in range(rng.randint(0, 3)):
            engine.step()
        if rng.random() < 0.2:
            victim = rng.randrange(len(requests))
            if requests[victim].finish_reason is None:
                engine.cancel(requests[victim])
                cancelled.add(victim)
    run(engine, [])
    assert cancelled
    for number, request in enumerate(requests):
        expected = recomputed(model, list(request.prompt), request.sampling.max_tokens, frozenset({7}))
        ids = list(completion(request).ids)
        assert ids == expected[: len(ids)]
        assert (number in cancelled) == (request.finish_reason == "cancelled")
        assert number in cancelled or ids == expected


def test_long_prompts_are_prefilled_in_groups(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = some_prompts(9, seed=3)
    expected = [recomputed(model, prompt, 12) for prompt in prompts]
    monkeypatch.setattr(engine_module, "PREFILL_TOKENS", 50)
    assert [list(a.ids) for a in Engine(model, frozenset()).generate(prompts, GREEDY)] == expected


def test_equal_prompts_are_read_once(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda ids, **k: rows.append(len(ids)) or forward(ids, **k))
    prompt = some_prompts(1)[0]
    answers = Engine(model, frozenset()).generate([prompt] * 8, Sampling(max_tokens=6))
    assert rows[0] == 1
    assert rows[1] == 8
    assert len({answer.ids for answer in answers}) > 1, "equal prompts under one seed must still differ"


def test_seeds_reproduce_whoever_shares_the_batch(model: Transformer) -> None:
    prompts = some_prompts(12, seed=4)
    options = [Sampling(0.9, top_k=i % 3 * 10, top_p=(1.0, 0.8)[i % 2], max_tokens=15, seed=i) for i in range(12)]
    together = Engine(model, frozenset({5})).generate(prompts, options)
    alone = [Engine(model, frozenset({5})).generate([p], [s])[0] for p, s in zip(prompts, options, strict=True)]
    assert [a.ids for a in together] == [a.ids for a in alone]
    other = Engine(model, frozenset({5})).generate(prompts, [Sampling(0.9, max_tokens=15, seed=99)] * 12)
    assert [a.ids for a in together] != [a.ids for a in other]


def test_log_probabilities_are_the_models_own(model: Transformer) -> None:
    stop = frozenset(range(0, 61, 4))
    prompts = some_prompts(8, seed=6)
    answers = Engine(model, stop).generate(prompts, Sampling(1.5, top_k=5, max_tokens=10))
    assert {a.finish_reason for a in answers} >= {"stop"}
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.ids == answer.picked[: len(answer.ids)]
        assert (len(answer.picked) == len(answer.ids) + 1) == (answer.finish_reason == "stop")
        with torch.no_grad():
            logs = model(torch.tensor([prompt + list(answer.picked)]))[0].log_softmax(-1)
        places = torch.arange(len(prompt) - 1, len(prompt) + len(answer.picked) - 1)
        expected = logs[places, torch.tensor(answer.picked)].tolist()
        assert list(answer.log_probabilities) == pytest.approx(expected, abs=1e-4)


def test_cancel_frees_the_row(model: Transformer) -> None:
    engine = Engine(model, frozenset(), max_rows=1)
    first, second = (engine.submit([1, 2, n], GREEDY) for n in (3, 4))
    engine.step()
    assert engine.running == [first]
    engine.cancel(first)
    assert [event.request for event in engine.step()] == [second]
    third = engine.submit([1], GREEDY)
    engine.cancel(third)
    assert not engine.waiting
    assert run(engine, [second]) == [recomputed(model, [1, 2, 4], 12)]
    assert len(first.picked) == 1
    engine.cancel(second)
    assert second.finish_reason == "length"


def test_context_cuts_the_completion(model: Transformer) -> None:
    prompt = some_prompts(1, longest=40)[0] * 96
    answer = Engine(model, frozenset()).generate([prompt[:90]], Sampling(temperature=0, max_tokens=1000))[0]
    assert (len(answer.ids), answer.finish_reason) == (6, "length")
    assert list(answer.ids) == recomputed(model, prompt[:90], 6)
    smaller = Engine(model, frozenset(), capacity=20).generate([prompt[:15]], Sampling(max_tokens=1000))[0]
    assert len(smaller.ids) == 5


@pytest.mark.parametrize(
    ("prompt", "words"),
    [([], "empty"), ([1] * 96, "96 tokens, the context 96"), ([1] * 500, "500 tokens"), ([61], "61"), ([-1], "-1")],
)
def test_impossible_prompts_are_refused(model: Transformer, prompt: list[int], words: str) -> None:
    engine = Engine(model, frozenset())
    with pytest.raises(UsageError, match=words):
        engine.submit(prompt, GREEDY)
    with pytest.raises(UsageError):
        engine.generate([[1, 2], prompt], GREEDY)
    assert engine.idle, "a refused batch leaves nothing behind"


def test_impossible_engines_are_refused(model: Transformer) -> None:
    with pytest.raises(UsageError, match="max-rows"):
        Engine(model, frozenset(), max_rows=0)
    with pytest.raises(UsageError, match="capacity"):
        Engine(model, frozenset(), capacity=1)


def test_new_weights_take_effect_at_once() -> None:
    model, other = tiny(0), tiny(1)
    engine = Engine(model, frozenset())
    request = engine.submit([1, 2, 3], GREEDY)
    for _ in range(4):
        engine.step()
    before = list(request.picked)
    assert before == recomputed(tiny(0), [1, 2, 3], 4)
    engine.update_weights(other.state_dict())
    run(engine, [request])
    assert request.picked == before + recomputed(other, [1, 2, 3, *before], 8)


def test_foreign_weights_are_refused_and_change_nothing() -> None:
    model = tiny(0)
    engine = Engine(model, frozenset())
    good = tiny(1).state_dict()
    for wrong, words in (
        ({**good, "extra": torch.zeros(1)}, "unknown.*extra"),
        ({name: t for name, t in good.items() if name != "norm.scale"}, "missing.*norm.scale"),
        ({**good, "norm.scale": torch.zeros(3)}, "shape.*norm.scale"),
    ):
        with pytest.raises(ArtifactError, match=words):
            engine.update_weights(wrong)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), tiny(0).state_dict().values(), strict=True)
    )
    engine.update_weights({name: t for name, t in good.items() if name != "head.weight"})  # tied: named once is enough
    assert torch.equal(model.head.weight, good["head.weight"])


def test_training_mode_is_restored_and_no_gradient_is_kept(model: Transformer) -> None:
    model.train()
    Engine(model, frozenset()).generate([[1, 2]], GREEDY)
    assert all(module.training for module in model.modules())
    model.eval()
    Engine(model, frozenset()).generate([[1, 2]], GREEDY)
    assert not model.training
    model.train()
    loss = model(torch.tensor([[1, 2, 3]])).sum()
    loss.backward()  # the weights are still ordinary tensors
    model.zero_grad()


def test_an_error_inside_a_step_loses_no_request() -> None:
    model = tiny(0)
    engine = Engine(model, frozenset())
    request = engine.submit([1, 2, 3], GREEDY)
    engine.step()
    newcomer = engine.submit([4, 5], GREEDY)
    healthy = model.norm.scale.detach().clone()
    with torch.no_grad():
        model.norm.scale.fill_(float("nan"))
    with pytest.raises(TrainingError):
        engine.step()
    with torch.no_grad():
        model.norm.scale.copy_(healthy)
    assert run(engine, [request, newcomer]) == [recomputed(model, p, 12) for p in ([1, 2, 3], [4, 5])]


def test_works_with_a_hidden_size_of_one_head_group_and_untied_head() -> None:
    model = tiny(2, kv_heads=1)
    assert list(Engine(model, frozenset()).generate([[5, 6]], GREEDY)[0].ids) == recomputed(model, [5, 6], 12)


def test_progress_is_for_humans_only(model: Transformer, capsys: pytest.CaptureFixture[str]) -> None:
    assert Engine(model, frozenset()).generate([], GREEDY, progress="answers") == []
    Engine(model, frozenset()).generate([[1]], GREEDY, progress="answers")
    assert capsys.readouterr().out == ""
