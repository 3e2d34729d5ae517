"""The data gate: every reason by itself, the papers' bands, what it remembers, and what it refuses to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from selfplay.archive import Archive
from selfplay.gate import Gate
from selfplay.interval import Interval
from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Completion, Episode, Stateful, Turn

NAN = float("nan")
LONG = "A farmer has seventeen sheep, and all but nine of them run away over the hills. How many has he left?"
NEAR = LONG.replace("seventeen", "sixteen")


def said(text: str) -> Action:
    return Action(text, Completion(text, (1,), (2, 3), (-0.5, -0.1), "stop"))


def asked(query: str, scores: Sequence[float], *, group: int = 0, **parts: float) -> list[Episode]:
    """One proposal with an answer per score; the Challenger earns -score. ``parts`` are more parts of each verdict."""
    proposal = Turn("challenger", "challenger_0", {}, said(query), group)
    episodes: list[Episode] = []
    for number, score in enumerate(scores):
        answer = Turn("solver", "solver_0", {}, said(f"a{number}"), derive(group, query))
        verdict = {"score": score, **parts}
        judged = Turn(VERIFIER, "verifier_0", {}, Action(verdict), number)
        case = {"query": query, "answer": f"a{number}", "reference": ""}
        returns = {"challenger": -score, "solver": score}
        episodes.append(Episode((proposal, answer, judged), returns, case, verdict, game="lsp_v0"))
    return episodes


def forfeited(query: str = "") -> list[Episode]:
    proposal = Turn("challenger", "challenger_0", {}, said(query), 0)
    return [Episode((proposal,), {"challenger": -1.0, "solver": 0.0}, {}, {}, "challenger", "lsp_v0")]


def speechless(query: str) -> list[Episode]:
    """The Solver said nothing."""
    proposal = Turn("challenger", "challenger_0", {}, said(query), 0)
    silent = Turn("solver", "solver_0", {}, said(""), 1)
    return [Episode((proposal, silent), {"challenger": 0.0, "solver": -1.0}, {}, {}, "solver", "lsp_v0")]


def reasons(gate: Gate, *proposals: Sequence[Episode]) -> list[str]:
    gate([episode for grown in proposals for episode in grown])
    return [decision.reason for decision in gate.decisions]


def learning(episodes: Sequence[Episode]) -> list[str]:
    """What was said by those who can learn, each shared turn once."""
    turns = dict.fromkeys(turn for episode in episodes for turn in episode.turns)
    return [turn.action.move for turn in turns if turn.action.completion is not None]


# -- the reasons -----------------------------------------------------------------------------------------------------


def test_a_gate_without_settings_refuses_what_nobody_could_learn_from() -> None:
    good, half = asked("What?", [1, 0]), asked("Who?", [NAN, 1])
    gate = Gate()
    found = reasons(gate, good, forfeited(), asked("Why?", [NAN, NAN]), asked("  ", [1]), half, speechless("So?"))
    assert found == ["", "forfeit", "unjudged", "blank", "", ""]


def test_a_part_called_valid_must_be_one() -> None:
    wrong = asked("What?", [1, 1], valid=0.0)
    assert reasons(Gate(), asked("What?", [1], valid=1.0), wrong) == ["", "invalid"]
    assert reasons(Gate(valid=None), wrong) == [""]
    assert reasons(Gate(valid="sound"), asked("What?", [1], sound=0.5)) == ["invalid"]


def test_length_counts_characters_and_both_ends_belong() -> None:
    gate = Gate(length=[3, 5])
    texts = ("ab", "abc", "abcde", "abcdef")
    assert reasons(gate, *(asked(text, [1, 0]) for text in texts)) == ["short", "", "", "long"]
    assert reasons(Gate(length="[3, inf)"), asked("a" * 9999, [1])) == [""]


def test_banned() -> None:
    """Two of R-Zero's filters, in one pattern: questions with a box, and proofs."""
    gate = Gate(banned=r"(?i)box|\bprove\b")
    assert reasons(gate, asked("Fill the Box", [1]), asked("Prove it.", [1]), asked("Improve it.", [1])) == [
        "banned",
        "banned",
        "",
    ]


