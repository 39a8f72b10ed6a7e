"""Problems about the letters of one word: spelling, counting a letter, the first or last letter.

The content is the word alone: a word that is spelled in training is never counted in the test. Words stand in
quotation marks, so that a tokenizer meets them without the space that usually comes before a word.
"""

import random

from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

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
        'How many times does the letter "{letter}" occur in "{word}"?',
        'How often does "{letter}" occur in "{word}"?',
        'Count the letter "{letter}" in "{word}".',
        'How many times do you see "{letter}" in "{word}"?',
        'In the word "{word}", how many letters are "{letter}"?',
        'Count how many times "{letter}" is in "{word}".',
        'How many of the letters of "{word}" are "{letter}"?',
        'Tell me how often the letter "{letter}" is in "{word}".',
        'Please count the letter "{letter}" in the word "{word}".',
        'Look at the word "{word}". How often do you see the letter "{letter}"?',
        'What is the number of times that "{letter}" occurs in "{word}"?',
    ),
    held_out=(
        'How often is the letter "{letter}" in the word "{word}"?',
        'Tell me how many times "{letter}" occurs in "{word}".',
        'Look at "{word}". How many letters are "{letter}"?',
        'In "{word}", how often does the letter "{letter}" occur?',
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


def _draw_counting(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    """None, one or two with equal probability (a word that has no such letter is passed over); rarely three."""
    wanted = rng.choice((0, 1, 2))
    while True:
        word = frequent(rng, material.words)
        # A letter that is absent is taken from another word, so that frequent letters are absent too.
        letters = sorted(set(word + frequent(rng, material.words)))
        fitting = [letter for letter in letters if min(word.count(letter), 2) == wanted]
        if fitting:
            letter = rng.choice(fitting)
            slots = {"word": word, "letter": letter}
            return Content("count", word_key(word), slots, str(word.count(letter)), chance=1 / 3)


def _draw_letter(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    word = frequent(rng, material.words)
    position, verb, place = rng.choice((("first", "begin", 0), ("last", "end", -1)))
    slots = {"word": word, "position": position, "verb": verb}
    return Content("letter", word_key(word), slots, word[place], chance=1 / len(set(word)))


SPELLING = Family("spelling", _draw_spelling, {"spell": SPELLING_WORDINGS})
COUNTING = Family("counting", _draw_counting, {"count": COUNTING_WORDINGS})
LETTERS = Family("letters", _draw_letter, {"letter": LETTER_WORDINGS})
