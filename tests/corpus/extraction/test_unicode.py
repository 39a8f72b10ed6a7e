import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.corpus.document import Document
from groundup.corpus.extraction import Normalize, NormalizeConfig


def normalized(text: str, **config: object) -> str:
    return Normalize(NormalizeConfig(**config))(Document("a", "", "s", text)).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "café"),
        ("a\r\nb\u2028c", "a\nb\nc"),
        ("soft\xadhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("left\u200eright\u202emarks\u2069", "leftrightmarks"),
        ("no\xa0break\u2009thin", "no break thin"),
        ("  indented  \n\n\n\n\n\nend\n", "  indented\n\n\nend"),
        ("می\u200cخواهم 👩\u200d🚒", "می\u200cخواهم 👩\u200d🚒"),
        ("　全角", "　全角"),
        ("ﬁne Ａ x²", "ﬁne Ａ x²"),
    ],
)
def test_one_form(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_compatibility_form_and_blanks_as_wished() -> None:
    assert normalized("ﬁne Ａ x²", form="NFKC") == "fine A x2"
    assert normalized("no\xa0break", blanks=False) == "no\xa0break"


@given(st.text(), st.sampled_from(["NFC", "NFKC"]))
def test_twice_is_once(text: str, form: str) -> None:
    once = normalized(text, form=form)
    assert normalized(once, form=form) == once
    assert unicodedata.is_normalized(form, once)


def test_the_step() -> None:
    step = Normalize()
    document = Document("a", "", "s", "clean text\nof two lines")
    assert step(document) is document
    assert pickle.loads(pickle.dumps(step)) == step
    with pytest.raises(UsageError, match=r"corpus\.normalize\.form is 'NFD'; it must be one of NFC, NFKC"):
        NormalizeConfig(form="NFD")
