"""A stored run judged again: what is read, how it is asked, what the report says, and that the run itself agrees."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfplay.agreement_report import AgreementError
from selfplay.record import Recorder
from selfplay.rescore import judge_again
from selfplay.types import VERIFIER, Action, Case, Episode, Turn
from verifiers.panel import Panel
from verifiers.random_score import RandomScore
from verifiers.spoiled import Spoiled

NAN = float("nan")
ROOT = Path(__file__).resolve().parent.parent
PAYOFF = "env:\n  payoff:\n    challenger: {score: -1.0}\n    solver: {score: 2.0}\n"


def right(cases: Sequence[Case]) -> list[float]:
    """1 for the reference, 0 for another answer, nan without a reference."""
    return [float(c["answer"] == c["reference"]) if c["reference"] else NAN for c in cases]


def long(cases: Sequence[Case]) -> list[float]:
    return [min(1.0, len(case["answer"]) / 4) for case in cases]


class Counting:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        self.calls.append([case["answer"] for case in cases])
        return right(cases)


def played(cases: Sequence[Case], panel: Panel) -> list[Episode]:
    """What a rollout gives for these cases with ``panel`` in the verifier's seat."""
    verdicts = [action.move for action in panel.act(cases, [0] * len(cases))]
    episodes: list[Episode] = []
    for case, verdict in zip(cases, verdicts, strict=True):
        solver = Turn("solver", "solver_0", {"user": case["query"]}, Action(case["answer"]), 7)
        judge = Turn(VERIFIER, "verifier_0", case, Action(verdict), 8)
        returns = {"challenger": -verdict["score"], "solver": 2 * verdict["score"]}
        episodes.append(Episode((solver, judge), returns, case, verdict))
    return episodes


def forfeit() -> Episode:
    turn = Turn("solver", "solver_0", {"user": "x"}, Action(""), 7)
    return Episode((turn,), {"challenger": 0.0, "solver": -1.0}, {}, {}, forfeit="solver")


def case(query: str, answer: str, reference: str = "") -> dict[str, str]:
    return {"query": query, "answer": answer, "reference": reference}


def cases_of(step: int) -> list[dict[str, str]]:
    """Four questions, three answers each, of which the second is right; one answer grows with the steps."""
    return [
        case(f"{q} + {step} = ?", answer, str(q + step))
        for q in range(4)
        for answer in (str(q), str(q + step), "9" * step)
    ]


def store(folder: Path, panel: Panel, steps: int = 6, extra: Sequence[Mapping[str, str]] = ()) -> Path:
    with Recorder(folder, tensorboard=False) as record:
        for step in range(1, steps + 1):
            record.step(step, {}, [forfeit(), *played([*cases_of(step), *extra], panel)], {})
    (folder / "config.yaml").write_text(PAYOFF, encoding="utf-8")
    return folder


def again(folder: Path, panel: Panel, **settings: Any) -> tuple[dict[str, Any], str]:
    """The report, and what the screen said."""
    console = Console(file=io.StringIO(), width=100)
    report = judge_again(folder, panel, "other", console=console, **settings)
    assert isinstance(console.file, io.StringIO)
    return report, console.file.getvalue()


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rescored/other/scores.jsonl").read_text().splitlines()]


# -- the run agrees with itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verifier",
    [right, long, RandomScore(seed=3), Spoiled(right, share=0.7, seed=3)],
    ids=["right", "long", "coin", "spoiled"],
)
def test_the_same_verifier_agrees_in_everything(tmp_path: Path, verifier: Any) -> None:
    """The coin and the spoiler look at the set of the call's cases: a step has to come as it was played."""
    report, told = again(store(tmp_path, Panel(score=verifier)), Panel(score=verifier))
    (found,) = report["pairs"]
    whole = found["all"]
    assert whole["cases"] == 72 and whole["rank"]["value"] == 1
    assert whole["gap"] == {"value": 0, "low": 0, "high": 0}
    assert whole["confusion"]["false_positive"] == whole["confusion"]["false_negative"] == 0
    assert found["worst"] == [] and found["alarm"] is None and found["blind"] is None
    assert [role["rank"]["value"] for role in report["roles"]] == [1, 1]
    assert "the gap does not widen" in told


# -- what the report says ----------------------------------------------------------------------------------------------


