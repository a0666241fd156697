"""Words that take a label back: negations, hedges and contrasts, in the languages that models answer in.

Pure data and two small questions about it; nothing here knows a label. `mentions` asks before it believes that a
label named in a sentence is meant. A word too many here costs an answer, a word too few costs a wrong one.
"""

from __future__ import annotations

import re
from itertools import pairwise

from langchain_stormtrooper.normalizing import word_set

NEGATORS = word_set(
    # English
    "not no never neither nor none nothing nobody without cannot dont doesnt didnt isnt wasnt arent werent cant "
    "couldnt wont wouldnt shouldnt aint hardly barely scarcely rarely seldom non anti lack lacks lacking lacked "
    "absence absent devoid unlike unlikely unclear unsure uncertain unable impossible unknown whether doubt "
    "doubtful instead than except excluding excludes opposite contrary incorrect wrong false untrue fail fails "
    "failed refuse refuses deny denies denied less least nope nah "
    # German, Dutch, the North
    "nicht kein keine keinen keinem keiner keines nie niemals weder noch ohne nein niet geen nooit zonder noch nee "
    "inte ikke aldrig aldri ej utan uten uden ingen inget intet ingenting nej nei ei eivät eikä "
    # Romance
    "ne n pas non ni sans jamais aucun aucune nada nunca sin tampoco ningún ninguna ninguno né senza mai nessun "
    "nessuno nessuna não nem sem nenhum nenhuma nu niciun nici fără "
    # Slavic, Baltic, Greek
    "nie bez ani żaden żadna nikdy není ne не ни нет без никогда немає ні nije nav nėra δεν δε μη μην όχι ούτε "
    "χωρίς "
    # Turkish, Hungarian, Indonesian, Vietnamese, Swahili
    "değil hiç yok hay\u0131r hiçbir nem sem nincs nélkül bukan tidak tanpa jangan không chưa chẳng đâu hapana sio "
    # Arabic, Persian, Urdu, Hebrew, Hindi, Bengali
    "لا ليس ليست ليسوا لم لن ما غير بدون دون عدم مش مو كلا نیست نیستند نه بدون نہیں لیس لא לא "
    "אין אינו אינה אינם בלי "
    "नहीं न ना मत गैर बिना नही না নয় নেই"
)
"""Words that, anywhere in a sentence, make it uncertain that the label named in it is meant."""

PAIRS = frozenset(
    {("far", "from"), ("anything", "but"), ("free", "of"), ("free", "from"), ("short", "of"), ("lack", "of")}
)
"""The same, in two words."""

PREFIXES = word_set(
    "un non in im il ir dis de anti a ab counter contra mis mal pseudo quasi semi half ex over under pre post in "
    "не без анти \u03ac \u03b1 αντι غير لا ना अ"
)
"""What turns the meaning of a word around, or bends it, at its beginning."""

CONTRASTS = (
    ("er", "ee"),
    ("or", "ee"),
    ("ful", "less"),
    ("macro", "micro"),
    ("hyper", "hypo"),
    ("inter", "intra"),
    ("endo", "exo"),
    ("hetero", "homo"),
    ("mono", "poly"),
)
"""Parts of a word that, exchanged, make another word and not a misspelling."""

_UNSPACED = re.compile(
    "不|非(?!常)|没|沒|無|无|未|否|勿|莫|反|ない|なく|ません|ではな|じゃな|아니|아닌|아님|아닙|않|없|못|ไม่|ไร้|ບໍ່|មិន|မဟုတ်|མེད|མིན"
)


def denies(words: list[str], text: str) -> bool:
    """Whether anything in the text takes back what it names.

    Args:
        words: The words of the text, without those of the label named.
        text: The text itself, without the label named, for scripts without spaces.
    """
    if any(word in NEGATORS or word.endswith("n't") for word in words):
        return True
    if any(pair in PAIRS for pair in pairwise(words)):
        return True
    return not text.isascii() and _UNSPACED.search(text) is not None


def changes_meaning(one: str, other: str) -> bool:
    """Whether two similar words are two words, rather than one and its misspelling.

    Args:
        one: A word.
        other: Another.
    """
    # Misspellings keep the first letter; prefixes, which turn meanings around, do not.
    if one[:1] != other[:1]:
        return True
    short, long = sorted((one, other), key=len)
    if long.endswith(short) and long[: len(long) - len(short)] in PREFIXES:
        return True
    if one in NEGATORS or other in NEGATORS:
        return one != other
    if long.endswith("less") != short.endswith("less"):
        return True
    return any(
        (one.startswith(a) and other.startswith(b) and one[len(a) :] == other[len(b) :])
        or (one.endswith(a) and other.endswith(b) and one[: -len(a)] == other[: -len(b)])
        for pair in CONTRASTS
        for a, b in (pair, pair[::-1])
    )
