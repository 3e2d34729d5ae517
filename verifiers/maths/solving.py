"""Integrals, systems and polynomials of higher degree, by sympy, from trees to a tree (only in the worker).

Every solution is checked by other means before it counts: an integral by quadrature, roots by Sturm's count, the
solutions of a system by putting them in.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import mpmath  # pyright: ignore[reportMissingTypeStubs]
import sympy as untyped_sympy  # pyright: ignore[reportMissingTypeStubs]

from verifiers.maths.exact import NotRational, TooBig, Undefined
from verifiers.maths.numeric import evaluate
from verifiers.maths.symbolic import build
from verifiers.maths.tree import Node, check_budgets, integer, ratio

sympy = cast("Any", untyped_sympy)
mp = cast("Any", mpmath).mp
MAX_DEGREE = 8
_NAMES = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "Abs": "abs",
}  # fmt: skip


_PolynomialError = cast("type[Exception]", sympy.polys.polyerrors.BasePolynomialError)


class Unsolved(ValueError):
    """There is no finite exact solution that was found and checked."""


@lru_cache(maxsize=256)
def solution(kind: str, args: tuple[Node, ...], names: tuple[str, ...]) -> Node:
    """The tree of the solution of a ``tasks.Task``: a value, a list of roots, or a set of tuples in the order of
    ``names``. Raises ``Unsolved``."""
    try:
        if kind == "integral":
            found = _definite(args[0], args[1], args[2], names[0])
        elif kind == "antiderivative":
            found = _tree(_integral(build(args[0]), sympy.Symbol(names[0])))
        elif kind == "roots":
            found = _roots(_difference(args[0]), sympy.Symbol(names[0]))
        else:
            found = _system([_difference(relation) for relation in args], [sympy.Symbol(name) for name in names])
        check_budgets(found)
    except (
        NotRational,
        TooBig,
        Undefined,
        ZeroDivisionError,
        NotImplementedError,
        ValueError,
        _PolynomialError,
    ) as error:
        raise Unsolved(str(error)) from error
    return found


def _difference(relation: Node) -> Any:
    return build(relation.args[0]) - build(relation.args[1])


def _integral(integrand: Any, *limits: Any) -> Any:
    value = sympy.integrate(integrand, *limits)
    if value.has(sympy.Integral, sympy.zoo, sympy.nan, sympy.oo, sympy.Piecewise):
        raise Unsolved("no antiderivative in elementary functions was found")
    return value


def _definite(integrand: Node, low: Node, high: Node, name: str) -> Node:
    """The value, if quadrature of the integrand itself agrees: a pole between the bounds leaves the two apart."""
    symbol = sympy.Symbol(name, real=True)
    function = build(integrand).subs(sympy.Symbol(name), symbol)
    value = _tree(_integral(function, (symbol, build(low), build(high))))
    mp.dps = 20
    bounds = [_number(bound) for bound in (low, high)]
    exact = evaluate(value, {}, real=False)

    def height(at: Any) -> Any:
        return evaluate(integrand, {name: at}, real=True)

    rough, error = mp.quad(height, bounds, error=True)
    if abs(rough - exact) > max(1e-6, abs(exact) * 1e-6) or error > 1e-4:
        raise Unsolved("the integral is not what quadrature gives")
    return value


def _number(bound: Node) -> Any:
    infinite = Node("const", "inf")
    if bound in (infinite, Node("neg", "", (infinite,))):
        return mp.inf if bound == infinite else -mp.inf
    return evaluate(bound, {}, real=True)


def _roots(difference: Any, symbol: Any) -> Node:
    """All real roots, in increasing order, as many as Sturm's theorem counts."""
    polynomial = sympy.Poly(difference, symbol)
    if polynomial.free_symbols_in_domain or not 1 <= polynomial.degree() <= MAX_DEGREE:
        raise Unsolved("not a polynomial of low degree")
    real: list[tuple[Any, Node]] = []
    for root in sympy.roots(polynomial):
        tree = _tree(root)
        mp.dps = 50
        value = evaluate(tree, {}, real=False)
        if not isinstance(value, mp.mpc):
            real.append((value, tree))
    if not real or polynomial.domain not in (sympy.ZZ, sympy.QQ) or len(real) != polynomial.count_roots():
        raise Unsolved("not all real roots were found")
    trees = tuple(tree for _value, tree in sorted(real, key=lambda pair: pair[0]))
    return Node("list", "", trees)


def _system(differences: list[Any], symbols: list[Any]) -> Node:
    """All real solutions of a system of polynomial equations, finitely many."""
    polynomials = [sympy.Poly(difference, *symbols) for difference in differences]
    if any(polynomial.total_degree() > 4 for polynomial in polynomials):
        raise Unsolved("an equation of a system has degree 4 at most")
    if all(polynomial.total_degree() <= 1 for polynomial in polynomials):
        found: list[Any] = [tuple(row) for row in sympy.linsolve([each.as_expr() for each in polynomials], symbols)]
    else:
        found = sympy.solve_poly_system(polynomials, *symbols) or []
    rows: list[Node] = []
    for row in found:
        if any(value.free_symbols for value in row):
            raise Unsolved("more than finitely many solutions")
        mp.dps = 40
        trees = tuple(_tree(value) for value in row)
        values = [evaluate(tree, {}, real=False) for tree in trees]
        if any(isinstance(value, mp.mpc) for value in values):
            continue
        point = dict(zip(symbols, row, strict=True))
        for difference in differences:
            if abs(difference.subs(point).evalf(30)) > 1e-20:
                raise Unsolved("a solution that does not hold")
        rows.append(Node("bracket", "()", trees))
    if not rows:
        raise Unsolved("no real solution")
    return Node("set", "", tuple(rows))


def _tree(value: Any) -> Node:
    """The tree of a sympy expression of elementary functions. Raises ``NotRational`` for any other."""
    if value.is_Rational:
        return integer(int(value.p)) if value.q == 1 else ratio(Fraction(int(value.p), int(value.q)))
    if value.is_Symbol:
        return Node("sym", str(value.name))
    for constant, name in ((sympy.pi, "pi"), (sympy.E, "e"), (sympy.I, "i")):
        if value == constant:
            return Node("const", name)
    if value.is_Add or value.is_Mul:
        op, (first, *rest) = ("add" if value.is_Add else "mul"), [_tree(part) for part in value.args]
        for part in rest:
            first = Node(op, "", (first, part))
        return first
    if value.is_Pow or isinstance(value, sympy.exp):
        base, exponent = value.as_base_exp()
        return Node("pow", "", (_tree(base), _tree(exponent)))
    if isinstance(value, sympy.log) and len(value.args) == 1:
        return Node("fn", "logb", (_tree(value.args[0]), Node("const", "e")))
    name = _NAMES.get(type(value).__name__)
    if name is None or len(value.args) != 1:
        raise NotRational(f"{type(value).__name__} is not in the grammar")
    return Node("fn", name, (_tree(value.args[0]),))
