"""Published vocabularies: our ids against those of tiktoken and ``tokenizers``, on texts that are made to differ.

``python -m benchmarks.equality`` compares far more text. A vocabulary that was never fetched is skipped.
"""

import hashlib
import json
import random
import sysconfig
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.tokenizer.bpe import BytePairTokenizer, Merger
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.vocabularies import VOCABULARIES, open_member
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: Name → where tiktoken would download the files that ours came with.
ADDRESSES = {
    "gpt2": ("gpt-2/encodings/main/encoder.json", "gpt-2/encodings/main/vocab.bpe"),
    "cl100k": ("encodings/cl100k_base.tiktoken",),
    "o200k": ("encodings/o200k_base.tiktoken",),
}
TIKTOKEN_NAMES = {"gpt2": "gpt2", "cl100k": "cl100k_base", "o200k": "o200k_base"}

#: Whatever a pattern treats in a way of its own, and neighbours that it might mistake for it.
FRAGMENTS = [
    *" \t\n\r\v\f\u0085\u00a0\u1680\u180e\u2028\u3000\u200b\ufeff",
    *"'’aAzZéÉßẞſKıİǅʰªⅧ中あ한אع\u0301\u0903\u20dd",
    *"019²½٣६〇_-/.!?#@😀\u200d\ufe0f\U0001f1e9\U0001f3fd\ue000\U000e0001\0\x7f",
    *("  ", "   ", "\n\n", "\r\n", " \n", "\n ", "\t\t", "'s", "'S", "'ſ", "'ll", "'LL", "'lL", "'re", "'tis", "''"),
    *("the", "The", "THE", "McDonald", "iOS", "HTTPServer", "don't", "DON'T", "12", "123", "1234", "12345678"),
    *("//", "/\n", "!\r\n", "...", "=>", "    return", "<|endoftext|>", "<|im_start|>", "[INST]", "Ġ", "▁"),
]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
characters = st.text(st.characters(exclude_categories=("Cs",)))
binary = st.binary(max_size=60).map(lambda data: data.decode("utf-8", "replace"))
latin = st.binary(max_size=60).map(lambda data: data.decode("latin-1"))
texts = fragments | characters | binary | latin

Encode = Callable[[str], list[int]]


@pytest.fixture(scope="module", params=sorted(ADDRESSES))
def name(request: pytest.FixtureRequest) -> str:
    """A vocabulary."""
    return str(request.param)


