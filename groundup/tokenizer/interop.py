"""Merges ↔ the ``tokenizer.json`` of Hugging Face's ``tokenizers``, which reads it to equal ids.

The file is JSON text, so bytes are written as GPT-2 does: each of the 256 has a visible character of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.core import files
from groundup.core.errors import ArtifactError
from groundup.tokenizer.bpe_plain import Pair
from groundup.tokenizer.pretokenize import PATTERN
from groundup.tokenizer.protocol import SPECIAL_TOKENS

FILE_NAME = "tokenizer.json"


def byte_alphabet() -> list[str]:
    """Byte → visible character: itself where Latin-1 prints it, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def spell(merges: Sequence[Pair]) -> list[str]:
    """Id → its spelling in the byte alphabet, for the 256 bytes and every merge."""
    spelling = byte_alphabet()
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    return spelling


def to_json(merges: Sequence[Pair]) -> dict[str, Any]:
    """The content of ``tokenizer.json``; a merge is written ``"left right"``, one a line."""
    spelling = spell(merges)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token_id, name in enumerate(SPECIAL_TOKENS, start=len(spelling))
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
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
            "ignore_merges": False,
            "vocab": {token: token_id for token_id, token in enumerate(spelling)},
            "merges": [f"{spelling[left]} {spelling[right]}" for left, right in merges],
        },
    }


def read_merges(path: Path) -> list[Pair]:
    """The merges in a ``tokenizer.json`` that groundup wrote.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    content = files.read_json(path)
    try:
        ids = content["model"]["vocab"]
        merges = [(ids[left], ids[right]) for left, right in (line.split(" ") for line in content["model"]["merges"])]
        # Whatever else the file says must be what these merges imply: one comparison checks it all.
        intact = to_json(merges) == content
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        intact = False
    if not intact:
        raise ArtifactError(
            f"{path} is damaged or not a groundup tokenizer; delete it and run the tokenizer stage again"
        )
    return merges
