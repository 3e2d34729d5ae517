"""Trees of episodes for the tests of credit: answers with tokens, judged proposals, and those who break rules."""

from __future__ import annotations

from collections.abc import Sequence

from selfplay.credit import Shape, leaves_of
from selfplay.shapes import SHAPES
from selfplay.types import VERIFIER, Action, Completion, Episode, Turn
from tests.helpers import tree


def words(tokens: int) -> Completion:
    """A completion of so many tokens."""
    return Completion("a", (0,), (1,) * tokens, (-1.0,) * tokens, "stop")


def answers(*rows: Sequence[float], tokens: Sequence[int] = ()) -> list[Episode]:
    """One query per row, one answer per reward; ``tokens`` are the answers' lengths, 1 each where none are given."""
    lengths = iter(tokens or [1] * sum(map(len, rows)))
    return tree(rows, completions=[[words(next(lengths)) for _ in row] for row in rows])


def by_role(credit: dict[Turn, float], role: str) -> list[float]:
    return [value for turn, value in credit.items() if turn.role == role]


def solver(credit: dict[Turn, float]) -> list[float]:
    return by_role(credit, "solver")


def challenger(credit: dict[Turn, float]) -> list[float]:
    return by_role(credit, "challenger")


def played(reward: float, game: str = "kuhn_v0", role: str = "first", group: int = 0) -> Episode:
    turn = Turn(role, f"{role}_0", {}, Action("x"), group)
    return Episode((turn,), {role: reward}, {}, {}, game=game)


def proposal(scores: Sequence[float], query: str = "q", hint: str = "", **parts: float) -> list[Episode]:
    """A proposal with an answer per score; ``parts`` are in every verdict. The Challenger is paid nothing."""
    turn = Turn("challenger", "challenger_0", {}, Action(f"<question>{query}</question>"), 0)
    case = {"query": query, "answer": "a", "reference": "", "hint": hint}
    ends: list[Episode] = []
    for number, score in enumerate(scores):
        verdict = {"score": score, **parts}
        answered = Turn("solver", "solver_0", {}, Action("a"), 1 + number)
        turns = (turn, answered, Turn(VERIFIER, "verifier_0", case, Action(verdict), 100 + number))
        ends.append(Episode(turns, {"challenger": 0.0, "solver": score}, case, verdict, game="g_v0"))
    return ends


def malformed() -> list[Episode]:
    """A proposal that is not of the game's pattern, so the game ends there and pays -1."""
    turn = Turn("challenger", "challenger_0", {}, Action("no question"), 0)
    return [Episode((turn,), {"challenger": -1.0, "solver": 0.0}, {}, {}, forfeit="challenger", game="g_v0")]


def speechless(*proposals: list[Episode]) -> list[Episode]:
    """The same proposals, all of whose answers broke the rules: the Solver pays for it, and there is no verdict."""
    return [
        Episode(end.turns[:2], {"challenger": 0.0, "solver": -1.0}, {}, {}, forfeit="solver", game=end.game)
        for ends in proposals
        for end in ends
    ]


def worth(shape: Shape | str, *proposals: list[Episode]) -> list[float]:
    """The values of sibling proposals."""
    leaves = leaves_of(end for ends in proposals for end in ends)
    made = SHAPES[shape]() if isinstance(shape, str) else shape
    return list(made([ends[0].turns[0] for ends in proposals], leaves))
