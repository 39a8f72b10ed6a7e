"""Our reading of SentencePiece models against the ``sentencepiece`` package: equal ids, equal text.

The models are trained here by the package itself, in every way that changes how a text is split. Real ``.model`` files
are checked too where they are installed (``mistral-common``) or named by ``GROUNDUP_SENTENCEPIECE_MODELS``.
"""

import importlib.util
import io
import os
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.tokenizer.sentencepiece import (
    NORMAL,
    UNUSED,
    Normalization,
    SentencePieceTokenizer,
    from_parts,
    read_model,
)

sentencepiece = pytest.importorskip("sentencepiece")

SYMBOLS = ["<sep>", "ab", "abc", "  ", "日本"]
#: Name → options of the package's trainer.
OPTIONS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "vocab_size": 500},
    "unigram-bytes": {"model_type": "unigram", "vocab_size": 700, "byte_fallback": True, "add_dummy_prefix": False},
    "unigram-identity": {
        "model_type": "unigram",
        "vocab_size": 500,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": SYMBOLS,
    },
    "bpe": {"model_type": "bpe", "vocab_size": 500},
    "bpe-llama": {
        "model_type": "bpe",
        "vocab_size": 800,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "byte_fallback": True,
        "user_defined_symbols": SYMBOLS,
    },
    "bpe-no-prefix": {"model_type": "bpe", "vocab_size": 500, "add_dummy_prefix": False},
    "bpe-across-words": {
        "model_type": "bpe",
        "vocab_size": 500,
        "normalization_rule_name": "nmt_nfkc_cf",
        "split_by_whitespace": False,
        "user_defined_symbols": SYMBOLS,
        "control_symbols": ["<ctl>"],
    },
    "char": {"model_type": "char", "vocab_size": 90, "user_defined_symbols": SYMBOLS},
    "word": {"model_type": "word", "vocab_size": 300, "normalization_rule_name": "nfkc"},
}

