import csv
import datetime
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, find_shards, open_records, read_shard

parquet = pytest.importorskip("pyarrow.parquet")


def write_parquet(path: Path, rows: list[dict[str, Any]], group: int = 3) -> Path:
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def write_csv(rows: list[list[str]], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=5)
)
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text(write_csv([["id", "text"], *([str(n), text] for n, text in enumerate(texts))]), "utf-8", newline="")
    found = list(open_records(path))
    assert [item.text for item in found if isinstance(item, Document)] == texts
    assert [item.id for item in found if isinstance(item, Document)] == [f"x.csv:{n + 1}" for n in range(len(texts))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_columns_become_facts(tmp_path: Path, read: Any, delimiter: str) -> None:
    rows = [["url", "content", "title"], ["https://x.org", "one\ntwo", "A"], ["", "three", ""]]
    (tmp_path / "x.csv").write_text("\ufeff" + write_csv(rows, delimiter), encoding="utf-8", newline="")
    kept, dropped = read(tmp_path)
    assert [(d.title, d.text, dict(d.facts)) for d in kept.values()] == [
        ("A", "one\ntwo", {"url": "https://x.org"}),
        ("x 2", "three", {}),
    ]
    assert not dropped


def test_troubles_of_csv_are_counted_row_by_row(tmp_path: Path, read: Any) -> None:
    rows = [b"text,note", b"good,1", b"one,two,three", b"caf\xe9,1", b'"' + b"x\n" * 6000 + b'",1', b"last,1"]
    (tmp_path / "x.csv").write_bytes(b"\n".join(rows))
    (tmp_path / "none.csv").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "void.csv").touch()
    kept, dropped = read(tmp_path, ReadingConfig(max_megabytes=0.005))
    texts = [d.text for d in kept.values()]
    assert texts[0] == "good" and texts[-1] == "last"
    reasons = {item.reason for item in dropped.values()}
    assert reasons == {"broken CSV", "invalid UTF-8", "no text", "empty"}


def test_parquet_columns_become_facts(tmp_path: Path, read: Any) -> None:
    day = datetime.datetime(2024, 5, 1)
    write_parquet(tmp_path / "web.parquet", [{"text": "a", "url": "u", "language": "en", "date": day, "score": 1.5}])
    write_parquet(
        tmp_path / "code.parquet",
        [{"content": "x = 1", "lang": "Python", "max_stars_repo_licenses": ["MIT"], "max_stars_repo_path": "a/b.py"}],
    )
    write_parquet(tmp_path / "nested.parquet", [{"text": "b", "metadata": {"url": "v", "license": "CC0"}}])
    kept, dropped = read(tmp_path)
    assert not dropped
    assert {name: (d.text, dict(d.facts)) for name, d in kept.items()} == {
        "code.parquet:1": ("x = 1", {"language": "Python", "licence": "MIT", "path": "a/b.py", "kind": "code"}),
        "nested.parquet:1": ("b", {"url": "v", "licence": "CC0"}),
        "web.parquet:1": ("a", {"url": "u", "language": "en", "date": "2024-05-01T00:00:00"}),
    }


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 12), group=st.integers(1, 5), size=st.integers(1, 3000))
def test_row_groups_divide_a_file_without_a_difference(
    tmp_path_factory: pytest.TempPathFactory, count: int, group: int, size: int
) -> None:
    rows = [{"text": f"text {number}"} for number in range(count)]
    path = write_parquet(tmp_path_factory.mktemp("parquet") / "x.parquet", rows, group)
    config = ReadingConfig(shard_megabytes=size / 2**20)
    divided = [item for shard in find_shards([path], config) for item in read_shard(shard, config)]
    assert divided == list(open_records(path))
    assert [(d.id, d.text) for d in divided if isinstance(d, Document)] == [
        (f"x.parquet:{number + 1}", f"text {number}") for number in range(count)
    ]


def test_troubles_of_parquet_are_counted(tmp_path: Path, read: Any) -> None:
    path = write_parquet(tmp_path / "cut.parquet", [{"text": f"{n} " * 500} for n in range(9)])
    whole = path.read_bytes()
    (tmp_path / "group.parquet").write_bytes(whole[:200] + b"\xff" * 40 + whole[240:])
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "void.parquet").touch()
    write_parquet(tmp_path / "null.parquet", [{"text": None}, {"text": "fine"}, {"text": "x" * 20_000}])
    kept, dropped = read(tmp_path, ReadingConfig(max_megabytes=0.01))
    assert {name: item.reason for name, item in dropped.items()} == {
        "cut.parquet:rest": "damaged Parquet",
        "group.parquet:group 0": "damaged Parquet",
        "null.parquet:1": "no text",
        "null.parquet:3": "too large",
        "void.parquet": "empty",
    }
    assert "null.parquet:2" in kept and {f"group.parquet:{n}" for n in range(4, 10)} <= set(kept)


