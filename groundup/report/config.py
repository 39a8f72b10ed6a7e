"""How the report is set; apart from the rest of the folder, which draws: that library takes a second to import."""

from dataclasses import dataclass

from groundup.core.errors import UsageError


@dataclass(frozen=True)
class ReportConfig:
    """How the report is set."""

    title: str = "A language model from the ground up"
    """Title on the first page and in the header."""
    paper: str = "a4"
    """Paper size by the name that Typst gives it, such as a4 or us-letter."""
    quoted_characters: int = 600
    """Longest quotation of a conversation's message; samples get half. What is cut is marked."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise UsageError("report.title is empty; give the report a title")
        if self.paper not in ("a4", "us-letter"):
            raise UsageError(f"report.paper is {self.paper!r}; use a4 or us-letter")
        if self.quoted_characters < 40:
            raise UsageError(f"report.quoted-characters is {self.quoted_characters}; it must be at least 40")
