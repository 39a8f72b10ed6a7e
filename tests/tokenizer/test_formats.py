"""Every file that we write is read back to the same tokenizer, and what others may write is read or refused by name."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.formats import gpt2, huggingface, ranks
from groundup.tokenizer.formats.content import parse_object
from groundup.tokenizer.formats.definition import AddedToken, Definition, reading
from groundup.tokenizer.formats.prepared import PreparedTokenizer, tokenizer_of
from groundup.tokenizer.formats.spelling import byte_alphabet, spell, unspell
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.vocabulary import Vocabulary

NEVER = 1 << 62
BYTES = [bytes([byte]) for byte in range(256)]
TEXT = "The theatre:\n\tthe theme, then 1234 <tool> thé <|end|> of THE end  "


def vocabulary(
    *added: bytes, special: Mapping[str, int] | None = None, pattern: str = "gpt2", whole_pieces: bool = True
) -> Vocabulary:
    """The bytes and ``added``, merged as tiktoken does."""
    tokens = [*BYTES, *added]
    pairs = ranks.merges_of(tokens)
    special = {"<|end|>": len(tokens)} if special is None else special
    return Vocabulary.make(tokens, pairs, special, Pattern.named(pattern), whole_pieces)


@pytest.fixture
def small() -> Vocabulary:
    return vocabulary(b"th", b"the", b" the", b" T", b"en", b"12")


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of ``content`` with what is at the dotted ``path`` replaced."""
    copy = json.loads(json.dumps(content))
    *way, last = path.split(".")
    place = copy
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return copy


# --- spelling


@given(st.binary())
def test_any_bytes_are_spelled_visibly_and_read_back(data: bytes) -> None:
    spelling = spell(data)
    assert unspell(spelling) == data
    assert set(spelling) <= set(byte_alphabet())


@pytest.mark.parametrize("text", ["a b", "▁a", "\ud800", "中"])
def test_what_is_not_spelled_in_bytes_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not spelled"):
        unspell(text)


# --- merges


def joined(text: bytes, rank_of: Callable[[bytes, bytes], int]) -> list[bytes]:
    """The definition: the pair of the lowest rank merges, the leftmost first, until there is none."""
    parts = [text[place : place + 1] for place in range(len(text))]
    while True:
        found = [rank_of(left, right) for left, right in pairwise(parts)]
        if min(found, default=NEVER) == NEVER:
            return parts
        place = found.index(min(found))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab", min_size=2, max_size=5).map(str.encode), min_size=1, max_size=9, unique=True),
    st.lists(st.text("ab", max_size=14).map(str.encode), min_size=5, max_size=20),
)
def test_merges_of_ranks_give_what_joining_by_rank_gives(added: list[bytes], texts: list[bytes]) -> None:
    tokens = [b"a", b"b", *added]
    rank = {token: token_id for token_id, token in enumerate(tokens)}
    pairs = {
        (tokens[left], tokens[right]): rank[tokens[left] + tokens[right]] for left, right in ranks.merges_of(tokens)
    }
    for text in [*texts, *tokens, b"".join(tokens)]:
        by_merges = joined(text, lambda left, right: pairs.get((left, right), NEVER))
        assert by_merges == joined(text, lambda left, right: rank.get(left + right, NEVER))


def test_a_token_may_have_a_lower_rank_than_its_parts() -> None:
    tokens = [*BYTES, b"xyz", b"yz"]
    definition = ranks.read(rank_lines(*tokens), Pattern(), {})
    assert BytePairTokenizer(definition.vocabulary).encode("wxyz") == [ord("w"), 256]
    assert ranks.write(definition) == rank_lines(*tokens)


# --- tokenizer.json


