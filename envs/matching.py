"""Whether a text says a word: by whole words and their plain forms, or by letters alone."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MATCHES = ("words", "letters")
_BEFORE, _AFTER = r"\W*(?:(?:a|an|the)\b\W*)?", r"\W*"
"""What may stand around a guess: an article, quotes."""


def says(text: str, word: str, match: str = "words") -> bool:
    """Whether ``text`` says ``word`` anywhere, whatever the case of its letters.

    ``words`` wants it between the borders of words, as it is, in the plural or in -ed or -ing: "cities" says "city",
    and "concatenate" does not say "cat". ``letters`` wants the letters in a row, wherever they stand.
    """
    if match == "letters":
        return plain(word) in plain(text)
    return re.search(rf"(?<!\w){_forms(plain(word))}(?!\w)", plain(text)) is not None


def names(guess: str, word: str, match: str = "words") -> bool:
    """Whether ``guess`` is the word, or a form of it, and nothing else; by ``letters``, whether it holds them."""
    if match == "letters":
        return says(guess, word, match)
    return re.fullmatch(_BEFORE + _forms(plain(word)) + _AFTER, plain(guess)) is not None


def plain(text: str) -> str:
    """The text as it is compared: one spelling of each letter, no case, nothing invisible, one blank between words."""
    shown = "".join(letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
    return " ".join(shown.casefold().split())


@lru_cache(maxsize=4096)
def _forms(word: str) -> str:
    """An expression for the word, its plural, and its forms in -ed and -ing: baking; cities; stopped."""
    forms = [word + end for end in ("", "s", "es", "'s", "’s", "ed", "ing", word[-1:] + "ed", word[-1:] + "ing")]
    if word.endswith("e"):
        forms += [word + "d", word[:-1] + "ing"]
    if word.endswith("y"):
        forms += [word[:-1] + "ies", word[:-1] + "ied"]
    return f"(?:{'|'.join(map(re.escape, forms))})"