def test_a_table_without_the_column_is_one_drop_that_names_those_it_has(tmp_path: Path, read: Any) -> None:
    rows = [{"body": "a", "doc": {"text": "nested"}, "number": 1}] * 5
    write_parquet(tmp_path / "a.parquet", rows)
    (tmp_path / "b.csv").write_text("body;number\na;1\nb;2\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"body": "a", "x\\ud800": 1}', encoding="utf-8")
    kept, dropped = read(tmp_path)
    assert not kept and {item.reason for item in dropped.values()} == {"no text"}
    remedy = "; choose one with --corpus.reading.text-field"
    assert [item.detail for item in dropped.values()] == [
        f'no column "text" or "content"; its fields: body, doc, number{remedy}',
        f'no column "text" or "content"; its fields: body, number{remedy}',
        f'line 1 has no string under "text" or "content"; its fields: body, x?{remedy}',
    ]
    kept, _ = read(tmp_path / "a.parquet", ReadingConfig(text_field="doc.text"))
    assert [item.text for item in kept.values()] == ["nested"] * 5


def test_columns_of_bytes_are_text_if_they_are_utf8(tmp_path: Path, read: Any) -> None:
    write_parquet(tmp_path / "x.parquet", [{"text": "Grüße".encode()}, {"text": b"caf\xe9"}])
    kept, dropped = read(tmp_path)
    assert kept["x.parquet:1"].text == "Grüße" and dropped["x.parquet:2"].reason == "invalid UTF-8"


def test_dialects_of_csv(tmp_path: Path, read: Any) -> None:
    for name, raw in {
        "excel.csv": b"sep=;\r\ntext;a\r\none;1\r\n",
        "latin.csv": "text,a\ncafé,1\n".encode("latin-1"),
        "mac.csv": b"text,a\rone,1\rtwo,2\r",
        "wide.csv": "text,a\none,1\n".encode("utf-16"),
    }.items():
        (tmp_path / name).write_bytes(raw)
    kept, dropped = read(tmp_path, ReadingConfig(encoding="latin-1"))
    assert {name: item.text for name, item in kept.items()} == {"excel.csv:1": "one", "latin.csv:1": "café"}
    assert {name: (item.reason, item.detail) for name, item in dropped.items()} == {
        "mac.csv:rest": ("broken CSV", "its lines end with CR alone; convert them to LF"),
        "wide.csv:rest": ("binary", "it is in UTF-16; convert it to UTF-8"),
    }


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b'{"text": "a",\n "url": "u"}\n', ["a"]),
        (b'{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        (b'{"text": "a"b}\n{"text": "c"}\n', ["c"]),
        (b'{"text": "a", "n": ' + b"9" * 10**5 + b"}", ["a"]),
        (b'[{"text": "a", "n": ' + b"9" * 10**5 + b"}]", ["a"]),
    ],
    ids=["object of lines", "lines", "a broken line", "a long number", "a long number in an array"],
)
def test_one_value_or_lines(tmp_path: Path, read: Any, raw: bytes, texts: list[str]) -> None:
    (tmp_path / "x.json").write_bytes(raw)
    kept, _ = read(tmp_path)
    assert [item.text for item in kept.values()] == texts


def test_json_of_all_shapes(tmp_path: Path, read: Any) -> None:
    (tmp_path / "c4.json").write_text('{"text": "a", "url": "u", "date": "2019"}\n{"text": "b"}\n', encoding="utf-8")
    (tmp_path / "array.json").write_text('\n[{"text": "c"}, 5, {"text": "d"}]', encoding="utf-8")
    (tmp_path / "object.json").write_text('{\n  "text": "e"\n}\n', encoding="utf-8")
    (tmp_path / "broken.json").write_text('[{"text": ', encoding="utf-8")
    kept, dropped = read(tmp_path)
    assert {name: d.text for name, d in kept.items()} == {
        "array.json:1": "c", "array.json:3": "d", "c4.json:1": "a", "c4.json:2": "b", "object.json:1": "e",
    }  # fmt: skip
    assert {name: d.reason for name, d in dropped.items()} == {"array.json:2": "no text", "broken.json": "broken JSON"}
    assert kept["c4.json:1"].facts == {"url": "u", "date": "2019"}


def test_the_user_names_the_column(tmp_path: Path, read: Any) -> None:
    write_parquet(tmp_path / "x.parquet", [{"text": "no", "body": "yes"}])
    (tmp_path / "y.csv").write_text("text;body\nno;yes\n", encoding="utf-8")
    (tmp_path / "z.jsonl").write_text('{"text": "no", "body": "yes"}', encoding="utf-8")
    kept, dropped = read(tmp_path, ReadingConfig(text_field="body"))
    assert {d.text for d in kept.values()} == {"yes"} and len(kept) == 3 and not dropped
    assert isinstance(next(iter(open_records(tmp_path, ReadingConfig(text_field="none")))), Dropped)