def definitions(small: Vocabulary) -> list[Definition]:
    special = {"<|end|>": 262, "<tool>": 263}
    both = replace(small, special_tokens=special, offsets=vocabulary(special=special).offsets)
    both = Vocabulary.make(small.tokens[:262], [(a, b) for a, b, _ in small.merges.tolist()], special)
    lacking = [b"" if token == b"\x00" else token for token in small.tokens[:262]]
    return [
        Definition(small),
        Definition(small, "NFC"),
        Definition(both, added_tokens=(AddedToken("<tool>", 263),)),
        Definition(both, "NFKC", (AddedToken("<tool>", 263, normalized=True),), {"type": "Sequence", "processors": []}),
        Definition(Vocabulary.make([*lacking, b"", b"\x00"], [], {"<|end|>": 262}), missing=b"\x00"),
        Definition(replace(small, pattern=Pattern((r"\p{N}", NAMED["gpt2"])))),
        Definition(replace(small, pattern=Pattern((r"(?m)\s+$", r"(?V1) ?[^(\s|[.,!?])]+", r"\p{N}{1,3}")))),
        Definition(replace(small, pattern=Pattern.named("cl100k"), whole_pieces=True)),
    ]


@pytest.mark.parametrize("number", range(8))
def test_tokenizer_json_is_read_back_to_the_same_ids(small: Vocabulary, number: int) -> None:
    definition = definitions(small)[number]
    content = parse_object(json.dumps(huggingface.write(definition)).encode())
    again = huggingface.read(content)
    assert huggingface.kind_of(content) == "byte-level"
    assert tokenizer_of(again).encode(TEXT) == tokenizer_of(definition).encode(TEXT)
    assert huggingface.write(again) == content
    if definition.vocabulary.pattern.splits != (NAMED["cl100k"],):  # spelled otherwise for the other engine
        assert tokenizer_of(again).fingerprint == tokenizer_of(definition).fingerprint


@pytest.fixture
def content(small: Vocabulary) -> dict[str, Any]:
    """What Hugging Face's file says of a small vocabulary."""
    return huggingface.write(Definition(small))


def test_both_spellings_of_merges_are_read(content: dict[str, Any], small: Vocabulary) -> None:
    pairs = [merge.split(" ") for merge in content["model"]["merges"]]
    assert huggingface.read(changed(content, "model.merges", pairs)).vocabulary.fingerprint == small.fingerprint


def test_every_way_to_make_a_token_may_be_listed(content: dict[str, Any], small: Vocabulary) -> None:
    merges = content["model"]["merges"]
    assert "t he" not in merges and "th e" in merges
    more = changed(changed(content, "model.merges", [*merges, "t he", "h e"]), "model.vocab.he", 300)
    found = huggingface.read(more).vocabulary
    more["model"]["merges"].remove("t he")
    assert found.fingerprint == huggingface.read(more).vocabulary.fingerprint


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


@pytest.mark.parametrize(
    ("steps", "splits"),
    [
        ([], (NAMED["gpt2"],)),
        ([{"type": "Digits", "individual_digits": True}], (r"\p{N}", NAMED["gpt2"])),
        ([{"type": "Digits", "individual_digits": False}], (r"\p{N}+", NAMED["gpt2"])),
        ([{"type": "Split", "pattern": {"String": "a.b"}, "behavior": "Isolated"}], (r"a\.b", NAMED["gpt2"])),
        ([{"type": "Sequence", "pretokenizers": []}], (NAMED["gpt2"],)),
        (
            [{"type": "Split", "pattern": {"Regex": NAMED["llama3"]}, "behavior": "Removed", "invert": True}],
            (NAMED["llama3"], NAMED["gpt2"]),
        ),
        (
            [{"type": "Split", "pattern": {"Regex": r"\s+$"}, "behavior": "Isolated", "invert": False}],
            (r"(?m)\s+$", NAMED["gpt2"]),
        ),
    ],
)
def test_what_cuts_the_text_is_read(content: dict[str, Any], steps: list[Any], splits: tuple[str, ...]) -> None:
    made = changed(content, "pre_tokenizer", {"type": "Sequence", "pretokenizers": [*steps, BYTE_LEVEL]})
    assert huggingface.read(made).vocabulary.pattern.splits == splits


