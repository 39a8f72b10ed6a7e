"""Problems about the letters of one word: spelling, counting the letters, the first or last letter.

The content is the word alone: a word that is spelled in training is never counted in the test. Words stand in
quotation marks, so that a tokenizer meets them without the space that usually comes before a word; letters are
counted in a word that is written letter by letter.
"""

import random

from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

#: Lengths of the words whose letters are counted.
LENGTHS = (3, 4, 5, 6, 7, 8)

SPELLING_WORDINGS = Wordings(
    seen=(
        'Spell "{word}".',
        'Spell the word "{word}".',
        'How do you spell "{word}"?',
        'Please spell "{word}" letter by letter.',
        'Write "{word}" letter by letter.',
        'What are the letters of "{word}"?',
        'Can you spell "{word}"?',
        'Tell me the letters of the word "{word}".',
        'Say "{word}" one letter at a time.',
        'Give me every letter of "{word}" in order.',
        'I want to write "{word}". How is it spelled?',
    ),
    held_out=(
        'Please spell the word "{word}".',
        'Can you write "{word}" one letter at a time?',
        'How is the word "{word}" spelled?',
        'Give me the letters of "{word}", one by one.',
    ),
)

COUNTING_WORDINGS = Wordings(
    seen=(
        "How many letters are there in {letters}?",
        "Count the letters: {letters}.",
        "How many letters do you see in {letters}?",
        "{letters}. How many letters are these?",
        "Count how many letters are in {letters}.",
        "How many letters does this word have: {letters}?",
        "Tell me how many letters there are in {letters}.",
        "Please count the letters of the word {letters}.",
        "Look at these letters: {letters}. How many are there?",
        "What is the number of letters in {letters}?",
        "{letters}. Count them.",
    ),
    held_out=(
        "Please count these letters: {letters}.",
        "Tell me the number of letters in {letters}.",
        "Look at the word {letters}. How many letters does it have?",
        "{letters}. How many letters do you see?",
    ),
)

LETTER_WORDINGS = Wordings(
    seen=(
        'What is the {position} letter of "{word}"?',
        'Which letter does "{word}" {verb} with?',
        'Tell me the {position} letter of "{word}".',
        'With which letter does the word "{word}" {verb}?',
        'Give me the {position} letter of the word "{word}".',
        'Name the {position} letter of "{word}".',
        'Look at the word "{word}". What is its {position} letter?',
        'Say the {position} letter of "{word}".',
        'In the word "{word}", which letter comes {position}?',
        'What letter does the word "{word}" {verb} with?',
        'I want to know the {position} letter of "{word}".',
    ),
    held_out=(
        'Which letter comes {position} in "{word}"?',
        'Please tell me the {position} letter of the word "{word}".',
        'Which letter is the {position} letter of "{word}"?',
        'Look at "{word}". With which letter does it {verb}?',
    ),
)


def frequent(rng: random.Random, words: tuple[str, ...]) -> str:
    """A word, those at the front of ``words`` more often."""
    return words[int(len(words) * rng.random() ** 1.5)]


def word_key(word: str) -> tuple[str, ...]:
    """Content key of every problem about this one word."""
    return ("word", word)


def _draw_spelling(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    word = frequent(rng, material.words)
    return Content("spell", word_key(word), {"word": word}, " ".join(word), chance=0.0)


def _draw_counting(rng: random.Random, material: Material, owner: ContentSplit) -> Content | None:
    """A word of each length with equal probability, so that no one answer is right more often than others."""
    length = rng.choice(LENGTHS)
    words = tuple(word for word in material.words if len(word) == length)
    if not words:
        return None
    word = frequent(rng, words)
    return Content("count", word_key(word), {"letters": " ".join(word)}, str(length), chance=1 / len(LENGTHS))


def _draw_letter(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    word = frequent(rng, material.words)
    position, verb, place = rng.choice((("first", "begin", 0), ("last", "end", -1)))
    slots = {"word": word, "position": position, "verb": verb}
    return Content("letter", word_key(word), slots, word[place], chance=1 / len(set(word)))


SPELLING = Family("spelling", _draw_spelling, {"spell": SPELLING_WORDINGS})
COUNTING = Family("counting", _draw_counting, {"count": COUNTING_WORDINGS})
LETTERS = Family("letters", _draw_letter, {"letter": LETTER_WORDINGS})
