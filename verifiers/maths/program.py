"""The worker's program: two trees in, "equal", "not" or "unknown" out. It imports sympy once, before it says ready."""

from __future__ import annotations

from typing import cast

from verifiers.maths.compare import Undecided, same
from verifiers.maths.symbolic import Symbolic
from verifiers.maths.tree import from_json
from verifiers.worker import serve


def answer(request: object) -> str:
    """Compare ``[reference, answer]``. A reference that does not equal itself is undefined, so the pair is unknown."""
    reference, given = (from_json(tree) for tree in cast("list[object]", request))
    leaf = Symbolic()
    try:
        if same(reference, given, leaf):
            return "equal"
        return "not" if same(reference, reference, leaf) else "unknown"
    except Undecided:
        return "unknown"


if __name__ == "__main__":
    serve(answer)