def test_byte_level_alone_without_an_expression_cuts_nothing(content: dict[str, Any]) -> None:
    made = huggingface.read(changed(content, "pre_tokenizer", {**BYTE_LEVEL, "use_regex": False})).vocabulary
    assert list(made.pattern.pieces("a b\n1")) == ["a b\n1"]
    assert huggingface.read(huggingface.write(Definition(made))).vocabulary.fingerprint == made.fingerprint


ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
SPLIT = {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("model", None, "'model' is missing"),
        ("model", [], "'model' is a list"),
        ("model.type", "WordPiece", "'WordPiece'; BPE, Unigram"),
        ("model.vocab", {}, "no tokens"),
        ("model.vocab", ["a"], "'vocab' is a list"),
        ("model.vocab.th", 3, "share the id 3"),
        ("model.vocab.th", -1, "-1 is negative"),
        ("model.vocab.th", 1.5, "a number instead of a whole number"),
        ("model.vocab.th", True, "true or false instead of a whole number"),
        ("model.vocab.th", 10**9, "ids up to 1,000,000,000"),
        ("model.vocab.th", 10**30, "ids up to"),
        ("model.vocab.中", 300, "not spelled"),
        ("model.vocab.", 300, None),
        ("model.merges", "t h", "'merges' is a string"),
        ("model.merges.0", "t", "merge 0 is not two tokens"),
        ("model.merges.0", "t h e", "merge 0 is not two tokens"),
        ("model.merges.0", ["t"], "merge 0 is not two tokens"),
        ("model.merges.0", 7, "merge 0 is not two tokens"),
        ("model.merges.0", [["t"], "h"], "merge 0 is not two tokens"),
        ("model.merges.0", "t ☃", "merge 0 names '☃'"),
        ("model.merges.0", "z z", "makes b'zz', which is no token"),
        ("model.merges.1", "t h", "a second time"),
        ("model.dropout", 0.1, "dropout"),
        ("model.end_of_word_suffix", "</w>", "end_of_word_suffix"),
        ("model.ignore_merges", "yes", "'ignore_merges' is a string"),
        ("normalizer", {"type": "Lowercase"}, "Lowercase"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFD"}]}, "NFC"),
        ("normalizer", {"type": "Sequence", "normalizers": ["NFC"]}, "a string instead of an object"),
        ("pre_tokenizer", {**BYTE_LEVEL, "add_prefix_space": True}, "add_prefix_space"),
        ("pre_tokenizer.pretokenizers", [BYTE_LEVEL, SPLIT], "goes on after ByteLevel"),
        ("pre_tokenizer.pretokenizers", [{"type": "Whitespace"}, BYTE_LEVEL], "'Whitespace'"),
        ("pre_tokenizer.pretokenizers.0.behavior", "Removed", "'Removed'"),
        ("pre_tokenizer.pretokenizers.0.behavior", "MergedWithNext", "'MergedWithNext'"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "(x"}, "no regular expression"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "[a[x]"}, "no regular expression"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": r"\h+"}, "only Oniguruma"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": r"\p{N}{1,3}+"}, "only Oniguruma"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "((a{999}){999}){999}"}, "larger than those of any"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "a{" + "9" * 9000 + "}"}, "larger than those of any"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "a|" * 99_999}, "larger than those of any"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "(" * 4000 + "a" + ")" * 4000}, "nested too deeply"),
        ("pre_tokenizer.pretokenizers.0.pattern", {}, "'Regex' is missing"),
        ("added_tokens", {}, "'added_tokens' is an object"),
        ("added_tokens.0", 3, "a whole number instead of an object"),
        ("added_tokens.0.id", "3", "'id' is a string"),
        ("added_tokens.0.id", 3, "'<|end|>' has the id 3, but not so"),
        ("added_tokens.0.id", -3, "'<|end|>' has the id -3; ids are 0 to"),
        ("added_tokens.0.id", 1 << 40, "ids are 0 to"),
        ("added_tokens.0.content", "", "'' has the id"),
        ("added_tokens.0", {**ADDED, "id": 256, "content": "th"}, "an ordinary token"),
        ("added_tokens", [{**ADDED, "id": 300, "content": name} for name in "☃☄"], "share the id 300"),
        ("added_tokens.0", {**ADDED, "id": 300, "content": "<x>", "special": False, "lstrip": True}, "white space"),
    ],
)
def test_a_tokenizer_json_that_is_damaged_or_does_more_is_refused(
    content: dict[str, Any], path: str, value: Any, reason: str | None
) -> None:
    made = changed(content, path, value)
    if reason is None:
        huggingface.read(made)
        return
    with pytest.raises(DataError) as caught:
        assert huggingface.kind_of(made) == "byte-level"
        huggingface.read(made)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON at line 1"),
        (b"{", "not JSON at line 1"),
        (b'{"model": \xff}', "not UTF-8 at byte 10"),
        (b"[1]", "a list and not an object"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "thousands of digits"),
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught, reading("x.json"):
        parse_object(data)
    assert str(caught.value).startswith("x.json cannot be used as a tokenizer: it")