def test_the_least_of_a_part() -> None:
    """MAE's pool (arXiv 2510.23595): a judge's 8 of 1-10 is (8-1)/9 = .778, admitted at .7; a 7 is .667, refused."""
    gate = Gate(least={"quality": 0.7})
    assert reasons(gate, asked("a", [1], quality=7 / 9), asked("b", [1], quality=6 / 9)) == ["", "low_quality"]


@pytest.mark.parametrize(
    ("band", "admitted"),
    [
        ([0.25, 0.75], range(3, 8)),  # R-Zero's paper: |p - 1/2| <= 1/4
        ([0.3, 0.8], range(3, 9)),  # R-Zero's code: the ends belong, so s = .8 passes here and not above
        ("(0, 1)", range(1, 10)),  # DAPO: not all, and not none
        ("[0.3, 0.8)", range(3, 8)),
    ],
)
def test_bands_of_the_solve_rate(band: Any, admitted: range) -> None:
    """Ten answers each, of which 0 to 10 are right."""
    found = reasons(Gate(band=band), *(asked(f"q{k}", [1.0] * k + [0.0] * (10 - k)) for k in range(11)))
    assert [not reason for reason in found] == [k in admitted for k in range(11)]
    assert found[0] == "hard" and found[10] == "easy"


def test_an_answer_that_broke_the_rules_was_not_right_and_one_that_nobody_could_judge_is_not_counted() -> None:
    """1 of 2, though the one verdict there is says 1; and 1 of 2 of those that are known."""
    silent = speechless("q")
    proposal = asked("q", [1.0])
    silent[0].turns = (proposal[0].turns[0], *silent[0].turns[1:])
    gate = Gate(band=[0.4, 0.6])
    assert reasons(gate, [*proposal, *silent]) == [""] and gate.decisions[0].solve_rate == 0.5
    assert reasons(gate, asked("q", [1, NAN, 0, NAN])) == [""] and gate.decisions[0].solve_rate == 0.5


def test_another_part_can_be_the_solve_rate() -> None:
    assert reasons(Gate(part="match", band="(0, 1)"), asked("q", [7.0, 9.0], match=0.5)) == [""]
    with pytest.raises(ValueError, match=r"no part 'scorr' \(did you mean score\?\): score"):
        Gate(part="scorr", band="(0, 1)")(asked("q", [1.0]))


# -- judged again ----------------------------------------------------------------------------------------------------


