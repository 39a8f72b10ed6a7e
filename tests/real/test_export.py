"""What we write of the real model, transformers and llama.cpp read as we do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from groundup.inference.exporting import ExportOptions, Kind, export
from groundup.inference.opening import OpenModel, open_model
from groundup.tasks.conversation import Conversation
from tests.real.sides import (
    LENGTH,
    QUESTIONS,
    greedy,
    greedy_of_llama,
    greedy_of_transformers,
    open_in_llama,
    open_in_transformers,
    same_tokens,
    wikitext,
)

pytestmark = pytest.mark.real

CONVERSATIONS = (
    *(Conversation.of(("user", question)) for question in QUESTIONS),
    Conversation.of(("system", "Answer in one word."), ("user", "  Is it ½?\n")),
    Conversation.of(("user", "Hi!"), ("assistant", "Hello. How can I help?"), ("user", "中文 😀")),
    Conversation.of(("user", "{{ messages }} {% raw %}")),
)
Record = Callable[[str, object], None]


@pytest.fixture(scope="session")
def folder(gguf: Path) -> Path:
    """The model as a folder of Hugging Face, in float32."""
    return export(gguf, ExportOptions("hf", gguf.with_name("folder"), "F32"))


@pytest.fixture(scope="session")
def exported(folder: Path) -> Any:
    return open_in_transformers(folder)


@pytest.fixture(scope="session")
def reader(folder: Path) -> Any:
    """The folder's tokenizer in transformers."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)


def test_weights_in_transformers_are_the_same_bits(reference: Any, exported: Any) -> None:
    ours, theirs = exported.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not ours[name].equal(theirs[name])] == []


def test_transformers_says_the_same(
    exported: Any, prompts: list[list[int]], continuations: list[list[int]], record_property: Record
) -> None:
    same = same_tokens(continuations, greedy_of_transformers(exported)(prompts))
    record_property("row", ("the file", "transformers, our export to a folder in F32", same))
    assert same == [LENGTH] * len(prompts)


def test_the_folder_opens_here_as_the_same_model(
    opened: OpenModel, folder: Path, prompts: list[list[int]], continuations: list[list[int]]
) -> None:
    again = open_model(folder)
    assert (again.begin, again.end, again.chat_template) == (opened.begin, opened.end, opened.chat_template)
    assert greedy(again, rows=len(prompts))(prompts) == continuations


def test_ids_in_transformers(opened: OpenModel, reader: Any) -> None:
    text = wikitext()
    assert reader(text)["input_ids"] == opened.ids(text)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_chat_template_in_transformers(opened: OpenModel, reader: Any, conversation: Conversation) -> None:
    asked = reader.apply_chat_template(conversation.to_json(), add_generation_prompt=True, return_dict=False)
    assert opened.template.prompt(conversation) == asked


class TestLlamaCpp:
    """GGUF in llama.cpp, which rounds activations to the type of the weights: only F32 is the same arithmetic."""

    @pytest.fixture(params=["F32", "F16", "Q8_0"])
    def kind(self, request: pytest.FixtureRequest) -> Kind:
        return request.param

    @pytest.fixture
    def path(self, gguf: Path, kind: Kind, tmp_path: Path) -> Iterator[Path]:
        path = export(gguf, ExportOptions("gguf", tmp_path / f"{kind}.gguf", kind))
        yield path
        path.unlink()

    def test_it_says_the_same(
        self,
        path: Path,
        kind: Kind,
        prompts: list[list[int]],
        continuations: list[list[int]],
        record_property: Record,
    ) -> None:
        theirs = greedy_of_llama(open_in_llama(path))(prompts)
        ours = greedy(open_model(path), rows=len(prompts))(prompts)
        same = same_tokens(ours, theirs)
        record_property("row", (f"our export to GGUF in {kind}", "llama.cpp, that export", same))
        record_property("row", ("the file", f"ours, our export to GGUF in {kind}", same_tokens(continuations, ours)))
        assert sum(same) >= {"F32": 1.0, "F16": 0.5, "Q8_0": 0.25}[kind] * LENGTH * len(same)

    def test_ids(self, opened: OpenModel, gguf: Path) -> None:
        theirs = open_in_llama(gguf, vocab_only=True)
        text = wikitext()
        assert theirs.tokenize(text.encode(), add_bos=False, special=False) == opened.tokenizer.encode(text)
