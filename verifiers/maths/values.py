"""A whole answer: one expression, a relation, a list, a set, an interval, a quantity with its unit, or words."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.extract import trim
from verifiers.maths.grammar import Expression
from verifiers.maths.names import CONSTANTS, FUNCTIONS
from verifiers.maths.numerals import POWERS, in_digits
from verifiers.maths.text import plain
from verifiers.maths.tokens import Token, tokenize
from verifiers.maths.tree import Node, Unreadable, check_budgets, integer, ratio, symbols, walk
from verifiers.maths.units import Unit, combine, lookup, noun

RELATIONS = ("=", "<", ">", "<=", ">=", "!=", "in", ":")
COMPOSITES = frozenset({"list", "set", "bracket", "union", "matrix", "rel", "quantity", "word"})
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|mathbf)\s*\{([^{}\\$]*)\}")
_WORDS = re.compile(r"[^\W_][\w '\-]*", re.UNICODE)
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_COUNT = re.compile(r"-?\d+(?: ([a-z]+))?")
_CLOCK = re.compile(r"(\d{1,2}:\d\d) ?([ap])\.? ?m\.?", re.IGNORECASE)
_IN_BASE = re.compile(r"(\d[\dA-F]*)_ ?\{? ?(\d{1,2}) ?\}?")
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*(?:d|\\partial)\s*(?:\^\s*\{?\d\}?)?\s*\w?\s*\}\s*\{\s*(?:d|\\partial)\s*[a-zA-Z]\s*(?:\^\s*\{?\d\}?)?\s*\}"
)
_BUILDER = re.compile(
    r"\\?\{\s*[a-zA-Z]\s*(?:\\in\s*\\reals\s*)?(?:\||:)\s*(?P<condition>[^{}|]*[<>=][^{}|]*?)\s*\\?\}"
)
"""A set by its condition, {x | x > 2}, says the same as the condition."""
_CURRENCY = {"$": "usd", "\\$": "usd", "€": "eur", "£": "gbp"}


@lru_cache(maxsize=4096)
def read(text: str) -> Node:
    """The tree of one answer or reference. Raises ``Unreadable`` for "", for prose and for what is over a budget."""
    text = trim(plain(text))
    if not text:
        raise Unreadable("no text")
    if _DERIVATIVE.search(text):  # it would read as d over d times x
        raise Unreadable("a derivative is a question")
    spoken = in_digits(text)
    if _COUNT.fullmatch(spoken):
        text = spoken
    builder = _BUILDER.fullmatch(text)
    if builder is not None:
        text = builder["condition"]
    words = _words(text)
    if words is None and "," in text:  # names, not prose: one or two words each
        parts = _TEXT_COMMAND.sub(r" \1 ", text).split(",")
        listed = [_words(part) if len(part.split()) < 3 else None for part in parts]
        words = None if None in listed else Node("list", "", tuple(filter(None, listed)))
    if words is not None:
        check_budgets(words)
        return words
    if text.endswith(("€", "£")):
        text = text[-1] + text[:-1].rstrip()
    currency = next((sign for sign in _CURRENCY if text.startswith((sign, "-" + sign))), None)
    if currency is not None:
        text = text.replace(currency, "", 1)
    node = _items(tokenize(text.replace("$", " ") if currency is None else text))
    if currency is not None:
        if node.op in COMPOSITES:
            raise Unreadable("a currency sign stands before one amount")
        node = Node("quantity", _CURRENCY[currency], (node, integer(1)))
    check_budgets(node)
    for here in walk(node):
        inside = here.op not in COMPOSITES
        if inside and any(child.op in COMPOSITES for child in here.args):
            raise Unreadable(f"{here.op} of something that is not one value")
    return node


def _words(text: str) -> Node | None:
    """Plain words, lower case: some word is too long to be a product of symbols and is no name of the grammar."""
    bare = _TEXT_COMMAND.sub(r" \1 ", text)
    wrapped = bare != text
    bare = " ".join(bare.strip().strip("()" if wrapped else "").split())
    name = _CLOCK.fullmatch(bare) or _IN_BASE.fullmatch(bare)
    if name is not None:  # a time of day, or digits in a base: as it is written
        return Node("word", " ".join(name.groups()).lower())
    if not _WORDS.fullmatch(bare):
        return None
    if wrapped and len(bare) == 1 and bare.isalpha():
        return Node("sym", bare)
    letters: list[str] = re.findall(r"[^\W\d_]+", bare)
    if any(char.isdigit() for char in bare) and any(lookup(word) is not None for word in letters):
        return None
    counted = _COUNT.fullmatch(bare)
    if counted is not None and counted[1] and (noun(counted[1]) is not None or counted[1] in {"percent", *POWERS}):
        return None
    known = FUNCTIONS | CONSTANTS.keys() | {"degrees", "degree"}
    if any(_LONG_WORD.fullmatch(word) and word.lower() not in known for word in letters):
        return Node("word", bare.lower())
    spelled = bare.isalpha() and len(bare) > 1 and bare not in known
    return Node("word", bare.lower()) if (spelled or (wrapped and bare.replace(" ", "").isalpha())) else None


def _items(tokens: list[Token]) -> Node:
    """item (("," | ";" | "or" | "and") item)*, or one item."""
    parser = Expression(tokens)
    items = [_item(parser)]
    alternatives = True
    while parser.position < len(parser.tokens):
        separated = parser.take(",", ";")
        word = parser.peek()
        if word.kind in ("word", "text") and word.text in ("or", "and"):
            parser.position += 1
            alternatives = alternatives and word.text == "or"
        elif not separated:
            raise Unreadable(f"{word.text!r} is left over")
        else:
            alternatives = False
        items.append(_item(parser))
    alternatives = alternatives and all(item.op == "rel" for item in items)
    items = [half for item in items for half in _halves(item)]
    return items[0] if len(items) == 1 else Node("list", "or" if alternatives else "", tuple(items))


def _halves(item: Node) -> tuple[Node, ...]:
    """Both readings of one plus-or-minus sign; two signs in one item are unreadable."""
    signs = sum(here.op == "pm" for here in walk(item))
    if signs > 1:
        raise Unreadable("two plus-or-minus signs")
    return (_signed(item, "add"), _signed(item, "sub")) if signs else (item,)


def _signed(node: Node, sign: str) -> Node:
    if node.op == "pm":
        left, right = node.args
        right = right if sign == "add" else Node("neg", "", (right,))
        return right if left == integer(0) else Node("add", "", (left, right))
    return Node(node.op, node.text, tuple(_signed(child, sign) for child in node.args))


def _item(parser: Expression) -> Node:
    """A chain of relations between sides, or one side."""
    sides, operators = [_side(parser)], list[str]()
    while parser.peek().text in RELATIONS:
        operators.append(parser.peek().text)
        parser.position += 1
        sides.append(_side(parser))
    if ":" in operators:
        if set(operators) != {":"}:
            raise Unreadable("a ratio inside a relation")
        return Node("bracket", ":", tuple(sides))
    return Node("rel", " ".join(operators), tuple(sides)) if operators else sides[0]


def _side(parser: Expression) -> Node:
    node = parser.value()
    if parser.take("setminus"):
        node = _without(node, parser.value())
    while parser.take("cup"):
        node = Node("union", "", (node, parser.value()))
    check_budgets(node)  # before anything recurses into it
    node = _as_matrix(node)
    unit = _unit(parser)
    if unit is None and not symbols(node) and node.op not in COMPOSITES:
        thing = noun(parser.peek().text) if parser.peek().kind in ("word", "text") else None
        if thing is not None:
            parser.position += 1
            return Node("quantity", f"~{thing}", (node, integer(1)))
    while unit is not None and parser.peek().kind == "num":  # 1 hour 30 minutes, 5 ft 6 in
        amount, smaller = parser.value(), _unit(parser)
        if smaller is None or smaller[0] != unit[0] or not smaller[1] < unit[1]:
            raise Unreadable("two amounts that are no sum")
        try:
            node = ratio(rational(node) + rational(amount) * smaller[1] / unit[1])
        except (NotRational, TooBig, Undefined) as error:
            raise Unreadable("amounts that are no numbers") from error
    if unit is not None:
        return Node("quantity", unit[0], (node, ratio(unit[1])))
    if node.op == "deg":
        return Node("quantity", "deg", (node.args[0], integer(1)))
    return _algebraic_unit(node)


def _without(line: Node, points: Node) -> Node:
    """The real line without one point, or a few rational ones, as a union of intervals."""
    infinite = Node("const", "inf")
    ends = (Node("neg", "", (infinite,)), infinite)
    values = points.args if points.op == "set" else (points,)
    try:
        values = tuple(sorted(values, key=rational)) if len(values) > 1 else values
    except (NotRational, TooBig, Undefined) as error:
        raise Unreadable("points in no order") from error
    if line != Node("bracket", "()", ends) or not values:
        raise Unreadable("only the real line is taken points from")
    bounds = (ends[0], *values, ends[1])
    first, *rest = [Node("bracket", "()", pair) for pair in pairwise(bounds)]
    for part in rest:
        first = Node("union", "", (first, part))
    return first


def _as_matrix(node: Node) -> Node:
    """``[[1, 2], [3, 4]]``, rows in brackets, as a matrix."""
    rows = node.args
    if node.op != "bracket" or node.text != "[]" or any(row.op != "bracket" or row.text != "[]" for row in rows):
        return node
    if len({len(row.args) for row in rows}) != 1:
        return node
    return Node("matrix", str(len(rows[0].args)), tuple(entry for row in rows for entry in row.args))


def _unit(parser: Expression) -> Unit | None:
    """``cm``, ``km/h``, ``square meters``, ``\\text{ m}^2``: unit names up to the end of the item."""
    parts: list[tuple[Unit, int]] = []
    sign = 1
    while True:
        start = parser.position
        if parts and (parser.take("/") or _word(parser, "per")):
            sign = -1
        elif parts:
            parser.take("*")
        power = 2 if _word(parser, "square", "sq") else 3 if _word(parser, "cubic") else 1
        names = _names(parser)
        if not names:
            parser.position = start
            return combine(parts) if parts else None
        if parser.take("^"):
            braced = parser.take("{")
            negative = parser.take("-")
            digits = parser.peek().text
            if not digits.isdigit() or len(digits) > 1:
                raise Unreadable("a unit's power is one digit")
            parser.position += 1
            power = -int(digits) if negative else int(digits)
            if braced:
                parser.expect("}")
        parts += [(unit, sign * side) for unit, side in names[:-1]]
        parts.append((names[-1][0], names[-1][1] * sign * power))


def _word(parser: Expression, *words: str) -> bool:
    if parser.peek().kind in ("word", "text") and parser.peek().text in words:
        parser.position += 1
        return True
    return False


def _names(parser: Expression) -> list[tuple[Unit, int]]:
    """The units that one token names; ``\\text{km/h}`` names two."""
    token = parser.peek()
    if token.kind not in ("word", "text"):
        return []
    found: list[tuple[Unit, int]] = []
    sign = 1
    scale = 1
    for name in re.findall(r"[^\W\d_]+|/", token.text):
        if name in ("/", "per"):
            sign = -1
        elif name in ("square", "cubic"):
            scale = 2 if name == "square" else 3
        elif (unit := lookup(name)) is not None:
            found.append((unit, sign * scale))
            scale = 1
        else:
            return []
    if found:
        parser.position += 1
    return found


def _algebraic_unit(node: Node) -> Node:
    """``5 m`` parses as a product: where it may be a quantity, keep both readings, the algebraic one as third."""
    value, unit = node, list[tuple[Unit, int]]()
    while value.op in ("mul", "div"):
        left, right = value.args
        exponent = 1
        if right.op == "pow" and right.args[1].op == "num" and right.args[1].text in "23":
            exponent, right = int(right.args[1].text), right.args[0]
        known = lookup(right.text) if right.op == "sym" else None
        if known is None:
            break
        unit.append((known, exponent if value.op == "mul" else -exponent))
        value = left
    if not unit:
        return node
    if any(here.op in COMPOSITES | {"sym"} or (here.op == "const" and here.text != "pi") for here in walk(value)):
        return node
    dimension, factor = combine(unit)
    return Node("quantity", dimension, (value, ratio(factor), node))
