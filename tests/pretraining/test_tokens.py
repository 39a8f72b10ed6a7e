"""A run's corpus as tokens on disk, and as the rows that pretraining eats."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from groundup.core.config import parse, to_json
from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import write_jsonl
from groundup.corpus import Document
from groundup.dataloader import IGNORED, open_tokens
from groundup.dataloader.shards import TokenWriter
from groundup.pretraining import tokens as module
from groundup.pretraining.tokens import (
    DataConfig,
    encode_documents,
    encode_split,
    make_source,
    read_split,
    tell_mixture,
)
from groundup.tokenizer import BytePairTokenizer

TOKENIZER = BytePairTokenizer.from_merges([(ord("a"), ord("b"))])
MARK = TOKENIZER.special_tokens["<|document|>"]
TEXTS = {
    "code/one.py": "ab cd " * 9,
    "prose/one.txt": "A long tale of ab. " * 5,
    "code/two.py": "x",
    "prose/two.txt": "And ab again. " * 7,
    "law.txt": "Whereas " * 30,
}
PARTS = ("code/*=2", "prose/*=1", "*=0")


def new_run(folder: Path, texts: dict[str, str] = TEXTS) -> Path:
    rows = [{"id": name, "title": name, "source": "path", "text": text} for name, text in texts.items()]
    for split in ("train", "validation"):
        write_jsonl(folder / "corpus" / f"{split}.jsonl", rows)
    return folder


def texts_of(documents: Any) -> list[str]:
    assert all(ids[0] == MARK for ids in documents)
    return [TOKENIZER.decode(ids[1:].tolist()) for ids in documents]


class Simple:
    """A tokenizer that can do no more than the protocol asks for."""

    vocab_size = TOKENIZER.vocab_size
    special_tokens = TOKENIZER.special_tokens
    fingerprint = TOKENIZER.fingerprint

    def encode(self, text: str) -> list[int]:
        return TOKENIZER.encode(text)


def test_every_document_is_there_behind_its_token(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    tokens = encode_split(run, "train", TOKENIZER)
    assert list(tokens) == ["train"]
    assert texts_of(tokens["train"].documents) == list(TEXTS.values())
    assert texts_of(read_split(run / "pretrain" / "tokens" / "train")) == list(TEXTS.values())


@pytest.mark.parametrize("characters", [1, 100, 2**22])
def test_any_tokenizer_and_any_grouping_give_the_same_files(
    tmp_path: Path, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path)
    encode_documents(run / "corpus" / "train.jsonl", TOKENIZER, run / "batched")
    monkeypatch.setattr(module, "ENCODED_CHARACTERS", characters)
    encode_documents(run / "corpus" / "train.jsonl", Simple(), run / "simple")  # type: ignore[arg-type]
    for name in ("index.json", "00000.tokens.npy", "00000.documents.npy"):
        assert (run / "simple" / name).read_bytes() == (run / "batched" / name).read_bytes()


def test_an_interrupted_encoding_goes_on_behind_its_last_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    folder = run / "pretrain" / "tokens" / "train"
    encoded: list[str] = []

    class Interrupted(Simple):
        def encode(self, text: str) -> list[int]:
            if len(encoded) == 3:
                encoded.clear()
                raise KeyboardInterrupt
            encoded.append(text)
            return TOKENIZER.encode(text)

    original = TokenWriter.__init__
    monkeypatch.setattr(TokenWriter, "__init__", lambda *given: original(*given[:4], 60))
    monkeypatch.setattr(module, "ENCODED_CHARACTERS", 1)
    with pytest.raises(KeyboardInterrupt):
        encode_split(run, "train", Interrupted())  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="interrupted"):
        open_tokens(folder)
    assert json.loads((folder / "index.json").read_text(encoding="utf-8"))["documents"] == 2
    assert texts_of(encode_split(run, "train", Interrupted())["train"].documents) == list(TEXTS.values())  # type: ignore[arg-type]
    assert encoded == list(TEXTS.values())[2:]


def test_what_is_encoded_is_kept_but_not_for_another_tokenizer(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    encode_split(run, "train", TOKENIZER)
    (run / "corpus" / "train.jsonl").unlink()
    assert len(encode_split(run, "train", TOKENIZER)["train"].documents) == len(TEXTS)
    with pytest.raises(ArtifactError, match="another text or tokenizer"):
        encode_split(run, "train", BytePairTokenizer.from_merges([(97, 97)]))


def test_a_mixture_has_a_folder_for_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = new_run(tmp_path), DataConfig(mixture=PARTS)
    tokens = encode_split(run, "train", TOKENIZER, data)
    assert texts_of(tokens["code/*"].documents) == [TEXTS["code/one.py"], TEXTS["code/two.py"]]
    assert texts_of(tokens["prose/*"].documents) == [TEXTS["prose/one.txt"], TEXTS["prose/two.txt"]]
    assert list(tokens) == ["code/*", "prose/*"]
    assert "1 documents of '*' are left out" in capsys.readouterr().err
    names = [folder.name for folder in sorted((run / "pretrain" / "tokens" / "train").iterdir())]
    assert names == ["00-code", "01-prose"]
    assert len(read_split(run / "pretrain" / "tokens" / "train")) == 4


def test_documents_count_to_the_first_pattern_of_their_source_or_id(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    tokens = encode_split(run, "train", TOKENIZER, DataConfig(mixture=("law.txt=1", "path=3", "code/*=0")))
    assert [len(part.documents) for part in tokens.values()] == [1, 4]


def test_documents_count_to_what_is_known_of_them() -> None:
    data = DataConfig(mixture=("kind:code=1", "language:d?=2", "licence:=1", "date:1=1", "*=0"))
    facts = (
        {"kind": "code", "language": "de"},
        {"kind": "wikitext", "language": "de"},
        {"language": "en"},
        {"licence": "MIT", "date": "1623"},
    )
    documents = [Document("language:en", "", "kind:code", "", fact) for fact in facts]
    assert [data.part_of(document) for document in documents] == ["kind:code", "language:d?", "licence:", "*"]
    lines = DataConfig(mixture=("crawl.jsonl:1?=1", "*=1"))
    assert lines.part_of(Document("crawl.jsonl:17", "", "path", "")) == "crawl.jsonl:1?"


def test_what_a_mixture_repeats_is_told_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = new_run(tmp_path), DataConfig(mixture=PARTS)
    tokens = encode_split(run, "train", TOKENIZER, data)
    capsys.readouterr()
    tell_mixture(tokens, data, row_tokens=600)
    code, prose = capsys.readouterr().err.splitlines()
    assert code == "  mixture: code/*: 2 documents, 48 tokens (20.8%); 66.7% of the rows, about 8.33 epochs"
    assert prose == "  mixture: prose/*: 2 documents, 183 tokens (79.2%); 33.3% of the rows, about 1.09 epochs"
    source = make_source(tokens, data, 3, 8, TOKENIZER, seed=1)
    batches = list(islice(source, 600 // (3 * 8)))
    assert batches[-1].metrics["epochs/prose/*"] == pytest.approx(1.09, rel=0.2)  # the last window is left out
    tell_mixture({"train": tokens["code/*"]}, DataConfig(), 600)
    assert capsys.readouterr().err == ""


def test_a_part_without_documents_and_a_document_without_part_are_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with pytest.raises(DataError, match=r"'music/\*' of data.mixture matches no document"):
        encode_split(run, "train", TOKENIZER, DataConfig(mixture=("music/*=1", "*=1")))
    with pytest.raises(DataError, match=r"'prose/one\.txt' of 'path' matches no pattern"):
        encode_split(run, "train", TOKENIZER, DataConfig(mixture=("code/*=1",)))


@pytest.mark.parametrize(
    "entry", ["code", "code=", "=1", "code=-1", "code=x", "code=1/0", "code=nan", ("code=1", "code=2")]
)
def test_a_mixture_that_cannot_be_read_is_refused(entry: str | tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"data\.mixture has '(code|=1).*pattern=weight"):
        DataConfig(mixture=(entry,) if isinstance(entry, str) else entry)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves out every document"):
        DataConfig(mixture=("*=0",))


def test_the_command_line_and_the_record_know_it() -> None:
    config = parse(DataConfig, DataConfig(), ["--mixture", "a=0.5", "b=1/3", "--packing", "documents"], "test", "test")
    assert config == DataConfig("documents", ("a=0.5", "b=1/3"))
    assert to_json(config) == {"packing": "documents", "mixture": ["a=0.5", "b=1/3"]}


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("mixture", [(), PARTS])
def test_batches_are_the_texts(tmp_path: Path, packing: Any, mixture: tuple[str, ...]) -> None:
    run, data = new_run(tmp_path), DataConfig(packing, mixture)
    tokens = encode_split(run, "train", TOKENIZER, data)
    source = make_source(tokens, data, 3, 16, TOKENIZER, seed=1)
    whole = "\0".join(["", *TEXTS.values(), ""])
    rows = 0
    for batch in islice(source, 8):
        assert set(batch.tensors) == {"inputs", "targets"} | (
            {"positions", "segments"} if packing == "documents" else set()
        )
        assert batch.weight == int((batch.tensors["targets"] != IGNORED).sum())
        names = ("train",) if not mixture else ("code/*", "prose/*")
        assert {f"epochs/{name}" for name in names} == {name for name in batch.metrics if "epochs" in name}
        for inputs, segments in zip(
            batch.tensors["inputs"], batch.tensors.get("segments", batch.tensors["inputs"] * 0), strict=True
        ):
            for segment in range(int(segments.max()) + 1):
                ids = inputs[segments == segment].tolist()
                text = b"".join(b"\0" if token == MARK else TOKENIZER.token_bytes(token) for token in ids).decode()
                assert text in whole or mixture  # parts are not neighbours in the corpus
                assert packing == "windows" or "\0" not in text[1:]
            rows += 1
    assert rows == 24


def test_parts_keep_their_order_when_others_come_or_go(tmp_path: Path) -> None:
    starts = []
    for number, mixture in enumerate((PARTS, ("prose/*=1", "*=0"))):
        run, data = new_run(tmp_path / str(number)), DataConfig(mixture=mixture)
        tokens = encode_split(run, "train", TOKENIZER, data)
        source = make_source(tokens, data, 30, 8, TOKENIZER, seed=1)
        prose = tokens["prose/*"]
        starts.append([span.start for (span,) in source.plan().rows if span.tokens is prose][:9])
    assert starts[0] == starts[1]


def test_too_little_text_is_refused_by_the_name_of_its_part(tmp_path: Path) -> None:
    run, data = new_run(tmp_path), DataConfig(mixture=PARTS)
    tokens = encode_split(run, "train", TOKENIZER, data)
    with pytest.raises(DataError, match=r"code/\* has 48 tokens, fewer than two windows of 64"):
        make_source(tokens, data, 1, 64, TOKENIZER, seed=1)
