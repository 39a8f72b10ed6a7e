"""Tokens to text while they arrive.

Enters: token ids, one at a time. Leaves: pieces of text that never need to be taken back: a character whose bytes
are spread over several tokens waits until it is whole, and what may be the beginning of a stop string waits too.
"""

import codecs
from collections.abc import Sequence

from groundup.tokenizer.chat import SPACE
from groundup.tokenizer.protocol import Tokenizer


class TextStream:
    """The text of one completion."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        """
        Args:
            tokenizer: turns ids into bytes.
            stops: the text ends before the first of these strings.
        """
        self.text = ""
        """Everything handed out so far, without the space that the chat template puts before a turn."""
        self.stopped = False
        """A stop string was met; nothing follows."""
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._begun = False

    def push(self, token: int) -> str:
        """The text that this token completes; often empty."""
        return self._hand_out(self._decoder.decode(self._tokenizer.decode_bytes([token])), final=False)

    def finish(self) -> str:
        """What was still held back when the tokens ended; an incomplete character becomes U+FFFD."""
        return self._hand_out(self._decoder.decode(b"", final=True), final=True)

    def _hand_out(self, new: str, final: bool) -> str:
        if self.stopped:
            return ""
        if new and not self._begun:
            self._begun = True
            new = new.removeprefix(SPACE)
        pending = self._held + new
        met = [place for stop in self._stops if (place := pending.find(stop)) >= 0]
        if met:
            self.stopped = True
            piece, self._held = pending[: min(met)], ""
        else:
            keep = 0 if final else self._possible_stop(pending)
            piece, self._held = pending[: len(pending) - keep], pending[len(pending) - keep :]
        self.text += piece
        return piece

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of ``text`` with which a stop string begins."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
