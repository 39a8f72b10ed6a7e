import importlib
from pathlib import Path

import pytest

from groundup.core.errors import GroundupError, UsageError
from groundup.corpus.build import CorpusConfig
from groundup.corpus.dedup import CrossStep
from groundup.corpus.document import Document, Dropped
from groundup.corpus.pipeline.engine import cut_into_passes
from groundup.corpus.pipeline.registry import DEFAULT, PIPELINES, STEPS, expand, listed, make
from groundup.corpus.pipeline.whole import WholeStep


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_can_be_made_from_the_defaults_or_says_what_it_needs(name: str) -> None:
    module, _, kind = STEPS[name].place.partition(":")
    assert hasattr(importlib.import_module(module), kind)
    try:
        step = make(name, CorpusConfig())
        assert isinstance(step, CrossStep | WholeStep) == STEPS[name].across
        assert step.name
        if not STEPS[name].across:
            assert isinstance(step(Document("i", "t", "s", "Some text of no great length.")), Document | Dropped)
    except GroundupError as error:  # a list or a model of the user's
        assert any(words in str(error) for words in ("corpus.", "does not exist", "make one with"))


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_every_pipeline_is_made_of_known_steps(name: str) -> None:
    assert set(expand([name])) <= set(STEPS)
    assert expand([name]) == PIPELINES[name]


def test_names_may_be_spelled_with_hyphens_and_pipelines_mixed_with_steps() -> None:
    assert expand(["exact-duplicates", "Long_enough"]) == ("exact duplicates", "long enough")
    assert expand(["default", "url-duplicates"]) == (*DEFAULT, "url duplicates")


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (("claen",), "'claen' is no step; did you mean clean?"),
        (("exact-duplicate",), "did you mean exact-duplicates?"),
        (("xyzzy",), "use one of: default"),
        (("clean", "default"), "clean stands there twice"),
    ],
)
def test_what_is_no_pipeline_is_refused(steps: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=r"corpus\.steps") as caught:
        CorpusConfig(steps=steps)
    assert complaint in str(caught.value)


def test_a_step_across_documents_begins_a_pass() -> None:
    passes = cut_into_passes(("clean", "exact duplicates", "long enough", "near duplicates"))
    assert [(this.lead, this.steps, this.following) for this in passes] == [
        ("", ("clean",), "exact duplicates"),
        ("exact duplicates", ("long enough",), "near duplicates"),
        ("near duplicates", (), ""),
    ]


def test_the_documentation_knows_every_step_and_pipeline() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data-engine.md").read_text(encoding="utf-8")
    for name, entry in STEPS.items():
        assert f"| `{name.replace(' ', '-')}` | {'┊' if entry.across else ''} | {entry.what} |" in page
    for name, steps in PIPELINES.items():
        assert f"| `{name}` | {listed(steps)} |" in page
