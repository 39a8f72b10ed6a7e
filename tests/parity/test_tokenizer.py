"""Our tokenizer against Hugging Face's ``tokenizers`` and OpenAI's ``tiktoken``: equal ids, equal merges."""

import json
import random
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.tasks.conversation import Conversation
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.bpe_plain import MINIMUM_COUNT, merge
from groundup.tokenizer.chat import JINJA_TEMPLATE, ChatTemplate
from groundup.tokenizer.formats.spelling import byte_alphabet
from groundup.tokenizer.pretokenize import PATTERN
from groundup.tokenizer.trainer import count_pieces, learn_merges

tokenizers = pytest.importorskip("tokenizers")

Encode = Callable[[str], list[int]]

# The libraries know different Unicode versions; characters that Python knows are known to all of them.
ASSIGNED = st.characters(exclude_categories=("Cs", "Cn"))
SCRIPTS = [
    "The quick brown fox can't jump over 1,234.56 lazy dogs — it's 7 o'clock; we'll SEE, THEY'RE late!",
    "def f(x: int) -> str:\n\treturn f'{x:>10}'  # ok\n\n\n    if x != 0:\r\n        pass\r\n",
    "Ελληνικά, русский язык, עִבְרִית, العَرَبِيَّة ١٢٣, हिन्दी में, தமிழ், ไทย",
    "中文没有空格。日本語とカタカナ、한국어 문장.",
    "👩‍👩‍👧‍👦 ❤️🇪🇺 e\u0301 é ﬁ Ⅷ ½ x² ſ İıß \u00a0\u2003\u3000\u200b\ufeff",
    "<|end|> <|document|><|user|> not special <|assistant|>",
    "   leading,   inner   and trailing   \n \n\t\n",
    "",
]


def _stdlib(*names: str) -> str:
    folder = Path(sysconfig.get_path("stdlib"))
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


@pytest.fixture(scope="module")
def ours() -> BytePairTokenizer:
    texts = [_stdlib("argparse.py", "textwrap.py", "heapq.py"), *SCRIPTS * 3]
    return BytePairTokenizer.train(texts, 1500)