CORPUS = """The quick brown fox jumps over the lazy dog, and the dogs were jumping all over again in 2024 and 1999.
Straße façade naïve ﬁnal ﬂuff Ⅷ ½ x² … “quoted” — dashed; e\u0301tude étude ABC abc abcabc <sep> (brackets) [lists]
日本語 日本 東京 テキスト ﾃｷｽﾄ 中文没有空格 한국어 문장 Ελληνικά русский язык हिन्दी العربية ไทย 😀 👩‍👧
"""
FRAGMENTS = [
    *("the", " the", "▁the", "ing", "ab", "abc", "a", "b", " ", "  ", "   ", "▁", "▁▁", "\n", "\t", "\u3000", "\u200b"),
    *("日本", "語", "😀", "e\u0301", "\u0301", "ﬁ", "ﾃｷ", "ｶﾞ", "Ⅷ", "…", "ß", "\x00", "\x01", "\ufffd", "9", "2024"),
    *("<sep>", "<s>", "</s>", "<unk>", "<0x41>", "<ctl>", "q" * 30, "Ω", "\U0010ffff"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=30
)


@cache
def corpus() -> list[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    return CORPUS.splitlines() * 5 + (folder / "textwrap.py").read_text(encoding="utf-8").splitlines()


@cache
def trained(name: str) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **OPTIONS[name],
    )
    return model.getvalue()


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of encoding."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "available", lambda: False)
    elif not compiled.available():
        pytest.skip("numba is not installed")
    return str(request.param)


def both(data: bytes, folder: Path) -> tuple[SentencePieceTokenizer, Any]:
    """Ours and theirs from the same file."""
    path = folder / "some.model"
    path.write_bytes(data)
    return read_model(path), sentencepiece.SentencePieceProcessor(model_proto=data)


def check(ours: SentencePieceTokenizer, theirs: Any, examples: int = 100) -> None:
    """Equal ids of any text, and equal text of any ids."""
    assert ours.vocab_size == theirs.vocab_size()
    assert all(theirs.is_control(token_id) for token_id in ours.special_tokens.values())

    some = st.integers(0, ours.vocab_size - 1) | st.integers(
        0, min(300, ours.vocab_size) - 1
    )  # bytes are among the first

    @settings(max_examples=examples)
    @given(TEXTS, st.lists(some, max_size=12))
    def law(text: str, ids: list[int]) -> None:
        expected = theirs.encode(text)
        assert ours.encode(text) == expected
        assert ours.decode(expected) == theirs.decode(expected)
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.normalize(text) == theirs.normalize(text)

    law()
    if examples < 50:
        return
    for text in ["\n".join(corpus()), "a" * 5000, " " * 5000, "the" * 2000, "日" * 3000, "ab " * 2000]:
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("name", OPTIONS)
def test_ids_and_texts_are_equal(name: str, way: str, tmp_path: Path) -> None:
    check(*both(trained(name), tmp_path))


def test_every_character_is_normalised_alike(tmp_path: Path) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for name in ("unigram", "bpe-across-words", "word"):
        ours, theirs = both(trained(name), tmp_path)
        for text in ("".join(characters), " x".join(characters[:60_000]), "\u0301".join(characters[:60_000])):
            assert ours.normalize(text) == theirs.normalize(text)


def test_long_texts_lose_no_precision(tmp_path: Path, way: str) -> None:
    """Single precision would differ first where the scores of a path grow to hundreds of thousands."""
    rng = random.Random(0)
    text = " ".join(rng.choices("\n".join(corpus()).split(), k=20_000 if way == "plain" else 200_000))
    ours, theirs = both(trained("unigram"), tmp_path)
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("name", ["unigram", "bpe", "bpe-llama", "char", "word"])
def test_unused_pieces_stand_for_nothing(name: str, way: str, tmp_path: Path) -> None:
    ours, _ = both(trained(name), tmp_path)
    rng = random.Random(1)
    some = [
        piece._replace(type=UNUSED) if piece.type == NORMAL and rng.random() < 0.3 else piece
        for piece in ours.model.pieces
    ]
    SentencePieceTokenizer(replace(ours.model, pieces=tuple(some))).save(tmp_path)
    check(*both((tmp_path / "tokenizer.model").read_bytes(), tmp_path), examples=50)


def test_scores_may_be_equal_and_of_any_sign(way: str, tmp_path: Path) -> None:
    for name in ("bpe", "bpe-across-words", "unigram"):
        ours, _ = both(trained(name), tmp_path)
        for seed in range(2):
            rng = random.Random(seed)
            scores = [0.0, -0.0, 1.0, -1.0, -1.5, 2.5, -3.0]
            other = [piece._replace(score=rng.choice(scores)) for piece in ours.model.pieces]
            SentencePieceTokenizer(replace(ours.model, pieces=tuple(other))).save(tmp_path)
            check(*both((tmp_path / "tokenizer.model").read_bytes(), tmp_path), examples=30)


def test_what_is_saved_is_the_same_model(tmp_path: Path) -> None:
    for name in OPTIONS:
        ours, theirs = both(trained(name), tmp_path)
        ours.save(tmp_path)
        again, theirs_again = both((tmp_path / "tokenizer.model").read_bytes(), tmp_path)
        assert again.fingerprint == ours.fingerprint
        text = "".join(FRAGMENTS) + CORPUS
        assert again.encode(text) == theirs_again.encode(text) == theirs.encode(text)


def test_a_model_may_normalise_what_it_decodes(tmp_path: Path) -> None:
    ours, _ = both(trained("bpe-llama"), tmp_path)
    rules, _ = both(trained("unigram"), tmp_path)
    for settings_ in (Normalization(rules.model.normalization.charsmap), rules.model.normalization):
        SentencePieceTokenizer(replace(ours.model, denormalization=settings_)).save(tmp_path)
        check(*both((tmp_path / "tokenizer.model").read_bytes(), tmp_path), examples=30)


def test_from_parts_is_the_same_tokenizer(tmp_path: Path) -> None:
    for name in ("bpe-llama", "unigram"):
        ours, theirs = both(trained(name), tmp_path)
        model = ours.model
        rebuilt = from_parts(
            model.pieces,
            kind=model.kind,  # type: ignore[arg-type]
            add_dummy_prefix=model.normalization.add_dummy_prefix,
            remove_extra_whitespaces=model.normalization.remove_extra_whitespaces,
            byte_fallback=model.byte_fallback,
            unknown_id=theirs.unk_id(),
            charsmap=model.normalization.charsmap,
            special_tokens={"<extra>": ours.vocab_size + 1},
        )
        assert rebuilt.vocab_size == ours.vocab_size + 2
        assert rebuilt.encode(CORPUS + "<extra>") == theirs.encode(CORPUS + "<extra>")


def real_models() -> Iterator[Path]:
    """``.model`` files of others."""
    if named := os.environ.get("GROUNDUP_SENTENCEPIECE_MODELS"):
        yield from sorted(path for path in Path(named).rglob("*.model*") if path.is_file())
    found = importlib.util.find_spec("mistral_common")
    if found and found.origin:
        yield from sorted(Path(found.origin).parent.glob("data/*.model*"))


def test_real_models(way: str) -> None:
    paths = list(real_models())
    if not paths:
        pytest.skip("no .model file is here; install mistral-common or set GROUNDUP_SENTENCEPIECE_MODELS to a folder")
    for path in paths:
        check(read_model(path), sentencepiece.SentencePieceProcessor(model_file=str(path)), examples=40)
