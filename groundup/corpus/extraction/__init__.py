"""What text still is when it arrives, made prose: HTML → main content, wikitext → prose, damaged text → repaired and
normal text. Each as a function of a string, and as a step of the pipeline."""

from groundup.corpus.extraction.encoding import Repair, RepairConfig, repair
from groundup.corpus.extraction.html import Extract, ExtractConfig, main_content, page_title
from groundup.corpus.extraction.unicode import Normalize, NormalizeConfig
from groundup.corpus.extraction.wikitext import Wikitext, WikitextConfig, plain_text

__all__ = [
    "Extract",
    "ExtractConfig",
    "Normalize",
    "NormalizeConfig",
    "Repair",
    "RepairConfig",
    "Wikitext",
    "WikitextConfig",
    "main_content",
    "page_title",
    "plain_text",
    "repair",
]