@pytest.fixture(scope="module")
def hugging_face(ours: BytePairTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    ours.save(folder)
    loaded = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.encode_special_tokens = True  # read "<|end|>" in a text as text, as ours does
    return loaded


@pytest.fixture(scope="module", params=["tokenizers", "tiktoken"])
def reference(request: pytest.FixtureRequest, ours: BytePairTokenizer, hugging_face: Any) -> Encode:
    """Another library's encoder, built from our merges."""
    if request.param == "tokenizers":
        return lambda text: hugging_face.encode(text).ids
    encoding = pytest.importorskip("tiktoken").Encoding(
        "ours",
        pat_str=PATTERN,
        mergeable_ranks={ours.token_bytes(token): token for token in range(256 + len(ours.merges))},
        special_tokens=dict(ours.special_tokens),
    )
    return encoding.encode_ordinary


def test_known_texts_get_equal_ids(ours: BytePairTokenizer, reference: Encode) -> None:
    for text in [*SCRIPTS, _stdlib("tokenize.py", "unittest/mock.py")]:
        assert ours.encode(text) == reference(text)


def test_any_text_gets_equal_ids(ours: BytePairTokenizer, reference: Encode) -> None:
    fragments = st.lists(st.sampled_from([*" '\n\t1é中", "\r\n", "  ", "self", "'ll", "the", "return", "<|end|>"]))

    @given(st.text(ASSIGNED) | fragments.map("".join) | st.binary().map(lambda data: data.decode("latin-1")))
    def law(text: str) -> None:
        assert ours.encode(text) == reference(text)

    law()


def test_every_assigned_character_gets_equal_ids(ours: BytePairTokenizer, reference: Encode) -> None:
    """Each character after a letter, before a letter and in random company."""
    characters = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
    text = "".join(f"a{character}a {character}" for character in characters)
    assert ours.encode(text) == reference(text)
    random.Random(0).shuffle(characters)
    text = "".join(characters)
    assert ours.encode(text) == reference(text)


def test_hugging_face_knows_the_same_vocabulary(ours: BytePairTokenizer, hugging_face: Any) -> None:
    assert hugging_face.get_vocab_size() == ours.vocab_size
    assert {name: hugging_face.token_to_id(name) for name in ours.special_tokens} == dict(ours.special_tokens)
    ids = ours.encode("".join(SCRIPTS))
    assert hugging_face.decode(ids) == ours.decode(ids)


def _reference_merges(pre_tokenizer: Any, text: str, merge_count: int, alphabet: list[str]) -> list[tuple[str, str]]:
    """What the trainer of ``tokenizers`` learns, as pairs of spellings."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = pre_tokenizer
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(alphabet) + merge_count,
        min_frequency=MINIMUM_COUNT,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    model.train_from_iterator([text], trainer)
    content = json.loads(model.to_str())
    return [tuple(pair) for pair in content["model"]["merges"]]


def test_the_merges_are_those_of_the_reference_trainer() -> None:
    """Both break ties by the lowest ids; in printable ASCII both number the letters alike."""
    text = _stdlib("argparse.py", "tarfile.py", "typing.py")
    words = Counter(word.encode() for word in text.split() if word.isascii() and word.isprintable())
    ascii_text = " ".join(word.decode() for word, count in words.items() for _ in range(count))
    alphabet = [chr(code) for code in range(0x21, 0x7F)]
    expected = _reference_merges(tokenizers.pre_tokenizers.WhitespaceSplit(), ascii_text, 1500, alphabet)

    merges = learn_merges(words, 1500)
    spelling = [chr(byte) for byte in range(256)]
    learnt = []
    for left, right in merges:
        learnt.append((spelling[left], spelling[right]))
        spelling.append(spelling[left] + spelling[right])
    assert learnt == expected


def test_on_whole_text_the_reference_trainer_differs_in_ties_only() -> None:
    """It numbers the bytes by their spelling, so equal counts may be broken otherwise; no count may differ."""
    text = _stdlib("textwrap.py", "heapq.py") + "".join(SCRIPTS * 2)
    byte_level = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    merges = _reference_merges(byte_level, text, 150, byte_alphabet())
    id_of = {character: byte for byte, character in enumerate(byte_alphabet())}
    words = [(list(piece), count) for piece, count in count_pieces([text]).items()]
    for rank, (left, right) in enumerate(merges):
        counts: Counter[tuple[int, int]] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                counts[pair] += count
        pair = (id_of[left], id_of[right])
        assert counts[pair] == max(counts.values())
        id_of[left + right] = 256 + rank
        words = [(merge(word, pair, 256 + rank), count) for word, count in words]
    assert len(merges) == 150


def test_the_chat_template_is_what_transformers_renders(ours: BytePairTokenizer, hugging_face: Any) -> None:
    transformers = pytest.importorskip("transformers")
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=hugging_face)
    wrapped.chat_template = JINJA_TEMPLATE
    template = ChatTemplate(ours)
    conversation = Conversation.of(
        ("system", "Be brief."), ("user", " Hi\n"), ("assistant", "Hello 😀"), ("user", "2+2?"), ("assistant", "4")
    )

    def rendered(part: Conversation, generate: bool) -> list[int]:
        text = wrapped.apply_chat_template(part.to_json(), tokenize=False, add_generation_prompt=generate)
        hugging_face.encode_special_tokens = False
        try:
            return list(hugging_face.encode(text).ids)
        finally:
            hugging_face.encode_special_tokens = True

    assert rendered(conversation, generate=False) == template.render(conversation)[0]
    assert rendered(conversation.prompt, generate=True) == template.prompt(conversation.prompt)