def test_an_expression_that_others_read_otherwise_is_not_written(small: Vocabulary) -> None:
    for expression in (r"\p{N}{1,3}+\d", r"\h", "$"):
        with pytest.raises(UsageError, match="would read it otherwise"):
            huggingface.write(Definition(replace(small, pattern=Pattern((expression,)))))


# --- what goes before the pairs


def test_added_tokens_are_cut_out_and_special_ones_are_not(small: Vocabulary) -> None:
    tokenizer = tokenizer_of(definitions(small)[2])
    assert isinstance(tokenizer, PreparedTokenizer)
    assert tokenizer.special_tokens == {"<|end|>": 262}
    assert tokenizer.encode("the<tool>then") == [257, 263, 257, ord("n")]
    assert 262 not in tokenizer.encode("the<|end|>")
    assert tokenizer.encode_with_special("the<|end|>", ["<|end|>"]) == [257, 262]
    assert tokenizer.decode([257, 263, 262]) == "the<tool>"
    assert tokenizer.token_bytes(263) == b"<tool>"
    with pytest.raises(UsageError, match="no special token"):
        tokenizer.encode_with_special("the", ["<tool>"])
    with pytest.raises(DataError, match="outside the vocabulary of 264"):
        tokenizer.token_bytes(264)


def test_the_longest_added_token_wins(small: Vocabulary) -> None:
    special = {"<a>": 262, "<a><b>": 263, "<|end|><a>": 264}
    base = Vocabulary.make(small.tokens[:262], [], special)
    tokenizer = tokenizer_of(Definition(base, added_tokens=(AddedToken("<a>", 262), AddedToken("<a><b>", 263))))
    assert tokenizer.encode("<a><a><b>") == [262, 263]
    assert tokenizer.encode("<|end|><a>") == [*b"<|end|><a>"]  # part of a special one, which is text as a whole


def test_normalization_is_before_normalized_tokens_and_after_others(small: Vocabulary) -> None:
    special = {"e\u0301": 262, "é!": 263}
    base = Vocabulary.make(small.tokens[:262], [], special)
    added = (AddedToken("e\u0301", 262), AddedToken("é!", 263, normalized=True))
    tokenizer = tokenizer_of(Definition(base, "NFC", added))
    assert tokenizer.encode("e\u0301") == [262]
    assert tokenizer.encode("e\u0301!") == [262, ord("!")]
    assert tokenizer.encode("é!") == [263]
    assert tokenizer.encode("a\u030a") == [*"å".encode()]
    assert tokenizer.decode(tokenizer.encode("a\u030ae\u0301é!")) == "åe\u0301é!"


def test_a_byte_without_a_token_is_named(small: Vocabulary) -> None:
    tokenizer = tokenizer_of(definitions(small)[4])
    assert tokenizer.vocab_size == 263
    assert tokenizer.decode(tokenizer.encode("the end")) == "the end"
    with pytest.raises(DataError, match=r"the byte b'\\x00', for which this vocabulary has no token"):
        tokenizer.encode("the\0end")