def test_by_hand(tmp_path: Path) -> None:
    """Six steps of 12 answers: q, q + step and "9" * step to q + step, for q of 0 to 3; the second alone is right.

    Gold accepts 24 of 72, all of one digit. Judged pays len / 4, so it accepts the "9" * step of steps 2 to 6, 20 false
    positives, and no right answer: 24 false negatives. Its mean is
    (48 / 4 + 4 * (1/4 + 2/4 + 3/4 + 1 + 1 + 1)) / 72 = 30 / 72, gold's 24 / 72.

    The gap at step n is (2/4 + min(n, 4)/4 - 1) / 3: -1/12, 0, 1/12, 2/12, 2/12, 2/12, without any error since all
    questions fare alike. The mean of the last three looks after the first is 0, 1/24, 1/12: at step 4 it is past 0.05.
    """
    report, _ = again(store(tmp_path, Panel(score=long)), Panel(score=right))
    whole = report["pairs"][0]["all"]
    assert whole["confusion"] == {"true_positive": 0, "false_positive": 20, "false_negative": 24, "true_negative": 28}
    assert whole["gap"]["value"] == pytest.approx(6 / 72)
    assert whole["false_positive_share"]["value"] == pytest.approx(20 / 48)
    assert [cell["first"] for cell in report["pairs"][0]["by_step"]] == [1, 2, 3, 4, 5, 6]
    gaps = [cell["gap"]["value"] for cell in report["pairs"][0]["by_step"]]
    assert gaps == pytest.approx([(2 / 4 + n / 4 - 1) / 3 for n in (1, 2, 3, 4, 4, 4)])
    assert report["pairs"][0]["alarm"] == 4
    roles = {row["role"]: row for row in report["roles"]}
    assert roles["challenger"]["gap"]["value"] == pytest.approx(-6 / 72)
    assert roles["solver"]["gap"]["value"] == pytest.approx(12 / 72), "a point is worth two to the solver"


def test_worst_disagreements_come_with_their_words(tmp_path: Path) -> None:
    evil = case("What?\n\x1b[2J", "[bold]yes[/bold] \u202e" + "x" * 500, "no")
    report, told = again(store(tmp_path, Panel(score=long), extra=[evil]), Panel(score=right), worst=3)
    worst = report["pairs"][0]["worst"]
    assert len(worst) == 3 and worst[0]["times"] == 6 and worst[0]["step"] == 6, "one case, seen in every step"
    assert (worst[0]["judged"], worst[0]["gold"]) == (1, 0)
    assert worst[0]["answer"].endswith("...") and len(worst[0]["answer"]) < 400
    assert [abs(row["judged"] - row["gold"]) for row in worst] == [1, 1, 1]
    assert "\x1b" not in told and "\u202e" not in told and "[bold]yes[/bold]" in told
    assert "6 times" in told and r"What?\n\x1b[2J" in told


def test_files(tmp_path: Path) -> None:
    report, told = again(store(tmp_path, Panel(score=long)), Panel(score=right))
    folder = tmp_path / "rescored/other"
    assert sorted(path.name for path in folder.iterdir()) == ["agreement.json", "agreement.png", "scores.jsonl"]
    assert json.loads((folder / "agreement.json").read_text(), parse_constant=pytest.fail) == report
    assert (folder / "agreement.png").read_bytes().startswith(b"\x89PNG")
    row = scores(tmp_path)[1]
    assert (row["step"], row["index"]) == (1, 2), "the first episode of each step is a forfeit, which nobody judged"
    assert row["stored"] == {"score": 0.25} and row["new"] == {"score": 1.0} and row["case"]["answer"] == "1"
    assert str(folder) in told.replace("\n", "")
    before = (folder / "scores.jsonl").read_bytes()
    again(tmp_path, Panel(score=right))
    assert (folder / "scores.jsonl").read_bytes() == before


def test_what_gold_cannot_tell_is_seen(tmp_path: Path) -> None:
    """A policy can flee to questions that gold cannot read: there is no gap then, and still a warning."""
    with Recorder(tmp_path, tensorboard=False) as record:
        for step in range(1, 9):
            riddles = [case(f"riddle {step} {i}", "yes") for i in range(4 * step - 4)]
            record.step(step, {}, played([*cases_of(1), *riddles], Panel(score=long)), {})
    report, told = again(tmp_path, Panel(score=right))
    assert report["pairs"][0]["alarm"] is None and report["pairs"][0]["blind"] is not None
    assert report["pairs"][0]["all"]["gold_unknown"] == pytest.approx(112 / 208)
    assert "GOLD GOES BLIND" in told and report["roles"] == [], "no payoff was stored"


