"""Our trainer against those of rustbpe and Hugging Face's ``tokenizers``: the same merges, ties and all.

All three merge the most frequent pair and break ties by the lowest (left, right) ids. rustbpe numbers the bytes as we
do. ``tokenizers`` numbers them by the characters it spells them with, which changes who wins a tie; with our bytes
renumbered alike, nothing differs.
"""

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from groundup.core import compiled
from groundup.tokenizer.bpe_plain import MINIMUM_COUNT, Pair
from groundup.tokenizer.counting import Pieces, count_pieces
from groundup.tokenizer.formats.spelling import byte_alphabet
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.trainer import learn, learn_compiled, learn_merges

MERGES = 3000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """About 700 kB of Python and of the documentation in it, and some other scripts."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [folder / name for name in ("argparse.py", "typing.py", "tarfile.py", "inspect.py", "pydoc_data/topics.py")]
    return [path.read_text(encoding="utf-8") for path in paths] + ["Ελληνικά, русский язык, 中文没有空格 🦉 " * 20]


def spelled(merges: list[Pair]) -> list[bytes]:
    """What each merge makes."""
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens[256:]


@pytest.mark.parametrize("name", ["groundup", "gpt2", "o200k"])
def test_the_merges_are_those_of_rustbpe(texts: list[str], name: str) -> None:
    rustbpe = pytest.importorskip("rustbpe")
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator(iter(texts), 256 + MERGES, pattern=NAMED[name])
    ranks = sorted((rank, bytes(token)) for token, rank in theirs.get_mergeable_ranks())
    ours = learn(texts, MERGES, Pattern.named(name))
    assert spelled(ours.merges) == [token for rank, token in ranks if rank >= 256]


def hugging_face_merges(texts: list[str], pattern: str) -> tuple[list[int], list[Pair]]:
    """The number that ``tokenizers`` gives each byte, and the merges that it learns, in its own numbers."""
    tokenizers: Any = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + MERGES, min_frequency=MINIMUM_COUNT, initial_alphabet=byte_alphabet(), show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    content = json.loads(model.to_str())["model"]
    ids = content["vocab"]
    return [ids[character] for character in byte_alphabet()], [
        (ids[left], ids[right]) for left, right in content["merges"]
    ]


@pytest.mark.parametrize("name", ["groundup", "gpt2"])
def test_the_merges_are_those_of_hugging_face(texts: list[str], name: str) -> None:
    numbers, theirs = hugging_face_merges(texts, NAMED[name])
    counts = count_pieces(texts, Pattern.named(name))
    renumbered = {bytes(numbers[byte] for byte in piece): count for piece, count in counts.items()}
    assert learn_merges(renumbered, MERGES) == theirs
    if compiled.available():
        merges, _ = learn_compiled(Pieces.of(renumbered), MERGES)
        assert [tuple(pair) for pair in merges.tolist()] == theirs
