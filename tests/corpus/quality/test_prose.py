"""The rules of Gopher, C4, FineWeb and RefinedWeb, each with a document on either side of its limit."""

import pickle
from pathlib import Path

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped, Step
from groundup.corpus.quality import (
    C4,
    C4Config,
    FineWeb,
    FineWebConfig,
    GopherQuality,
    GopherQualityConfig,
    GopherRepetition,
    GopherRepetitionConfig,
    LineConfig,
    Lines,
)

ONES = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
#: 120 words that stand in no order twice.
NUMBERS = [f"{ten}{one}" for ten in TENS for one in ONES[:15]]
SENTENCE = "It was the best of times and that is what we have to be content with, said she."


def document(text: str, **facts: str) -> Document:
    return Document("id", "title", "source", text, facts)


def reason(step: Step, text: str) -> str:
    """Why the step drops the text; "" if it does not."""
    result = step(document(text))
    return result.reason if isinstance(result, Dropped) else ""


def left(step: Step, text: str) -> str:
    result = step(document(text))
    assert isinstance(result, Document)
    return result.text


def sentences(number: int) -> list[str]:
    """Different ones, of nine words."""
    return [f"The {NUMBERS[n]} men of {NUMBERS[-n - 1]} have to be with {NUMBERS[n][::-1]}." for n in range(number)]


# --- Gopher: repetition -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "rule", "kept", "dropped"),
    [
        # 10 lines of which 3 or 4 occurred before; long ones beside them, so that only the count can be too high
        ({"duplicate_line_characters": 1.0}, "duplicate lines", 3, 4),
        ({"duplicate_lines": 1.0}, "duplicate line characters", 2, 3),
    ],
)
def test_lines_again(config: dict[str, float], rule: str, kept: int, dropped: int) -> None:
    step = GopherRepetition(GopherRepetitionConfig(top_ngrams=(1, 1, 1), duplicate_ngrams=(1,) * 6, **config))

    def text(again: int) -> str:
        # No sentence is as long as nine tenths of another, so shares of characters are near those of lines.
        return "\n".join([*sentences(10 - again), *[sentences(1)[0]] * again])

    assert reason(step, text(kept)) == ""
    assert reason(step, text(dropped)) == rule


