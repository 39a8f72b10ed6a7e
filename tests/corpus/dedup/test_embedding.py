import json
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from groundup.core.errors import UsageError
from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.dedup import Clusters, Embedding, EmbeddingConfig, MinHash, MinHashConfig, Workspace, run
from groundup.corpus.dedup import embedding as module
from groundup.corpus.dedup.words import word_hashes
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig
from tests.corpus.pipeline.conftest import contents

Prose = Callable[..., str]
CONFIG = EmbeddingConfig()


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", "test", text) for number, text in enumerate(texts)]


def details(results: list[Document | Dropped]) -> dict[str, str]:
    return {r.document.id: r.detail for r in results if isinstance(r, Dropped)}


def retold(text: str, share: float, seed: int) -> str:
    """The words of a text in another order, a share of them replaced: no run of words is left."""
    rng = random.Random(seed)
    words = [f"zork{rng.random():.9f}" if rng.random() < share else word for word in text.split()]
    rng.shuffle(words)
    return " ".join(words)


@pytest.fixture
def corpus(prose: Prose) -> list[Document]:
    """A thousand documents, of which every fourth is another retold, more or less freely."""
    originals = [prose(seed, 120) for seed in range(750)]
    return documents_of(*originals, *(retold(originals[3 * n], 0.5 * n / 250, n) for n in range(250)))


def sketched(step: Embedding, documents: list[Document], folder: Path, memory: int = 1 << 28) -> Workspace:
    workspace = Workspace(folder, 1, memory)
    sketches = step.sketches()
    for document in documents:
        sketches.add(document)
    sketches.write(workspace, 0)
    return workspace


def reference(documents: list[Document]) -> np.ndarray:
    """All cosines as the textbook has them, in floating point: unit vectors, minus their mean, whitened."""
    vectors = np.stack([module.projected_words(word_hashes(document.text)) for document in documents])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = vectors - vectors.sum(axis=0) / (len(vectors) + 1)
    values, directions = np.linalg.eigh(np.cov(centred.T, bias=True))
    ridge = module.RIDGE + module.RIDGE_OF_FEW * len(values) / len(vectors)
    white = centred @ (directions / np.sqrt(values + ridge * values.mean())) @ directions.T
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    return white @ white.T


def groups_of(count: int, pairs: list[tuple[int, int]]) -> list[list[int]]:
    clusters = Clusters(count)
    for pair in pairs:
        clusters.union(*pair)
    return clusters.groups()


def test_a_thousand_documents_against_all_pairs(tmp_path: Path, corpus: list[Document]) -> None:
    step = Embedding(CONFIG)
    workspace = sketched(step, corpus, tmp_path)
    pairs = np.array(list(combinations(range(len(corpus)), 2))).T
    found = step.compare(workspace, pairs[1], pairs[0])
    exact = reference(corpus)[pairs[0], pairs[1]]
    assert np.abs(found - exact).max() < 0.02
    assert np.count_nonzero(found >= CONFIG.threshold) > 100
    brute = pairs[:, found >= CONFIG.threshold].T.tolist()
    linked = step.find(workspace, 0).T.tolist()
    assert groups_of(len(corpus), linked) == groups_of(len(corpus), brute)
    assert len(linked) < len(corpus)


