"""Sets of names, written as the line of words that they are."""


def names(words: str, separator: str | None = None) -> frozenset[str]:
    """The words of a line, separated by blanks or by ``separator``."""
    return frozenset(words.split(separator))


#: HTML elements that have no content and no end tag.
VOID = names("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr")
