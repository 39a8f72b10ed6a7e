"""Material: what is gathered from documents, and that any corpus leaves every list filled."""

from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tasks import Material
from groundup.tasks.material import LINE_CHARACTERS, MIN_NAMES, MIN_THINGS, MIN_WORDS, PASSAGE_LINES

STANZA = """KING HENRY.
The owl has left the hollow tree,
And what it saw it told to me;
The fox has left his bed of clay,
And both are walking to the bay.

[Exit the King.]
"""


def filled(material: Material) -> bool:
    """Every list has what the tasks need."""
    passages = (material.train_verses, material.validation_verses, material.test_verses)
    return (
        len(material.words) >= MIN_WORDS
        and len(material.names) >= MIN_NAMES
        and len(material.things) >= MIN_THINGS
        and all(len(group) > 0 for group in passages)
        and all(len(passage) == PASSAGE_LINES for group in passages for passage in group)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=300), max_size=5), st.lists(st.text(max_size=300), max_size=2))
def test_any_text_leaves_every_list_filled(train: list[str], validation: list[str]) -> None:
    assert filled(Material.from_documents(train, validation))


def test_words_are_whole_lower_case_and_ordered_by_frequency() -> None:
    words = [chr(97 + i % 20) * 2 + chr(97 + i // 20) + "x" * (i % 4) for i in range(300)]
    text = " ".join(words * 3 + [words[7]] * 5 + ["o'er", "bed-rid", "Whole", "of", "seldom"] * 3 + ["unusual"])
    found = Material.from_documents([text]).words
    assert found[0] == words[7]
    assert set(words) <= set(found)
    assert not {"rid", "bed", "Whole", "of", "unusual"} & set(found)


def test_verse_is_found_without_speakers_and_directions() -> None:
    material = Material.from_documents([STANZA])
    passages = {*material.train_verses, *material.validation_verses, *material.test_verses}
    expected = tuple(line for line in STANZA.splitlines() if line.startswith(("The", "And")))
    assert expected[:PASSAGE_LINES] in passages
    assert not any("[" in line or "KING" in line for passage in passages for line in passage)


def test_sentences_take_the_place_of_verse() -> None:
    prose = " ".join(f"The bird {i} sat down\nupon a branch." for i in range(200))
    material = Material.from_documents([prose])
    passages = (*material.train_verses, *material.validation_verses, *material.test_verses)
    assert "The bird 0 sat down upon a branch." in {line for passage in passages for line in passage}


def test_no_line_occurs_in_two_passages(material: Material) -> None:
    lines = [
        line.casefold()
        for group in (material.train_verses, material.validation_verses, material.test_verses)
        for passage in group
        for line in passage
    ]
    assert len(lines) == len(set(lines))
    assert all(LINE_CHARACTERS[0] <= len(line) <= LINE_CHARACTERS[1] and '"' not in line for line in lines)


def test_held_out_passages_come_from_the_validation_documents() -> None:
    train = [f"The {a} and the {b} went out,\n" for a in ("fox", "owl", "cat", "dog") for b in NUMERALS]
    validation = [f"A {a} and a {b} came in,\n" for a in ("bear", "wolf", "mouse") for b in NUMERALS]
    material = Material.from_documents(["".join(train)], ["".join(validation) * 2])
    held_out = (*material.validation_verses, *material.test_verses)
    assert len(held_out) == len(validation) // PASSAGE_LINES
    assert all(line.startswith("A ") for passage in held_out for line in passage)
    assert not any(line.startswith("A ") for passage in material.train_verses for line in passage)


NUMERALS = [a + b for a in ("twenty", "thirty", "forty", "fifty", "sixty") for b in ("one", "two", "six", "ten")]
NUMERALS += [a + b for a in ("seventy", "eighty", "ninety") for b in ("one", "two", "six", "ten")]
