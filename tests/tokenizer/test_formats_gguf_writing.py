"""Tokenizers written as the metadata of GGUF come back with the same ids."""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.formats import gguf
from groundup.tokenizer.formats.definition import AddedToken, Definition
from groundup.tokenizer.formats.gguf import Marks
from groundup.tokenizer.formats.gguf_container import read_header, read_metadata, write_header
from groundup.tokenizer.formats.gguf_writing import differences, write
from groundup.tokenizer.formats.huggingface import Parts
from groundup.tokenizer.formats.prepared import PreparedTokenizer, tokenizer_of
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, SentencePieceTokenizer, from_parts
from groundup.tokenizer.unigram import UnigramTokenizer

TEXTS = ["the theatre there, 12345 ", "it's that OTHER'S thing\n\n", "  \t été 中文"]
OURS = BytePairTokenizer.train([text for text in TEXTS for _ in range(4)], 290)


def again(tokenizer: Tokenizer, size: int = 0, marks: Marks | None = None) -> Any:
    """The tokenizer after a way through a file."""
    metadata = write(tokenizer, size or tokenizer.vocab_size, marks or Marks())
    read = gguf.read(gguf.read_metadata(BytesIO(write_header(metadata, []))))
    return from_parts(**read._asdict()) if isinstance(read, Parts) else tokenizer_of(read)


@given(st.text(max_size=60))
def test_our_own_tokenizer_comes_back(text: str) -> None:
    back = again(OURS)
    assert back.encode(text.replace("ſ", "")) == OURS.encode(text.replace("ſ", ""))
    assert dict(back.special_tokens) == dict(OURS.special_tokens)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (Pattern(), "qwen2"),
        (Pattern.named("qwen2"), "qwen2"),
        (Pattern.named("gpt2"), "gpt-2"),
        (Pattern.named("llama3"), "llama-bpe"),
        (Pattern.named("o200k"), "gpt-4o"),
        (Pattern((r"\p{N}", NAMED["gpt2"])), "smollm"),
        (gguf.PATTERNS["deepseek-v3"], "deepseek-v3"),
    ],
)
def test_the_way_of_cutting_has_llama_cpps_name(pattern: Pattern, name: str) -> None:
    tokenizer = BytePairTokenizer.train([text for text in TEXTS for _ in range(4)], 300, pattern)
    assert write(tokenizer, 300, Marks())["tokenizer.ggml.pre"] == name
    for text in TEXTS:
        assert again(tokenizer).encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize("pattern", ["r50k", "cl100k", r"\w+|\W+"])
def test_a_way_of_cutting_that_llama_cpp_does_not_know_is_refused(pattern: str) -> None:
    tokenizer = BytePairTokenizer.train(TEXTS * 4, 300, Pattern.named(pattern))
    with pytest.raises(UsageError, match=r"llama\.cpp has no name for texts cut by"):
        write(tokenizer, 300, Marks())


def test_whole_pieces_go_first_only_where_llama_cpp_does_so() -> None:
    """A token that no merge builds tells the two apart."""
    vocabulary = BytePairTokenizer.train(TEXTS * 4, 300, Pattern.named("llama3")).vocabulary
    tokens = [*vocabulary.tokens, b"zebra"]
    names = {}
    for whole in (False, True):
        made = type(vocabulary).make(
            tokens,
            [(left, right) for left, right, _ in vocabulary.merges.tolist()],
            vocabulary.special_tokens,
            vocabulary.pattern,
            whole,
        )
        names[whole] = write(BytePairTokenizer(made), 301, Marks())["tokenizer.ggml.pre"]
    assert names == {False: "dbrx", True: "llama-bpe"}
    with pytest.raises(UsageError, match="with whole pieces first"):
        write(BytePairTokenizer(replace(made, pattern=Pattern())), 301, Marks())


def test_ids_beyond_the_tokenizer_are_not_used() -> None:
    metadata = write(OURS, 293, Marks())
    assert metadata["tokenizer.ggml.tokens"][290:] == ["[PAD290]", "[PAD291]", "[PAD292]"]
    assert metadata["tokenizer.ggml.token_type"][283:] == [1, 3, 3, 3, 3, 3, 3, 5, 5, 5]
    with pytest.raises(UsageError, match="has 290 ids but the model only 289"):
        write(OURS, 289, Marks())


