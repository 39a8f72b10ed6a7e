"""Extraction and languages beside datatrove's, on the same pages and sentences."""

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.document import Document
from groundup.corpus.extraction import main_content
from groundup.corpus.language import Language, LanguageConfig, language_of
from tests.corpus.extraction.score import labelled_pages, mean, score
from tests.corpus.test_language import PARAGRAPHS

pytest.importorskip("datatrove")


@pytest.fixture
def trafilatura() -> None:
    try:
        main_content("<p>text</p>", "trafilatura")
    except UsageError as error:
        pytest.skip(str(error))


def test_the_trafilatura_backend_agrees_with_datatroves_extractor(trafilatura: None) -> None:
    """Not token for token: datatrove asks trafilatura to favour precision and to leave out what a process has seen
    before, so that the result depends on the pages read earlier. Ours depends on the page alone."""
    from datatrove.pipeline.extractors import Trafilatura

    theirs = Trafilatura(favour_precision=False, deduplicate=False)
    for name, html, _ in labelled_pages():
        ours = main_content(html, "trafilatura")
        assert ours.split() == (theirs.extract(html) or "").split(), name
    precise = Trafilatura()
    agreement = {}
    for name, html, _ in labelled_pages():
        agreement[name] = score(main_content(html, "trafilatura"), precise.extract(html) or "")
    assert mean(agreement, "recall") > 0.95


@pytest.mark.parametrize("wanted", [(), ("en",), ("de", "fr", "pl")])
def test_language_decisions_equal_datatroves_given_the_same_scores(
    wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """datatrove downloads its models, ours comes in a wheel; so its filter gets our scores here, for the best language
    and nothing for the others. (Where several reach the threshold, datatrove keeps a text if one of them is wanted;
    ours asks for the best.)"""
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.filters.language_filter import LanguageFilter

    class Model:
        def predict(self, document: Theirs) -> tuple[tuple[str, float], dict[str, float]]:
            language, probability = language_of(document.text)
            pairs = dict.fromkeys(wanted, 0.0)
            return (language, probability), {
                **pairs,
                language: probability,
            } if language in wanted or not wanted else pairs

    monkeypatch.setattr("datatrove.pipeline.base.check_required_dependencies", lambda *_: None)  # of their own models
    theirs = LanguageFilter(languages=list(wanted) or None)
    theirs.model = Model()
    ours = Language(LanguageConfig(languages=wanted, min_characters=1))
    mixed = " ".join(PARAGRAPHS[name][:40] for name in ("sv", "fi", "tr", "vi"))
    for text in [*PARAGRAPHS.values(), mixed]:
        kept = isinstance(ours(Document("a", "", "s", text)), Document)
        assert kept == bool(theirs.filter(Theirs(text=text, id="a")))
