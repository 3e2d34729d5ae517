"""What says the secret word of Taboo: its forms, its spellings, and words with stops of their own."""

from __future__ import annotations

import pytest

from envs.matching import names, plain, says
from tests.test_taboo import GUESS, talk


@pytest.mark.parametrize("match", ["words", "letters"])
@pytest.mark.parametrize("word", ["Dr. Who", "node.js", "3.14", "Yahoo!", "U.S.", "who's there?"])
def test_a_word_may_have_stops_of_its_own(word: str, match: str) -> None:
    assert talk("Hm?", GUESS.format(word), word=word, match=match) == ("defender", "right guess")
    assert talk("Hm?", f"Well: I know the word! It is “{word}”", word=word, match=match) == ("defender", "right guess")
    assert talk("Hm?", GUESS.format("Dr. No"), word=word, match=match) == ("attacker", "wrong guess")
    assert talk("Hm?", GUESS.format(f"{word} or Dr. No"), word=word) == ("attacker", "wrong guess")


def test_any_case_and_no_hidden_letters() -> None:
    assert talk("Purr.", "CAT!") == talk("Purr.", "c\u200bat") == talk("Purr.", "ｃａｔ") == ("attacker", "said")
    assert talk("What is it?", "Straße", word="STRASSE") == ("attacker", "said")
    assert talk("Purr.", "c\ufe0fat") == talk("Purr.", "c\u034fat") == ("attacker", "said"), "marks without a shape"
    assert talk("Where?", "A cafe\u200b\u0301.", word="café") == ("attacker", "said"), "joined once nothing is between"


def test_no_word_that_may_be_dealt_is_blank_to_the_comparison() -> None:
    """Or everything said it."""
    assert all(plain(letter) for letter in map(chr, range(0x110000)) if letter.isalnum())


@pytest.mark.parametrize(
    ("word", "forms", "others"),
    [
        ("cat", ["cats", "cat's", "cat-like", "_cat_", "__cats__"], ["catalogue", "scat", "cat1", "at"]),
        ("bake", ["bakes", "baked", "baking"], ["baker", "bak"]),
        ("city", ["cities", "CITY."], ["cit", "cityscape"]),
        ("stop", ["stopped", "stopping", "stops"], ["stopper"]),
        ("box", ["boxes", "boxing"], ["boxer"]),
        ("knife", ["knives"], ["penknife"]),
        ("leaf", ["leaves", "leafing"], ["leave"]),
        ("tooth", ["teeth"], ["teethe"]),
        ("mouse", ["mice"], ["moose"]),
        ("ice cream", ["ice  cream", "Ice\ncreams"], ["ice", "icecream"]),
        ("c++", ["C++", "(c++)"], ["c", "cc"]),
        ("7", ["7", "7, 8", "-7"], ["47", "70"]),
    ],
)
def test_forms_of_a_word(word: str, forms: list[str], others: list[str]) -> None:
    for form in forms:
        assert says(f"Is it {form} then?", word), form
    for other in others:
        assert not says(f"Is it {other} then?", word), other
    assert names(forms[0], word) and not names(f"{forms[0]} then", word)