def test_what_decides_an_id_decides_the_fingerprint(small: Vocabulary) -> None:
    prints = [tokenizer_of(definition).fingerprint for definition in definitions(small)]
    assert len(set(prints)) == len(prints)


# --- rank files


def test_rank_files_are_read_back(small: Vocabulary) -> None:
    data = ranks.write(Definition(small))
    assert ranks.looks_like_ranks(data)
    assert ranks.read(data, small.pattern, small.special_tokens).vocabulary.fingerprint == small.fingerprint


def test_our_own_vocabulary_has_a_rank_file(tokenizer: BytePairTokenizer) -> None:
    made = tokenizer.vocabulary
    again = ranks.read(ranks.write(Definition(made)), made.pattern, made.special_tokens).vocabulary
    assert BytePairTokenizer(again).encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_only_tokenizer_json_says_is_not_written_elsewhere(small: Vocabulary, number: int) -> None:
    for write in (ranks.write, gpt2.write):
        with pytest.raises(UsageError, match=r"write tokenizer\.json instead"):
            write(definitions(small)[number])


def test_ids_that_are_no_ranks_are_not_written() -> None:
    tokens = [*BYTES, b"the", b"th"]
    learnt = [(ord("t"), ord("h")), (257, ord("e"))]
    for whole_pieces in (True, False):
        with pytest.raises(UsageError, match="no rank file"):
            ranks.write(Definition(Vocabulary.make(tokens, learnt, {}, None, whole_pieces)))
    with pytest.raises(UsageError, match="no rank file"):  # here "th" is only special if it stands alone
        ranks.write(Definition(Vocabulary.make([*BYTES, b"th"], [], {})))


def rank_lines(*tokens: bytes, start: int = 0) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens, start))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (rank_lines(*BYTES) + b"!!!! 256\n", "line 257 is not a token in base64"),
        (rank_lines(*BYTES) + b"YWI=\n", "line 257 is not"),
        (rank_lines(*BYTES) + b"YWI= 256 7\n", "line 257 is not"),
        (rank_lines(*BYTES) + b"YWI= x\n", "line 257 is not"),
        (rank_lines(*BYTES) + b"YWI 256\n", "line 257 is not"),
        (rank_lines(*BYTES) + b"YWI= " + b"9" * 5000, "line 257 is not"),
        (rank_lines(*BYTES) + b"YWI= 255\n", "line 257 gives rank 255 a second time"),
        (rank_lines(*BYTES) + b"YQ== 256\n", "tokens 97 and 256 are the same bytes"),
        (rank_lines(*BYTES) + b"YWI= -1\n", "-1 is negative"),
        (rank_lines(*BYTES) + b"YWI= 99999999\n", "ids up to 99,999,999"),
        (rank_lines(*BYTES[1:]), r"no token is the single byte b'\x00'"),
        (rank_lines(*BYTES, b"\0" * 40_000), "longer than those of any tokenizer"),
        (b"", "no tokens"),
    ],
)
def test_a_damaged_rank_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        ranks.read(data, Pattern(), {})
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_special_token_may_not_take_a_rank() -> None:
    with pytest.raises(DataError, match="'<x>' has the id 3 of an ordinary token"):
        ranks.read(rank_lines(*BYTES), Pattern(), {"<x>": 3})


# --- tekken.json


def tekken(*added: bytes, special: int = 4) -> dict[str, Any]:
    tokens = [*BYTES, *added, b"too much"]
    return {
        "config": {
            "pattern": NAMED["gpt2"],
            "default_vocab_size": len(tokens) - 1 + special,
            "default_num_special_tokens": special,
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for rank, token in enumerate(tokens)
        ],
        "special_tokens": [{"rank": 1, "token_str": "<s>"}, {"rank": 0, "token_str": "<unk>"}],
    }


