"""Every encoder and every trainer, ours and the peers', behind one call; and the process in which one is measured.

``call(task, …)`` runs one of the functions named in ``TASKS`` in a fresh process, which imports one library and
nothing of the others. What it returns is made of JSON values. The peers read what ``_vocabularies`` wrote.
"""

import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import OURS
from benchmarks._memory import peak_bytes, resident_bytes

#: Name of ours → of tiktoken's.
VOCABULARIES = {"gpt2": "gpt2", "r50k": "r50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}

#: How Hugging Face's files spell the patterns, which the peers know by heart; GPT-2's comes with ``ByteLevel``.
HF_PATTERNS = {
    "cl100k_base": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "o200k_base": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_GIGATOKEN_PATTERNS = {"cl100k_base": "cl100k", "o200k_base": "o200k"}
_LONGEST_SECONDS = 3600
_SEPARATOR = "\0\n\0"

Encode = Callable[[list[str]], Any]
Flatten = Callable[[Any], Any]
Request = Mapping[str, Any]


# --- encoders: vocabulary and threads → a function of a list of texts, and one that makes its result a flat array


def _ours(vocabulary: str, threads: int, folder: Path) -> tuple[Encode, Flatten]:
    from groundup.tokenizer.opening import open_tokenizer

    tokenizer: Any = open_tokenizer(vocabulary)
    return lambda texts: tokenizer.encode_batch(texts, threads=threads), lambda encoded: encoded.ids


def _tiktoken(vocabulary: str, threads: int, folder: Path) -> tuple[Encode, Flatten]:
    encode = tiktoken_encoding(vocabulary, folder).encode_to_numpy

    def one(text: str) -> Any:
        return encode(text, disallowed_special=())

    if threads == 1:
        return lambda texts: [one(text) for text in texts], _joined
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    return lambda texts: list(pool.map(one, texts)), _joined


def _tokenizers(vocabulary: str, threads: int, folder: Path) -> tuple[Encode, Flatten]:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(file_for(vocabulary, folder, "json")))
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)], _joined


def _gigatoken(vocabulary: str, threads: int, folder: Path) -> tuple[Encode, Flatten]:
    import gigatoken

    pattern = _GIGATOKEN_PATTERNS.get(VOCABULARIES[vocabulary], "r50k")
    tokenizer = gigatoken.Tokenizer.from_tiktoken(file_for(vocabulary, folder, "tiktoken"), pattern, {})

    def flat(rows: Any) -> Any:
        import awkward

        return awkward.to_numpy(awkward.flatten(rows))

    return lambda texts: tokenizer.encode_batch(texts, parallel=threads > 1), flat


def _fastokens(vocabulary: str, threads: int, folder: Path) -> tuple[Encode, Flatten]:
    import fastokens

    tokenizer = fastokens.Tokenizer.from_file(str(file_for(vocabulary, folder, "json")))

    def flat(encoded: tuple[bytes, bytes]) -> Any:
        import numpy as np

        return np.frombuffer(encoded[0], np.uint32)

    return tokenizer.encode_batch_flat, flat


ENCODERS: Mapping[str, Callable[[str, int, Path], tuple[Encode, Flatten]]] = {
    OURS: _ours,
    "tiktoken": _tiktoken,
    "tokenizers": _tokenizers,
    "gigatoken": _gigatoken,
    "fastokens": _fastokens,
}


def _joined(rows: Sequence[Any]) -> Any:
    import numpy as np

    return np.concatenate([np.asarray(row, np.uint32) for row in rows])


# --- trainers: documents, size of the vocabulary and threads → the tokens learnt


def _learn(documents: Iterable[str], vocab_size: int, threads: int) -> Callable[[], list[bytes]]:
    from groundup.tokenizer.pretokenize import Pattern
    from groundup.tokenizer.trainer import learn

    learnt = learn(documents, vocab_size - 256, Pattern.named("llama3"), threads=threads)

    def tokens() -> list[bytes]:
        made = [bytes([byte]) for byte in range(256)]
        for left, right in learnt.merges:
            made.append(made[left] + made[right])
        return made

    return tokens


def _rustbpe(documents: Iterable[str], vocab_size: int, threads: int) -> Callable[[], list[bytes]]:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()  # its own pattern is that of GPT-4
    tokenizer.train_from_iterator(iter(documents), vocab_size)
    return lambda: [bytes(token) for token, _ in tokenizer.get_mergeable_ranks()]


def _gigatoken_train(documents: Iterable[str], vocab_size: int, threads: int) -> Callable[[], list[bytes]]:
    import gigatoken

    vocabulary, _ = gigatoken.train_bpe(documents, vocab_size, [], separator=_SEPARATOR.encode())
    return lambda: list(vocabulary.values())


