import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from groundup.inspection import Inspection, figures, inspect
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.tokenizer import BytePairTokenizer

Build = Callable[..., Transformer]
#: Pixels that no side of a picture exceeds.
LARGEST = 4500


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    return struct.unpack(">II", path.read_bytes()[16:24])  # type: ignore[return-value]


def test_every_picture_is_drawn_in_both_formats(inspected: Inspection, tmp_path: Path) -> None:
    paths = list(figures.draw(inspected, tmp_path, [0, 2]))
    expected = [
        *("attention", "attention-layer-1", "attention-layer-3", "heads", "prediction", "final-token", "depth"),
        *("stream", "neighbours"),
    ]
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in expected for kind in ("svg", "png")]
    for path in paths:
        if path.suffix == ".svg":
            assert "<text" not in path.read_text(encoding="utf-8")
        else:
            assert max(size(path)) <= LARGEST


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x" * 128, {"layers": 1, "heads": 1, "context": 128}),
        ("a", {"layers": 2, "width": 96, "heads": 24, "head_size": 4, "hidden": 8}),
        ("deep", {"layers": 24, "width": 8, "heads": 2, "hidden": 8}),
    ],
    ids=["long", "many heads", "many layers"],
)
def test_pictures_of_any_shape_have_a_bounded_size(
    text: str, values: dict[str, int], build: Build, tokenizer: BytePairTokenizer, tmp_path: Path
) -> None:
    found = inspect(build(None, **{"kv_heads": 1, **values}), tokenizer, text, top=50)
    with figures.style():
        maps = (figures.attention_overview(found), figures.attention_layer(found, 0), figures.heads(found))
        for sheet in (*maps, figures.neighbours(found)):
            _, png = sheet.save(tmp_path, "sheet")
            assert max(size(png)) <= LARGEST


def test_an_overview_of_more_than_it_has_pixels_shows_the_largest_weights() -> None:
    weights = torch.zeros(1, 1, 100, 100)
    weights[..., 80, 40] = 1.0
    small = figures._coarse(weights.numpy(), 3)
    assert small.shape == (1, 1, 34, 34)
    assert small[0, 0, 26, 13] == 1
    assert small.sum() == 1


def test_long_texts_take_several_pages(inspected: Inspection, build: Build, tokenizer: BytePairTokenizer) -> None:
    found = inspect(build(layers=1), tokenizer, "y" * 49)
    with figures.style():
        assert len(figures.prediction(found)) == 3
        assert len(figures.final_token(found)) == 3
        assert len(figures.prediction(inspected)) == 1


def test_experts_have_a_picture_where_there_are_experts(
    build: Build, tokenizer: BytePairTokenizer, tmp_path: Path
) -> None:
    config = ModelConfig(
        layers=3, width=16, heads=2, hidden=8, experts=ExpertConfig(count=5, active=2, dense_layers=1, hidden=8)
    )
    found = inspect(build(config), tokenizer, "who takes what")
    with figures.style():
        _, png = figures.experts(found).save(tmp_path, "experts")
    assert max(size(png)) <= LARGEST
    assert found.experts.keys() == {1, 2}
