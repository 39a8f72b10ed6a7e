"""Perplexity on WikiText-2 is that of transformers. ``python -m tests.real.record`` measures the whole text."""

from typing import Any

import pytest

from groundup.inference.opening import OpenModel
from tests.real.perplexity import surprisal, windows
from tests.real.sides import wikitext

pytestmark = pytest.mark.real


def test_every_window_is_as_surprising(opened: OpenModel, reference: Any) -> None:
    for window in windows(opened.ids(wikitext()))[::50]:
        ours = surprisal(opened.model, window)
        theirs = surprisal(lambda ids: reference(ids).logits, window)
        assert ours == pytest.approx(theirs, rel=1e-5)