@pytest.mark.parametrize(
    ("config", "rule", "kept", "dropped"),
    [
        ({"duplicate_paragraph_characters": 1.0}, "duplicate paragraphs", 3, 4),
        ({"duplicate_paragraphs": 1.0}, "duplicate paragraph characters", 2, 3),
    ],
)
def test_paragraphs_again(config: dict[str, float], rule: str, kept: int, dropped: int) -> None:
    wide = {"duplicate_lines": 1.0, "duplicate_line_characters": 1.0, "top_ngrams": (1, 1, 1)}
    step = GopherRepetition(GopherRepetitionConfig(**wide, duplicate_ngrams=(1,) * 6, **config))

    def text(again: int) -> str:
        return "\n\n".join([*sentences(10 - again), *[sentences(1)[0]] * again])

    assert reason(step, text(kept)) == ""
    assert reason(step, text(dropped)) == rule


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_commonest_ngram(n: int) -> None:
    # "aa bb" (5 characters) × 10 in 250 characters is 0.2.
    gram = " ".join(["aa", "bb", "cc", "dd"][:n])
    filler = [word[:4] + str(place) for place, word in enumerate(NUMBERS)]
    limit = {2: 0.20, 3: 0.18, 4: 0.16}[n]

    def text(size: int) -> str:
        parts = [f"{gram} {word}" for word in filler[:10]]
        return " ".join(parts).ljust(size, ".")

    exact = -int(-len(gram) * 10 // limit)
    limits = {k: 1.0 if k != n else limit for k in (2, 3, 4)}
    step = GopherRepetition(
        GopherRepetitionConfig(top_ngrams=(limits[2], limits[3], limits[4]), duplicate_ngrams=(1,) * 6)
    )
    assert reason(step, text(exact)) == ""
    assert reason(step, text(exact - 2)) == f"top {n}-gram"


@pytest.mark.parametrize("n", range(5, 11))
def test_ngrams_again(n: int) -> None:
    run = NUMBERS[:n]
    size = sum(map(len, run))
    limit = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)[n - 5]
    limits = tuple(limit if k == n else 1.0 for k in range(5, 11))
    step = GopherRepetition(GopherRepetitionConfig(top_ngrams=(1, 1, 1), duplicate_ngrams=limits))

    def text(length: int) -> str:
        return " ".join([*run, "and", *run]).ljust(length, ".")

    exact = -int(-size // limit)
    assert reason(step, text(exact)) == ""
    assert reason(step, text(exact - 1)) == f"duplicate {n}-grams"


def test_evidence_names_value_and_limit() -> None:
    result = GopherRepetition()(document("the same line\n" * 10))
    assert isinstance(result, Dropped)
    assert "0.9 of the lines" in result.detail
    assert "0.3" in result.detail


# --- Gopher: quality --------------------------------------------------------------------------------------------------


def prose(words: int, word: str = "word") -> str:
    """So many words, two stop words among them."""
    return " ".join(["the", "of", *[word] * (words - 2)])


@pytest.mark.parametrize(
    ("rule", "kept", "dropped"),
    [
        ("too few words", prose(50), prose(49)),
        ("too few words", prose(50) + " ... ---", prose(49) + " ... --- ! ?"),
        ("too many words", prose(100_000), prose(100_001)),
        ("mean word length", prose(100, "abc") + " abcd", prose(100, "abc")),
        ("mean word length", prose(102, "a" * 10), prose(102, "a" * 11)),
        ("hash signs", prose(90) + " #" * 10, prose(89) + " #" * 10),
        ("ellipses", prose(89) + " …" * 10 + " end", prose(88) + " …" * 10 + " end"),
        ("ellipses", prose(89) + " ..." * 10 + " end", prose(88) + " ..." * 10 + " end"),
        ("bullet lines", "- a line\n" * 9 + prose(60), "• a line\n" * 10 + prose(60)),
        ("ellipsis lines", "a line…\n" * 3 + "a line\n" * 6 + prose(60), "a line… \n" * 4 + "a line\n" * 6 + prose(60)),
        ("alphabetic words", prose(80) + " 12345" * 20, prose(80) + " 12345" * 21),
        ("stop words", "the of " + "word " * 60, "the the " + "word " * 60),
    ],
)
def test_quality(rule: str, kept: str, dropped: str) -> None:
    assert reason(GopherQuality(), kept) == ""
    assert reason(GopherQuality(), dropped) == rule


def test_punctuation_marks_are_words_only_if_asked_for() -> None:
    text = "Ay, ay; the king! the king, and that; to that? " * 12  # 11 words and 7 marks
    assert reason(GopherQuality(), text) == ""
    assert reason(GopherQuality(GopherQualityConfig(count_symbols=True)), text) == "alphabetic words"


def test_stop_words_of_another_language() -> None:
    german = GopherQuality(GopherQualityConfig(stop_words=("der", "und")))
    text = "der Hund und die Katze " * 15
    assert reason(german, text) == ""
    assert reason(GopherQuality(), text) == "stop words"
    assert reason(GopherQuality(GopherQualityConfig(min_stop_words=0)), text) == ""


#: Article 1 of the Universal Declaration of Human Rights, in scripts without spaces between words.
ARTICLE = {
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
    "km": "មនុស្សទាំងអស់កើតមកមានសេរីភាព និងភាពស្មើៗគ្នា ក្នុងសិទ្ធិ និងសេចក្ដីថ្លៃថ្នូរ។ "
    "មនុស្សគ្រប់រូបសុទ្ធតែមានវិចារណញាណ និងសតិសម្បជញ្ញៈ ហើយត្រូវប្រព្រឹត្ដចំពោះគ្នាទៅវិញទៅមកក្នុងស្មារតីរាប់អានគ្នាជាបងប្អូន។",
    "my": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် လည်းကောင်း၊ မွေးဖွားလာသူများ ဖြစ်သည်။",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
    "人人有资格享有本宣言所载的一切权利和自由。",
}


@pytest.mark.parametrize("language", ARTICLE)
def test_scripts_without_spaces_have_words_of_letters(language: str) -> None:
    """A vowel sign or tone mark belongs to its letter, and is no word without a letter."""
    step = GopherQuality(GopherQualityConfig(min_word_length=1, min_stop_words=0))
    assert reason(step, ARTICLE[language]) == ""
    assert reason(GopherQuality(), ARTICLE[language]) == "mean word length"


def test_chinese_sentences_need_no_space_between_them() -> None:
    step = C4(C4Config(terminal_punctuation=False, min_words=1, min_sentences=3))
    assert reason(step, ARTICLE["zh"]) == ""
    assert reason(step, ARTICLE["zh"].replace("。", "，", 1)) == "too few sentences"


def test_what_is_measured_stays_with_the_document() -> None:
    result = GopherQuality()(document(prose(60)))
    assert isinstance(result, Document)
    assert result.measures["words"] == 60
    assert result.measures["word_length"] == pytest.approx((58 * 4 + 5) / 60)


# --- FineWeb ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "kept", "dropped"),
    [
        ("empty", SENTENCE, " \n \n"),
        ("line punctuation", "\n".join([*NUMBERS[:22], "end.", "end?", "终。"]), "x\n" * 8 + "x."),
        ("short lines", "\n".join(sentences(33) + NUMBERS[:67]), "\n".join(sentences(32) + NUMBERS[:68])),
        ("duplicate characters", "\n".join([*sentences(99), "dd.", "dd."]), "\n".join([*sentences(9), *sentences(1)])),
    ],
)
def test_fineweb(rule: str, kept: str, dropped: str) -> None:
    wide = {"min_terminated_lines": 0.0, "max_short_lines": 1.0, "max_duplicate_characters": 1.0, "max_line_ends": 9.0}
    own = {
        "empty": {},
        "line punctuation": {"min_terminated_lines": 0.12},
        "short lines": {"max_short_lines": 0.67},
        "duplicate characters": {"max_duplicate_characters": 0.01},
    }[rule]
    step = FineWeb(FineWebConfig(**{**wide, **own}))
    assert reason(step, kept) == ""
    assert reason(step, dropped) == rule


