"""What the report says about models of other families than its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, ExpertConfig
from groundup.model.presets import preset, shrunk
from groundup.report import Facts, ReportConfig, making
from groundup.report.build import compose, typeset
from groundup.report.readings import Draft
from groundup.report.wording import ABSENT
from tests.report.conftest import write_model


def told(folder: Path, config: ModelConfig) -> tuple[dict[str, str], list[str], dict[str, object]]:
    """The table, one block from entrance to exit, and all of the section."""
    write_model(folder, config)
    section = making.model(Draft(Facts(folder), 100))
    rows = dict(section["rows"])
    assert ABSENT not in rows.values()
    return rows, [words for _, words in section["block"]], section


def test_a_default_model_is_told_without_what_it_does_not_have(tmp_path: Path) -> None:
    rows, block, _ = told(tmp_path, ModelConfig(layers=6, width=192, heads=6, hidden=512, context=256))
    assert rows["Feed-forward"] == "SwiGLU, 512"
    assert rows["Norm"] == "RMSNorm before each part"
    assert rows["Positions"] == "rotary, base 10\u202f000"
    assert rows["Queries and keys normalised"] == "each head"
    assert block == [
        "RMSNorm", "attention, 6 heads, rotary positions", "add to the stream",
        "RMSNorm", "SwiGLU → 512", "add to the stream",
    ]  # fmt: skip
    assert not [name for name in rows if "xpert" in name or "indow" in name or "ound" in name or "Bias" in name]
    assert "Parameters that a token passes" not in rows


def test_every_family_is_told_by_what_makes_it_one(tmp_path: Path) -> None:
    gpt2, block, section = told(tmp_path / "gpt2", preset("gpt2").config)
    assert gpt2["Norm"] == "LayerNorm before each part"
    assert gpt2["Positions"] == "learned"
    assert gpt2["Biases"] == "all"
    assert gpt2["Feed-forward"] == "GELU, 3\u202f072"
    assert section["entrance"] == "embedding + learned positions → 768 numbers per token"
    gemma, block, _ = told(tmp_path / "gemma", preset("gemma-2-2b").config)
    assert block[:4] == ["RMSNorm", "attention, 8 heads, rotary positions", "RMSNorm", "add to the stream"]
    assert gemma["Bound of attention scores"] == "50"
    assert gemma["Local (L) and global (G) layers"] == "LG"
    deepseek, block, section = told(tmp_path / "deepseek", preset("deepseek-v3").config)
    assert deepseek["Experts"] == "256, of which 8 per token"
    assert deepseek["Shared vector of keys and values"] == "512"
    assert deepseek["Parameters that a token passes"] < deepseek["Parameters"]
    assert "8 of 256 experts" in block
    assert section["experts"]
    assert section["latent"]


def test_norms_that_come_last_are_drawn_last(tmp_path: Path) -> None:
    _, block, section = told(tmp_path, ModelConfig(norm_place="post"))
    assert [block[2], block[-1], section["exit"]] == ["RMSNorm", "RMSNorm", "output head"]


@pytest.mark.parametrize("busy", [False, True])
def test_the_report_keeps_its_length(run: Path, tmp_path: Path, busy: bool) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    config = shrunk(preset("deepseek-v3").config)
    if busy:  # every row that there is
        config = ModelConfig(
            bias="qkv", norm_place="sandwich", key_smear=True, value_embeddings=True, residual_scalars=True,
            dropout=0.1, logits_softcap=30.0, attention=AttentionConfig(window=64, softcap=50.0, sinks=True),
            experts=ExpertConfig(count=8, shared=1, dense_layers=1),
        )  # fmt: skip
        config = replace(config, positions=replace(config.positions, scaling="yarn", factor=4.0, fraction=0.5))
    write_model(other, config)
    _, pages = typeset(*compose(ReportConfig(), Facts(other)))
    assert pages <= 15