@pytest.fixture(scope="module")
def ours(name: str) -> Tokenizer:
    """Our tokenizer of it."""
    try:
        return open_tokenizer(name)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def theirs(name: str, ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """tiktoken's encoder, from the same files; it checks their hashes and brings its own pattern."""
    tiktoken = pytest.importorskip("tiktoken")
    cache = tmp_path_factory.mktemp("tiktoken")
    for address, member in zip(ADDRESSES[name], VOCABULARIES[name].members, strict=True):
        whole = f"https://openaipublic.blob.core.windows.net/{address}"
        with open_member(VOCABULARIES[name], member) as stream:
            (cache / hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest()).write_bytes(stream.read())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        encoding = tiktoken.get_encoding(TIKTOKEN_NAMES[name])
    return encoding.encode_ordinary  # type: ignore[no-any-return]


def test_any_text_gets_tiktokens_ids(ours: Tokenizer, theirs: Encode) -> None:
    @given(texts)
    def law(text: str) -> None:
        ids = ours.encode(text)
        assert ids == theirs(text)
        assert ours.decode_bytes(ids) == text.encode()

    law()


def test_long_random_texts_get_tiktokens_ids(ours: Tokenizer, theirs: Encode) -> None:
    for seed in range(60):
        text = "".join(random.Random(seed).choices(FRAGMENTS, k=700))
        assert ours.encode(text) == theirs(text)


def test_real_text_gets_tiktokens_ids(ours: Tokenizer, theirs: Encode) -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    for module in ("argparse.py", "tarfile.py", "html/entities.py", "encodings/mac_turkish.py", "tokenize.py"):
        text = (folder / module).read_text(encoding="utf-8")
        assert ours.encode(text) == theirs(text)


def test_every_character_gets_tiktokens_ids(ours: Tokenizer, theirs: Encode) -> None:
    """Assigned or not, each after a letter, before one and in random company."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert ours.encode("".join(every)) == theirs("".join(every))
    known = [character for character in every if unicodedata.category(character) not in ("Cn", "Co", "Lo")]
    text = "".join(f"a{character}a {character}1{character}'s" for character in known)
    assert ours.encode(text) == theirs(text)
    random.Random(0).shuffle(every)
    text = "".join(every[:300_000])
    assert ours.encode(text) == theirs(text)


def test_a_batch_gets_the_ids_of_its_texts(ours: Tokenizer) -> None:
    documents = ["".join(random.Random(seed).choices(FRAGMENTS, k=seed)) for seed in range(200)]
    assert isinstance(ours, BytePairTokenizer)
    expected = [ours.encode(document) for document in documents]
    for threads in (None, 1, 3):
        encoded = ours.encode_batch(documents, threads=threads)
        assert encoded.lists() == expected
        assert np.array_equal(encoded.ids, [token for ids in expected for token in ids])


def test_bytes_of_a_text_get_its_ids_and_any_bytes_come_back(ours: Tokenizer) -> None:
    assert isinstance(ours, BytePairTokenizer)

    @given(st.binary() | texts.map(str.encode))
    def law(data: bytes) -> None:
        ids = ours.encode_bytes(data)
        assert ours.decode_bytes(ids) == data
        try:
            assert ids == ours.encode(data.decode())
        except UnicodeDecodeError:
            assert min(ids) >= 0

    law()


def _random_merges(rng: random.Random) -> tuple[list[bytes], list[Pair]]:
    """Bytes, and random merges of the letters a to d, many of which make the same token."""
    tokens = [bytes([byte]) for byte in range(256)]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    usable, merges = [ids[letter.encode()] for letter in "abcd"], list[Pair]()
    while len(merges) < 60:
        pair = (rng.choice(usable), rng.choice(usable))
        made = tokens[pair[0]] + tokens[pair[1]]
        if pair in merges or len(made) > 9:
            continue
        merges.append(pair)
        if made not in ids:
            ids[made] = len(tokens)
            usable.append(len(tokens))
            tokens.append(made)
    return tokens, merges


def _hugging_face(tokenizers: Any, tokens: list[bytes], merges: list[Pair], whole_pieces: bool) -> Any:
    """The same vocabulary in ``tokenizers``."""
    spelled = [spell(token) for token in tokens]
    model = {
        "type": "BPE",
        "vocab": {token: token_id for token_id, token in enumerate(spelled)},
        "merges": [[spelled[left], spelled[right]] for left, right in merges],
        "ignore_merges": whole_pieces,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content = {"version": "1.0", "added_tokens": [], "pre_tokenizer": byte_level, "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps(content))


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_merges_like_llama_3s(seed: int, in_order: bool) -> None:
    """Its file names every pair that makes a token, 280,147 for 128,000; and 81 merges come before their parts'."""
    tokenizers = pytest.importorskip("tokenizers")
    rng = random.Random(seed)
    tokens, merges = _random_merges(rng)
    if in_order:
        merges.sort(key=lambda pair: tokens.index(tokens[pair[0]] + tokens[pair[1]]))
    whole_pieces = seed % 2 == 1
    vocabulary = Vocabulary.make(tokens, merges, {}, Pattern.named("gpt2"), whole_pieces)
    ours, theirs = BytePairTokenizer(vocabulary), _hugging_face(tokenizers, tokens, merges, whole_pieces)
    for size in (1, 2, 3, 5, 8, 13, 21, 30, 40, 100, 300):
        text = " ".join("".join(rng.choices("abcd", k=size)) for _ in range(20))
        expected = theirs.encode(text).ids
        assert Merger(vocabulary).encode(text.encode()).tolist() == expected
        assert ours.encode(text) == expected