def test_a_short_line_has_thirty_characters() -> None:
    step = FineWeb(FineWebConfig(max_short_lines=0.5))
    thirty = "b " * 14 + "b."
    assert reason(step, f"{'a' * 30}.\n{thirty}") == ""
    assert reason(step, f"{'a' * 29}.\n{thirty}") == "short lines"


def test_a_list_has_many_line_ends() -> None:
    step = FineWeb(FineWebConfig(max_short_lines=1.0))
    assert reason(step, "\n".join(f"{word} two three." for word in NUMBERS)) == ""  # 119 ends, 480 words
    assert reason(step, "\n".join(f"{word} two." for word in NUMBERS)) == "line ends"


def test_blank_lines_do_not_count() -> None:
    assert reason(FineWeb(), "\n \n".join(sentences(8))) == ""


# --- C4 ---------------------------------------------------------------------------------------------------------------

FIVE = "\n".join(sentences(5))


@pytest.mark.parametrize(
    "line",
    [
        "No mark at its end",
        "It goes on and on...",
        "Two words.",
        f"A long {'a' * 1001} word.",
        "Please enable JavaScript in your browser.",
        "Read our Privacy Policy, it is long.",
        "This site uses cookies, as all do.",
        "",
    ],
)
def test_c4_removes_lines(line: str) -> None:
    assert left(C4(), f"{FIVE}\n{line}\n{SENTENCE}") == f"{FIVE}\n{SENTENCE}"


@pytest.mark.parametrize(
    "line",
    [
        "Is this a question?",
        "What a day!",
        'She said "no"',
        "They said 'no'",
        "Three words here.",
        f"A long {'a' * 1000} word.",
    ],
)
def test_c4_keeps_lines(line: str) -> None:
    assert left(C4(), f"{FIVE}\n  {line} ") == f"{FIVE}\n{line}"


def test_c4_removes_citations_and_judges_what_is_left() -> None:
    text = "It rained in Spain.[1] It did. [citation needed]\nHistory of Spain[edit]"
    assert left(C4(), f"{FIVE}\n{text}") == f"{FIVE}\nIt rained in Spain. It did."


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("lorem ipsum", f"{FIVE}\nLorem Ipsum dolor sit amet."),
        ("curly bracket", f"{FIVE}\nThe function f(x) {{ is code."),
        ("curly bracket", f"{FIVE}\nThe privacy policy {{ is code."),
        ("too few sentences", "\n".join(sentences(4))),
        ("too few sentences", ""),
    ],
)
def test_c4_drops(rule: str, text: str) -> None:
    assert reason(C4(), text) == rule


@pytest.mark.parametrize("line", ["lorem ipsum without an end", "function() { without an end", "Javascript { is code."])
def test_what_a_removed_line_says_drops_nothing(line: str) -> None:
    assert left(C4(), f"{FIVE}\n{line}") == FIVE


def test_c4_without_punctuation_and_curly_brackets() -> None:
    step = C4(C4Config(terminal_punctuation=False, curly_brackets=False))
    text = f"{FIVE}\nA line without an end\nThe set {{1, 2}} has two."
    assert left(step, text) == text


def test_c4_counts_removed_lines() -> None:
    result = C4()(document(f"{FIVE}\nHome\nNews"))
    assert isinstance(result, Document)
    assert result.measures["c4.lines_removed"] == 2


