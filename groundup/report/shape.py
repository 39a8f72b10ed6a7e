"""What the configuration of a model says, in words: its rows of a table, and one block as a drawing.

Enters: the ``config`` in a run's ``pretrain/model.json``, with every value filled in. Leaves: names and values; options
that are off take no row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from groundup.report.facts import Facts
from groundup.report.wording import ABSENT, count, one_line, significant

FILE = "pretrain/model.json"
NORMS = {"rms": "RMSNorm", "layer": "LayerNorm"}
PLACES = {
    "pre": "before each part",
    "output": "after each part",
    "sandwich": "before and after each part",
    "post": "after each sum",
}
FEED_FORWARDS = {
    "relu": "ReLU",
    "relu2": "ReLU²",
    "gelu": "GELU",
    "gelu-tanh": "GELU",
    "swiglu": "SwiGLU",
    "geglu": "GEGLU",
    "geglu-tanh": "GEGLU",
}
POSITIONS = {
    "rotary": "rotary",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "alibi": "ALiBi",
    "none": "none",
}
QUERY_KEY_NORMS = {"none": "no", "head": "each head", "all": "all heads together"}
SWITCH = {"true": "yes", "false": "no"}
#: Options that most models leave off: where they stand, what off is, how they are called.
EXTRAS = (
    ("bias", "none", "Biases"),
    ("positions.local_base", 0, "Rotary base in local layers"),
    ("positions.fraction", 1, "Share of a head that rotary turns"),
    ("positions.scaling", "none", "Stretching of rotary positions"),
    ("attention.scale", 0, "Factor of attention scores"),
    ("attention.softcap", 0, "Bound of attention scores"),
    ("logits_softcap", 0, "Bound of the output scores"),
    ("attention.sinks", "false", "Learned attention sinks"),
    ("key_smear", "false", "Keys carry the key before"),
    ("value_embeddings", "false", "Values carry the token"),
    ("ngrams", "0", "Longest n-gram with an embedding"),
    ("residual_scalars", "false", "Learned shares of the stream"),
    ("dropout", 0, "Dropout"),
    ("attention.dropout", 0, "Dropout of attention weights"),
)


@dataclass(frozen=True)
class Shape:
    """The configuration of a run's model; what the file does not say is ``None``."""

    facts: Facts

    def number(self, key: str, label: str) -> float | None:
        """The number at ``config.<key>``."""
        return self.facts.number(FILE, f"config.{key}", f"Model: {label.lower()}")

    def word(self, key: str, label: str, words: Mapping[str, str]) -> str:
        """The choice at ``config.<key>`` as it is called in the report."""
        found = self.facts.text(FILE, f"config.{key}", f"Model: {label.lower()}")
        return ABSENT if found is None else words.get(found, one_line(found, 24))

    def is_on(self, key: str) -> bool:
        """Whether a number stands at ``config.<key>`` that is not 0."""
        return self.facts.is_number(FILE, f"config.{key}") and bool(self.number(key, key.replace("_", " ")))

    def rows(self) -> list[list[str]]:
        """Name and value of all that describes the model."""
        rows = [
            [name, count(self.number(key, name))]
            for key, name in (("layers", "Layers"), ("width", "Width of the residual stream"))
        ]
        heads = [count(self.number(key, name)) for key, name in (("heads", "query heads"), ("head_size", "head size"))]
        rows.append(["Query heads × their size", " × ".join(heads)])
        rows += self._latent() if self.is_on("latent.key_rank") else self._keys()
        rows.append(["Feed-forward", f"{self.feed_forward}, {count(self.number('hidden', 'Inner size'))}"])
        if self.is_on("experts.count"):
            rows += self._experts()
        rows.append(["Norm", f"{self.norm} {self.word('norm_place', 'Place of the norm', PLACES)}"])
        rows.append(["Positions", self._positions()])
        if self.is_on("attention.window"):
            rows += self._window()
        rows += [row for row in map(self._extra, *zip(*EXTRAS, strict=True)) if row]
        rows.append(["Context, in tokens", count(self.number("context", "Context"))])
        name = "Embedding is output head"
        return [*rows, [name, self.word("tied", name, SWITCH)]]

    @property
    def norm(self) -> str:
        """``RMSNorm``."""
        return self.word("norm", "Norm", NORMS)

    @property
    def feed_forward(self) -> str:
        """``SwiGLU``."""
        return self.word("feed_forward", "Feed-forward", FEED_FORWARDS)

    def block(self) -> list[list[str]]:
        """One block from its entrance to its exit: ``[kind, words]``, of kind ``part`` or ``sum``."""
        place = self.facts.text(FILE, "config.norm_place", "Model: place of the norm")
        norm, total = ["part", self.norm], ["sum", "add to the stream"]
        drawn = []
        for part in (self._attention_words(), self._feed_forward_words()):
            drawn += [norm] if place in ("pre", "sandwich") else []
            drawn.append(["part", part])
            drawn += [norm] if place in ("output", "sandwich") else []
            drawn.append(total)
            drawn += [norm] if place == "post" else []
        return drawn

    def ends(self) -> dict[str, str]:
        """What stands before the first block and after the last."""
        kind = self.word("positions.kind", "Positions", POSITIONS)
        added = f" + {kind} positions" if kind in ("learned", "sinusoidal") else ""
        width = count(self.number("width", "Width of the residual stream"))
        post = self.facts.text(FILE, "config.norm_place", "Model: place of the norm") == "post"
        return {
            "entrance": f"embedding{added} → {width} numbers per token",
            "exit": "output head" if post else f"{self.norm} · output head",
        }

    def _attention_words(self) -> str:
        kind = self.word("positions.kind", "Positions", POSITIONS)
        positions = {"rotary": ", rotary positions", "ALiBi": ", ALiBi"}.get(kind, "")
        latent = "latent attention" if self.is_on("latent.key_rank") else "attention"
        return f"{latent}, {count(self.number('heads', 'Query heads'))} heads{positions}"

    def _feed_forward_words(self) -> str:
        if not self.is_on("experts.count"):
            return f"{self.feed_forward} → {count(self.number('hidden', 'Inner size'))}"
        active, total = (count(self.number(f"experts.{key}", f"Experts: {key}")) for key in ("active", "count"))
        return f"{active} of {total} experts"

    def _keys(self) -> list[list[str]]:
        name = "Queries and keys normalised"
        return [
            ["Key/value heads", count(self.number("kv_heads", "Key/value heads"))],
            [name, self.word("qk_norm", name, QUERY_KEY_NORMS)],
        ]

    def _latent(self) -> list[list[str]]:
        sizes = {
            "latent.key_rank": "Shared vector of keys and values",
            "latent.rotary_size": "Rotary dimensions of a head",
        }
        return [[name, count(self.number(key, name))] for key, name in sizes.items()]

    def _experts(self) -> list[list[str]]:
        total, active, shared, hidden, dense = (
            count(self.number(f"experts.{key}", f"Experts: {key.replace('_', ' ')}"))
            for key in ("count", "active", "shared", "hidden", "dense_layers")
        )
        rows = [["Experts", f"{total}, of which {active} per token"], ["Inner size of an expert", hidden]]
        if self.is_on("experts.shared"):
            rows.append(["Experts for every token", shared])
        return [*rows, ["First layers without experts", dense]] if self.is_on("experts.dense_layers") else rows

    def _positions(self) -> str:
        kind = self.word("positions.kind", "Positions", POSITIONS)
        if kind != POSITIONS["rotary"]:
            return kind
        return f"{kind}, base {count(self.number('positions.base', 'Base of the rotary frequencies'))}"

    def _window(self) -> list[list[str]]:
        pattern = self.word("attention.pattern", "Layers of windowed attention", {})
        size = count(self.number("attention.window", "Attention window"))
        return [["Window of local layers, in tokens", size], ["Local (L) and global (G) layers", pattern]]

    def _extra(self, key: str, off: str | float, label: str) -> list[str] | None:
        if isinstance(off, str):
            value = self.word(key, label, SWITCH)
            return None if value in (off, SWITCH.get(off), ABSENT) else [label, value]
        number = self.number(key, label)
        return None if number in (off, None) else [label, significant(number)]
