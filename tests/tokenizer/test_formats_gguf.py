"""The tokenizer inside GGUF files, which are made here by the specification."""

import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError
from groundup.tokenizer import opening
from groundup.tokenizer.formats import gguf, huggingface
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.formats.prepared import tokenizer_of
from groundup.tokenizer.formats.spelling import byte_alphabet
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import NAMED

TEXT = """The theatre: it's 7 o'clock, 1234.56!
\tif x != 0:\r\n\r\n  中文 ひらがな한국어 ΑΒ Ёж ﬁ \t ٣٤ […]   """


def gguf_value(value: Any) -> bytes:
    """A value behind its type."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<Ii", 5, value)
        case str():
            return struct.pack("<IQ", 8, len(value.encode())) + value.encode()
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(gguf_value(item)[4:] for item in value)
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def gguf_file(metadata: Mapping[str, Any], version: int = 3) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", version, 0, len(metadata) + 1)]
    for name, value in {"general.architecture": "llama", **metadata}.items():
        parts.append(struct.pack("<Q", len(name)) + name.encode() + gguf_value(value))
    return b"".join(parts) + b"\0" * 64  # where the weights would be


def byte_level_metadata(**changes: Any) -> dict[str, Any]:
    tokens = [*byte_alphabet(), "th", "Ġth", "<|end|>", "<tool>", "[PAD260]"]
    values = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": [1] * 258 + [3, 4, 5],
        "merges": ["t h", "Ġ th"],
        **changes,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None}


def read_gguf(metadata: Mapping[str, Any]) -> Any:
    return gguf.read(gguf.read_metadata(BytesIO(gguf_file(metadata))))


def test_the_tokenizer_of_a_model_file_is_read() -> None:
    made = read_gguf(byte_level_metadata())
    assert made.vocabulary.pattern.splits == (r"\p{N}", NAMED["gpt2"])
    tokenizer = tokenizer_of(made)
    assert tokenizer.encode("th th<tool>12<|end|>")[:5] == [256, 257, 259, ord("1"), ord("2")]
    assert dict(tokenizer.special_tokens) == {"<|end|>": 258}
    assert not made.vocabulary.whole_pieces
    assert read_gguf(byte_level_metadata(pre="llama-bpe")).vocabulary.whole_pieces


@pytest.mark.parametrize("name", sorted(gguf.PATTERNS))
def test_every_known_pattern_keeps_the_text(name: str) -> None:
    pieces = list(gguf.PATTERNS[name].pieces(TEXT))
    assert "".join(pieces) == TEXT
    assert len(pieces) > 10


def test_a_sentencepiece_model_comes_out_as_its_parts() -> None:
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "b"]
    parts = read_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": pieces,
            "tokenizer.ggml.scores": [float(-number) for number in range(260)],
            "tokenizer.ggml.token_type": [2, 3, *[6] * 256, 1, 1],
            "tokenizer.ggml.add_space_prefix": False,
        }
    )
    assert isinstance(parts, huggingface.Parts)
    assert parts.pieces[258] == ("▁a", -258.0, 1)
    assert (parts.unknown_id, parts.byte_fallback, parts.add_dummy_prefix) == (0, True, False)
    assert parts.special_tokens == {"<s>": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "bert"}, "its tokenizer is 'bert'"),
        ({"model": None}, "its tokenizer is None"),
        ({"model": 7}, "its tokenizer is 7"),
        ({"pre": "nobody"}, "rules called 'nobody'; known are"),
        ({"pre": None}, "rules called None"),
        ({"tokens": "a"}, "its tokens are no array of str"),
        ({"token_type": [1]}, "261 tokens but 1 types"),
        ({"token_type": [1.0] * 261}, "its token_type are no array of int"),
        ({"token_type": [1] * 260 + [9]}, "token 260 has the type 9"),
        ({"merges": ["t h e"]}, "merge 0 is not two tokens"),
        ({"merges": ["th e"]}, "which is no token"),
        ({"tokens": [*byte_alphabet(), "th", "th", "x", "y", "z"]}, "tokens 256 and 257 are both 'th'"),
        ({"model": "llama"}, "261 tokens but 0 scores"),
        ({"model": "llama", "scores": [0.0] * 261, "add_space_prefix": "yes"}, "of another type"),
    ],
)
def test_metadata_that_make_no_tokenizer_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        read_gguf(byte_level_metadata(**changes))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def one_value(value: bytes, count: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, count, 1) + b"x" + value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"GGML" + b"\0" * 40, "no GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + b"\0" * 40, "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + b"\0" * 40, "other byte order"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "claims 1,152,921,504,606,846,976 metadata"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "longer than"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 20), "truncated"),
        (one_value(struct.pack("<I", 99)), "type 99"),
        (one_value(struct.pack("<IIQ", 9, 8, 1 << 60)), "more than any tokenizer"),
        (one_value(struct.pack("<IIQ", 9, 4, 1 << 60)), "longer than"),
        (one_value(struct.pack("<IIQ", 9, 4, 1 << 20)), "truncated"),
        (one_value(struct.pack("<IIQ", 9, 9, 1)), "array of the type 9"),
        (one_value(struct.pack("<IQ", 8, 2) + b"\xff\xff"), "not UTF-8"),
        (gguf_file(byte_level_metadata())[:2000], "truncated"),
    ],
)
def test_a_damaged_model_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        gguf.read_metadata(BytesIO(data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 255))
def test_a_changed_byte_never_ends_in_a_traceback(place: int, byte: int) -> None:
    data = bytearray(gguf_file(byte_level_metadata()))
    data[place % len(data)] = byte
    try:
        made = gguf.read(gguf.read_metadata(BytesIO(bytes(data))))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(made, Definition)


def test_a_model_file_is_opened_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "cache_folder", lambda: tmp_path / "cache")
    path = tmp_path / "weights.gguf"
    path.write_bytes(gguf_file(byte_level_metadata(), version=2))
    first, again = open_tokenizer(tmp_path), open_tokenizer(path)
    assert first.encode("th th") == again.encode("th th") == [256, 257]
    assert len(list((tmp_path / "cache" / "vocabularies").iterdir())) == 1
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ArtifactError, match=r"weights\.gguf cannot be used as a tokenizer: it is truncated; get it anew"
    ):
        open_tokenizer(tmp_path)
