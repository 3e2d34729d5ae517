"""A question to a task of calculus, or to a system of equations: what ``query`` does not read as one value.

As there, the whole question must be understood. Patterns run on text of at most 2,000 characters with single spaces.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.maths.differentiate import derivative, substitute
from verifiers.maths.exact import NotRational, TooBig
from verifiers.maths.extract import trim
from verifiers.maths.query import expression, prepared, untrail
from verifiers.maths.tree import Node, Unreadable, symbols

MAX_EQUATIONS = 6
MAX_CHARS = 400


class Task(NamedTuple):
    """What is to be solved.

    ============== ============================== =============================================
    kind           args                           names
    ============== ============================== =============================================
    expression     the derivative, already taken  every symbol of the function
    antiderivative the integrand                  the variable
    integral       integrand, lower, upper bound  the variable
    system         equations, as relations        the unknowns in alphabetical order
    roots          one equation                   the unknown
    ============== ============================== =============================================

    ``wanted`` is the expression of the unknowns that a system was solved for, where that is not all of them.
    """

    kind: str
    args: tuple[Node, ...]
    names: tuple[str, ...]
    wanted: Node | None = None


_RESPECT = r"(?: (?:with respect to|w\.?r\.?t\.?|for) \$?(?P<x>[a-z])\$?)?"
_FRAME = (
    r"(?:(?:the|of|value|find|compute|calculate|evaluate|determine|what is|what's|give|please|simplify|exact)\b ?)*"
)
_AT = r"(?: (?:at|when|for|where) (?:the point )?\$?(?P<at>[a-z]) ?= ?(?P<point>[^=]+))?"
_ORDER = r"\{?[2-4]\}?"
_D_OVER = (  # d/dx, d^2/dx^2, as a fraction or in one line
    rf"(?:\\frac ?\{{ ?d(?:\^(?P<n>{_ORDER}))? ?\}} ?\{{ ?d ?(?P<x>[a-z])(?:\^{_ORDER})? ?\}}"
    rf"|\(? ?d(?:\^(?P<m>{_ORDER}))? ?/ ?d ?(?P<y>[a-z])(?:\^{_ORDER})? ?\)?)"
)
_DY_DX = r"\\frac ?\{ ?d[a-z] ?\} ?\{ ?d ?(?P<x>[a-z]) ?\}|d[a-z] ?/ ?d(?P<y>[a-z])"
_GIVEN = r"(?:if|given|given that|let|for|suppose)"
_ORDERS = {"first": 1, "second": 2, "third": 3, "fourth": 4}
_DERIVATIVE = [
    re.compile(
        rf"{_FRAME}(?P<order>{'|'.join(_ORDERS)})? ?derivative (?:of|for) (?:the function )?(?P<f>.+?){_RESPECT}{_AT}"
    ),
    re.compile(rf"{_FRAME}differentiate (?:the function )?(?P<f>.+?){_RESPECT}{_AT}"),
    re.compile(rf"{_FRAME}{_D_OVER} ?(?P<f>.+)"),
    re.compile(
        rf"{_GIVEN} (?P<f>[a-z] ?\( ?[a-z] ?\) ?=.+?) ?[,.;]? (?:then )?(?:and )?{_FRAME}"
        r"(?P<name>[a-z])(?P<primes>'{1,3}) ?\( ?(?P<argument>[^()]+) ?\)"
    ),
    re.compile(rf"{_GIVEN} (?P<f>[a-z] ?=.+?) ?[,.;]? (?:then )?(?:and )?{_FRAME}(?:{_DY_DX}|[a-z]')"),
    re.compile(
        rf"{_FRAME}(?:{_DY_DX}|[a-z]'(?: ?\( ?[a-z] ?\))?),? (?:of|where|when|{_GIVEN}) "
        r"(?P<f>[a-z](?: ?\( ?[a-z] ?\))? ?= ?.+)"
    ),
]
_NAMED = re.compile(r"(?:[a-z] ?\( ?(?P<x>[a-z]) ?\)|[a-z]) ?= ?(?P<f>.+)")
_INTEGRAL = re.compile(
    rf"{_FRAME}(?:integrate|(?:the )?(?:(?:in)?definite )?integral of|antiderivative of) (?:the function )?(?P<f>.+?)"
    r"(?: ?d(?P<d>[a-z]))?(?: (?:with respect to|w\.?r\.?t\.?) \$?(?P<x>[a-z])\$?)?"
    r"(?:,? (?:from|between|over) (?:(?P<v>[a-z]) ?= ?)?(?P<a>[^=]+?) (?:to|and) (?:[a-z] ?= ?)?(?P<b>[^=]+?))?"
    r"(?: (?:with respect to|w\.?r\.?t\.?) \$?(?P<y>[a-z])\$?)?"
)
_INT = re.compile(rf"{_FRAME}(?:(?:in)?definite )?(?:integral )?(?:of )?\\int ?(?P<rest>.*)")
_PAIR = r"\$?[a-z]\$?(?:(?:,| and|, and) \$?[a-z]\$?)+"
_SYSTEM_LEAD = re.compile(
    r"(?:(?:please|find|solve|consider|given|if|suppose|let|that|the|following|simultaneous(?:ly)?|linear|systems?|set|pair"
    rf"|of|equations?|for (?:real )?{_PAIR}|{_PAIR} (?:if|in|when|where|given|such that|from))(?![a-z(])[ :,]*)*"
)
_CASES = re.compile(
    r"\\begin ?\{ ?(?:cases|aligned|array)\}(?: ?\{[a-z]+\})?(?P<in>.*)\\end ?\{ ?(?:cases|aligned|array)\}"
)
_SPLIT = re.compile(r" ?(?:\\\\|[;\n]|,? \band\b|,(?!\d{3}\b)|\.(?= )) ?")
_UNKNOWNS = re.compile(
    r"[,.;]? ?(?:then |and )?(?:for|find|solve for|determine|compute|what are|where)(?: the values of)? "
    rf"{_PAIR}(?: are real(?: numbers)?)?$"
)
_ASK = r"(?:what is|what's|find|compute|determine|calculate"
_ASKED_FIRST = re.compile(rf"{_ASK})(?: the value of)? (?P<w>[^=,;]+?),? (?:if|when|given(?: that)?|where) ")
_WANTED = re.compile(rf"[,.;]? ?(?:then |and )?{_ASK}|solve for|for)(?: the)?(?: value of)? (?P<w>[^=]+)$")


def is_polynomial(node: Node) -> bool:
    """Whether the unknowns are only added, multiplied and raised to whole numerals: there is no place where the
    expression has no value, and so none that a simplification could lose."""
    if not symbols(node) or node.op == "sym":
        return True
    if node.op in ("div", "pow"):
        left, right = node.args
        whole = node.op == "div" or (right.op == "num" and right.text.isdigit() and int(right.text) > 0)
        return whole and not symbols(right) and is_polynomial(left)
    return node.op in ("add", "mul", "neg", "percent") and all(map(is_polynomial, node.args))


def task(query: str) -> Task:
    """What the query asks to differentiate, integrate or solve. Raises ``Unreadable``."""
    text = prepared(query)
    if len(text) > MAX_CHARS:
        raise Unreadable(f"longer than {MAX_CHARS} characters")
    for sign in ("\\(", "\\)", "\\[", "\\]", "$"):
        text = text.replace(sign, " ")
    text = untrail(trim(re.sub(r"\\(?:mathrm|text) ?\{ ?d ?\} ?", "d", " ".join(text.split()))))
    text = re.sub(r"\\(?:partial|mathrm\{d\}|operatorname\{d\})(?![a-z]) ?", "d", text)
    if "derivative" in text or "differentiate" in text or "d" in text or "'" in text:
        for pattern in _DERIVATIVE:
            match = pattern.fullmatch(text)
            if match is not None and "antiderivative" not in text:
                return _derivative(match.groupdict())
    match = _INT.fullmatch(text)
    if match is not None:
        return _integral_sign(match["rest"])
    match = _INTEGRAL.fullmatch(text)
    if match is not None and "\\int" not in text:
        return _integral(match.groupdict())
    return _system(text)


def _function(text: str) -> tuple[Node, str]:
    """The tree of "f(x) = x^2" or "x^2", and the variable that the name shows, if any."""
    named = _NAMED.fullmatch(text)
    if named is not None:
        return expression(named["f"]), named["x"] or ""
    return expression(text), ""


def _variable(node: Node, *named: str | None) -> str:
    """The one variable that is named, or else the only symbol; x where there is no symbol at all."""
    names = {name for name in named if name} or symbols(node) or {"x"}
    if len(names) != 1:
        raise Unreadable("not one variable")
    return names.pop()


def _derivative(found: dict[str, str | None]) -> Task:
    node, shown = _function(found["f"] or "")
    name = _variable(node, found.get("x"), found.get("y"), shown, found.get("at"))
    digits = re.sub(r"\D", "", found.get("n") or found.get("m") or "")
    order = int(digits or _ORDERS.get(found.get("order") or "first", 1))
    if found.get("primes"):
        order = len(found["primes"] or "")
    point = found.get("point")
    argument = (found.get("argument") or "").strip()
    if argument and argument != name:
        point = argument
    try:
        result = derivative(node, name, order)
    except (NotRational, TooBig) as error:
        raise Unreadable(str(error)) from error
    if point:
        at = expression(point)
        result = substitute(result, {name: at})
        return Task("expression", (result,), tuple(sorted(symbols(result) - {name})))
    return Task("expression", (result,), tuple(sorted(symbols(node) | {name})))


def _integral(found: dict[str, str | None]) -> Task:
    node, shown = _function(found["f"] or "")
    name = _variable(node, found["d"], found["x"], found["y"], found["v"], shown)
    if not found["a"]:
        return Task("antiderivative", (node,), (name,))
    return _definite(node, name, found["a"] or "", found["b"] or "")


def _definite(node: Node, name: str, low: str, high: str) -> Task:
    bounds = [_bound(text) for text in (low, high)]
    if symbols(node) - {name} or any(symbols(bound) for bound in bounds):
        raise Unreadable("a definite integral with parameters")
    return Task("integral", (node, *bounds), (name,))


def _bound(text: str) -> Node:
    infinite = Node("const", "inf")
    stripped = text.strip().lstrip("+").replace(" ", "")
    if stripped in ("\\infty", "infinity", "inf", "oo"):
        return infinite
    if stripped in ("-\\infty", "-infinity", "-inf", "-oo"):
        return Node("neg", "", (infinite,))
    return expression(text)


def _integral_sign(rest: str) -> Task:
    """What follows ``\\int``: bounds in either order, the integrand, and dx at its end."""
    bounds: dict[str, str] = {}
    while rest[:1] in ("_", "^") and rest[0] not in bounds:
        sign = rest[0]
        bounds[sign], rest = _argument(rest[1:].lstrip())
        rest = rest.lstrip()
    match = re.fullmatch(r"(?P<f>.*?) ?\bd ?(?P<x>[a-z])|(?P<g>.*?) ?d(?P<y>[a-z])", rest)
    if match is None or len(bounds) == 1 or "\\int" in rest:
        raise Unreadable("an integral has dx at its end, and both bounds or none")
    name = match["x"] or match["y"]
    node = expression((match["f"] if match["x"] else match["g"]).strip() or "1")
    if bounds:
        return _definite(node, name, bounds["_"], bounds["^"])
    return Task("antiderivative", (node,), (name,))


def _argument(text: str) -> tuple[str, str]:
    """A brace group, or the one sign, command or digit that TeX takes; a longer bare number has two readings."""
    if text.startswith("{"):
        depth = 0
        for index, char in enumerate(text):
            depth += (char == "{") - (char == "}")
            if not depth:
                return text[1:index], text[index + 1 :]
        raise Unreadable("a bound is never closed")
    match = re.match(r"-?(?:\\[a-z]+|\d|[a-z])(?![\d.])", text)
    if match is None:
        raise Unreadable("a bound is one number, or in braces")
    return match[0], text[match.end() :]


def _system(text: str) -> Task:
    if text.count("=") < 2:
        raise Unreadable("no task that is known")
    cases = _CASES.search(text)
    wanted = None
    if cases is not None:
        before, after = text[: cases.start()].strip(), text[cases.end() :].strip(" .,")
        if _SYSTEM_LEAD.fullmatch(before) is None or (after and not _UNKNOWNS.fullmatch(after)):
            raise Unreadable("words around the system")
        text = cases["in"].replace("&", " ")
    elif (asked := _ASKED_FIRST.match(text)) is not None and not _SYSTEM_LEAD.fullmatch(asked[0].strip()):
        text, wanted = text[asked.end() :], expression(asked["w"])
    else:
        text = _UNKNOWNS.sub("", text)
        match = _WANTED.search(text)
        if match is not None:
            text, wanted = text[: match.start()], expression(match["w"])
    lead = _SYSTEM_LEAD.match(text)
    text = text[lead.end() if lead else 0 :].strip(" .,;:")
    equations: list[Node] = []
    for part in filter(None, (piece.strip() for piece in _SPLIT.split(text))):
        sides = part.split("=")
        if len(sides) != 2 or len(equations) == MAX_EQUATIONS:
            raise Unreadable("not a few equations")
        equation = Node("rel", "=", (expression(sides[0]), expression(sides[1])))
        if not all(map(is_polynomial, equation.args)):
            raise Unreadable("an equation of a system is polynomial")
        equations.append(equation)
    names = sorted({name for each in equations for name in symbols(each)})
    if len(equations) < 2 or len(names) < 2 or (wanted is not None and not symbols(wanted) <= set(names)):
        raise Unreadable("no system")
    if wanted is not None and not symbols(wanted):
        raise Unreadable("nothing is asked")
    return Task("system", tuple(equations), tuple(names), wanted)
