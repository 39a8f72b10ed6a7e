"""How files become documents: which fields hold the text, and the limits that keep memory and time bounded."""

from dataclasses import dataclass

from groundup.core.errors import UsageError

KINDS = ("auto", "prose", "code")
MEGABYTE = 2**20
GIGABYTE = 2**30


@dataclass(frozen=True)
class ReadingConfig:
    """How files are read."""

    kind: str = "auto"
    """What files are: "auto" goes by their suffixes; "code" reads every text file as source code, "prose" none."""
    text_field: str = ""
    """Field or column that holds the text of JSON, CSV and Parquet; empty: "text", else "content"."""
    encoding: str = "utf-8"
    """Of text files that neither are UTF-8 nor say what they are in; "utf-8": such files are dropped."""
    source: str = "path"
    """Name of the corpus, which every document carries."""
    max_megabytes: float = 256.0
    """Larger documents are dropped unread."""
    shard_megabytes: float = 64.0
    """Size of the pieces that the input is divided into, where its format allows."""
    max_ratio: float = 300.0
    """A compressed file that grows by more than this factor is a decompression bomb: what follows is dropped."""
    max_unpacked_gigabytes: float = 512.0
    """A compressed file that grows larger than this is a decompression bomb: what follows is dropped."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"corpus.reading.kind is {self.kind!r}; use one of: {', '.join(KINDS)}")
        for name in ("max_megabytes", "shard_megabytes", "max_ratio", "max_unpacked_gigabytes"):
            if not getattr(self, name) > 0:
                raise UsageError(f"corpus.reading.{name} is {getattr(self, name)}; it must be above 0")
        try:
            b" ".decode(self.encoding, "replace")  # some codecs are none of text
        except LookupError as error:
            raise UsageError(f"corpus.reading.encoding is {self.encoding!r}, which is no encoding of text") from error

    @property
    def max_bytes(self) -> int:
        """Of one document."""
        return int(self.max_megabytes * MEGABYTE)

    @property
    def shard_bytes(self) -> int:
        return max(1, int(self.shard_megabytes * MEGABYTE))
