"""A question to what it asks: one expression to compute, or one equation in one unknown; ``tasks`` reads the rest.

The whole question must be understood: a question with one word left over is nobody's guess.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.maths.extract import trim
from verifiers.maths.grammar import Expression
from verifiers.maths.numerals import in_digits
from verifiers.maths.text import plain
from verifiers.maths.tokens import tokenize
from verifiers.maths.tree import Node, Unreadable, check_budgets, symbols, walk


class Question(NamedTuple):
    """``right`` is None for a computation; otherwise solve left = right for ``unknown``."""

    left: Node
    right: Node | None = None
    unknown: str = ""


_LEAD = re.compile(
    r"(?:please|kindly|can you|could you|question\s*:|q\s*:|problem\s*:|what is|what's|whats|what does|how much is"
    r"|what do you get (?:if|when) you|calculate|compute|evaluate|find|solve|simplify|work out|determine|give|tell me"
    r"|the exact value of|the value of|the result of|the answer to|the equation|the expression|the following|this|the)"
    r"\b\s*:?\s*(?!=)|[:,]\s*"
)
_TRAIL = re.compile(
    r"\s*(?:[?.]|(?:=|\bequals?(?: to)?|\bis equal to|\bequal to|\bmake|\bgive)\s*[?_.]*|=\s*\\?_+)\s*$"
)
_LETTER = r"(?P<x>[a-z])"
_ASK = rf"(?:what is|what's|find|solve for|solve|determine|compute|calculate)\s+(?:the value of\s+)?\$?{_LETTER}\$?"
# Each pattern names the unknown apart from the equation ("eq").
_NAMED = [
    re.compile(rf"{_ASK}(?:\s*(?:[,:]|\b(?:in|if|when|given|that|where|such|so|from)\b))+\s*(?P<eq>.+)"),
    re.compile(rf"(?:if|given that|given|when|suppose|let)?\s*(?P<eq>[^?]*?)\s*[,.;]?\s*(?:then|and)?\s*{_ASK}"),
    re.compile(rf"(?:(?:solve|find|the equation|please)\s*(?::\s*)?)*(?P<eq>.+?)\s+for\s+\$?{_LETTER}\$?"),
    re.compile(rf"(?P<eq>.+?)\s*[,.;]\s*(?:then\s+)?\$?{_LETTER}\$?(?:\s*(?:=|is))?"),
]  # fmt: skip
_STOP = re.compile(r"(?<!\\)\b(?:if|is|of|to|at|by|in|on|or|and|the|for|as|an|we|it|be|so|are|let|how|you|has|get)\b")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_WORDING = [
    (re.compile(r"\bmultiplied by\b|\btimes\b"), "*"),
    (re.compile(r"\bdivided by\b"), "/"),
    (re.compile(r"\bplus\b"), "+"),
    (re.compile(r"\bminus\b|\bnegative\b"), "-"),
    (re.compile(r"\bmod(?:ulo)?\b(?<!\\mod)"), r"\\mod "),
    (re.compile(r"\bequals\b|\bis equal to\b"), "="),
    (re.compile(r"\b(?:raised )?to the power (?:of )?"), "^"),
    (re.compile(r"\bsquared\b"), "^2"),
    (re.compile(r"\bcubed\b"), "^3"),
    (re.compile(rf"\bsum of {_NUMBER} and {_NUMBER}"), r"(\1+\2)"),
    (re.compile(rf"\bproduct of {_NUMBER} and {_NUMBER}"), r"(\1*\2)"),
    (re.compile(rf"\badd {_NUMBER} (?:and|to) {_NUMBER}"), r"\1+\2"),
    (re.compile(rf"\bsubtract {_NUMBER} from {_NUMBER}"), r"\2-\1"),
    (re.compile(rf"\bmultiply {_NUMBER} (?:by|and) {_NUMBER}"), r"\1*\2"),
    (re.compile(rf"\bdivide {_NUMBER} by {_NUMBER}"), r"\1/\2"),
    (re.compile(rf"\bsquare root of {_NUMBER}"), r"sqrt(\1)"),
    (re.compile(r"(%|/\s*\d+\}?)\s*of\b"), r"\1 *"),
    (re.compile(r"(?<=\d)\s*x\s*(?=\d)"), "*"),
]


def prepared(query: str) -> str:
    """Folded, in lower case, numerals in digits, with single spaces, which also keep the patterns linear."""
    return trim(in_digits(" ".join(plain(query).lower().split())))


def expression(text: str) -> Node:
    """The one expression that a part of a question says. Raises ``Unreadable``."""
    return _expression(_wording(text))


def question(query: str) -> Question:
    """What the query asks. Raises ``Unreadable`` where it is not one computation or one equation in one unknown."""
    text = prepared(query)
    for pattern in _NAMED:
        match = pattern.fullmatch(untrail(text))
        if match is not None and "=" in match["eq"]:
            return _equation(_wording(match["eq"]), match["x"])
    text = _wording(text)
    if "=" in text:
        return _equation(text, "")
    node = _expression(text)
    if node.op in ("num", "rat") or (node.op == "neg" and node.args[0].op in ("num", "rat")):
        raise Unreadable("a bare number asks nothing")
    if symbols(node):
        raise Unreadable("an expression with an unknown asks for no number")
    return Question(node)


def untrail(text: str) -> str:
    """Without closing punctuation, "= ?", "equals"."""
    for _ in range(4):  # "equals = ?." and no more: an endless tail is no question
        match = _TRAIL.search(text)
        if match is None:
            break
        text = text[: match.start()]
    return text.strip()


def _wording(text: str) -> str:
    """Without what frames the question, and with signs for words."""
    text = untrail(trim(text))
    while (match := _LEAD.match(text)) is not None:
        text = text[match.end() :]
    for pattern, sign in _WORDING:
        if sign != "*" or "=" not in text or pattern.pattern.startswith(r"\b"):
            text = pattern.sub(sign, text)
    return trim(text)


def _expression(text: str) -> Node:
    if _STOP.search(text):  # as letters, "if" and "is" would be products of symbols
        raise Unreadable("words are left over")
    parser = Expression(tokenize(text.replace("$", " ")))
    node = parser.value()
    if parser.position < len(parser.tokens):
        raise Unreadable(f"{parser.peek().text!r} is left over")
    check_budgets(node)
    for here in walk(node):
        if here.op in ("bracket", "set", "matrix", "quantity", "pm") or here == Node("const", "inf"):
            raise Unreadable(f"{here.op} has no one value")
        if here.op == "add" and any(child.op == "percent" for child in here.args):
            raise Unreadable("100 + 10% has two readings")
        if here.op == "fn" and here.text == "log":
            raise Unreadable("log without a base has two readings")
    return node


def _equation(text: str, unknown: str) -> Question:
    left, sign, right = text.partition("=")
    if not sign or "=" in right or any(other in text for other in "<>!"):
        raise Unreadable("not one equation")
    sides = [_expression(left), _expression(right)]
    names = symbols(sides[0]) | symbols(sides[1])
    if len(names) != 1 or (unknown and names != {unknown}):
        raise Unreadable("not one unknown")
    return Question(sides[0], sides[1], names.pop())