def test_marks_and_the_chat_template_come_back() -> None:
    marks = Marks(begin=284, end=284, end_of_turn=288, padding=289, add_begin=True)
    assert Marks.ours(OURS.special_tokens) == marks
    assert Marks.ours({"<s>": 1}) is None
    full = read_metadata(BytesIO(write_header(write(OURS, 300, marks, "{{ messages }}"), [])))
    assert gguf.read_marks(full) == marks
    assert gguf.read_chat_template(full) == "{{ messages }}"
    assert gguf.read_marks(write(OURS, 300, Marks())) == Marks()
    assert gguf.read_chat_template(write(OURS, 300, Marks())) == ""
    with pytest.raises(UsageError, match="the eos mark is 300, none of the model's 300 ids"):
        write(OURS, 300, Marks(end=300))


@pytest.mark.parametrize("value", [-1, 1 << 20, "2", True, 1.0])
def test_a_mark_that_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"its eos_token_id is .* no id"):
        gguf.read_marks({"tokenizer.ggml.eos_token_id": value})


def prepared(**changes: Any) -> PreparedTokenizer:
    special = {**OURS.vocabulary.special_tokens, "<tool>": 290}
    vocabulary = replace(OURS.vocabulary, special_tokens=special, offsets=OURS.vocabulary.offsets[[*range(291), 290]])
    return PreparedTokenizer(Definition(vocabulary, **{"added_tokens": (AddedToken("<tool>", 290),), **changes}))


def test_added_tokens_come_back_and_normalisation_is_told() -> None:
    tokenizer = prepared()
    text = "the <tool> there<|end|>"
    assert again(tokenizer).encode(text) == tokenizer.encode(text)
    assert 290 in tokenizer.encode(text)
    assert differences(tokenizer) == differences(OURS) == []
    assert differences(prepared(normalization="NFC")) == [
        "llama.cpp does not bring texts into NFC before it encodes them"
    ]
    qwen = BytePairTokenizer.train(TEXTS, 280, Pattern.named("qwen2"))
    assert differences(qwen) == ["llama.cpp does not take 'ſ for a contraction"]


def test_two_tokens_of_one_spelling_are_refused() -> None:
    taken = OURS.vocabulary.tokens[270].decode().replace(" ", "Ġ")
    vocabulary = replace(OURS.vocabulary, special_tokens={taken: 284})
    with pytest.raises(UsageError, match=f"2 tokens are spelled '{taken}'"):
        write(BytePairTokenizer(vocabulary), 300, Marks())


def test_an_added_token_that_merges_make_is_refused() -> None:
    content = OURS.vocabulary.tokens[270].decode()
    tokenizer = PreparedTokenizer(Definition(OURS.vocabulary, added_tokens=(AddedToken(content, 270),)))
    with pytest.raises(UsageError, match="is also made by merges"):
        write(tokenizer, 300, Marks())


def sentencepiece(**changes: Any) -> SentencePieceTokenizer:
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces += [(text, -float(rank), NORMAL) for rank, text in enumerate(["th", "▁th", "e", "▁", "t", "h", "▁the"])]
    settings: Mapping[str, Any] = {
        "kind": "bpe",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "unknown_id": 0,
        "special_tokens": {"<s>": 1, "</s>": 2},
        **changes,
    }
    return from_parts(pieces, **settings)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_comes_back(prefix: bool) -> None:
    tokenizer = sentencepiece(add_dummy_prefix=prefix)
    back = again(tokenizer, tokenizer.vocab_size + 2)
    for text in ("the the", "  theé", "<s>"):
        assert back.encode(text) == tokenizer.encode(text)
    assert back.special_tokens["</s>"] == 2
    assert differences(tokenizer) == []


def test_what_llama_cpp_does_not_do_of_sentencepiece_is_refused() -> None:
    for tokenizer in (sentencepiece(kind="unigram"), sentencepiece(remove_extra_whitespaces=True)):
        with pytest.raises(UsageError, match="leaves texts as they are"):
            write(tokenizer, tokenizer.vocab_size, Marks())


def test_another_kind_of_tokenizer_is_refused() -> None:
    tokenizer = UnigramTokenizer.train(TEXTS * 4, 290)
    with pytest.raises(UsageError, match="this is a UnigramTokenizer"):
        write(tokenizer, tokenizer.vocab_size, Marks())


scalars = st.one_of(
    st.booleans(), st.integers(0, (1 << 32) - 1), st.floats(width=32, allow_nan=False), st.text(max_size=20)
)
lists = st.one_of(
    st.lists(st.booleans()), st.lists(st.integers(-9, 9)), st.lists(st.floats(width=32, allow_nan=False)),
    st.lists(st.text(max_size=9)),
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=20), st.one_of(scalars, lists), max_size=8))
def test_every_kind_of_metadata_comes_back(metadata: dict[str, Any]) -> None:
    header = read_header(BytesIO(write_header(metadata, []) + bytes(40)))
    assert header.metadata == metadata
    assert [type(value) for value in header.metadata.values()] == [type(value) for value in metadata.values()]
    assert header.size == len(write_header(metadata, []))
