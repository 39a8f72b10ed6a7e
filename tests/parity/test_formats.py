"""Vocabularies that are in use, opened from their own files: ids equal to those of the tools that they come from.

The published ones are read from the cache, where ``groundup fetch NAME`` brings them; tests of those that nobody
fetched are skipped. What the tools write themselves is made here.
"""

import base64
import hashlib
import json
import random
import sysconfig
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError, GroundupError
from groundup.corpus.sources import verified_archive
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.formats import gguf, gpt2, huggingface, ranks
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.formats.prepared import tokenizer_of
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.sentencepiece import from_parts
from groundup.tokenizer.vocabularies import RANK_FILES, VOCABULARIES, RankFile, open_member

Encode = Callable[[str], list[int]]

FRAGMENTS = [
    *(
        "'ll",
        "'S",
        " the",
        " parser",
        "self",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "1",
        "23",
        "4567",
        "é",
        "e\u0301",
        "ﬁ",
        "中",
        "文",
    ),
    *("!", "...", "==", "#" * 9, " " * 20, "a" * 10, "ß", "\u3000", "Ａ", "가", "कि", "🙂", "ᾼ", "Ⅷ", "٣", "İ", "ſ"),
    *(
        "<|end|>",
        "<|endoftext|>",
        "<|im_start|>",
        "<tool_call>",
        "</tool_call>",
        "[INST]",
        "<s>",
        "▁",
        " nghiệ",
        ".:.:",
    ),
]
TEXTS = [
    "",
    "The quick brown fox can't jump over 1,234.56 lazy dogs — it's 7 o'clock; we'll SEE, THEY'RE late!",
    "def f(x: int) -> str:\n\treturn f'{x:>10}'  # ok\n\n\n    if x != 0:\r\n        pass\r\n",
    "Ελληνικά, русский язык, עִבְרִית, العَرَبِيَّة ١٢٣, हिन्दी में, தமிழ், ไทย, Tiếng Việt, çıkartılmış",
    "中文没有空格。日本語とカタカナ、한국어 문장.",
    "👩‍👩‍👧‍👦 ❤️🇪🇺 e\u0301 é ﬁ Ⅷ ½ x² ſ İıß \u00a0\u2003\u3000\u200b\ufeff",
    "   leading,   inner   and trailing   \n \n\t\n",
    "Some <tool_call>{}</tool_call> and <|im_start|>special<|im_end|> <|eot_id|>[INST] tokens</s>",
    (Path(sysconfig.get_path("stdlib")) / "argparse.py").read_text(encoding="utf-8"),
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Prose, code, many scripts, and random mixtures of what is awkward."""
    rng = random.Random(0)
    mixtures = ["".join(rng.choices(FRAGMENTS, k=rng.randint(1, 30))) for _ in range(1500)]
    letters = [chr(code) for code in range(0x20, 0x30000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
    strange = ["".join(rng.choices(letters, k=rng.randint(1, 20))) for _ in range(500)]
    return [*TEXTS, *mixtures, *strange]


def assert_equal(ours: Encode, theirs: Encode, texts: list[str]) -> None:
    for text in texts:
        assert ours(text) == theirs(text), repr(text[:200])


@contextmanager
def fetched(name: str) -> Iterator[None]:
    """Skip where the vocabulary was never fetched."""
    try:
        verified_archive(VOCABULARIES[name])
    except GroundupError as error:
        pytest.skip(str(error))
    yield


def content_of(name: str, member: int = 0) -> bytes:
    known = VOCABULARIES[name]
    with open_member(known, known.members[member]) as stream:
        return stream.read()


def tiktoken_of(data: bytes, known: RankFile) -> Any:
    """tiktoken with the ranks in ``data``, read by the shortest reader there is."""
    pairs = (line.split() for line in data.splitlines())
    return pytest.importorskip("tiktoken").Encoding(
        known.name,
        pat_str=NAMED[known.pattern],
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in pairs},
        special_tokens=dict(known.special_tokens),
    )


def hugging_face(content: Any) -> Encode:
    """``tokenizers`` with the content of a ``tokenizer.json``; special tokens in a text are text."""
    loaded = pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(content))
    loaded.encode_special_tokens = True
    return lambda text: loaded.encode(text, add_special_tokens=False).ids


# --- published vocabularies


@pytest.mark.parametrize("name", ["cl100k", "o200k", "llama3", "qwen"])
def test_published_ranks_give_the_ids_of_tiktoken(name: str, texts: list[str]) -> None:
    with fetched(name):
        data = content_of(name)
    known = RANK_FILES[hashlib.sha256(data).hexdigest()]
    theirs, ours = tiktoken_of(data, known), open_tokenizer(name)
    assert ours.vocab_size == theirs.n_vocab
    assert dict(ours.special_tokens) == dict(known.special_tokens)

    def reference(text: str) -> list[int]:
        return theirs.encode_ordinary(unicodedata.normalize(known.normalization, text) if known.normalization else text)

    assert_equal(ours.encode, reference, texts)
    ids = [rank for rank in range(ours.vocab_size) if rank not in set(known.special_tokens.values())]
    ids = [rank for rank in random.Random(0).sample(ids, 2000) if ours.token_bytes(rank)]
    assert [ours.token_bytes(rank) for rank in ids] == theirs.decode_tokens_bytes(ids)


def test_gpt2_gives_the_ids_of_tiktoken_and_hugging_face(texts: list[str], tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken.load")
    with fetched("gpt2"):
        ours = open_tokenizer("gpt2")
    for number, name in enumerate(("encoder.json", "vocab.bpe")):
        (tmp_path / name).write_bytes(content_of("gpt2", number))
    data = tiktoken.data_gym_to_mergeable_bpe_ranks(str(tmp_path / "vocab.bpe"), str(tmp_path / "encoder.json"))
    assert isinstance(ours, BytePairTokenizer)
    written = ranks.write(Definition(ours.vocabulary))
    digest = hashlib.sha256(written).hexdigest()
    assert {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in written.splitlines()} == data
    assert_equal(ours.encode, tiktoken_of(written, RANK_FILES[digest]).encode_ordinary, texts)  # it is that of r50k
    assert_equal(ours.encode, hugging_face(huggingface.write(Definition(ours.vocabulary))), texts[:200])
    assert open_tokenizer("r50k").fingerprint == ours.fingerprint


def test_tekken_gives_the_ids_of_tiktoken(texts: list[str]) -> None:
    with fetched("tekken"):
        content = json.loads(content_of("tekken"))
    config, ours = content["config"], open_tokenizer("tekken")
    special = config["default_num_special_tokens"]
    entries = content["vocab"][: config["default_vocab_size"] - special]
    theirs = pytest.importorskip("tiktoken").Encoding(
        "tekken",
        pat_str=config["pattern"],
        mergeable_ranks={base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in entries},
        special_tokens={},
    )
    assert ours.vocab_size == config["default_vocab_size"]
    assert_equal(ours.encode, lambda text: [special + rank for rank in theirs.encode_ordinary(text)], texts)


def test_mistral_gives_the_ids_of_sentencepiece(texts: list[str]) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    with fetched("mistral"):
        theirs = sentencepiece.SentencePieceProcessor(model_proto=content_of("mistral"))
    ours = open_tokenizer("mistral")
    assert ours.vocab_size == theirs.vocab_size()
    assert_equal(ours.encode, theirs.encode, texts)


def test_llama2_gives_the_ids_of_hugging_face(texts: list[str]) -> None:
    with fetched("llama2"):
        content = json.loads(content_of("llama2"))
    ours = open_tokenizer("llama2")
    assert ours.vocab_size == len(content["model"]["vocab"]) == 32000
    # There "<s>" in a text is text to the model, but a piece to its merges.
    plain = [text for text in texts if "<s>" not in text and "</s>" not in text]
    assert_equal(ours.encode, hugging_face(content), plain)


def test_smollm2_gives_the_ids_of_hugging_face(texts: list[str]) -> None:
    """Its GGUF has the same lists as its tokenizer.json, whose pre-tokenizer is written down here."""
    with fetched("smollm2"):
        known = VOCABULARIES["smollm2"]
    with open_member(known, known.members[0]) as stream:
        metadata = gguf.read_metadata(stream)
    ours = open_tokenizer("smollm2")
    tokens, types = metadata["tokens"], metadata["token_type"]
    special = [token_id for token_id, kind in enumerate(types) if kind == 3]
    content = {
        "added_tokens": [
            {"id": i, "content": tokens[i], "special": True, "normalized": False, "single_word": False,
             "lstrip": False, "rstrip": False}
            for i in special
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": metadata["merges"]},
    }  # fmt: skip
    theirs = hugging_face(content)
    assert ours.vocab_size == len(tokens) == 49152
    assert sorted(ours.special_tokens.values()) == special
    differing = 0
    for text in texts:
        try:
            assert ours.encode(text) == theirs(text)
        except DataError as error:  # Hugging Face drops the byte without a word
            assert "for which this vocabulary has no token" in str(error)
            differing += 1
    assert differing < 5


def test_llama3_in_hugging_face_words(texts: list[str]) -> None:
    """As ``transformers`` converts it, with every way to make a token as a merge."""
    with fetched("llama3"):
        definition = open_tokenizer("llama3")
    assert isinstance(definition, BytePairTokenizer)
    vocabulary = definition.vocabulary
    content = huggingface.write(Definition(vocabulary))
    vocab = content["model"]["vocab"]
    merges = [
        (vocab[token], sorted((vocab[token[:cut]], vocab[token[cut:]], token[:cut], token[cut:])
                              for cut in range(1, len(token)) if token[:cut] in vocab and token[cut:] in vocab))
        for token in vocab
    ]  # fmt: skip
    content["model"]["merges"] = [[left, right] for _, ways in sorted(merges) for _, _, left, right in ways]
    assert len(content["model"]["merges"]) == 280_147
    again = huggingface.read(content).vocabulary
    assert again.merges.tolist() == vocabulary.merges.tolist()
    assert_equal(tokenizer_of(Definition(again)).encode, hugging_face(content), texts)


# --- what the tools write, and what they read of ours


@pytest.fixture(scope="module")
def trained() -> BytePairTokenizer:
    return BytePairTokenizer.train([TEXTS[-1], *TEXTS * 2], 1500)


def test_transformers_reads_what_we_write(trained: BytePairTokenizer, texts: list[str], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    special = [*trained.special_tokens]
    plain = [text for text in texts if not any(name in text for name in special)]
    assert_equal(trained.encode, lambda text: theirs.encode(text, add_special_tokens=False), plain)
    assert [theirs.convert_tokens_to_ids(name) for name in special] == [*trained.special_tokens.values()]
    text = "".join(TEXTS)
    assert theirs.decode(trained.encode(text), clean_up_tokenization_spaces=False) == text


def test_tiktoken_reads_what_we_write(trained: BytePairTokenizer, texts: list[str], tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    loading = pytest.importorskip("tiktoken.load")
    path = tmp_path / "ours.tiktoken"
    path.write_bytes(ranks.write(Definition(trained.vocabulary)))
    theirs = tiktoken.Encoding(
        "ours",
        pat_str=trained.vocabulary.pattern.splits[0],
        mergeable_ranks=loading.load_tiktoken_bpe(str(path)),
        special_tokens=dict(trained.special_tokens),
    )
    assert_equal(trained.encode, theirs.encode_ordinary, texts)
    assert_equal(open_tokenizer(path, "groundup").encode, theirs.encode_ordinary, texts)


def test_the_two_files_of_gpt2_are_read_by_tokenizers(texts: list[str], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = BytePairTokenizer.train([TEXTS[-1]], 900, Pattern.named("gpt2"))
    for name, data in zip(gpt2.FILE_NAMES[0], gpt2.write(Definition(made.vocabulary)), strict=True):
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in gpt2.FILE_NAMES[0]]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*paths))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert_equal(made.encode, lambda text: theirs.encode(text).ids, texts)


def _steps() -> dict[str, Any]:
    """Pipelines of ``tokenizers``: what comes before the model, and what is in the text."""
    tokenizers = pytest.importorskip("tokenizers")
    before, regex = tokenizers.pre_tokenizers, tokenizers.Regex
    byte_level = before.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(*expressions: str) -> Any:
        return before.Sequence([*(before.Split(regex(each), "isolated") for each in expressions), byte_level])

    deepseek = gguf.PATTERNS["deepseek-v3"].splits
    return {
        "gpt2": before.ByteLevel(add_prefix_space=False),
        "digits": before.Sequence([before.Digits(True), before.ByteLevel(add_prefix_space=False)]),
        "numbers": before.Sequence([before.Digits(False), before.ByteLevel(add_prefix_space=False)]),
        "nothing": byte_level,
        "string": before.Sequence([before.Split("e.", "isolated"), byte_level]),
        "removed": before.Sequence([before.Split(regex(NAMED["llama3"]), "removed", invert=True), byte_level]),
        "lines": split(r"^\s+", r"\s+$", NAMED["qwen2"]),
        "sets": split(r" ?[^(\s|[.,!?…。，、।۔،])]+"),
        "deepseek": split(*deepseek),
        "deepseek-llm": split(*(each.removeprefix("(?m)") for each in gguf.PATTERNS["deepseek-llm"].splits)),
        "o200k": split(NAMED["o200k"]),
    }


@pytest.mark.parametrize(
    "name",
    ["gpt2", "digits", "numbers", "nothing", "string", "removed", "lines", "sets", "deepseek", "deepseek-llm", "o200k"],
)
@pytest.mark.parametrize("normalizer", ["", "NFC"])
def test_what_tokenizers_writes_is_read(name: str, normalizer: str, texts: list[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = _steps()[name]
    if normalizer:
        model.normalizer = tokenizers.normalizers.NFC()
    model.add_special_tokens(["<|endoftext|>"])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        show_progress=False,
        special_tokens=["<|im_start|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    model.train_from_iterator([line for text in TEXTS for line in text.splitlines(keepends=True)], trainer)
    model.add_tokens(["<tool_call>", tokenizers.AddedToken("é!", normalized=True), "the parser"])
    content = json.loads(model.to_str())
    ours, theirs = tokenizer_of(huggingface.read(content)), hugging_face(content)
    some = texts[: len(TEXTS)] + texts[len(TEXTS) :: 4] + ["e\u0301! é! the parser\u0301", "x<tool_call>the parser"]
    assert_equal(ours.encode, theirs, some)
    written = huggingface.write(huggingface.read(content))
    assert_equal(ours.encode, hugging_face(written), some)


def test_unigrams_of_tokenizers_are_sentencepiece(texts: list[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.Unigram())
    model.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=600, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False
    )
    model.train_from_iterator(TEXTS, trainer)
    content = json.loads(model.to_str())
    ours = from_parts(**huggingface.sentencepiece_parts(content)._asdict())
    theirs = hugging_face(content)
    words = [word for text in TEXTS for word in text.split() if "<" not in word]
    known = [word for word in words if ours.unknown_id not in ours.encode(word)]
    assert len(known) > 1000
    # Of equally probable ways, of which "=====" has many, each takes another.
    assert_equal(lambda word: sorted(ours.encode(word)), lambda word: sorted(theirs(word)), known)
