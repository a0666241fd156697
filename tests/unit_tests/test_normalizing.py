"""The normal form of a text, what announces an answer, and the grammatical forms of a label's last word."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.normalizing import clean, inflections, is_lead, normalize, undress


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("sport -", "sport"),
        ("sport - -", "sport"),
        # Layer by layer.
        ("<(sport)>", "sport"),
        # A dot belongs to what it begins, dots that lead there do not.
        (".net", ".net"),
        (".5%", ".5%"),
        ("...net", "net"),
        # Brackets go where they hold the whole, signs stay.
        ("<x>", "x"),
        ("<5", "<5"),
        ("5>", "5>"),
        ("<x> or <y>", "<x> or <y>"),
        ("<<x>", "<<x>"),
        ("<x>>", "<x>>"),
    ],
)
def test_what_stands_around_a_text(text: str, normal: str) -> None:
    """Marks at the edges are taken off, except for those that are a part of the text."""
    assert normalize(text) == normal


def test_a_text_of_markup_alone() -> None:
    """Markup goes from a text, unless it is all there is."""
    assert clean("<b>sport</b> <br/>") == "sport"
    assert clean("<B>") == "<b>"


@pytest.mark.parametrize(
    ("text", "announces"),
    [
        ("category", True),
        ("the final answer is", True),
        ("the label =", True),
        ("category: sport", False),
        ("category 1", False),
        ("sport", False),
        ("", False),
    ],
)
def test_what_announces_an_answer(text: str, announces: bool) -> None:
    """A lead is one to its end, with its colon or without."""
    assert is_lead(text) is announces


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("sport", {"sports", "sport's"}),
        ("party", {"partys", "party's", "parties"}),
        ("play", {"plays", "play's"}),
        ("crash", {"crashes", "crash's"}),
        ("match", {"matches", "match's"}),
        ("index", {"indexes", "index's"}),
        ("quartz", {"quartzes", "quartz's"}),
        ("boss", {"bosses", "boss's"}),
        ("class", {"classes", "class's"}),
        ("virus", {"viruses", "virus's"}),
        ("crisis", {"crisises", "crisis's"}),
        ("politics", {"politicses", "politics's"}),
        ("sports", {"sportses", "sports's", "sport"}),
        # Too short to be told from other words, other words, and words of other scripts.
        ("cats", {"catses", "cats's"}),
        ("art", set()),
        ("news", set()),
        ("économie", set()),
        # The Arabic article, with what is written together with it.
        ("رياضة", {"رياضة", "الرياضة", "والرياضة", "بالرياضة", "فالرياضة", "كالرياضة", "للرياضة"}),
        ("\u0620\u0628", {f"{prefix}\u0620\u0628" for prefix in ("", "ال", "وال", "بال", "فال", "كال", "لل")}),
        ("\u06ff\u0628", {f"{prefix}\u06ff\u0628" for prefix in ("", "ال", "وال", "بال", "فال", "كال", "لل")}),
        ("الم", {"للم"}),
    ],
)
def test_forms_of_a_word(word: str, forms: set[str]) -> None:
    """Plural, singular, genitive and article, and of several words of the last alone."""
    assert set(inflections((word,))) == {(form,) for form in forms}
    if word.isascii():
        assert set(inflections(("new", word))) == {("new", form) for form in forms}


@pytest.mark.parametrize(
    ("text", "kept", "forms"),
    [
        ("category: sport", set(), ["category: sport", "sport"]),
        ("1. label: sport", set(), ["1. label: sport", "label: sport", "sport"]),
        ("category: sport", {"category"}, ["category: sport"]),
        ("category:", set(), ["category:"]),
    ],
)
def test_leads_are_taken_off_one_by_one(text: str, kept: set[str], forms: list[str]) -> None:
    """List marks and leads go, but for words that are labels, and what is nothing but a lead stays as it is."""
    assert list(undress(text, kept)) == forms


def test_leads_without_end_are_left() -> None:
    """Of a text that is leads over and over, a few are taken off."""
    forms = list(undress("label: " * 50 + "sport"))
    assert len(forms) < 20
    assert forms[-1].endswith("label: sport")
