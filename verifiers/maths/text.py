"""From what a model wrote to one plain line: Unicode folded, LaTeX spacing and decoration removed."""

from __future__ import annotations

import re
import unicodedata

from verifiers.maths.tree import Unreadable

MAX_CHARS = 2_000

_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ⁽⁾", "0123456789+-n()", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SUPER_RUN = re.compile(f"[{''.join(_SUPERSCRIPT)}]+")
_SUB_RUN = re.compile(f"[{''.join(_SUBSCRIPT)}]+")

# Each symbol becomes the LaTeX or ASCII that the tokenizer knows; spaces keep commands apart from what follows.
_SYMBOLS = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "⋅": "*", "·": "*", "∙": "*", "÷": "/", "∕": "/",
    "⁄": "/", "≤": "<=", "≥": ">=", "⩽": "<=", "⩾": ">=", "≠": "!=", "∞": "\\infty ", "π": "\\pi ", "√": "\\radic ",
    "∛": "\\cbrt ", "∪": "\\cup ", "∈": "\\in ", "∅": "\\emptyset ", "±": "\\pm ", "°": "\\degree ", "º": "\\degree ",
    "“": '"', "”": '"', "’": "'", "≈": "\\approx ", "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "ℝ": "\\reals ",
    "∫": "\\int ", "∂": "\\partial ",
    "℃": "\\degree C", "℉": "\\degree F", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u00ad": "",
})  # fmt: skip

_LATEX = [
    (re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|textstyle|limits)(?![a-zA-Z])\.?"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"(?<=\d),?\\[!,;: ](?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"(?<!\\)\\(?:[,;: ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:cdot|times|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?"), r"\\degree "),
    (re.compile(r"\\(?:leq|le|leqslant)(?![a-zA-Z])"), "<="),
    (re.compile(r"\\(?:geq|ge|geqslant)(?![a-zA-Z])"), ">="),
    (re.compile(r"\\(?:neq|ne)(?![a-zA-Z])"), "!="),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\langle(?![a-zA-Z])"), "("),
    (re.compile(r"\\rangle(?![a-zA-Z])"), ")"),
    (re.compile(r"(\\begin\s*\{array\})\s*\{[lcr|\s]{0,99}\}"), r"\1"),  # how columns are aligned
    (re.compile(r"\\(?:mathrm|operatorname)\s*\{\s*([ei])\s*\}"), r" \1 "),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\mathbb\s*(?:\{\s*R\s*\}|R(?![a-zA-Z]))"), r"\\reals "),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{\s*(-?\d[\d.,]*)\s*\}"), r"\1"),
    # TeX takes one token as an argument where braces are missing: \frac12, \frac{1}2, \sqrt2.
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*(\d|\\pi(?![a-zA-Z]))\s*(?=\d|[a-zA-Z]|\\pi|\{)"), r"\\frac{\1}"),
    (re.compile(r"\\frac\s+([a-zA-Z])\s*(?=\d|[a-zA-Z]|\\pi|\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d(?!\d)|[a-zA-Z]|\\pi(?![a-zA-Z]))"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*(\d+|[a-zA-Z])(?![\d])"), r"\\sqrt{\1}"),
]
_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
"""The x in 3.2 x 10^5 is a sign, not an unknown."""
_FRACTION = re.compile("[¼-¾⅐-⅞]")


def fold(text: str) -> str:
    """Fold Unicode (NFKC, symbols, superscripts, vulgar fractions, invisible characters) to ASCII-like text.

    Superscripts and fractions go first, for NFKC alone would turn ``x²`` into ``x2`` and ``2½`` into ``21/2``.
    Raises ``Unreadable`` above ``MAX_CHARS`` characters, before and after.
    """
    if len(text) > MAX_CHARS:
        raise Unreadable(f"longer than {MAX_CHARS} characters")
    if text.isascii():
        return text
    text = _SUPER_RUN.sub(lambda run: "^{" + "".join(_SUPERSCRIPT[char] for char in run[0]) + "}", text)
    text = _SUB_RUN.sub(lambda run: "_{" + "".join(_SUBSCRIPT[char] for char in run[0]) + "}", text)
    text = _FRACTION.sub(_vulgar, text).translate(_SYMBOLS)
    text = unicodedata.normalize("NFKC", text).translate(_SYMBOLS)
    if len(text) > 2 * MAX_CHARS:
        raise Unreadable(f"longer than {2 * MAX_CHARS} characters once folded")
    return text


def _vulgar(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}"


def plain(text: str) -> str:
    """``fold``, then remove what LaTeX adds for the eye. Raises ``Unreadable`` above the length budget."""
    text = fold(text)
    if "\\" in text or "{," in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    return _TIMES.sub("*", text)
