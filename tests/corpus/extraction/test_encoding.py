import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document
from groundup.corpus.extraction import Repair, RepairConfig, repair

SENTENCES = [
    "Größe — Übermaß, naïve café: it’s “quoted”.",
    "Zażółć gęślą jaźń, proszę bardzo.",
    "Привет, как дела сегодня?",
    "Ελληνικά κείμενα για δοκιμή.",
    "日本語の文章を書きます。",
    "العربية لغة جميلة جدا.",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_text_read_as_latin_1_becomes_what_it_was(sentence: str) -> None:
    damaged = sentence.encode().decode("latin-1")
    assert repair(f"fine line\n{damaged}\n{sentence}") == (f"fine line\n{sentence}\n{sentence}", {"mojibake": 1})


@pytest.mark.parametrize(
    ("code_page", "sentence"),
    [
        ("cp1252", "Crème brûlée costs €5 – it’s worth it…"),
        ("cp1250", "Größe – naïve café, it’s fine"),
        ("cp1251", "Größe – café, it’s fine"),
        ("cp1251", "Всё хорошо, спасибо большое"),
        ("cp437", "naïve café – it’s fine"),
        ("mac_roman", "naïve café – it’s fine"),
    ],
)
def test_other_code_pages(code_page: str, sentence: str) -> None:
    assert repair(sentence.encode().decode(code_page))[0] == sentence


def test_text_damaged_twice() -> None:
    assert repair("café’s".encode().decode("cp1252").encode().decode("cp1252"))[0] == "café’s"


@pytest.mark.parametrize("text", [*SENTENCES, "SOCIÉTÉ» «ÉTÉ»", "Рівне й ві́йна, всё ещё", "Â", "5 €/m² ±2 °C"])
def test_text_without_damage_stays(text: str) -> None:
    assert repair(text) == (text, {})


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("Fish &amp; chips &lt; 5 &euro;", "Fish & chips < 5 €"),
        ("caf&eacute;&nbsp;&#8217;&#x2019;", "café\xa0’’"),
        ("&amp;amp;eacute; &#38;lt;", "é <"),
        ("AT&T; &nosuch; &amp;nosuch; a&b", "AT&T; &nosuch; &nosuch; a&b"),
        ("write &lt;p&gt; for <p>", "write &lt;p&gt; for <p>"),
    ],
)
def test_entities(text: str, repaired: str) -> None:
    assert repair(text)[0] == repaired
    assert repair(text, RepairConfig(entities=False)) == (text, {})


@pytest.mark.parametrize(
    ("text", "repaired", "count"),
    [
        ("a\x00b\x1ac\x7f", "abc", 3),
        ("\x1b[31mred\x1b[0m", "red", 2),
        ("he said \x93hi\x94\x85", "he said “hi”…", 3),
        ("a\x81b", "ab", 1),
        ("tab\tand\nline\r\nends", "tab\tand\nline\r\nends", 0),
    ],
)
def test_control_characters(text: str, repaired: str, count: int) -> None:
    assert repair(text) == (repaired, {"controls": count} if count else {})
    assert repair(text, RepairConfig(controls=False))[0] == text


DAMAGE = st.sampled_from(
    [
        "&amp;",
        "&",
        "amp;",
        "&eacute;",
        "#38;",
        ";",
        "lt;",
        "Ã",
        "©",
        "â€™",
        "\x80",
        "\x93",
        "\x1b[0m",
        "\n",
        "<",
        "é",
        " word ",
    ]
)


@given(st.lists(DAMAGE, max_size=12).map("".join))
@settings(deadline=None)
def test_repaired_entities_and_controls_are_repaired_once_and_for_all(text: str) -> None:
    config = RepairConfig(mojibake=False)
    once, _ = repair(text, config)
    assert repair(once, config)[0] == once
    assert not any("\x7f" <= character <= "\x9f" for character in once)


def test_an_endless_line_is_left_alone() -> None:
    text = "cafÃ© " * 20_000
    assert repair(text) == (text, {})


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_document_is_repaired_and_counted() -> None:
    step = Repair()
    document = Document("a", "", "s", "cafÃ© &amp; bar\x00\ncafÃ©", measures={"repaired.entities": 2.0})
    result = step(document)
    assert result.text == "café & bar\ncafé"
    assert result.measures == {"repaired.entities": 3, "repaired.controls": 1, "repaired.mojibake": 2}
    assert step(result) is result
    assert pickle.loads(pickle.dumps(step)) == step


@pytest.mark.parametrize("kind", ["html", "wikitext", "code"])
def test_markup_and_code_keep_their_entities(kind: str) -> None:
    result = Repair()(Document("a", "", "s", "cafÃ© &amp; bar", {"kind": kind}))
    assert result.text == "café &amp; bar"
