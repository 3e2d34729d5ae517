"""The worker's program: trees in, a verdict or a solution out. It imports sympy once, before it says ready."""

from __future__ import annotations

from typing import cast

from verifiers.maths.compare import Undecided, same
from verifiers.maths.solving import Unsolved, solution
from verifiers.maths.symbolic import Symbolic
from verifiers.maths.tree import Node, from_json
from verifiers.worker import serve


def answer(request: object) -> object:
    """``["same", reference, answer]`` to "equal", "not" or "unknown"; ``["solve", kind, args, names]`` to a tree or
    null where there is no solution that holds; ``["ready"]`` to "yes"."""
    what, *rest = cast("list[object]", request)
    if what == "ready":
        return "yes"
    if what == "same":
        return _same(*(from_json(tree) for tree in rest))
    kind, args, names = rest
    trees = tuple(from_json(tree) for tree in cast("list[object]", args))
    try:
        return solution(str(kind), trees, tuple(map(str, cast("list[object]", names))))
    except Unsolved:
        return None


def _same(reference: Node, given: Node) -> str:
    """A reference that does not equal itself is undefined, so the pair is unknown."""
    leaf = Symbolic()
    try:
        if same(reference, given, leaf):
            return "equal"
        return "not" if same(reference, reference, leaf) else "unknown"
    except Undecided:
        return "unknown"


if __name__ == "__main__":
    serve(answer)