class Again:
    """A verifier that gives what it was told to, and notes how it was called."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores, self.calls = scores, list[list[str]]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        self.calls.append([case["query"] for case in cases])
        return [self.scores[case["query"]] for case in cases]


def test_a_verdict_that_does_not_come_out_again() -> None:
    """One call for all; those who are refused already are not judged again; nan is a fault of ours."""
    again = Again({"same": 1.0, "other": 0.5, "lost": NAN})
    gate = Gate(again=again, length=[1, 9], refused_value=0.0)
    proposals = [asked("same", [1, 1]), asked("other", [1]), asked("lost", [1]), asked("far too long", [1])]
    assert reasons(gate, *proposals) == ["", "unstable", "unjudged", "long"]
    assert again.calls == [["same", "same", "other", "lost"]]
    lessons, _ = gate([episode for grown in proposals for episode in grown])
    assert "lost" not in learning(lessons) and "other" in learning(lessons)


def test_again_needs_one_score_a_case() -> None:
    with pytest.raises(ValueError, match=r"gate\.again gave 1 scores for 2 cases"):
        Gate(again=lambda cases: [1.0])(asked("q", [1, 1]))


# -- near-duplicates ---------------------------------------------------------------------------------------------------


def test_of_near_duplicates_the_first_is_admitted_and_then_none() -> None:
    gate = Gate(archive=Archive())
    assert reasons(gate, asked(LONG, [1, 0]), asked(NEAR, [1, 0]), asked("Another?", [1, 0])) == ["", "near", ""]
    assert gate.decisions[0].similarity == 0.0 and 0.8 <= (gate.decisions[1].similarity or 0) < 1
    assert reasons(gate, asked(NEAR, [1, 0]), asked("another?", [1, 0])) == ["near", "near"]
    assert gate.decisions[1].similarity == 1.0


def test_the_archive_grows_by_what_is_admitted_only() -> None:
    """A question that is too easy today is new when it has become right."""
    gate = Gate(archive=Archive(), band="(0, 1)")
    assert reasons(gate, asked(LONG, [1, 1])) == ["easy"] and gate.decisions[0].similarity is None
    assert reasons(gate, asked(LONG, [1, 0])) == [""]
    assert reasons(gate, asked(LONG, [1, 0])) == ["near"]


def test_a_resumed_gate_decides_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    texts = [f"{number} sheep and {number * 7} hills, and how many farmers?" for number in range(40)]

    def play(gate: Gate, some: Sequence[str]) -> list[object]:
        rows: list[object] = []
        for text in some:
            gate(asked(text, [1, 0]))
            rows += [decision.row() for decision in gate.decisions]
        return rows

    whole, first, second = (Gate(archive=Archive(capacity=8, seed=5)) for _ in range(3))
    told = play(whole, texts)
    assert {row["reason"] for row in told if isinstance(row, dict)} == {"", "near"}
    before = play(first, texts[:20])
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first.save(tmp_path / "a")
    second.load(tmp_path / "a")
    second.save(tmp_path / "b")
    assert (tmp_path / "a/archive.json").read_bytes() == (tmp_path / "b/archive.json").read_bytes()
    assert before + play(second, texts[20:]) == told
    assert isinstance(whole, Stateful)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"band": [0.3]}, r"gate\.band=\[0\.3\] is no interval: write \[0\.3, 0\.8\]"),
        ({"band": "0-1"}, r"gate\.band='0-1' is no interval"),
        ({"band": [0.8, 0.3]}, r"gate\.band=\[0\.8, 0\.3\] is empty"),
        ({"length": "(3, 3]"}, r"gate\.length='\(3, 3\]' is empty"),
        ({"band": ["a", "b"]}, "is no interval"),
        ({"banned": "("}, r"gate\.banned='\(' is no regular expression"),
        ({"proposer": "kept"}, "gate.proposer='kept' is unknown: use keep or drop"),
        ({"refused_value": {"forfeits": 0}}, r"gate\.refused_value\.forfeits: .*\(did you mean forfeit\?\)"),
        ({"refused_value": {"low_quality": 0}}, r"no such reason: forfeit, unjudged, blank, invalid"),
    ],
)
def test_settings_that_cannot_be_followed(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Gate(**wrong)


def test_a_slot_that_no_case_has() -> None:
    with pytest.raises(ValueError, match=r"gate\.slot='querry' is no slot \(did you mean query\?\)"):
        Gate(slot="querry")(asked("q", [1]))


def test_a_role_that_the_game_has_not() -> None:
    """Also in a step in which somebody broke the rules; a role of the game may have had no chance to speak then."""
    for step in (asked("q", [1]), asked("q", [1]) + forfeited(), forfeited()):
        with pytest.raises(ValueError, match=r"gate\.role='solvr' never speaks"):
            Gate(role="solvr")(step)
    assert Gate(role="solver")(forfeited())[1]["gate/admitted"] == 0.0


def test_intervals() -> None:
    open_, closed = Interval.of("(0, 1)", "x"), Interval.of([0, 1], "x")
    assert [open_.below(0), closed.below(0), open_.above(1), closed.above(1)] == [True, False, True, False]
    assert not Interval.of("[3, inf)", "x").above(1e300) and Interval.of([1, 1], "x").below(0.99)
