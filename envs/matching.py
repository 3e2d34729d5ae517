"""Whether a text says a word: by whole words and their plain forms, or by letters alone."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MATCHES = ("words", "letters")
_BEFORE, _AFTER = r"[\W_]*(?:(?:a|an|the)\b[\W_]*)?", r"[\W_]*"
"""What may stand around a guess: an article, quotes, marks of emphasis."""
_UNSEEN = re.compile("[\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Marks without a shape that are no format characters: joiners of graphemes, selectors of variants."""
_PLURALS = {"child": "children", "foot": "feet", "goose": "geese", "man": "men", "mouse": "mice", "tooth": "teeth"}
"""Ends of words, and how they end in the plural."""


def says(text: str, word: str, match: str = "words") -> bool:
    """Whether ``text`` says ``word`` anywhere, whatever the case of its letters.

    ``words`` wants it between the borders of words, as it is, in the plural or in -ed or -ing: "cities" says "city",
    and "concatenate" does not say "cat"; an underscore is a border, for it marks emphasis. ``letters`` wants the
    letters in a row, wherever they stand.
    """
    if match == "letters":
        return plain(word) in plain(text)
    return re.search(rf"(?<![^\W_]){_forms(plain(word))}(?![^\W_])", plain(text)) is not None


def names(guess: str, word: str, match: str = "words") -> bool:
    """Whether ``guess`` is the word, or a form of it, and nothing else; by ``letters``, whether it holds them."""
    if match == "letters":
        return says(guess, word, match)
    return re.fullmatch(_BEFORE + _forms(plain(word)) + _AFTER, plain(guess)) is not None


def opens(text: str, word: str) -> bool:
    """Whether ``text`` begins with a sentence that names the word and nothing else, full stops in the word included."""
    whole = _BEFORE + _forms(plain(word)) + r"[^\w.!?]*(?:[.!?]|$)"
    return re.match(whole, plain(text)) is not None


@lru_cache(maxsize=4096)
def mention(slot: str, names: tuple[str, ...]) -> re.Pattern[str]:
    """An expression that whole texts match in which one of the names stands by itself; ``slot`` is the last of them."""
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?:.*\W)?(?P<{slot}>{longest_first})(?:\W.*)?", re.IGNORECASE | re.DOTALL)


def plain(text: str) -> str:
    """The text as it is compared: one spelling of each letter, no case, nothing invisible, one blank between words."""
    shown = "".join(letter for letter in _UNSEEN.sub("", text) if unicodedata.category(letter) != "Cf")
    folded = unicodedata.normalize("NFKC", shown).casefold()  # which may take a letter apart again
    return " ".join(unicodedata.normalize("NFKC", folded).split())


@lru_cache(maxsize=4096)
def _forms(word: str) -> str:
    """An expression for the word, its plural, and its forms in -ed and -ing: baking; cities; stopped."""
    forms = [word + end for end in ("", "s", "es", "'s", "’s", "ed", "ing", word[-1:] + "ed", word[-1:] + "ing")]
    if word.endswith("e"):
        forms += [word + "d", word[:-1] + "ing"]
    if word.endswith("y"):
        forms += [word[:-1] + "ies", word[:-1] + "ied"]
    if word.endswith(("f", "fe")):
        forms.append(word.removesuffix("e")[:-1] + "ves")
    forms += [word.removesuffix(one) + many for one, many in _PLURALS.items() if word.endswith(one)]
    return f"(?:{'|'.join(map(re.escape, forms))})"
