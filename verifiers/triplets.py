"""Triplets of program, input and output: is the task sound, and is it solved (Absolute Zero, arXiv 2505.03335)?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from verifiers.code_cases import block
from verifiers.literals import Call, Ran, Runner

ABDUCTION, INDUCTION = "abduction", "induction"
_OUTPUT, _INPUT = frozenset({"", "output", "python"}), frozenset({"", "input", "python"})

Case = Mapping[str, str]


def proposal(case: Case) -> Call | None:
    """The program of a case and the inputs that its task is about; None where there is no program.

    ``induction``: the lines of ``visible`` and ``hidden``. Any other task: ``input``; where that is blank the query is
    the input, as one string.
    """
    program = case.get("program", "")
    if not program.strip():
        return None
    if case.get("task") == INDUCTION:
        return program, (*_lines(case, "visible"), *_lines(case, "hidden"))
    return program, (case.get("input", "").strip() or repr(case["query"]),)


class _Judge:
    """What both parts have: the one who runs programs, and counts."""

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._counts = Counter[str]()

    def close(self) -> None:
        """End the sandbox's workers."""
        self.runner.close()


class ValidTriplet(_Judge):
    """1 for a sound proposal, 0 for one that is not: the part that a data gate and a Challenger's shape go by.

    Sound is a ``program`` without banned words (``verifiers.literals.BANNED``) whose ``f`` gives, on every input of the
    task, the same literal in two runs (whose hashes of texts differ), and not None; for ``induction`` there must be
    inputs on both sides. nan where there is no program, and where the sandbox could not tell. ``runner`` is a
    ``verifiers.literals.Runner``.
    """

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        proofs = _prove(self.runner, cases)
        self._counts.update(_kind(case, proof) for case, proof in zip(cases, proofs, strict=True))
        return [_validity(case, proof) for case, proof in zip(cases, proofs, strict=True)]

    def metrics(self) -> dict[str, float]:
        """Cases since the last call: ``sound``, ``unsound_<fault>``, and as nan ``no_program`` and ``infra``."""
        counts = {name: float(count) for name, count in sorted(self._counts.items())}
        self._counts.clear()
        return counts


class Triplets(_Judge):
    """1 for a solved task, 0 for one that is not, by what the programs do; nobody tells the verifier an output.

    The slot ``task`` says what the ``answer`` is: its last fenced block, or all of it where there is none.

    - ``deduction`` (and no task): the output of ``program`` on ``input``, as a Python literal of equal value;
    - ``abduction``: any input on which the program gives what it gives on ``input``;
    - ``induction``: a program that gives what ``program`` does on every line of ``hidden``.

    Values are equal as Python has it: 1 is 1.0 and True, a tuple is no list. An answer to a proposal that is not sound
    (see ``ValidTriplet``) is 0. nan where there is no program, where the sandbox could not tell, and where the game
    ended with an ``error`` although the program is sound.
    """

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        proofs = _prove(self.runner, cases)
        scores: list[float] = [math.nan] * len(cases)
        asked = list[tuple[int, tuple[str, ...]]]()  # a case with a sound task, and the outputs to be met
        for i, (case, proof) in enumerate(zip(cases, proofs, strict=True)):
            valid = _validity(case, proof)
            if valid == 0.0:
                scores[i] = 0.0
            elif valid == 1.0 and not case.get("error"):
                hidden = len(_lines(case, "hidden")) if case.get("task") == INDUCTION else 1
                asked.append((i, proof.outputs[-hidden:]))
        said = self._said([cases[i] for i, _ in asked])
        pairs = [
            list(zip(outputs, ran.outputs, strict=True)) if not ran.fault else []
            for (_, outputs), ran in zip(asked, said, strict=True)
        ]
        same = iter(self.runner.same([pair for group in pairs for pair in group]))
        for (i, _), ran, group in zip(asked, said, pairs, strict=True):
            results = [next(same) for _ in group]
            scores[i] = math.nan if ran.fault == "infra" else _all(results)
        self._counts.update("unknown" if score != score else "solved" if score else "unsolved" for score in scores)
        return scores

    def metrics(self) -> dict[str, float]:
        """Cases since the last call: ``solved``, ``unsolved``, ``unknown`` (nan)."""
        counts = {name: float(self._counts[name]) for name in ("solved", "unsolved", "unknown")}
        self._counts.clear()
        return counts

    def _said(self, cases: Sequence[Case]) -> list[Ran]:
        """What each answer comes to, in literals to be compared with the task's outputs."""
        calls = [_answer(case) for case in cases]
        ran = iter(self.runner.run([call for call in calls if not isinstance(call, Ran)]))
        return [call if isinstance(call, Ran) else next(ran) for call in calls]


def _prove(runner: Runner, cases: Sequence[Case]) -> list[Ran]:
    calls = [proposal(case) for case in cases]
    proofs = iter(runner.prove([call for call in calls if call is not None]))
    return [Ran(fault="no_program") if call is None else next(proofs) for call in calls]


def _kind(case: Case, proof: Ran) -> str:
    """The name that counts a proposal."""
    if proof.fault in ("infra", "no_program"):
        return proof.fault
    return "sound" if _validity(case, proof) else f"unsound_{proof.fault or 'no_inputs'}"


def _validity(case: Case, proof: Ran) -> float:
    if proof.fault in ("infra", "no_program"):
        return math.nan
    sides = ("visible", "hidden") if case.get("task") == INDUCTION else ()
    return float(not proof.fault and all(_lines(case, side) for side in sides))


def _answer(case: Case) -> Call | Ran:
    """The call that an answer asks for; a ``Ran`` where it is the output itself, or nothing."""
    task = case.get("task")
    if task == INDUCTION:
        program = block(case["answer"])
        return (program, _lines(case, "hidden")) if program.strip() else Ran(fault="crash")
    if task == ABDUCTION:
        given = block(case["answer"], _INPUT).strip()
        return (case["program"], (given,)) if given else Ran(fault="crash")
    return Ran((block(case["answer"], _OUTPUT).strip(),))


def _all(results: Sequence[int | None]) -> float:
    """1 if all are the same; one that is not decides, whatever else cannot be told."""
    if 0 in results or not results:
        return 0.0
    return math.nan if None in results else 1.0


def _lines(case: Case, slot: str) -> tuple[str, ...]:
    return tuple(line for line in case.get(slot, "").split("\n") if line.strip())
