"""The published vocabularies as the peers read them, written once into a folder.

Enter the packages that the vocabularies come in, which ``groundup.corpus.fetch`` brings into the cache; leave files
that tiktoken, ``tokenizers``, gigatoken and fastokens open. tiktoken checks the hashes of what it reads.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._sides import HF_PATTERNS, file_for, tiktoken_encoding
from groundup.core.files import write_json
from groundup.corpus.fetch import fetch
from groundup.tokenizer.formats.ranks import merges_of
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.vocabularies import VOCABULARIES, open_member

#: Where tiktoken downloads what → the vocabulary that the same file came with, and its name there.
_ADDRESSES = {
    "gpt-2/encodings/main/encoder.json": ("gpt2", "encoder.json"),
    "gpt-2/encodings/main/vocab.bpe": ("gpt2", "vocab.bpe"),
    "encodings/cl100k_base.tiktoken": ("cl100k", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"),
    "encodings/o200k_base.tiktoken": ("o200k", "fb374d419588a4632f3f557e76b4b70aebbca790"),
}
#: Name → how text is cut, and the form of Unicode it is brought into before.
_HUGGINGFACE = {
    "llama3": (HF_PATTERNS["cl100k_base"], None),
    "qwen": (HF_PATTERNS["cl100k_base"].replace(r"\p{N}{1,3}", r"\p{N}"), "NFC"),
}


def prepare(vocabularies: Iterable[str], folder: Path) -> None:
    """Write what the peers read: tiktoken's cache, rank files and Hugging Face's files.

    Raises:
        DataError: a vocabulary could not be fetched.
    """
    cache = folder / "tiktoken"
    cache.mkdir(parents=True, exist_ok=True)
    for address, (vocabulary, name) in _ADDRESSES.items():
        known = VOCABULARIES[vocabulary]
        fetch(known)
        with open_member(known, next(member for member in known.members if member.endswith(f"/{name}"))) as stream:
            _put(cache, address, stream.read())
    _put(cache, "encodings/r50k_base.tiktoken", _rank_file(tiktoken_encoding("gpt2", folder)))
    for vocabulary in vocabularies:
        if not file_for(vocabulary, folder, "json").exists():
            encoding = tiktoken_encoding(vocabulary, folder)
            file_for(vocabulary, folder, "tiktoken").write_bytes(_rank_file(encoding))
            write_json(
                file_for(vocabulary, folder, "json"), _tokenizer_json(_tokens(encoding), HF_PATTERNS.get(encoding.name))
            )


def _put(cache: Path, address: str, content: bytes) -> None:
    """Where tiktoken looks for what it would download from ``address``."""
    whole = f"https://openaipublic.blob.core.windows.net/{address}"
    (cache / hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest()).write_bytes(content)


def _tokens(encoding: Any) -> list[bytes]:
    return sorted(encoding._mergeable_ranks, key=encoding._mergeable_ranks.get)


def _rank_file(encoding: Any) -> bytes:
    lines = (base64.b64encode(token) + b" %d\n" % encoding._mergeable_ranks[token] for token in _tokens(encoding))
    return b"".join(lines)


def huggingface_file(vocabulary: str, folder: Path) -> Path:
    """The vocabulary ``llama3`` or ``qwen``, published as ranks, as Hugging Face's ``tokenizer.json`` has it.

    Raises:
        DataError: it could not be fetched.
    """
    path = folder / f"{vocabulary}.json"
    if not path.exists():
        known = VOCABULARIES[vocabulary]
        fetch(known)
        with open_member(known, known.members[0]) as stream:
            tokens = [base64.b64decode(line.split()[0]) for line in stream]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, _tokenizer_json(tokens, *_HUGGINGFACE[vocabulary]))
    return path


def _tokenizer_json(tokens: Sequence[bytes], pattern: str | None, normalizer: str | None = None) -> dict[str, Any]:
    """The file's content; without a pattern GPT-2's."""
    spelled = [spell(token) for token in tokens]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern is None}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": normalizer and {"type": normalizer},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]} if pattern else byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pattern is not None,
            "vocab": {token: token_id for token_id, token in enumerate(spelled)},
            "merges": [[spelled[left], spelled[right]] for left, right in merges_of(tokens)],
        },
    }
