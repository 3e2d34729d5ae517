"""1 if z3 proves that the answer, a term, meets the reference, a specification: a program for ``verifier=external``.

The reference is a small part of SyGuS, on top of SMT-LIB 2; the answer is the body of the function that it asks for:

    (synth-fun larger ((x Int) (y Int)) Int)
    (declare-var a Int) (declare-var b Int)
    (constraint (>= (larger a b) a))
    (constraint (or (= (larger a b) a) (= (larger a b) b)))       answer: (ite (> x y) x y)

Also ``define-fun`` for helpers and ``assume`` (or ``assert``) for what may be assumed. 1: no values break a constraint;
0: some do, or the answer is no term of the right sort over the function's own parameters. Null: the specification is at
fault (it cannot be read, contradicts itself, or assumes something of the answer), or z3 does not know.

Both texts are data: they are read here, and only the commands named above reach z3's parser, which obeys others (an
option can open a file). The answer is defined before all else, so that it can use no helper of the specification.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, TypeAlias

MILLISECONDS = 4_000
MAX_CHARS, MAX_DEPTH, MAX_DIGITS = 4_000, 60, 200

Term: TypeAlias = "str | list[Term]"
"""An atom or a list of terms."""

_TOKEN = re.compile(r"[()]|[A-Za-z0-9~!@$%^&*_+=<>.?/#-]+", re.ASCII)
_BLOCK = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
_BINDERS = frozenset({"forall", "exists", "lambda", "choice", "match", "!", "par"})
_SETTINGS = ("set-logic", "check-synth")


class Unreadable(ValueError):
    """Not a text of this grammar."""


def read(text: str) -> list[Term]:
    """All terms of a text. Raises ``Unreadable``."""
    if len(text) > MAX_CHARS:
        raise Unreadable("too long")
    plain = re.sub(r";[^\n]*", " ", text)
    stack: list[list[Term]] = [[]]
    at = 0
    for match in _TOKEN.finditer(plain):
        if plain[at : match.start()].strip() or (match[0].isdigit() and len(match[0]) > MAX_DIGITS):
            raise Unreadable("no token")
        at = match.end()
        if match[0] == "(":
            stack.append([])
        elif match[0] != ")":
            stack[-1].append(match[0])
        elif len(stack) == 1:
            raise Unreadable("a parenthesis too many")
        else:
            done = stack.pop()
            stack[-1].append(done)
        if len(stack) > MAX_DEPTH:
            raise Unreadable("too deep")
    if len(stack) > 1 or plain[at:].strip():
        raise Unreadable("a parenthesis stays open")
    return stack[0]


def show(term: Term) -> str:
    return term if isinstance(term, str) else f"({' '.join(map(show, term))})"


def atoms(term: Term) -> set[str]:
    return {term} if isinstance(term, str) else {atom for part in term for atom in atoms(part)}


class Specification:
    """The commands of a reference by what they do. Raises ``Unreadable``."""

    def __init__(self, text: str) -> None:
        self.name, self.sort = "", ""
        self.parameters: list[tuple[str, Term]] = []
        self.declared, self.assumed, self.claimed = list[str](), list[str](), list[str]()
        about: set[str] = set()  # what depends on the answer
        for command in read(text):
            match command:
                case ["synth-fun", str(name), list(parameters), sort] if not self.name:
                    self.name, self.parameters, self.sort = name, [_parameter(p) for p in parameters], show(sort)
                    about.add(name)
                case ["declare-var" | "declare-const", str(name), sort]:
                    self.declared.append(f"(declare-const {name} {show(sort)})")
                case ["define-fun", str(name), list(), _, body]:
                    self.declared.append(show(command))
                    about |= {name} if atoms(body) & about else set()
                case ["assert" | "assume", fact] if not atoms(fact) & about:
                    self.assumed.append(f"(assert {show(fact)})")
                case ["constraint", fact]:
                    self.claimed.append(show(fact))
                case [str(setting), *_] if setting in _SETTINGS:
                    pass
                case _:
                    raise Unreadable(show(command)[:80])
        if not self.name or not self.claimed:
            raise Unreadable("no synth-fun, or no constraint")

    def stub(self) -> str:
        """The function as something unknown."""
        return f"(declare-fun {self.name} ({' '.join(show(sort) for _, sort in self.parameters)}) {self.sort})"

    def defined(self, body: Term) -> str:
        parameters = " ".join(f"({name} {show(sort)})" for name, sort in self.parameters)
        return f"(define-fun {self.name} ({parameters}) {self.sort} {show(body)})"


def _parameter(term: Term) -> tuple[str, Term]:
    match term:
        case [str(name), sort]:
            return name, sort
        case _:
            raise Unreadable("a parameter is a name and a sort")


def body_of(answer: str) -> Term | None:
    """The one term that the answer is, in its last fenced block if it has one; None for anything else."""
    blocks = _BLOCK.findall(answer)
    try:
        terms = read(blocks[-1] if blocks else answer)
    except Unreadable:
        return None
    return terms[0] if len(terms) == 1 and not atoms(terms[0]) & _BINDERS else None


def verdict(z3: Any, reference: str, answer: str) -> bool | None:
    """True proved, False refuted or no term, None cannot tell."""
    try:
        spec = Specification(reference)
    except Unreadable:
        return None
    world = "".join(spec.declared)
    claim = f"(assert (and true {' '.join(spec.claimed)}))"
    facts = _parsed(z3, spec.stub() + world + "".join(spec.assumed))
    if facts is None or _parsed(z3, spec.stub() + world + claim) is None or _check(z3, facts) != z3.sat:
        return None
    body = body_of(answer)
    if body is None or _parsed(z3, spec.defined(body)) is None:
        return False
    claims = _parsed(z3, spec.defined(body) + world + claim)
    if claims is None:
        return None
    found = _check(z3, [*facts, z3.Not(z3.And(*claims))])
    return True if found == z3.unsat else False if found == z3.sat else None


def _parsed(z3: Any, script: str) -> list[Any] | None:
    """The script's assertions; None where z3 finds a fault in it."""
    try:
        return list(z3.parse_smt2_string(script))
    except z3.Z3Exception:
        return None


def _check(z3: Any, facts: list[Any]) -> Any:
    solver = z3.Solver()
    solver.set("timeout", MILLISECONDS)
    solver.add(*facts)
    return solver.check()


def main() -> None:
    try:
        import z3
    except ImportError as error:
        sys.exit(f"meets_spec needs z3 ({error}): pip install z3-solver")
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        found = verdict(z3, case["reference"], case["answer"])
        print("null" if found is None else int(found), flush=True)


if __name__ == "__main__":
    main()
