"""Text → pieces (pre-tokens) within which byte pairs may merge; joined, the pieces are the text again.

The pattern is GPT-4's with one digit a piece, as Qwen2 uses it, spelled without the case-insensitive
group so that every regular expression engine reads it alike. Tools that know tokenizers by their pattern
(llama.cpp calls this one ``qwen2``) therefore know ours. The alternatives, tried in order:

    'll 's 've …          the tail of an English contraction
    [^\\r\\n\\p{L}\\p{N}]?\\p{L}+  a run of letters with the one space or sign before it: " word", "(word"
    \\p{N}                 one digit: numbers of any length are spelled alike, which arithmetic needs
     ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*  a run of signs with the space before and the line ends after it
    \\s*[\\r\\n]+           blank lines
    \\s+(?!\\S)            white space up to the last one, which belongs to the next word
    \\s+                  any other white space

Together they match every character. ``\\p{L}`` and ``\\p{N}`` follow the Unicode version of the installed
``regex`` package, so a character that entered Unicode recently can fall into other pieces elsewhere.
"""

from collections.abc import Iterator

import regex

PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

#: Long texts are matched a block of about this many characters at a time, to bound memory.
BLOCK_CHARACTERS = 1 << 20

_piece = regex.compile(PATTERN)
# A space after something that is not white space begins a piece wherever it stands: no alternative
# matches across it, and none looks back. So text may be cut there without changing its pieces.
_cut = regex.compile(r"(?<=\S) ")


def pieces(text: str, block: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The pieces of ``text`` in order; ``"".join(pieces(text)) == text``. The same for any ``block`` ≥ 1."""
    start = 0
    while len(text) - start > block:
        cut = _cut.search(text, start + block)
        if cut is None:
            break
        yield from _piece.findall(text, start, cut.start())
        start = cut.start()
    yield from _piece.findall(text, start)


def well_formed(text: str) -> str:
    """``text`` itself when it can be written as UTF-8, else with its surrogates resolved.

    A Python string may hold surrogates (U+D800–U+DFFF), which are no characters. A high and a low one in a
    row become the character they stand for in UTF-16; any other becomes U+FFFD.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
