"""Whole numbers in words: "twelve", "twenty-one", "two hundred and five thousand"; "half" is no numeral."""

from __future__ import annotations

import re

_UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORTH = {
    **{word: value for value, word in enumerate(("zero", *_UNITS, *_TEENS))},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
}
POWERS = {"hundred": 2, **{word: len(str(scale)) - 1 for word, scale in _SCALES.items()}}
"""The power of ten in "1.2 million"."""
NUMERALS = frozenset([*_WORTH, "hundred", *_SCALES])

_UNIT = f"(?:{'|'.join(_UNITS)})"
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[ -]{_UNIT})?|{'|'.join(_TEENS)}|{_UNIT})"
_BELOW_1000 = rf"(?:{_UNIT} hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})"
_PARTS = "".join(rf"(?:{_BELOW_1000} {scale}(?: and)?\b ?)?" for scale in reversed(_SCALES))
_NUMBER = re.compile(rf"zero|(?=\w){_PARTS}(?:{_BELOW_1000})?(?<! )(?<! and)")
_ANY = "|".join(sorted(NUMERALS, key=len, reverse=True))
_PHRASE = re.compile(rf"\b(?:{_ANY})(?:(?:[ -]| and )(?:{_ANY}))*\b", re.IGNORECASE)


def number(phrase: str) -> int | None:
    """The value of a phrase that is one numeral from end to end, else None ("two three" and "hundred" are none)."""
    phrase = phrase.lower()
    if not _NUMBER.fullmatch(phrase):
        return None
    total = group = 0
    for word in re.findall("[a-z]+", phrase):
        if word in _SCALES:
            total, group = total + group * _SCALES[word], 0
        elif word != "and":
            group = group * 100 if word == "hundred" else group + _WORTH[word]
    return total + group


def in_digits(text: str) -> str:
    """The text with every numeral in digits; a row of words that is no numeral stays as it is."""

    def digits(match: re.Match[str]) -> str:
        whole = number(match[0])
        if whole is not None:
            return str(whole)
        values = [number(part) for part in match[0].split(" and ")]  # "three and four" are two numerals
        return match[0] if None in values else " and ".join(map(str, values))

    return _PHRASE.sub(digits, text)