def test_clusters_part_few_of_those_that_say_the_same(
    tmp_path: Path, corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = details(list(run(Embedding(CONFIG), [corpus], tmp_path / "whole")))
    monkeypatch.setattr(module, "CLUSTER", 50)
    parted = details(list(run(Embedding(CONFIG), [corpus], tmp_path / "parted")))
    assert len(module._read_space(tmp_path / "parted/space" / module.SPACE).centres) == 20
    assert set(parted) <= set(whole)
    assert len(parted) >= 0.95 * len(whole)


def test_what_is_retold_is_found_where_no_run_of_words_is_left(tmp_path: Path, prose: Prose) -> None:
    originals = [prose(seed, 200) for seed in range(60)]
    documents = documents_of(*originals, *(retold(originals[seed], 0.1, seed) for seed in range(0, 60, 6)))
    assert not details(list(run(MinHash(MinHashConfig()), [documents], tmp_path / "minhash")))
    found = details(list(run(Embedding(CONFIG), [documents], tmp_path / "embedding")))
    assert {name: detail.split()[-1] for name, detail in found.items()} == {
        f"d{60 + place}": f"d{6 * place}" for place in range(10)
    }
    assert all(detail.startswith("cosine 0.") for detail in found.values())


def test_the_same_is_found_however_the_work_is_divided(
    tmp_path: Path, corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLUSTER", 100)
    outcomes = []
    for size, memory in ((170, 200_000), (1000, 1 << 28)):
        shards = [corpus[start : start + size] for start in range(0, len(corpus), size)]
        step: Embedding = pickle.loads(pickle.dumps(Embedding(CONFIG)))
        outcomes.append(list(run(step, shards, tmp_path / str(size), memory)))
        buckets = len(list((tmp_path / str(size)).glob("repetitions-*")))
        assert (buckets > 4) is (memory < 1 << 28)
    assert outcomes[0] == outcomes[1]
    assert len(details(outcomes[0])) > 50


def test_any_number_of_processes_writes_the_same_bytes(
    tmp_path: Path, corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.core.run.code_version", lambda module: "the same")
    lines = [json.dumps({"text": document.text}) for document in corpus[::5] + corpus[750:800]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = CorpusConfig(
        path=tmp_path / "rows.jsonl", steps=("embedding",), workers=1, reading=ReadingConfig(shard_megabytes=0.01)
    )
    build(config, tmp_path / "one", seed=1)
    build(replace(config, workers=2), tmp_path / "two", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "same content" in (tmp_path / "one" / "dropped.jsonl").read_text(encoding="utf-8")


def test_the_space_that_is_there_first_is_everybodys(
    tmp_path: Path, corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ranks that make it at once; on different machines theirs might differ."""
    few, step = corpus[::20], Embedding(CONFIG)
    first = step._space(sketched(step, few, tmp_path / "first"))
    workspace = sketched(step, few, tmp_path / "second")
    make = module.Space.of

    def overtaken(sample: module.Bytes, clusters: int) -> module.Space:
        made = make(sample, clusters)
        if not (workspace.folder / "space").exists():
            shutil.copytree(tmp_path / "first/space", workspace.folder / "space")
        return replace(made, mean=made.mean + 1)

    monkeypatch.setattr(module.Space, "of", overtaken)
    assert (step._space(workspace).mean == first.mean).all()


def test_a_bucket_reads_its_own_clusters_only(
    tmp_path: Path, corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLUSTER", 25)
    step = Embedding(CONFIG)
    workspace = sketched(step, corpus, tmp_path, memory=200_000)
    assert workspace.buckets > 4
    compared: list[int] = []
    linked = Embedding._linked
    monkeypatch.setattr(
        Embedding,
        "_linked",
        lambda self, where, group: (compared.extend(group.tolist()), linked(self, where, group))[1],
    )
    found = [step.find(workspace, bucket) for bucket in range(workspace.buckets)]
    assert len(compared) == module.NEAREST * len(corpus) == 2 * 1000
    assert sum(part.shape[1] for part in found) > 100


def test_clusters_of_an_earlier_step_are_kept(tmp_path: Path, prose: Prose) -> None:
    """A chain of three, of which the ends are too different to be one: they stay, and belong together."""
    one, middle, last = (prose(seed, 150) for seed in (1, 2, 3))
    texts = [one + middle, middle + last, last + prose(4, 150), *(prose(seed, 300) for seed in range(10, 40))]
    marked = [replace(document, facts={"cluster": f"c{document.id}"}) for document in documents_of(*texts)]
    results = list(run(Embedding(EmbeddingConfig(threshold=0.3)), [marked], tmp_path))
    assert set(details(results)) == {"d1"}
    kept = [r.facts["cluster"].splitlines() for r in results if isinstance(r, Document)]
    assert kept[:3] == [["cd0", "d0"], ["cd2", "d0"], ["cd3"]]


def test_copies_take_no_more_pairs_than_documents(tmp_path: Path, prose: Prose) -> None:
    documents = documents_of(*[prose(1, 60)] * 1500, *(prose(seed, 60) for seed in range(2, 40)))
    step = Embedding(CONFIG)
    workspace = sketched(step, documents, tmp_path)
    assert step.find(workspace, 0).shape == (2, 1499)
    assert len(details(list(run(step, [documents], tmp_path / "all")))) == 1499


@pytest.mark.parametrize(
    ("texts", "dropped"),
    [
        ([], set()),
        (["a b c"] * 3, set()),
        (["one"], set()),
        (["x " * 30] * 2, {"d1"}),
        (["!? " * 100, ""], set()),
    ],
    ids=["nothing", "too short", "one", "two copies", "no words"],
)
def test_corpora_of_next_to_nothing(tmp_path: Path, texts: list[str], dropped: set[str]) -> None:
    assert set(details(list(run(Embedding(CONFIG), [documents_of(*texts)], tmp_path)))) == dropped


def test_two_different_documents_stay(tmp_path: Path, prose: Prose, modern: str) -> None:
    assert not details(list(run(Embedding(CONFIG), [documents_of(prose(1), prose(2))], tmp_path / "invented")))
    other = (
        "The river that runs by the mill has been low since the spring, and the miller has sold both of his horses "
        "to the people of the next village, who have a well and no need of him or of the weather."
    )
    assert not details(list(run(Embedding(CONFIG), [documents_of(modern, other)], tmp_path / "English")))


def test_sums_of_products_are_exact_in_any_order() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.choice(np.array([-127, 126, 127], dtype=np.int8), size=(20, module.MOST_DIMENSIONS))
    vectors[0] = 127
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    lengths = np.sqrt(np.diag(exact).astype(np.float64))
    assert (module._cosines(vectors, vectors) == exact / lengths[:, None] / lengths).all()
    shuffled = rng.permutation(module.MOST_DIMENSIONS)
    assert (module._cosines(vectors, vectors) == module._cosines(vectors[:, shuffled], vectors[:, shuffled])).all()


# --- a model of token vectors


SYNONYMS = [("big", "large"), ("small", "little"), ("begin", "start"), ("road", "way"), ("glad", "happy")]


def save_model(folder: Path, rows: int | None = None, **more: np.ndarray) -> Path:
    """Forty words, of which some mean the same as others: these have one vector, all others their own."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", *(word for pair in SYNONYMS for word in pair), *(f"noun{number}" for number in range(30))]
    rng = np.random.default_rng(2)
    table = rng.normal(size=(len(words), 32)).astype(np.float16)
    table[2:11:2] = table[1:10:2]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": table[:rows], **more}, folder / "model.safetensors")
    return folder


def with_synonyms(count: int, seed: int) -> tuple[str, str]:
    rng = random.Random(seed)
    words = [rng.choice(SYNONYMS)[0] if rng.random() < 0.7 else f"noun{rng.randrange(30)}" for _ in range(count)]
    exchanged = dict(SYNONYMS)
    return " ".join(words), " ".join(exchanged.get(word, word) for word in words)


def test_a_model_knows_synonyms(tmp_path: Path) -> None:
    told = [with_synonyms(40, seed) for seed in range(50)]
    documents = documents_of(*(one for one, _ in told), *(other for _, other in told[:10]))
    step = Embedding(EmbeddingConfig(model=save_model(tmp_path / "model"), threshold=0.99))
    results = list(run(pickle.loads(pickle.dumps(step)), [documents], tmp_path / "work"))
    assert set(details(results)) == {f"d{number}" for number in range(50, 60)}
    hashed = details(list(run(Embedding(EmbeddingConfig(threshold=0.99)), [documents], tmp_path / "hashed")))
    assert not hashed


def test_a_model_that_is_smaller_than_its_vocabulary_gives_the_same_vectors(tmp_path: Path) -> None:
    """As model2vec quantises vocabularies: ``mapping`` from token to row, ``weights`` by token."""
    plain = module.TokenVectors(save_model(tmp_path / "plain"))
    count = plain._tokenizer.get_vocab_size()
    mapping = np.arange(count)
    mapping[2:11:2] = mapping[1:10:2]
    weights = np.full(count, 2.0, dtype=np.float32)
    other = module.TokenVectors(save_model(tmp_path / "other", mapping=mapping, weights=weights))
    text = " ".join(with_synonyms(60, 1)) + " unknown"
    np.testing.assert_allclose(other(text), 2 * plain(text), rtol=1e-6)
    words = text.split()
    vectors = [plain(word) for word in words]
    np.testing.assert_allclose(plain(text), np.sum(vectors, axis=0), rtol=1e-6)


def test_a_wrong_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        Embedding(EmbeddingConfig(model=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="cannot be read"):
        module.TokenVectors(tmp_path)
    with pytest.raises(UsageError, match="41 tokens, but vectors for 7 only"):
        module.TokenVectors(save_model(tmp_path / "short", rows=7))
    with pytest.raises(UsageError, match="one table of at most 1024 columns"):
        module.TokenVectors(save_model(tmp_path / "two", second=np.zeros((3, 3), dtype=np.float32)))


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.5}, {"keep": "last"}, {"min_words": 0}], ids=str)
def test_a_wrong_config_says_which_key(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.embedding\.{next(iter(wrong))}"):
        EmbeddingConfig(**wrong)  # type: ignore[arg-type]