def test_several_parts_and_a_stored_gold(tmp_path: Path) -> None:
    store(tmp_path, Panel(score=long, quality=right))
    report, _ = again(tmp_path, Panel(score=right))
    names = [(found["judged"], found["gold"]) for found in report["pairs"]]
    assert names == [("stored.quality", "new.score"), ("stored.score", "new.score")]
    assert report["pairs"][0]["all"]["rank"]["value"] == 1 > report["pairs"][1]["all"]["rank"]["value"]
    turned, _ = again(tmp_path, Panel(score=long), gold="stored.quality")
    assert [found["judged"] for found in turned["pairs"]] == ["new.score", "stored.score"]
    assert turned["pairs"][0]["all"] == turned["pairs"][1]["all"] == report["pairs"][1]["all"]


# -- how the verifier is asked -----------------------------------------------------------------------------------------


def test_one_call_for_each_step_in_the_order_of_play(tmp_path: Path) -> None:
    counting = Counting()
    again(store(tmp_path, Panel(score=long)), Panel(score=counting))
    assert counting.calls == [[c["answer"] for c in cases_of(step)] for step in range(1, 7)]


def test_distinct_cases_are_asked_once(tmp_path: Path) -> None:
    counting = Counting()
    store(tmp_path, Panel(score=long), extra=[case("1 + 1 = ?", "2", "2")] * 3)
    report, _ = again(tmp_path, Panel(score=counting), distinct=True)
    asked = [answer for call in counting.calls for answer in call]
    assert len(asked) == 72, "the extra case is one of step 1's"
    other, _ = again(tmp_path, Panel(score=right))
    assert other["pairs"] == report["pairs"]


def test_a_failing_verifier_cannot_tell(tmp_path: Path) -> None:
    def broken(cases: Sequence[Case]) -> list[float]:
        raise OSError("no disk")

    report, _ = again(store(tmp_path, Panel(score=long), steps=2), Panel(score=broken))
    assert report["pairs"][0]["all"]["gold_unknown"] == 1 and report["pairs"][0]["all"]["cases"] == 0


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_log_that_a_kill_cut_is_read_up_to_the_cut(tmp_path: Path) -> None:
    log = store(tmp_path, Panel(score=long)) / "episodes.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    report, told = again(tmp_path, Panel(score=right))
    assert report["cases"] == 71
    note = "episodes.jsonl was cut within line 78: read up to line 77."
    assert report["notes"] == [note] and note in told


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(AgreementError, match="mode=rescore needs a run folder"):
        judge_again(None, Panel(score=right), "other")
    with pytest.raises(AgreementError, match=r"no episodes.jsonl there"):
        judge_again(tmp_path, Panel(score=right), "other")
    (tmp_path / "episodes.jsonl").touch()
    with pytest.raises(AgreementError, match="holds no case that was judged"):
        judge_again(tmp_path, Panel(score=right), "other")


def test_a_wrong_gold_is_said_before_the_work(tmp_path: Path) -> None:
    counting = Counting()
    with pytest.raises(AgreementError, match=r"rescore.gold=new.x is no column; there are new.score, stored.score"):
        again(store(tmp_path, Panel(score=long)), Panel(score=counting), gold="new.x")
    assert len(counting.calls) == 1


def test_a_name_stays_within_the_run(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    judge_again(store(tmp_path, Panel(score=long)), Panel(score=right), "../../x/y", console=console)
    assert [path.name for path in (tmp_path / "rescored").iterdir()] == [".._.._x_y"]
    assert not math.isnan(json.loads((tmp_path / "rescored/.._.._x_y/agreement.json").read_text())["cases"])


# -- the command -------------------------------------------------------------------------------------------------------


def test_no_model_is_loaded_for_a_rule(tmp_path: Path) -> None:
    store(tmp_path, Panel(score=long), steps=2)
    words = ["mode=rescore", f"run={tmp_path}", "verifier=sympy_solver", "rescore.worst=1"]
    command = [sys.executable, "-X", "importtime", "main.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "selfplay.rescore" in loaded and not loaded & {"torch", "transformers"}
    report = json.loads((tmp_path / "rescored/sympy_solver/agreement.json").read_text())
    assert report["cases"] == 24 and report["pairs"][0]["all"]["gold_unknown"] == 0
    assert "stored.score against new.score" in done.stdout
