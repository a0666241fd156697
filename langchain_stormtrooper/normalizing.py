"""The forms of a text that are compared: what two spellings must share to be the same answer.

Pure functions from text to text; nothing here knows a label, does I/O or raises, whatever the text holds. `labels`
uses `normalize` to refuse labels that cannot be told apart, `matching` uses everything.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


def word_set(text: str) -> frozenset[str]:
    """The words of a table that is written as text, so that it can be read and reviewed.

    Args:
        text: Words with spaces between.
    """
    return frozenset(text.split())


_FOLD = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u2039\u203a", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-")
    | dict.fromkeys("\u2014\u2015", " - ")
    # Arabic vowel signs and the stretching mark are decoration: the same word is written with and without.
    | dict.fromkeys("\u0640\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670", "")
)
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f]")
_MARKUP = re.compile(
    r"<\|[^<>|]{0,40}\|>|</?(?:s|b|i|u|em|strong|p|br|span|div|label|answer|eos|bos|pad|unk|end)\s*/?>"
)

_PUNCTUATION = (
    "\"'`*_~()[]{}.,;:!?|\\/=\u00a1\u00bf\u00a7\u00b6\u00b7\u037e\u0387\u055a-\u055f\u0589\u05be\u05c0\u05c3\u060c\u061b\u061f"
    "\u06d4\u0964\u0965\u0e2f\u0e5a\u0e5b\u0f0b-\u0f12\u1361-\u1368\u17d4-\u17da\u2010-\u2027\u2030-\u205e"
    "\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb"
)
_PUNCTUATION_CLASS = re.sub(r"([\[\]\\])", r"\\\1", _PUNCTUATION)
_EDGE = (
    "\"'`*_~()[]{}.,;:!?|\\ "
    "\u00a1\u00bf\u00b7\u2022\u2023\u25aa\u25e6\u060c\u061b\u061f\u06d4\u0964\u0965\u3002"
    "\u3001\u30fb\u300c\u300d\u300e\u300f\u3010\u3011\u3014\u3015\u300a\u300b\u3008\u3009"
)
"""What may stand around an answer and is no part of it."""
_EMOJI = "[\u2190-\u2bff\U0001f000-\U0001faff]"
# Han, kana, Hangul, Thai, Lao, Tibetan, Burmese, Khmer: no spaces between words, or particles glued to them.
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U000323af"
_LETTER = rf"[^\s\-{_PUNCTUATION_CLASS}{_UNSPACED}\u2190-\u2bff\U0001f000-\U0001faff]"
_TOKEN = re.compile(
    rf"{_EMOJI}+|[{_UNSPACED}]+"
    # A sign or a dot belongs to what follows at the start of a word: -5, .net
    rf"|(?:(?<![^\s\"'(\[])(?:-(?=\d)|\.(?={_LETTER})))?"
    # Inside a word: node.js, isn't, 1,000
    rf"{_LETTER}+(?:(?:\.|'(?=(?:s|t|re|ve|ll|d|m)(?!\w))|(?<=\d)[,:](?=\d)){_LETTER}+)*"
    # A grade of A- is not an A.
    rf"(?:-(?=\s|$))?"
)
_IN_UNSPACED = re.compile(f"[{_UNSPACED}]")
_JOINED = re.compile(r"(?<=[^\W\d_]{2})\s*[/&]\s*(?=[^\W\d_]{2})")

_LEADS = word_set(
    "label category class classification answer response output result prediction sentiment topic type intent subject "
    "emotion stance genre assistant ai bot kategorie klasse antwort thema categoría categoria clase etiqueta respuesta "
    "catégorie classe étiquette réponse sujet etichetta risposta resposta categorie antwoord kategoria odpowiedź "
    "категория класс метка ответ тема 类别 類別 分类 分類 标签 標籤 答案 回答 类型 カテゴリ カテゴリー ラベル 答え "
    "분류 카테고리 답변 "
    "الفئة التصنيف الإجابة الجواب หมวดหมู่ คำตอบ ประเภท श्रेणी उत्तर वर्ग"
)
_LIST_MARK = re.compile(r"(?:[-•+]+|>+(?!\s*\d)|#{1,6}|(\d{1,2}|[a-z])\s*[.)\]:]+)\s+")
_LEAD = re.compile(
    r"(?:#+\s*)?(?:(?:the|my|final|predicted|assigned|correct|best|text|overall|most|likely)\s+){0,4}"
    rf"({'|'.join(sorted(map(re.escape, _LEADS), key=len, reverse=True))})"
    r"\s*[\"'*_`)\]]*\s*(?:is\s*)?(?::|=>?|-+>|→)+"
)
_SHORTEST_PLURAL = 4
_NOT_PLURALS = word_set("good goods custom customs mean means new news arm arms")
_ROUNDS = 10
"""How many layers of dressing are taken off: enough for any answer, and a bound for hostile ones."""


class Token(NamedTuple):
    """A word of a text.

    Attributes:
        text: The word.
        start: Where it begins in the text.
        end: Where the text goes on after it.
    """

    text: str
    start: int
    end: int


def clean(text: str) -> str:
    """The text in one case, width and spacing, without what cannot be seen; punctuation stays.

    Args:
        text: Any text, lone surrogates and control characters included.

    Returns:
        The text on one line, spaces folded.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        # Folding case can undo the normal form and the other way round; the second round settles both.
        for _ in range(2):
            text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text.translate(_FOLD)).casefold())
    text = text.lower()
    text = _CONTROL.sub(" ", text)
    if "<" in text:
        text = _MARKUP.sub(" ", text) if _MARKUP.sub("", text).strip() else text
    return " ".join(text.split())


