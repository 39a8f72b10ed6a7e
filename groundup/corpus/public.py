"""Public corpora by name: where their files are, how large they are, and under which licence. Facts only; ``reading``
opens ``public://NAME`` and, for a small part of it, ``public://NAME/sample``.

Nothing of them is part of this package. Whoever reads one accepts its terms: the licences below are those of the
collections; the texts in them belong to their authors.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from groundup.core.errors import UsageError

SCHEME = "public://"
SAMPLE = "sample"


@dataclass(frozen=True)
class PublicCorpus:
    """A corpus that others publish."""

    name: str
    home: str
    """Page that describes it."""
    licence: str
    format: str
    """Of its files, as ``reading`` calls it."""
    files: str
    """URL or glob of all its files; with ``listed``, of the list of them."""
    sample: str
    """URL of a small part, for a look before the whole; with ``listed``, the first file is the sample."""
    gigabytes: float
    """Of its files, about."""
    contents: str
    """What it holds, in a line."""
    listed: str = ""
    """``files`` is a list of paths, one a line; each is below this address."""
    note: str = ""
    """What has to be done first."""

    @property
    def command(self) -> str:
        """What brings a sample through the whole pipeline."""
        return f"groundup run --corpus.inputs {SCHEME}{self.name}/{SAMPLE}"


PUBLIC: Mapping[str, PublicCorpus] = {
    corpus.name: corpus
    for corpus in (
        PublicCorpus(
            name="fineweb-edu",
            home="https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu",
            licence="ODC-By 1.0, and the terms of use of Common Crawl",
            format="parquet",
            files="hf://datasets/HuggingFaceFW/fineweb-edu/data/*/*.parquet",
            sample="hf://datasets/HuggingFaceFW/fineweb-edu/sample/10BT/000_00000.parquet",
            gigabytes=3_800,
            contents="educational web pages chosen by a classifier, English, 1.3 trillion tokens",
        ),
        PublicCorpus(
            name="c4",
            home="https://huggingface.co/datasets/allenai/c4",
            licence="ODC-By 1.0, and the terms of use of Common Crawl",
            format="json",
            files="hf://datasets/allenai/c4/en/c4-train.*.json.gz",
            sample="hf://datasets/allenai/c4/en/c4-train.00000-of-01024.json.gz",
            gigabytes=327,
            contents="the Colossal Clean Crawled Corpus, English web pages of April 2019, 365 million documents",
        ),
        PublicCorpus(
            name="wikipedia",
            home="https://dumps.wikimedia.org",
            licence="CC BY-SA 4.0 and GFDL",
            format="mediawiki",
            files="https://dumps.wikimedia.org/enwiki/latest/enwiki-latest-pages-articles-multistream.xml.bz2",
            sample="https://dumps.wikimedia.org/simplewiki/latest/simplewiki-latest-pages-articles-multistream.xml.bz2",
            gigabytes=25,
            contents="every article of the English Wikipedia in wikitext; the sample is the Simple English one",
        ),
        PublicCorpus(
            name="the-stack-v2",
            home="https://huggingface.co/datasets/bigcode/the-stack-v2-dedup",
            licence="each file its own (field licence); terms of use of BigCode and Software Heritage",
            format="parquet",
            files="hf://datasets/bigcode/the-stack-v2-dedup/data/*/*.parquet",
            sample="hf://datasets/bigcode/the-stack-v2-dedup/data/Zig/*.parquet",
            gigabytes=32_100,
            contents="source code in 600 languages, near duplicates removed; files of Software Heritage",
            note="accept its terms on its home page and log in with 'hf auth login'; the tables name the files, whose "
            "contents come one by one from s3://softwareheritage (pip install s3fs; AWS credentials, or "
            "FSSPEC_S3_ANON=true; in bulk, by "
            "agreement with them)",
        ),
        PublicCorpus(
            name="tinystories",
            home="https://huggingface.co/datasets/roneneldan/TinyStories",
            licence="CDLA-Sharing-1.0",
            format="parquet",
            files="hf://datasets/roneneldan/TinyStories/data/*.parquet",
            sample="hf://datasets/roneneldan/TinyStories/data/validation-*.parquet",
            gigabytes=1,
            contents="short stories in a child's words, made by GPT-3.5 and GPT-4, 2.1 million documents",
        ),
        PublicCorpus(
            name="openwebtext",
            home="https://huggingface.co/datasets/Skylion007/openwebtext",
            licence="CC0 for the collection",
            format="parquet",
            files="hf://datasets/Skylion007/openwebtext/plain_text/*.parquet",
            sample="hf://datasets/Skylion007/openwebtext/plain_text/train-00000-of-*.parquet",
            gigabytes=24,
            contents="web pages that Reddit pointed to, a copy of GPT-2's WebText, 8.0 million documents",
        ),
        PublicCorpus(
            name="common-crawl",
            home="https://commoncrawl.org/blog/december-2024-crawl-archive-now-available",
            licence="terms of use of Common Crawl",
            format="warc",
            files="https://data.commoncrawl.org/crawl-data/CC-MAIN-2024-51/warc.paths.gz",
            sample="",
            gigabytes=80_000,
            contents="the web in December 2024 as it was sent, 2.64 billion pages",
            listed="https://data.commoncrawl.org/",
        ),
        PublicCorpus(
            name="common-crawl-text",
            home="https://commoncrawl.org/blog/december-2024-crawl-archive-now-available",
            licence="terms of use of Common Crawl",
            format="warc",
            files="https://data.commoncrawl.org/crawl-data/CC-MAIN-2024-51/wet.paths.gz",
            sample="",
            gigabytes=7_500,
            contents="the text of the same pages, menus and all (WET)",
            listed="https://data.commoncrawl.org/",
        ),
    )
}


def find_public(place: str) -> tuple[PublicCorpus, bool]:
    """The corpus that ``public://NAME`` names, and whether only its sample is asked for.

    Raises:
        UsageError: there is none of this name.
    """
    name, _, part = place.removeprefix(SCHEME).strip("/").partition("/")
    if name not in PUBLIC or part not in ("", SAMPLE):
        near = difflib.get_close_matches(name, PUBLIC, n=1)
        hint = f"did you mean {near[0]!r}?" if near and name not in PUBLIC else f"use one of: {', '.join(PUBLIC)}"
        raise UsageError(f"{place} is no public corpus (public://NAME or public://NAME/sample); {hint}")
    return PUBLIC[name], part == SAMPLE
