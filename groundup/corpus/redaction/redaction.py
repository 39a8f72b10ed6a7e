"""The step of the pipeline: a document enters, and leaves without personal data and secrets."""

import string
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from groundup.core.config import hint
from groundup.core.errors import UsageError
from groundup.corpus.document import Document
from groundup.corpus.redaction.finding import KINDS, find

#: What a placeholder may be made of.
_FIELDS = ("kind", "number")


@dataclass(frozen=True)
class RedactionConfig:
    """What is replaced by placeholders, and how they look."""

    kinds: tuple[str, ...] = KINDS
    """What is replaced: secret, iban, credit_card, national_id, email, ip, coordinates, phone."""
    placeholder: str = "<{kind}>"
    """What stands in its place. With {number}, as in <{kind}_{number}>, the same value gets the same number throughout
    a document, so that one can still tell who is who."""
    keep_local: bool = True
    """Keep IP addresses that are nobody's: private, loopback, link-local, and those for documentation."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UsageError(f"corpus.redaction.kinds: {kind} is no kind of personal data{hint(kind, KINDS)}")
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.placeholder) if name is not None]
            samples = [self.placeholder.format(kind=kind.upper(), number=1) for kind in KINDS]
        except (ValueError, LookupError, AttributeError) as error:
            raise UsageError(
                f"corpus.redaction.placeholder is {self.placeholder!r}; use {{kind}} and {{number}}, as in <{{kind}}>"
            ) from error
        if not set(names) <= set(_FIELDS) or any(find(sample) for sample in samples):
            raise UsageError(
                f"corpus.redaction.placeholder is {self.placeholder!r}, which looks like personal data itself"
            )


@dataclass(frozen=True)
class Redaction:
    """Replaces personal data in a document's text and title, and counts it: ``redacted.email`` …

    Nothing is ever dropped, and what was found is in no measure and no message.
    """

    config: RedactionConfig = field(default_factory=RedactionConfig)
    name: str = "redaction"

    def __call__(self, document: Document) -> Document:
        counts: Counter[str] = Counter()
        numbers: defaultdict[str, dict[str, int]] = defaultdict(dict)
        text = self._redacted(document.text, counts, numbers)
        title = self._redacted(document.title, counts, numbers)
        if not counts:
            return document
        measures = dict(document.measures)
        for kind, count in sorted(counts.items()):
            measures[f"redacted.{kind}"] = measures.get(f"redacted.{kind}", 0) + count
        return replace(document, text=text, title=title, measures=measures)

    def _redacted(self, text: str, counts: Counter[str], numbers: defaultdict[str, dict[str, int]]) -> str:
        """``text`` with placeholders; counts what it replaced, and numbers the values of each kind as they come."""
        pieces, end = [], 0
        for found in find(text, self.config.kinds, self.config.keep_local):
            values = numbers[found.kind]
            number = values.setdefault(text[found.start : found.end].casefold(), len(values) + 1)
            pieces += [text[end : found.start], self.config.placeholder.format(kind=found.kind.upper(), number=number)]
            counts[found.kind] += 1
            end = found.end
        return "".join([*pieces, text[end:]]) if pieces else text
