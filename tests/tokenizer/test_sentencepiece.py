"""SentencePiece models without the package: toy models, laws, and files that are damaged or hostile."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import ArtifactError, DataError
from groundup.tokenizer import segmenters
from groundup.tokenizer.normalizer import Charsmap, Normalizer, one_of
from groundup.tokenizer.protobuf import Field, fields, write_field, write_varint
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Kind,
    Model,
    Normalization,
    Piece,
    SentencePieceTokenizer,
    from_parts,
    read_model,
)

BYTES = tuple(Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))
MARKS = (Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL))
WORDS = ["▁", "a", "b", "c", "▁a", "ab", "bc", "abc", "▁abc", "cc", "▁▁", "é", "日"]
NORMALS = tuple(Piece(text, -float(number)) for number, text in enumerate(WORDS))


def toy(kind: Kind = "bpe", *more: Piece, byte_fallback: bool = False) -> Model:
    pieces = MARKS + (BYTES if byte_fallback else ()) + NORMALS + more
    return Model(pieces, kind, byte_fallback, Normalization(b"", True, False, True))


def tokens(tokenizer: SentencePieceTokenizer, text: str) -> list[str]:
    return [tokenizer.model.pieces[token_id].text for token_id in tokenizer.encode(text)]


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of encoding."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "available", lambda: False)
    elif not compiled.available():
        pytest.skip("numba is not installed")


def test_pairs_merge_by_score() -> None:
    tokenizer = SentencePieceTokenizer(toy())
    assert tokens(tokenizer, "aba") == ["▁a", "b", "a"]  # "▁a" scores best and takes the "a" of "ab"
    assert tokens(tokenizer, "cabcc") == ["▁", "c", "abc", "c"]
    assert tokens(tokenizer, "abc") == ["▁abc"]  # "▁a", then "bc", then both
    assert tokens(tokenizer, "") == []


def test_the_most_probable_way_wins() -> None:
    tokenizer = SentencePieceTokenizer(toy("unigram"))
    assert tokens(tokenizer, "abc") == ["▁", "a", "b", "c"]  # 0 - 1 - 2 - 3, and no other way reaches -6
    scores = {"abc": -0.5, "ab": -1.0}
    model = toy("unigram")
    better = tuple(piece._replace(score=scores.get(piece.text, piece.score)) for piece in model.pieces)
    assert tokens(SentencePieceTokenizer(replace(model, pieces=better)), "abcab") == ["▁", "abc", "ab"]


def test_characters_and_words() -> None:
    assert tokens(SentencePieceTokenizer(toy("char")), "ab x") == ["▁", "a", "b", "▁", "<unk>"]
    assert tokens(SentencePieceTokenizer(toy("word")), "abc  a xy") == ["▁abc", "▁", "▁a", "<unk>"]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_what_is_unknown_is_one_id_or_its_bytes(kind: Kind) -> None:
    tokenizer = SentencePieceTokenizer(toy(kind))
    assert tokenizer.unknown_id == 0
    assert tokens(tokenizer, "xyz") == (["<unk>"] if kind == "word" else ["▁", "<unk>"])
    tokenizer = SentencePieceTokenizer(toy(kind, byte_fallback=True))
    assert tokenizer.unknown_id is None
    if kind == "word":
        assert tokens(tokenizer, "a é") == ["▁a", *(f"<0x{byte:02X}>" for byte in "▁é".encode())]
    else:
        assert tokens(tokenizer, "é!") == ["▁", "é", "<0x21>"]
        assert tokenizer.decode(tokenizer.encode("é! 🦉")) == "é! 🦉"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_user_defined_symbols_are_never_split(kind: Kind) -> None:
    model = toy(kind, Piece("abca", -100.0, USER_DEFINED), Piece("<sep>", -100.0, USER_DEFINED))
    assert tokens(SentencePieceTokenizer(model), "cabca<sep>")[-2:] == ["abca", "<sep>"]


def test_control_pieces_never_come_from_text() -> None:
    for kind in ("bpe", "unigram", "char"):
        tokenizer: Tokenizer = SentencePieceTokenizer(
            toy(kind, byte_fallback=True), {"<|end|>": 400, "abc": 3 + 256 + WORDS.index("abc")}
        )
        assert dict(tokenizer.special_tokens) == {"<s>": 1, "</s>": 2, "<|end|>": 400, "abc": 266}
        assert tokenizer.vocab_size == 401
        ids = tokenizer.encode("<s></s><|end|> abc <unk> <0x41>")
        assert not set(ids) & set(tokenizer.special_tokens.values())
        assert tokenizer.decode(ids) == "<s></s><|end|> abc <unk> <0x41>"
        assert tokenizer.decode([1, *ids, 2, 400, 399]) == "<s></s><|end|> abc <unk> <0x41>"


def test_decoding_drops_the_space_that_encoding_put_first() -> None:
    tokenizer = SentencePieceTokenizer(toy(byte_fallback=True))
    for text in ("abc a", " abc", "  a", "", " ", "日 é\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token_bytes(tokenizer.encode("abc")[0]) == b" abc"
    owl = [3 + byte for byte in "🦉".encode()]
    assert tokenizer.decode([*owl, *owl[:2], 3 + 256 + 1]) == "🦉\ufffd\ufffda"
    assert tokenizer.decode([*owl[:2], 1, *owl[2:]]) == "\ufffd" * 4  # nothing joins across a control piece
    assert tokenizer.decode_bytes(owl[:2]) == "🦉".encode()[:2]
    assert SentencePieceTokenizer(toy()).decode([4, 0, 4]) == "a ⁇ a"


def test_spaces_are_squeezed_where_the_model_says_so() -> None:
    normalizer = Normalizer(Charsmap(b""))
    assert normalizer.normalize("  a   b  ") == "▁a▁b"
    assert normalizer.normalize("   ") == normalizer.normalize("") == ""
    assert Normalizer(Charsmap(b""), remove_extra_whitespaces=False).normalize(" a  b ") == "▁▁a▁▁b▁"
    assert Normalizer(Charsmap(b""), add_dummy_prefix=False, escape_whitespaces=False).normalize(" a  b ") == "a b"


@given(st.text("ab▁", max_size=12), st.sets(st.text("ab▁", min_size=1, max_size=5)), st.randoms(use_true_random=False))
def test_merging_is_what_a_textbook_says(text: str, made: set[str], rng: random.Random) -> None:
    """Again and again, look at all neighbours and merge the best."""
    pieces = [Piece("<unk>", 0.0, UNKNOWN), *(Piece(one, rng.choice([-3.0, -1.5, 0.0, 2.0])) for one in sorted(made))]
    pieces += [Piece("<s>", 0.0, CONTROL), Piece("c", 0.0)]
    scores = {piece.text: piece.score for piece in pieces if piece.type == NORMAL}
    model = Model(tuple(pieces), "bpe", normalization=Normalization())
    symbols = list(text)
    while pairs := [i for i in range(len(symbols) - 1) if symbols[i] + symbols[i + 1] in scores]:
        best = max(pairs, key=lambda i: (scores[symbols[i] + symbols[i + 1]], -i))
        symbols[best : best + 2] = [symbols[best] + symbols[best + 1]]
    expected = [symbol if symbol in scores else "<unk>" for symbol in symbols]
    once = [one for i, one in enumerate(expected) if one != "<unk>" or i == 0 or expected[i - 1] != "<unk>"]
    assert tokens(SentencePieceTokenizer(model), text) == once


@settings(max_examples=60)
@given(
    st.sets(st.text("aé日▁🦉", min_size=1, max_size=4), min_size=1, max_size=20),
    st.text("aé日▁🦉x", max_size=60),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_compiled_and_plain_agree(made: set[str], text: str, byte_fallback: bool, rng: random.Random) -> None:
    if not compiled.available():
        return
    texts = sorted(made)
    scores = np.array([rng.choice([-1.0, -2.5, -0.1, 0.3, -1e5, -7e4]) for _ in texts], np.float32)
    unknown = None if byte_fallback else len(texts)
    byte_ids = range(1000, 1256) if byte_fallback else ()
    inventory = segmenters.Inventory(texts, scores, frozenset(), unknown, np.float32(-20), byte_ids)
    assert segmenters.CompiledPairs(inventory)(text) == segmenters.PlainPairs(inventory)(text)
    assert segmenters.CompiledUnigram(inventory)(text) == segmenters.PlainUnigram(inventory)(text)


def test_long_runs_take_no_long_time() -> None:
    pieces = [Piece("a" * length, -length) for length in (1, 2, 3, 4, 8, 16)]
    pieces += [Piece("▁" * length, -length) for length in (1, 2, 4, 8, 16)] + [MARKS[0]]
    for kind in ("bpe", "unigram"):
        tokenizer = SentencePieceTokenizer(Model(tuple(pieces), kind))
        for text in ("a" * 30_000, "é" * 30_000):
            assert tokenizer.decode(tokenizer.encode(text))


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    for model in (toy(), toy("unigram", byte_fallback=True), toy("char", Piece("<sep>", 1.5, USER_DEFINED))):
        tokenizer = SentencePieceTokenizer(replace(model, unknown_surface="?"), {"<|end|>": 500})
        tokenizer.save(tmp_path)
        again = read_model(tmp_path / "tokenizer.model")
        assert (again.model, again.fingerprint) == (tokenizer.model, tokenizer.fingerprint)
        assert again.special_tokens == tokenizer.special_tokens
        assert again.encode("abc é日!") == tokenizer.encode("abc é日!")


def test_fingerprints_follow_everything_that_decides_an_id() -> None:
    model = toy()
    others = [
        replace(model, kind="unigram"),
        replace(model, pieces=(*model.pieces[:-1], Piece("z"))),
        replace(model, pieces=(*model.pieces[:-1], model.pieces[-1]._replace(score=1.0))),
        replace(model, pieces=(*model.pieces[:-1], model.pieces[-1]._replace(type=UNUSED))),
        replace(model, normalization=replace(model.normalization, add_dummy_prefix=False)),
    ]
    assert len({SentencePieceTokenizer(one).fingerprint for one in [model, *others]}) == 6


# Files that are wrong


def file(
    *pieces: Piece, kind: int = 2, byte_fallback: bool = False, normalizer: bytes = b"", trainer: bytes = b""
) -> bytes:
    content = b"".join(
        write_field(1, write_field(1, text) + write_field(2, score) + write_field(3, type_))
        for text, score, type_ in pieces
    )
    trainer = write_field(3, kind) + write_field(35, byte_fallback) + trainer
    return content + write_field(2, trainer) + write_field(3, normalizer)


GOOD = file(*MARKS, *NORMALS)
#: What is wrong → the bytes, and words of the message.
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no piece"),
    "text": (b"Once upon a time", "protobuf|bytes"),
    "truncated": (GOOD[:-3], "of which"),
    "a length beyond the end": (write_varint(1 << 3 | 2) + write_varint(1 << 62), "of which 0 are there"),
    "a number without end": (write_varint(8) + b"\xff" * 20, "more than 64 bits"),
    "a number cut off": (write_varint(8) + b"\xff", "ends inside"),
    "a group": (b"\x0b\x0c", "not protobuf"),
    "a piece that is a number": (write_field(1, 7), "should hold a length"),
    "a score that is a number": (write_field(1, write_field(1, "a") + write_field(2, 7)), "should hold 4 bytes"),
    "a piece that is not UTF-8": (write_field(1, write_field(1, b"\xff")), "not UTF-8"),
    "a score that is none": (file(*MARKS, *NORMALS, Piece("x", float("nan"))), "no finite number"),
    "an endless score": (file(*MARKS, *NORMALS, Piece("x", float("inf"))), "no finite number"),
    "a type that does not exist": (file(*MARKS, *NORMALS, Piece("x", 0.0, 9)), "type 9"),
    "a negative type": (file(*MARKS, *NORMALS, Piece("x", 0.0, -1)), "type -1"),
    "pieces twice": (file(*MARKS, *NORMALS, Piece("abc")), "both 'abc'"),
    "an empty piece": (file(*MARKS, *NORMALS, Piece("")), "is empty"),
    "a zero byte": (file(*MARKS, *NORMALS, Piece("a\0")), "zero byte"),
    "a piece too long": (file(*MARKS, *NORMALS, Piece("a" * 8000)), "too long"),
    "no unknown piece": (file(*MARKS[1:], *NORMALS), "neither an unknown piece nor byte fallback"),
    "two unknown pieces": (file(*MARKS, *NORMALS, Piece("<u>", 0.0, UNKNOWN)), "two unknown pieces"),
    "missing byte pieces": (file(*MARKS, *BYTES[:65], *BYTES[66:], *NORMALS, byte_fallback=True), "<0x41>.*missing"),
    "byte pieces for nothing": (file(*MARKS, *BYTES, *NORMALS), "none of those"),
    "a byte piece of no byte": (
        file(*MARKS, *BYTES, Piece("<0x1>", 0.0, BYTE), byte_fallback=True),
        "none of those|stands",
    ),
    "no piece for text": (file(*MARKS, kind=1), "no piece that stands for text"),
    "a kind that does not exist": (file(*MARKS, *NORMALS, kind=7), "type is 7"),
    "spaces behind words": (file(*MARKS, *NORMALS, trainer=write_field(24, True)), "treat_whitespace_as_suffix"),
    "a charsmap cut off": (file(*MARKS, *NORMALS, normalizer=write_field(2, b"\1\0")), "charsmap of 2 bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    path = tmp_path / "some.model"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"^[^\n]*some.model[^\n]*({message})[^\n]*$"):
        read_model(path)


def test_too_many_symbols_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.tokenizer.sentencepiece.MOST_SYMBOLS", 3)
    symbols = [Piece(f"<{number}>", 0.0, USER_DEFINED) for number in range(4)]
    SentencePieceTokenizer(toy("bpe", *symbols[:3]))
    with pytest.raises(DataError, match="4 user-defined symbols; at most 3"):
        SentencePieceTokenizer(toy("bpe", *symbols))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*none.model"):
        read_model(tmp_path / "none.model")
    with pytest.raises(ArtifactError, match="cannot read"):
        read_model(tmp_path)
    with (tmp_path / "large.model").open("wb") as large:
        large.truncate(1 << 26)
    with pytest.raises(ArtifactError, match="more than"):
        read_model(tmp_path / "large.model")


@given(st.data())
def test_damage_anywhere_is_an_error_of_ours_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(file(*MARKS, *NORMALS, normalizer=write_field(2, charsmap({"A": "a", "AB": "ab"})[:1100])))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.model"
    path.write_bytes(content)
    try:
        tokenizer = read_model(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
    else:
        tokenizer.decode(tokenizer.encode("ABC abc"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_ours(data: bytes) -> None:
    try:
        found = list(fields(data))
    except DataError:
        return
    assert all(isinstance(one, Field) for one in found)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.text(), st.binary(), st.floats(width=32, allow_nan=False))
def test_fields_come_back(number: int, text: str, content: bytes, score: float) -> None:
    data = write_field(1, number) + write_field(2, text) + write_field(300, content) + write_field(4, score)
    one, two, three, four = fields(data)
    assert (one.integer(), two.text(), three.content(), four.float32()) == (number, text, content, score)
    assert [field.number for field in (one, two, three, four)] == [1, 2, 300, 4]


# Rules of normalisation


def charsmap(rules: dict[str, str]) -> bytes:
    """Rules compiled as SentencePiece does, but each node has 256 places for its children to itself."""
    prefixes = sorted({key.encode()[:end] for key in rules for end in range(len(key.encode()) + 1)})
    base = {prefix: 256 * (number + 1) for number, prefix in enumerate(prefixes)}
    units = np.zeros(256 * (len(prefixes) + 1), "<u4")
    replacements = b""
    for prefix in prefixes:
        place = base[prefix[:-1]] ^ prefix[-1] if prefix else 0
        units[place] = (prefix[-1] if prefix else 0) | (place ^ base[prefix]) << 10
        if prefix.decode(errors="replace") in rules:
            units[place] |= 1 << 8
            units[base[prefix]] = 1 << 31 | len(replacements)
            replacements += rules[prefix.decode()].encode() + b"\0"
    return len(units.tobytes()).to_bytes(4, "little") + units.tobytes() + replacements


RULES = {"A": "a", "AB": "x", "ABCD": "y", "\t": " ", "ﬁ": "fi", "é": "", "日本": "nihon", "本": "hon", "½": " 1/2 "}


def bare(rules: dict[str, str], symbols: tuple[str, ...] = ()) -> Normalizer:
    return Normalizer(Charsmap(charsmap(rules)), False, False, False, symbols)


@given(st.text(st.sampled_from("ABCD\tﬁé日本½ x"), max_size=20))
def test_the_longest_rule_applies_from_left_to_right(text: str) -> None:
    expected, place = "", 0
    while place < len(text):
        rule = max((key for key in RULES if text.startswith(key, place)), key=len, default=None)
        expected += text[place] if rule is None else RULES[rule]
        place += len(rule or " ")
    assert bare(RULES).normalize(text) == expected


def test_no_rule_touches_a_symbol() -> None:
    assert bare(RULES, ("AB", "ﬁ!")).normalize("ABCDA ﬁﬁ!") == "ABCDa fiﬁ!"
    assert bare({"xA": "1"}, ("AB",)).normalize("xAB AB") == "1B AB"


@given(st.sets(st.text("ab.(", min_size=1, max_size=9), min_size=1), st.text("ab.(", max_size=20))
def test_the_longest_symbol_matches(symbols: set[str], text: str) -> None:
    found = re.compile(one_of(sorted(symbols))).match(text)
    longest = max((symbol for symbol in symbols if text.startswith(symbol)), key=len, default=None)
    assert (found[0] if found else None) == longest


def test_long_texts_are_normalised_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ABCD日本é " * 40
    whole = bare(RULES).normalize(text)
    monkeypatch.setattr("groundup.tokenizer.normalizer.BLOCK_BYTES", 7)
    assert bare(RULES).normalize(text) == whole


def _child_outside(content: bytearray) -> None:
    content[4:8] = (1 << 31 - 1).to_bytes(4, "little")


def _replacement_outside(content: bytearray) -> None:
    units = np.frombuffer(content, "<u4", offset=4, count=(len(content) - 6) // 4)
    place = 4 * int(np.flatnonzero(units >> 31)[0]) + 4
    content[place : place + 4] = (1 << 31 | 1 << 20).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_child_outside, "points outside its trie"),
        (_replacement_outside, "points outside its replacements"),
        (lambda content: content.extend(b"x"), "is damaged"),
        (lambda content: content.extend(b"x" * 5000 + b"\0"), "a replacement has more than"),
        (lambda content: content.__setitem__(slice(0, 4), b"\xff" * 4), "its trie would have 4,294,967,295 bytes"),
        (lambda content: content.__delitem__(slice(900, None)), "is damaged"),
    ],
)
def test_a_damaged_charsmap_is_refused(damage: Callable[[bytearray], None], message: str) -> None:
    content = bytearray(charsmap({"A": "b"}))
    damage(content)
    with pytest.raises(DataError, match=message):
        Charsmap(bytes(content))


def test_a_trie_that_leads_in_a_circle_ends() -> None:
    units = np.arange(256, dtype="<u4") | np.uint32(0)  # every node is its own parent, in the one block there is
    circle = (1024).to_bytes(4, "little") + units.tobytes() + b"\0"
    assert Normalizer(Charsmap(circle), False, False, False).normalize("abc" * 1000) == "abc" * 1000


# Parts from other files


def test_from_parts_makes_the_unknown_piece_one() -> None:
    pieces = [
        ("<unk>", 0.0, NORMAL),
        ("<s>", 0.0, CONTROL),
        ("", 0.0, CONTROL),
        ("▁a", -1.0, NORMAL),
        ("▁", -2.0, NORMAL),
    ]
    tokenizer = from_parts(
        pieces,
        kind="bpe",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        byte_fallback=False,
        unknown_id=0,
        special_tokens={"<unk>": 0, "<s>": 1, "<|end|>": 6},
    )
    assert dict(tokenizer.special_tokens) == {"<s>": 1, "<|end|>": 6}
    assert (tokenizer.unknown_id, tokenizer.vocab_size) == (0, 7)
    assert tokenizer.encode("a b") == [3, 4, 0]


@pytest.mark.parametrize(
    ("unknown_id", "special_tokens"),
    [(9, {}), (-2, {}), (0, {"<a>": -1}), (0, {"<a>": 3, "<b>": 3}), (0, {"<a>": 1 << 40})],
)
def test_parts_that_do_not_fit_are_refused(unknown_id: int, special_tokens: dict[str, int]) -> None:
    with pytest.raises(DataError, match="id"):
        from_parts(
            [("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)],
            kind="unigram",
            add_dummy_prefix=True,
            remove_extra_whitespaces=True,
            byte_fallback=False,
            unknown_id=unknown_id,
            special_tokens=special_tokens,
        )


@pytest.mark.parametrize("token_id", [-1, 16, 1 << 40])
def test_ids_outside_the_vocabulary_are_refused(token_id: int) -> None:
    tokenizer = SentencePieceTokenizer(toy())
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(DataError, match=f"token id {token_id} is outside the vocabulary of 16"):
            decode([4, token_id])
