"""A corpus is made anew when a list or a model changes that one of its steps was told of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundup.core.files import sha256_of
from groundup.corpus.build import CorpusConfig, input_files, prepare
from groundup.corpus.quality import BlocklistConfig, C4Config
from groundup.corpus.scoring import (
    Classifier,
    ClassifierConfig,
    NgramModel,
    PerplexityConfig,
    ToxicityConfig,
    WordListConfig,
)


def _list(path: Path, words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(words.split()), encoding="utf-8")
    return path


def _classifier(path: Path, words: str) -> Path:
    Classifier(np.full(16, len(words), np.float32), bias=0.0, order=1, characters=0).save(path)
    return path


def _ngram(path: Path, words: str) -> Path:
    NgramModel.fit([words], 2).save(path)
    return path


#: How each is made, and the sections of a corpus that is told of it.
TOLD = {
    "word list": (_list, lambda path: {"word_list": WordListConfig((path,))}),
    "classifier": (_classifier, lambda path: {"classifier": ClassifierConfig(path)}),
    "toxicity": (_classifier, lambda path: {"toxicity": ToxicityConfig((path,))}),
    "perplexity": (_ngram, lambda path: {"perplexity": PerplexityConfig(path)}),
    "blocklist": (_list, lambda path: {"blocklist": BlocklistConfig(text_words=path)}),
    "c4": (_list, lambda path: {"c4": C4Config(badwords=path)}),
    "category": (
        lambda path, words: _list(path / "domains", words).parent,
        lambda path: {"blocklist": BlocklistConfig(categories=(path,))},
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_changed_file_is_another_corpus(name: str, tmp_path: Path) -> None:
    make, sections = TOLD[name]
    text = _list(tmp_path / "text.txt", "some words")
    step = "blocklist" if name == "category" else name
    config = CorpusConfig(path=text, steps=(step,), **sections(make(tmp_path / "told", "first")))
    without = replace(config, steps=("clean",))

    def seen(config: CorpusConfig) -> tuple[Path, list[str]]:
        """What names the shards; and what the stage's fingerprint hashes."""
        return prepare(config, tmp_path / "out")[0].folder, [sha256_of(path) for path in input_files(config)]

    before, apart = seen(config), seen(without)
    assert seen(config) == before
    for path in sorted((tmp_path / "told").rglob("*"), reverse=True) if (tmp_path / "told").is_dir() else ():
        path.unlink()
    if (tmp_path / "told").is_dir():
        (tmp_path / "told").rmdir()
    make(tmp_path / "told", "second words")
    after = seen(config)
    assert after[0] != before[0] and after[1] != before[1]
    assert seen(without) == apart  # nobody asked for it
