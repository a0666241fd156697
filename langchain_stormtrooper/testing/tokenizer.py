"""A toy tokenizer that behaves like a real one where it matters to a classifier.

Words it knows are one token, with or without a leading space; other words fall into known fragments, letters and, at
the end, UTF-8 bytes, so every text round-trips and every label has several token paths. It loads nothing and learns
nothing. `ScriptedEngine` uses it, and tests use it to build prompts of an exact length.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAD, BOS, EOS = 0, 1, 2
"""The three special tokens: padding (the decoder start of T5), start and end of text."""

_SPECIAL = ("<pad>", "<s>", "</s>")
_FIRST_BYTE = len(_SPECIAL)
_WORDS = """
a about above account activate age all am an and answer are as ask at back balance bank be because been best
book bot bus business but buy by call can cancel car card change check child city class classify come country
could data date day did different do does each eat email end entity even exchange fact film find first food
for found from game get give go good great had hand has have he head health help her high him his home hot
hotel house how i if in is it item its just keep know label large last later left life light like line list
little live long look made make man many may me mean men mercy money month more most movie much music must my
name need neutral never new news next no not now number of off offer old on one only open or order other our
out over own park part pay people person place plan play please point positive negative mixed price problem
program question rate read review right run same say school science sentence set shall she should show sight
small so some song sport spam start state still stop story study such system table tag take tech tell text
than that the their them then there these they thing think this those three through time to toxic travel tree
true false try turn two under up us use very want war was water way we weather week well went were what when
where which while who why will with word work world would write wrong year yes you your york jersey zealand
"""
_FRAGMENTS = "able al an ed en er es est ing ion is ity le ly ment ness ous pos neg neu tral ti tive un us ve th st"

_REMEMBERED = 100_000


class ToyTokenizer:
    """Cut text into pieces by longest match, and put it back together exactly.

    Ids 0 to 2 are `<pad>`, `<s>` and `</s>`; the next 256 are the single bytes `<0x00>` to `<0xFF>`; then come the
    pieces, in which a space can only come first. The cut is greedy from the left and has no memory, so the rest of a
    text after any whole piece is cut as if it stood alone.

    Args:
        words: More words to know, each as one token, bare and with a leading space, as written and capitalised. Of a
            phrase, each word becomes one.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        pieces: dict[str, None] = {}
        for word in (*_WORDS.split(), *(word for phrase in words for word in phrase.split())):
            for form in (word, word.capitalize()):
                pieces[" " + form] = None
                pieces[form] = None
        for fragment in _FRAGMENTS.split():
            pieces[fragment] = None
        for char in string.printable:
            pieces[char] = None
            if not char.isspace():
                pieces[" " + char] = None
        # A lone byte token already spells each ASCII character, so these give the second, natural spelling.
        texts = [piece.encode() for piece in pieces if piece.strip(" ") or piece == " "]
        self._texts: list[bytes] = [b"", b"", b"", *(bytes([value]) for value in range(256)), *texts]
        self._ids: dict[bytes, int] = {text: _FIRST_BYTE + 256 + index for index, text in enumerate(texts)}
        self._longest = max(len(text) for text in texts)
        self._words: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def vocabulary(self) -> Sequence[bytes]:
        """The bytes that each token id adds to a text; empty for the special tokens."""
        return self._texts

    def name(self, token: int) -> str:
        """Write one token as its vocabulary entry, such as `<0x70>` or ` good`."""
        if token < _FIRST_BYTE:
            return _SPECIAL[token]
        if token < _FIRST_BYTE + 256:
            return f"<0x{token - _FIRST_BYTE:02X}>"
        return self._texts[token].decode()

    def encode(self, text: str) -> list[int]:
        """Cut a text into token ids, without special tokens.

        Lone surrogates, which no UTF-8 text can hold, become three byte tokens each.
        """
        first, *rest = text.split(" ")
        ids = self.encode_bytes(first.encode("utf-8", "surrogatepass"))
        known = self._words
        for word in rest:
            found = known.get(word)
            if found is None:
                found = self._after_space(word)
            ids += found
        return ids

    def _after_space(self, word: str) -> tuple[int, ...]:
        """Cut a word that follows a space and remember the cut, since prompts repeat their words."""
        found = tuple(self.encode_bytes(b" " + word.encode("utf-8", "surrogatepass")))
        # Bounded, so that a fuzzer's endless new words cannot eat the memory.
        if len(self._words) < _REMEMBERED:
            self._words[word] = found
        return found

    def encode_bytes(self, data: bytes) -> list[int]:
        """Cut bytes by longest match alone, for the rest of a text that starts inside a character."""
        ids: list[int] = []
        start, end = 0, len(data)
        while start < end:
            for stop in range(min(end, start + self._longest), start, -1):
                token = self._ids.get(data[start:stop])
                if token is not None:
                    break
            else:
                token, stop = _FIRST_BYTE + data[start], start + 1
            ids.append(token)
            start = stop
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Join tokens to text; special tokens add nothing, and broken UTF-8 shows as replacement characters."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Join tokens to the bytes they stand for."""
        texts = self._texts
        return b"".join([texts[token] for token in ids])

    def is_special(self, token: int) -> bool:
        """Tell whether a token is left out of generated text."""
        return token < _FIRST_BYTE
