"""One random expression in two notations is equal to itself; with one number changed it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.numeric import evaluate, mp
from verifiers.maths.tree import Node, walk
from verifiers.sympy_solver import SympySolver


@pytest.fixture(scope="module")
def solver() -> Iterator[SympySolver]:
    made = SympySolver(deadline=20.0)
    yield made
    made.close()


NUMBER = st.integers(1, 12).map(lambda value: Node("num", str(value)))
LEAF = st.one_of(NUMBER, st.sampled_from([Node("sym", "x"), Node("sym", "y"), Node("const", "pi")]))


def grow(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    pair = st.builds(lambda op, a, b: Node(op, "", (a, b)), st.sampled_from(["add", "mul", "div"]), inner, inner)
    power = st.builds(lambda a, n: Node("pow", "", (a, Node("num", str(n)))), inner, st.integers(2, 4))
    function = st.builds(lambda name, a: Node("fn", name, (a,)), st.sampled_from(["sqrt", "sin", "cos"]), inner)
    return st.one_of(pair, power, function, inner.map(lambda a: Node("neg", "", (a,))))


TREES = st.recursive(LEAF, grow, max_leaves=8)


LATEX = {
    "const": "\\pi ", "add": "\\left({0} + {1}\\right)", "mul": "\\left({0}\\right) \\cdot \\left({1}\\right)",
    "div": "\\dfrac{{{0}}}{{{1}}}", "pow": "\\left({0}\\right)^{{{1}}}", "neg": "\\left(-\\left({0}\\right)\\right)",
    "sqrt": "\\sqrt{{{0}}}", "fn": "\\{name}{{\\left({0}\\right)}}",
}  # fmt: skip
"""Every operand in a group of its own."""
TYPED = {
    "const": "pi", "add": "({1} + {0})", "mul": "({1} * {0})", "div": "(({0})/({1}))", "pow": "(({0})**({1}))",
    "neg": "(-({0}))", "fn": "{name}({0})",
}  # fmt: skip
"""As at a keyboard; sums and products are turned round."""


def rendered(node: Node, forms: Mapping[str, str]) -> str:
    """The tree in the notation of these forms, by operation or by the name of a function."""
    if node.op in ("num", "sym"):
        return node.text
    form = forms.get(node.text) or forms[node.op]
    return form.format(*(rendered(child, forms) for child in node.args), name=node.text)


def changed(node: Node, place: int) -> Node:
    """The tree with its number at this place one larger."""
    count = -1

    def step(here: Node) -> Node:
        nonlocal count
        if here.op == "num":
            count += 1
            return Node("num", str(int(here.text) + 1)) if count == place else here
        return Node(here.op, here.text, tuple(map(step, here.args)))

    return step(node)


def value(node: Node, x: str) -> object:
    """The value at x and y = x + 1, None where there is none: a judge of its own, at one point and 30 digits."""
    mp.dps = 30
    with suppress(Undefined, NotRational):
        return evaluate(node, {"x": mp.mpf(x), "y": mp.mpf(x) + 1}, real=True)
    return None


@settings(max_examples=60)
@given(tree=TREES, data=st.data())
def test_two_renderings_and_a_changed_number(solver: SympySolver, tree: Node, data: st.DataObject) -> None:
    assume(value(tree, "1.37") is not None and value(tree, "0.61") is not None)
    with suppress(NotRational, TooBig, Undefined):
        rational(tree)
        assume(tree.op == "num")  # a sum or a product of numerals is arithmetic left undone, and so no answer
    case = {"query": "", "answer": rendered(tree, LATEX), "reference": rendered(tree, TYPED)}
    other = {"query": "", "answer": rendered(tree, TYPED), "reference": rendered(tree, LATEX)}
    # Undone arithmetic is judged by shape: where a part of a constant is undone, both renderings are.
    assert solver([case, other]) == [1.0, 1.0]
    numbers = sum(here.op == "num" for here in walk(tree))
    assume(numbers)
    near = changed(tree, data.draw(st.integers(0, numbers - 1)))
    values = [(value(tree, x), value(near, x)) for x in ("1.37", "0.61")]
    assume(all(b is not None and abs(a - b) > 1e-9 * (1 + abs(a)) for a, b in values))
    assert solver([{**case, "answer": rendered(near, LATEX)}])[0] == 0.0
    assert solver([{**other, "answer": rendered(near, TYPED)}])[0] == 0.0
