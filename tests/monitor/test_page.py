"""The page is one file, needs nothing else, and shows what a run says as text only."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from groundup.monitor.page import content, write_page
from groundup.monitor.records import POINTS, Run


@pytest.fixture
def page(run: Callable[[], Run], tmp_path: Path) -> str:
    path = tmp_path / "page.html"
    write_page(run(), path, None)
    return path.read_text(encoding="utf-8")


def data(page: str) -> Any:
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_it_needs_no_network_and_no_other_file(page: str) -> None:
    assert set(re.findall(r"https?://[^\s\"'<>]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link|@import|\bsrc=|url\(", page)
    assert "{{" not in page


def test_its_elements_are_balanced(page: str) -> None:
    class Balance(HTMLParser):
        stack: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "meta":
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag

    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.stack == []


def test_what_the_run_says_stays_data(page: str) -> None:
    assert page.count("</script>") == 2
    assert "<b>to</b>" not in page
    [pretrain] = [stage for stage in data(page)["stages"] if stage["name"] == "pretrain"]
    assert pretrain["events"][1]["why"] == "the loss spiked </script> to 9"
    assert pretrain["samples"] == [{"step": 20, "prompt": "To be", "text": " or not <b>to</b> be\u2028"}]


def test_the_name_of_the_folder_is_escaped(run: Callable[[], Run], tmp_path: Path) -> None:
    found = run()
    found.out = tmp_path / "<b>&{{data}}"
    write_page(found, tmp_path / "page.html", None)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;&amp;" in page
    assert data(page)["name"] == "<b>&{{data}}"


def test_the_numbers(page: str) -> None:
    found = data(page)
    assert found["description"] == "A & B"
    assert found["machine"] == {"cores": 2}
    assert [stage["state"] for stage in found["stages"]] == ["done", "interrupted", "not yet"]
    pretrain = found["stages"][1]
    assert pretrain["curves"]["loss"] == {
        "steps": list(range(1, 41)),
        "values": [float(f"{6 / n + 1:.5g}") for n in range(1, 41)],
    }
    assert pretrain["curves"]["gradient_norm/attention"]["steps"] == [20, 40]
    assert pretrain["cost"] == pytest.approx(0.2)  # 20 seconds at 36 an hour
    assert (pretrain["planned"], pretrain["step"]) == (100, 40)


def test_a_long_run_stays_a_small_page(run: Callable[[], Run], out: Path, tmp_path: Path) -> None:
    with (out / "pretrain" / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.writelines(json.dumps({"step": step, "loss": 2 + step % 3}) + "\n" for step in range(41, 20_000))
    curve = content(run(), 5.0)["stages"][1]["curves"]["loss"]
    assert len(curve["steps"]) <= 2 * POINTS
    assert set(curve["lows"][-50:]) == {2.0}
    assert set(curve["highs"][-50:]) == {4.0}


def test_the_script_has_no_mistake_of_grammar(page: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "page.js"
    path.write_text(page.rsplit("<script>", 1)[1].split("</script>")[0], encoding="utf-8")
    subprocess.run([node, "--check", path], check=True)