def _tokenizers_train(documents: Iterable[str], vocab_size: int, threads: int) -> Callable[[], list[bytes]]:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(HF_PATTERNS["cl100k_base"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(documents, trainer)

    def tokens() -> list[bytes]:
        from groundup.tokenizer.formats.spelling import unspell

        return [unspell(token) for token in tokenizer.get_vocab()]

    return tokens


TRAINERS: Mapping[str, Callable[[Any, int, int], Callable[[], list[bytes]]]] = {
    OURS: _learn,
    "rustbpe": _rustbpe,
    "gigatoken": _gigatoken_train,
    "tokenizers": _tokenizers_train,
}


# --- what a process of its own is asked to do


def _encode(request: Request) -> dict[str, Any]:
    """All texts at once, several times: the first time words are new to the encoder, then it may remember them."""
    texts = list(read_texts(Path(request["texts"])))
    start = resident_bytes()
    encode, flatten = _opened(request)
    encode(["word"])  # whatever is made at the first call
    seconds: list[float] = []
    ids = peak = None
    while len(seconds) < request["passes"] and sum(seconds) < request["patience"]:
        gc.collect()
        began = time.perf_counter()
        encoded = encode(texts)
        seconds.append(time.perf_counter() - began)
        if ids is None:
            peak = peak_bytes()
            ids = flatten(encoded)
        del encoded
    return {"seconds": seconds, **_digest(ids), "start_bytes": start, "peak_bytes": peak}


def _each(request: Request) -> dict[str, Any]:
    """Each text on its own, once."""
    texts = list(read_texts(Path(request["texts"])))
    encode, flatten = _opened(request)
    encode(["word"])
    answers = []
    for text in texts:
        gc.collect()
        began = time.perf_counter()
        encoded = encode([text])
        answers.append({"seconds": time.perf_counter() - began, **_digest(flatten(encoded))})
    return {"texts": answers}


def _first(request: Request) -> dict[str, Any]:
    """A short text, from nothing: seconds since the parent started this process."""
    running = time.time() - request["started"]
    encode, flatten = _opened(request)
    opened = time.time() - request["started"]
    encoded = encode([request["text"]])
    first = time.time() - request["started"]
    peak = peak_bytes()
    return {"running": running, "opened": opened, "first": first, **_digest(flatten(encoded)), "peak_bytes": peak}


def _train(request: Request) -> dict[str, Any]:
    """A vocabulary; from texts in memory for the time, from texts as they are read for the memory."""
    path, vocab_size, threads = Path(request["texts"]), request["vocab_size"], request["threads"]
    train = TRAINERS[request["side"]]
    documents: Any = read_texts(path)
    if request["side"] == "gigatoken":  # takes one buffer
        documents = _SEPARATOR.join(documents).encode()
    elif not request["stream"]:
        documents = list(documents)
    train(["a few words, a few words"] if request["side"] != "gigatoken" else b"a few words, a few words", 258, threads)
    start = resident_bytes()
    gc.collect()
    began = time.perf_counter()
    tokens = train(documents, vocab_size, threads)
    seconds = time.perf_counter() - began
    peak = peak_bytes()
    learnt = sorted(tokens())
    Path(request["out"]).write_text(json.dumps([token.hex() for token in learnt]), encoding="utf-8")
    return {"seconds": seconds, "start_bytes": start, "peak_bytes": peak}


TASKS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "encode": _encode,
    "each": _each,
    "first": _first,
    "train": _train,
}


def _opened(request: Request) -> tuple[Encode, Flatten]:
    return ENCODERS[request["side"]](request["vocabulary"], request["threads"], Path(request["folder"]))


def _digest(ids: Any) -> dict[str, Any]:
    import numpy as np

    return {"tokens": len(ids), "sha256": hashlib.sha256(np.ascontiguousarray(ids, np.uint32).data).hexdigest()}


# --- the parent's half


class SideFailed(Exception):
    """A side's process ended in an error, or not in time; the last line that it printed."""


def call(
    task: str, environment: Mapping[str, str] | None = None, timeout: float = _LONGEST_SECONDS, **request: Any
) -> dict[str, Any]:
    """Run a task in a fresh process; one thread means one core, where the system allows that.

    Raises:
        SideFailed: it did not end well, or not in time.
    """
    threads = request.get("threads", 1)
    fixed = {
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "OMP_NUM_THREADS": str(threads),
        **(environment or {}),
    }
    request = {name: str(value) if isinstance(value, Path) else value for name, value in request.items()}
    words = ["benchmarks._sides", task, json.dumps({**request, "started": time.time()})]
    return ask(words, fixed, timeout)


def ask(words: Sequence[str], environment: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """What ``python -m`` with these words answers: the JSON in the last line that it prints, for libraries print, too.

    Args:
        environment: variables that it finds beside ours.
        timeout: seconds.

    Raises:
        SideFailed: it did not end well, or not in time.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *words],
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SideFailed(f"not done after {timeout} s") from error
    if ended.returncode != 0:
        raise SideFailed((ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1])
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def can_pin() -> bool:
    """Whether a process can be bound to one core here."""
    return hasattr(os, "sched_setaffinity")


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """One JSON string a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for text in texts:
            file.write(json.dumps(text, ensure_ascii=False) + "\n")


def read_texts(path: Path) -> Iterator[str]:
    """What ``write_texts`` wrote, one at a time."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


# --- files for the peers


def tiktoken_encoding(vocabulary: str, folder: Path) -> Any:
    """tiktoken's own encoding; it checks the hashes of what ``_vocabularies`` put into its cache."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder / "tiktoken")
    import tiktoken

    return tiktoken.get_encoding(VOCABULARIES[vocabulary])


def file_for(vocabulary: str, folder: Path, kind: str) -> Path:
    """``kind``: ``tiktoken``, a rank file, or ``json``, Hugging Face's ``tokenizer.json``."""
    return folder / f"{VOCABULARIES[vocabulary]}.{kind}"


if __name__ == "__main__":
    _request = json.loads(sys.argv[2])
    if _request.get("threads") == 1 and can_pin():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(TASKS[sys.argv[1]](_request)))
