import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.clean import clean, normalize, tidy
from groundup.corpus.document import Document

LINES = st.sampled_from(
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK HAMLET ***",
        "*** END OF THIS PROJECT GUTENBERG EBOOK HAMLET ***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***",
        "End of the Project Gutenberg Etext of Hamlet",
        "The Project Gutenberg Etext of Hamlet",
        "Executive Director's Notes:",
        "David Reed",
        "This etext was prepared by A. Typist",
        "Produced by A. Typist",
        "To be, or not to be",
        "  Ham. To be\t",
        "",
        "",
    ]
)


@given(st.lists(st.one_of(LINES, st.text(max_size=20)), max_size=30))
def test_cleaning_twice_is_cleaning_once(lines: list[str]) -> None:
    once = clean("\n".join(lines))
    assert clean(once) == once


@given(st.text())
def test_cleaned_text_is_normal(text: str) -> None:
    cleaned = clean(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in cleaned)
    assert "\n\n\n\n" not in cleaned
    assert all(line == line.rstrip() for line in cleaned.split("\n"))


@given(st.text(alphabet=st.sampled_from("abc \nXY.,")))
def test_visible_characters_survive_in_order(text: str) -> None:
    assert clean(text).split() == text.split()


def test_line_ends_byte_order_mark_and_controls() -> None:
    assert normalize("\ufeffa\r\nb\rc\x1ad\u2028e\x85f") == "a\nb\ncd\ne\nf"
    assert normalize("cafe\u0301") == "café"


def test_white_space_keeps_indentation_and_two_blank_lines() -> None:
    assert tidy("\n\n  Ham. To be \t\n\n\n\n\nor not\n\n") == "  Ham. To be\n\n\nor not"


PLAY = "ACT I\n\nTo be, or not to be:\nthat is the question."

MODERN = f"""The Project Gutenberg EBook of Hamlet, by William Shakespeare

This eBook is for the use of anyone anywhere at no cost. See the Project
Gutenberg License included with this eBook.

Title: Hamlet

*** START OF THIS PROJECT GUTENBERG EBOOK HAMLET ***


Produced by A. Typist

{PLAY}


End of Project Gutenberg's Hamlet, by William Shakespeare

*** END OF THIS PROJECT GUTENBERG EBOOK HAMLET ***

Updated editions will replace the previous one."""

SMALL_PRINT = """***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Why is this "Small Print!" statement here?

*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
"""

OLD = f"""The Project Gutenberg Etext of Hamlet by William Shakespeare

**Welcome To The World of Free Plain Vanilla Electronic Texts**

{SMALL_PRINT}

This etext was prepared by A. Typist, with help.

{PLAY}

End of The Project Gutenberg Etext of Hamlet"""

FOLIO = f"""Project Gutenberg's Etext of The Tragedie of Hamlet

{SMALL_PRINT}

Executive Director's Notes:

In addition to the notes below, all the spelling is as it was.

Scanner's Notes: What this is and isn't. This was taken from
a copy of the first folio.

David Reed

{PLAY}"""

HEADER_ONLY = f"""The Project Gutenberg Etext of Hamlet

January, 1997  [Etext #1000]

Copyright laws are changing. See Project Gutenberg for more.

{PLAY}

End of the Project Gutenberg Etext of Hamlet"""

LICENCE_LAST = f"""{PLAY}

End of this Etext of Hamlet, see Project Gutenberg

{SMALL_PRINT}
[Portions of this header may be reprinted.]"""


@pytest.mark.parametrize("framed", [MODERN, OLD, FOLIO, HEADER_ONLY, OLD.replace("\n", "\r\n"), MODERN.upper()])
def test_every_historic_frame_is_removed(framed: str) -> None:
    assert clean(framed).upper() == PLAY.upper()


def test_small_print_at_the_end_does_not_displace_the_text() -> None:
    cleaned = clean(LICENCE_LAST)
    assert cleaned.startswith(PLAY)
    assert "Gutenberg" not in cleaned and "Small Print" not in cleaned


def test_a_short_text_survives_a_footer_of_unknown_form() -> None:
    assert PLAY in clean(f"The Project Gutenberg Etext of Hamlet\n\n{PLAY}\n\nThis was a Project Gutenberg text.")


def test_two_framed_works_in_one_file_are_both_kept() -> None:
    assert clean(MODERN + "\n\n" + OLD).split() == (PLAY + " " + PLAY).split()


@pytest.mark.parametrize(
    "text",
    ["Project Gutenberg was founded in 1971.\n\nIt is a library.", "Produced by hand.\n\nThis file was created today."],
)
def test_a_text_without_a_frame_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_no_licence_text_in_the_real_archive(real_documents: list[Document]) -> None:
    for document in real_documents:
        text = clean(document.text)
        assert clean(text) == text
        assert len(text) > 0.95 * len(document.text)
        for phrase in ("Gutenberg", "Small Print", "Etext", "E-text", "\ufeff", "\x1a", "\r"):
            assert phrase not in text, (document.id, phrase)