def strip_edges(text: str) -> str:
    """The text without quotes, brackets, emphasis and punctuation around it.

    Args:
        text: A text from `clean`.

    Returns:
        What is left; the text itself if nothing is, since a label may be made of punctuation.
    """
    left = text
    for _ in range(_ROUNDS):
        before = left
        left = left.rstrip(_EDGE)
        left = left.removesuffix(" -")
        stripped = left.lstrip(_EDGE)
        removed = left[: len(left) - len(stripped)]
        if removed.endswith(".") and not removed.endswith("..") and stripped[:1].isalnum():
            stripped = "." + stripped  # .net and .5 are not net and 5
        left = stripped
        if left.startswith("<") and left.endswith(">") and not re.search("[<>]", left[1:-1]):
            left = left[1:-1]
        if left == before:
            break
    return left or text.strip()


def normalize(text: str) -> str:
    """The form in which two spellings of one label are equal.

    Unicode compatibility form, case, quotes, dashes, emphasis, brackets and punctuation at the edges, spaces and
    invisible characters make no difference; everything else does.

    Args:
        text: Any text.

    Returns:
        The normal form; empty only if there is nothing to see in the text.
    """
    return strip_edges(clean(text))


def undress(normal: str, keep: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """Take off list marks and leads such as "Category:", one after the other.

    Args:
        normal: A text from `normalize`.
        keep: Words that are labels themselves, and so are never taken off.

    Yields:
        The text before the first and after every step.
    """
    yield normal
    for _ in range(_ROUNDS):
        found = _LEAD.match(normal) or _LIST_MARK.match(normal)
        if found is None or found.group(1) in keep:
            return
        normal = strip_edges(normal[found.end() :])
        if not normal:
            return
        yield normal


def is_list_item(line: str) -> bool:
    """Whether the line is one of several that are listed.

    Args:
        line: A text from `clean`.
    """
    return re.match(r"(?:[-•*+]|\(?\d{1,2}[.)\]])\s", line) is not None


def is_lead(normal: str) -> bool:
    """Whether the text announces an answer and does not hold it ("Category:").

    Args:
        normal: A text from `normalize`.
    """
    found = _LEAD.match(normal + ":")
    return found is not None and found.end() == len(normal) + 1


def join_words(text: str) -> str:
    """Write "a/b" and "a & b" as "a and b", which models do not keep apart.

    Args:
        text: A text from `clean`.
    """
    return _JOINED.sub(" and ", text)


def tokens(text: str) -> list[Token]:
    """The words of a text.

    A word is what stands between spaces and punctuation; signs like + and # belong to it ("c++"), and so do the
    marks of Indic and Arabic letters. Emojis are words of their own, and so are stretches of scripts without spaces.

    Args:
        text: A text from `clean`.
    """
    return [Token(found.group(), found.start(), found.end()) for found in _TOKEN.finditer(text)]


def is_unspaced(text: str) -> bool:
    """Whether a script is in the text that writes no spaces between words, or glues particles to them.

    Args:
        text: Any text.
    """
    return not text.isascii() and _IN_UNSPACED.search(text) is not None


def inflections(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Other grammatical forms of a label's last word: plural, singular, genitive, the Arabic article.

    Args:
        words: The words of a label.

    Yields:
        The words in another form; forms that are rather other words are left out.
    """
    *head, last = words
    if len(words) == 1 and _is_arabic(last):
        bare = last.removeprefix("ال")
        yield from ((prefix + bare,) for prefix in ("", "ال", "وال", "بال", "فال", "كال") if len(bare) > 1)
        yield ("لل" + bare,)
    if not (last.isascii() and last.isalpha()) or len(last) < _SHORTEST_PLURAL or last in _NOT_PLURALS:
        return
    forms = {last + "s", last + "'s"}
    if last.endswith(("s", "x", "z", "ch", "sh")):
        forms = {last + "es", last + "'s"}
    elif re.search("[^aeiou]y$", last):
        forms.add(last[:-1] + "ies")
    if last.endswith("s") and not last.endswith(("ss", "us", "is", "ics")) and len(last) > _SHORTEST_PLURAL:
        forms.add(last[:-1])
    yield from ((*head, form) for form in sorted(forms))


def _is_arabic(word: str) -> bool:
    return all("\u0620" <= character <= "\u06ff" for character in word)