def test_special_tokens_of_tekken_come_first() -> None:
    made = ranks.read_tekken(tekken(b"th", b"the")).vocabulary
    assert BytePairTokenizer(made).encode("the t") == [4 + 257, 4 + 32, 4 + ord("t")]
    assert dict(made.special_tokens) == {"<unk>": 0, "<s>": 1, "<SPECIAL_2>": 2, "<SPECIAL_3>": 3}
    assert len(made) == 4 + 258


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("config", None, "'config' is missing"),
        ("config.pattern", 3, "'pattern' is a whole number"),
        ("config.pattern", "(", "no regular expression"),
        ("config.default_vocab_size", 10**12, "it cannot have 1000000000000 ids"),
        ("config.default_vocab_size", 2, "it cannot have 2 ids"),
        ("config.default_num_special_tokens", 1, "2 of them with a name"),
        ("vocab.5.rank", 6, "its ranks are not 0 to"),
        ("vocab.5.rank", -5, "its ranks are not 0 to"),
        ("vocab.5.token_bytes", "?", "token 5 is not in base64"),
        ("vocab.5", 5, "instead of an object"),
        ("special_tokens.0.token_str", "<unk>", "the same name"),
    ],
)
def test_a_damaged_tekken_is_refused(path: str, value: Any, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        ranks.read_tekken(changed(tekken(b"th"), path, value))
    assert reason in str(caught.value)


# --- vocab.json and merges.txt


def test_the_two_files_of_gpt2_are_read_back() -> None:
    made = vocabulary(b"th", b"the", b" the", whole_pieces=False)
    vocab, merges = gpt2.write(Definition(made))
    assert merges.decode().splitlines() == ["#version: 0.2", "t h", "th e", "Ġ the"]
    assert gpt2.read(vocab, merges).vocabulary.fingerprint == made.fingerprint
    assert gpt2.read(vocab, merges.replace(b"\n", b"\r\n")).vocabulary.fingerprint == made.fingerprint
    assert gpt2.read(vocab, merges.partition(b"\n")[2]).vocabulary.fingerprint == made.fingerprint


def test_a_merge_may_look_like_the_version() -> None:
    made = vocabulary(*(b"#version"[: length + 1] for length in range(1, 8)), b"#version:", whole_pieces=False)
    vocab, merges = gpt2.write(Definition(made))
    assert merges.endswith(b"\n#version :\n")
    assert gpt2.read(vocab, merges).vocabulary.fingerprint == made.fingerprint


@pytest.mark.parametrize(
    "made",
    [
        vocabulary(b"th", pattern="llama3"),
        vocabulary(b"the", b"th", b"abc", whole_pieces=True),
        vocabulary(b"abc", whole_pieces=False),
        vocabulary(b"th", special={"th": 300}, whole_pieces=False),
    ],
)
def test_what_the_two_files_cannot_say_is_not_written(made: Vocabulary) -> None:
    with pytest.raises(UsageError, match=r"write tokenizer\.json instead"):
        gpt2.write(Definition(made))


@pytest.mark.parametrize(
    ("vocab", "merges", "reason"),
    [
        ({}, "", "no tokens"),
        ({"a": 0, "b": 0}, "", "share the id 0"),
        (None, "#version: 0.2\nt h\nt h e\n", "merge 1 is not two tokens"),
        (None, "t h\nh ☃", "merge 1 names '☃'"),
        (None, b"\xff\xfe", "merges are not UTF-8 at byte 0"),
    ],
)
def test_damaged_files_of_gpt2_are_refused(vocab: Any, merges: str | bytes, reason: str) -> None:
    good, _ = gpt2.write(Definition(vocabulary(b"th", b"the", whole_pieces=False)))
    given_vocab = good if vocab is None else json.dumps(vocab).encode()
    with pytest.raises(DataError, match=reason):
        gpt2.read(given_vocab, merges if isinstance(merges, bytes) else merges.encode())


def test_a_line_of_a_rank_file_is_told_from_others() -> None:
    assert ranks.looks_like_ranks(b"IQ== 0\nIg== 1\n")
    for data in (b"", b"IQ==\n", b"a b\n", b"{}", b"#version: 0.2\nt h\n", b"\n\x0e\n\x05<unk>", b" 0\n"):
        assert not ranks.looks_like_ranks(data)
