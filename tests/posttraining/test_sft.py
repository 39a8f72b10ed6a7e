"""What SFT learns from a conversation, and in which order conversations come."""

import json
from collections.abc import Sequence
from itertools import islice

import pytest

from groundup.core.errors import DataError
from groundup.dataloader import IGNORED, Batch
from groundup.posttraining.sft import ConversationSource
from groundup.tasks import Conversation, Material, TaskMixture
from groundup.tokenizer import ChatTemplate


def sequences(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """(inputs, targets, positions) of every packed sequence of a batch, in order."""
    found = []
    rows = zip(*(batch.tensors[name].tolist() for name in ("inputs", "targets", "positions", "segments")), strict=True)
    for inputs, targets, positions, segments in rows:
        for segment in range(max(segments) + 1):
            places = [place for place, number in enumerate(segments) if number == segment]
            found.append(tuple([column[place] for place in places] for column in (inputs, targets, positions)))
    return found  # type: ignore[return-value]


def learnt_turns(template: ChatTemplate, targets: list[int]) -> list[str]:
    """The texts of the learnt turns; each must be closed by a learnt ``<|end|>``."""
    end = template.tokenizer.special_tokens["<|end|>"]
    turns: list[list[int]] = [[]]
    for target in targets:
        if target == end:
            turns.append([])
        elif target != IGNORED:
            turns[-1].append(target)
    assert turns.pop() == [], "a turn without its end"
    return [template.text(turn) for turn in turns]


@pytest.fixture
def talk(material: Material) -> TaskMixture:
    """Small talk and several turns, too."""
    return TaskMixture("train", 3, material, chitchat=0.3, multi_turn=0.5)


def test_only_the_assistants_words_and_their_end_are_learnt(template: ChatTemplate, talk: TaskMixture) -> None:
    source = ConversationSource(talk, template, rows=3, time=600)
    packed = [sequence for batch in islice(source, 4) for sequence in sequences(batch)]
    assert len(packed) > 12
    for number, (inputs, targets, positions) in enumerate(packed):
        conversation = talk.conversation(number)  # each in order, once, and whole
        ids, _ = template.render(conversation)
        assert inputs == ids[:-1]
        assert positions == list(range(len(inputs)))
        said = [message.content for message in conversation.messages if message.role == "assistant"]
        assert learnt_turns(template, targets) == said
        assert all(target in (IGNORED, following) for target, following in zip(targets, ids[1:], strict=True))


def test_the_weight_counts_the_targets(template: ChatTemplate, talk: TaskMixture) -> None:
    for batch in islice(ConversationSource(talk, template, rows=2, time=500), 5):
        assert batch.weight == int((batch.tensors["targets"] != IGNORED).sum()) > 0


@pytest.mark.parametrize("before", [0, 1, 4])
def test_it_resumes_exactly(template: ChatTemplate, talk: TaskMixture, before: int) -> None:
    source = ConversationSource(talk, template, rows=2, time=500)
    batches = iter(source)
    for _ in range(before):
        next(batches)
    resumed = ConversationSource(talk, template, rows=2, time=500)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    for expected, batch in zip(islice(batches, 3), resumed, strict=False):
        assert all(tensor.equal(expected.tensors[name]) for name, tensor in batch.tensors.items())


class Few:
    """Three conversations."""

    def __len__(self) -> int:
        return 3

    def conversation(self, index: int) -> Conversation:
        return Conversation.of(("user", f"{index}?"), ("assistant", str(index) * 4))

    def reward(self, index: int, answer: str) -> float:
        return 0.0


def test_it_starts_again_at_the_end(template: ChatTemplate) -> None:
    source = ConversationSource(Few(), template, rows=1, time=40)
    packed: Sequence[tuple[list[int], ...]] = [s for batch in islice(source, 4) for s in sequences(batch)]
    asked = [template.tokenizer.decode(inputs).strip()[:1] for inputs, _, _ in packed]
    assert asked == [str(number % 3) for number in range(len(packed))]
    assert len(packed) > 6


def test_a_conversation_too_long_for_the_context_is_refused(template: ChatTemplate, talk: TaskMixture) -> None:
    with pytest.raises(DataError, match=r"model\.context 20"):
        next(iter(ConversationSource(talk, template, rows=1, time=20)))
