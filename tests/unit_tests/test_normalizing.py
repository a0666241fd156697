"""The grammatical forms of a label's last word."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.normalizing import inflections, undress


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
