"""The grammatical forms of a label's last word."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.normalizing import inflections


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