def test_badwords_are_whole_words_in_any_case(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("# a comment\nfrell\n\nholy frak\n坏\n", encoding="utf-8")
    step = C4(C4Config(badwords=listed))
    assert reason(step, FIVE) == ""
    assert reason(step, f"{FIVE}\nThe frelling frak is holy frak.") == "bad word"
    assert reason(step, f"{FIVE}\nThe frelling frak is not, he said.") == ""
    assert reason(step, f"{FIVE}\nWhat the FRELL, he said.") == "bad word"
    assert reason(step, f"{FIVE}\n很坏的 事 情.") == "bad word"
    assert "frell" not in repr(pickle.dumps(step))


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.c4\.badwords: .* cannot be read"):
        C4(C4Config(badwords=tmp_path / "missing.txt"))


# --- RefinedWeb's lines -----------------------------------------------------------------------------------------------

PAGE = "\n".join(sentences(40))


@pytest.mark.parametrize(
    "line",
    [
        "SUBSCRIBE TO OUR letter",
        "12:30 2024-05-06",
        "3 likes",
        "1.2K comments",
        "Home",
        "« Home »",
        "Sign in to your account",
        "sign-in",
        "The news of today, read more...",
        "Would you like to see more?",
        "You have 3 items in cart now",
    ],
)
def test_lines_of_the_page_go(line: str) -> None:
    assert left(Lines(), f"{PAGE}\n{line}\n{SENTENCE}") == f"{PAGE}\n{SENTENCE}"
    assert left(Lines(), f"{line}\n{PAGE}") == PAGE


@pytest.mark.parametrize(
    "line",
    [
        "He signs in blood",
        "THE END is near",
        "3 likes are not much to ask of the world",
        "In 1999 it rained",
        "He could read more of it",
        "这是一个没有空格的句子",
        "    an indented line stays as it is",
        "Sign in to your account before you do all the other things that matter",
    ],
)
def test_lines_of_the_text_stay(line: str) -> None:
    assert left(Lines(), f"{PAGE}\n{line}") == f"{PAGE}\n{line}"


@pytest.mark.parametrize("end", [" Read more...", " [Continue reading »]", " | View all"])
def test_a_sentence_before_read_more_stays(end: str) -> None:
    result = Lines()(document(f"{PAGE}\n  The news of (today!){end}\n{SENTENCE}"))
    assert isinstance(result, Document)
    assert result.text == f"{PAGE}\n  The news of (today!)\n{SENTENCE}"
    assert result.measures == {"lines.shortened": 1}


def test_a_page_of_such_lines_goes() -> None:
    # 100 words, of which 5 or 6 stand in such lines
    text = "\n".join(["one two three four five six seven eight nine ten"] * 9)
    kept, dropped = text + "\nand five words are here\n", text + "\nand four are here\n"
    assert reason(Lines(), kept + "Home\n" * 5) == ""
    assert reason(Lines(), dropped + "Home\n" * 6) == "page furniture"


def test_lines_counts_what_it_removed() -> None:
    result = Lines()(document(f"{PAGE}\nHome\nNews"))
    assert isinstance(result, Document)
    assert result.measures["lines.removed"] == 2


# --- all --------------------------------------------------------------------------------------------------------------

STEPS = [GopherRepetition(), GopherQuality(), C4(), FineWeb(), Lines()]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_can_be_pickled_and_has_no_memory(step: Step) -> None:
    text = f"{PAGE}\nHome"
    first = step(document(text))
    step(document("Home\n" * 100))
    assert pickle.loads(pickle.dumps(step))(document(text)) == first


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_code_is_not_judged(step: Step) -> None:
    code = document("{\n" * 100, kind="code")
    assert step(code) is code


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
@pytest.mark.parametrize("text", ["", "\n", " ", "\x00", "a", "\u2028", "." * 1000])
def test_no_text_is_too_odd(step: Step, text: str) -> None:
    assert isinstance(step(document(text)), Document | Dropped)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GopherRepetitionConfig, {"duplicate_lines": 1.5}, r"corpus\.gopher_repetition\.duplicate_lines is 1\.5"),
        (GopherQualityConfig, {"min_words": 10, "max_words": 5}, r"corpus\.gopher_quality\.min_words is 10, above"),
        (C4Config, {"min_sentences": -1}, r"corpus\.c4\.min_sentences is -1; it must be at least 0"),
        (FineWebConfig, {"max_short_lines": -0.1}, r"corpus\.fineweb\.max_short_lines"),
        (LineConfig, {"max_removed": 2.0}, r"corpus\.lines\.max_removed is 2; it must be at least 0 and at most 1"),
    ],
)
def test_a_wrong_limit_is_refused(kind: type, values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**values)
