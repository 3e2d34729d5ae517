"""Dynamic sampling: what the gate refuses is asked anew, so many rounds and no more, and no question twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from agents.buffer import Buffer
from agents.dataset import Dataset
from agents.pool import Pool
from envs.game import LanguageGame
from selfplay.candidates import GateError
from selfplay.gate import Gate
from selfplay.metrics import count_tokens
from selfplay.pipeline import Pipeline
from selfplay.refill import play_step
from selfplay.rollout import rollout
from selfplay.table import Table
from selfplay.types import Action, Completion, Episode
from tests.test_gate_run import SMALL, run
from verifiers.panel import Panel

BRANCH = {"challenger": 6, "solver": 4}
GAME: list[Mapping[str, str]] = [
    {"role": "challenger", "says": "query", "told": ""},
    {"role": "solver", "says": "answer", "told": "{query}"},
]


class Solver:
    """Gets every second answer right where the question's number can be divided by ``every``, and else all of them."""

    def __init__(self, every: int) -> None:
        self.every = every

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return [self._say(int(chat["user"].split()[-1]), row) for row, chat in enumerate(observations)]

    def _say(self, number: int, row: int) -> Action:
        text = "wrong" if number % self.every == 0 and row % 2 else "right"
        return Action(text, Completion(text, (1,), (2, 3, 4), (-0.5, -0.1, -0.2), "stop"))


class Learner:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Episode] = []

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        self.seen = list(episodes)
        return {}


def table(folder: Path, every: int, *, rows: int = 60, examination: Any = None, **gate: Any) -> Table:
    path = folder / f"questions-{rows}.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(1, rows + 1)), encoding="utf-8"
    )
    panel = Panel(score=lambda cases: [float(case["answer"] == "right") for case in cases])
    game = LanguageGame(GAME, {"solver": {"score": 1.0}})
    players: dict[str, Any] = {"challenger": Dataset(path), "solver": Solver(every)}
    data_gate = Gate(role="challenger", band="(0, 1)", **gate)
    return Table([game], players, panel, Learner(), None, examination, data_gate)


def step(seated: Table, **options: Any) -> tuple[list[Episode], dict[str, float]]:
    return play_step(seated, BRANCH, **{"seed": 1, "watch": lambda _: nullcontext(), **options})


def questions(episodes: Sequence[Episode]) -> list[str]:
    return [turn.action.move for turn in dict.fromkeys(episode.turns[0] for episode in episodes)]


def test_without_further_rounds_a_step_is_one_rollout(tmp_path: Path) -> None:
    seated, other = table(tmp_path, 3), table(tmp_path, 3)
    episodes, metrics = step(seated)
    plain = rollout([other.game], other.agents, BRANCH, seed=1)
    assert metrics == {} and [e.case for e in episodes] == [e.case for e in plain]
    assert [[t.group for t in e.turns] for e in episodes] == [[t.group for t in e.turns] for e in plain]


def test_refused_questions_are_replaced_until_the_batch_is_full(tmp_path: Path) -> None:
    """One question in three can teach: six of them take three rounds or so, each as wide as what is missing."""
    seated = table(tmp_path, 3, refill=20)
    episodes, told = step(seated)
    asked = questions(episodes)
    informative = [query for query in asked if int(query.split()[-1]) % 3 == 0]
    assert len(informative) == 6 and len(asked) > 6
    assert len(set(asked)) == len(asked), "no question of the data twice"
    assert told["gate/missing"] == 0 < told["gate/further_rounds"] < 20
    assert told["gate/dropped"] == pytest.approx(1 - 6 / len(asked))
    metrics = seated.learn(episodes)
    learner: Any = seated.learner
    assert questions(learner.seen) == informative, "a data set learns nothing from a question that was refused"
    assert metrics["gate/effective_proposals"] == 6 and metrics["gate/admitted"] == pytest.approx(6 / len(asked))
    assert [row["query"] for row in seated.decisions()] == asked
    assert {row["query"]: row["reason"] for row in seated.decisions()} == {
        query: "" if query in informative else "easy" for query in asked
    }
    assert count_tokens(episodes) == 3 * 4 * len(asked), "the words of all rounds were sampled"
    groups = {turn.group for episode in episodes for turn in episode.turns[1:2]}
    assert len(groups) == len(asked), "answers of different rounds are no siblings"


@pytest.mark.parametrize("rounds", [1, 3])
def test_after_so_many_rounds_it_goes_on_with_what_there_is(tmp_path: Path, rounds: int) -> None:
    seated = table(tmp_path, 1000, refill=rounds)  # none can teach
    episodes, told = step(seated)
    assert told == {"gate/further_rounds": rounds, "gate/missing": 6, "gate/dropped": 1}
    assert len(set(questions(episodes))) == 6 * (1 + rounds)
    seated.learn(episodes)
    assert [row["reason"] for row in seated.decisions()] == ["easy"] * 6 * (1 + rounds)


def test_a_full_batch_needs_no_further_round(tmp_path: Path) -> None:
    episodes, told = step(table(tmp_path, 1, refill=3))
    assert told == {"gate/further_rounds": 0, "gate/missing": 0, "gate/dropped": 0} and len(questions(episodes)) == 6


def test_the_next_step_goes_on_with_the_data(tmp_path: Path) -> None:
    """With a pipeline, too, whose first turns are drawn before the further rounds."""
    for pipeline in (None, Pipeline()):
        seated = table(tmp_path, 3, refill=2)
        asked: list[str] = []
        for number in range(1, 4):
            options = {"seed": number, "next_seed": number + 1 if number < 3 else None, "pipeline": pipeline}
            episodes, _ = step(seated, **options)
            seated.learn(episodes)
            assert len(seated.decisions()) == len(questions(episodes))
            asked += questions(episodes)
        assert len(asked) > 18 and len(set(asked)) == len(asked)


def test_cohorts_change_nothing(tmp_path: Path) -> None:
    one, two = (step(table(tmp_path, 2, refill=2), cohorts=cohorts) for cohorts in (1, 2))
    assert [e.case for e in one[0]] == [e.case for e in two[0]] and one[1] == two[1]


def test_what_touches_the_exam_is_replaced_as_well(tmp_path: Path) -> None:
    class Examination:
        """Holds out the questions with an even number."""

        @property
        def exam(self) -> Any:
            return self

        def keep_out(self, episodes: Sequence[Episode]) -> tuple[list[Episode], float]:
            clean = [e for e in episodes if int(str(e.turns[0].action.move).split()[-1]) % 2]
            return clean, 1 - len(clean) / len(episodes)

    seated = table(tmp_path, 1, refill=20, examination=Examination())
    episodes, told = step(seated)
    odd = [query for query in questions(episodes) if int(query.split()[-1]) % 2]
    assert len(odd) == 6 and told["gate/missing"] == 0 and told["gate/dropped"] > 0
    seated.learn(episodes)
    assert [row["query"] for row in seated.decisions()] == odd


def test_a_game_that_branches_before_the_proposer_keeps_its_groups(tmp_path: Path) -> None:
    """Six topics with two questions each: what is missing is made of fewer topics, and still two questions each."""
    seated = table(tmp_path, 3, refill=9)
    turns = [{"role": "library", "says": "topic", "told": ""}, {**GAME[0], "told": "{topic}"}, GAME[1]]
    game = LanguageGame(turns, {"solver": {"score": 1.0}})
    players = {**seated.players, "library": Dataset(tmp_path / "questions-60.jsonl")}
    seated = Table([game], players, seated.panel, seated.learner, None, None, seated.gate)
    branch = {"library": 6, "challenger": 2, "solver": 4}
    episodes, told = play_step(seated, branch, seed=1, watch=lambda _: nullcontext())
    proposals = list(dict.fromkeys(episode.turns[1] for episode in episodes))
    sizes = [sum(other.group == turn.group for other in proposals) for turn in proposals]
    assert set(sizes) == {2} and told["gate/further_rounds"] > 0 == told["gate/missing"]
    seated.learn(episodes)
    assert 12 <= sum(bool(row["admitted"]) for row in seated.decisions()) <= 13


def test_a_number_of_rounds() -> None:
    with pytest.raises(GateError, match=r"gate\.refill=-1 is a number of further rounds: at least 0"):
        Gate(refill=-1)


def test_who_collects_sees_what_may_be_learnt_from_and_who_remembers_sees_all(tmp_path: Path) -> None:
    """A triplet that the gate refused does not become an example; a pool is rated by every game."""
    assert hasattr(Buffer, "collect") and not hasattr(Buffer, "remember") and hasattr(Pool, "remember")

    class Looking(Solver):
        def remember(self, episodes: Sequence[Episode]) -> dict[str, float]:
            self.all = questions(episodes)
            return {"seen/all": float(len(self.all))}

        def collect(self, episodes: Sequence[Episode]) -> dict[str, float]:
            self.some = questions(episodes)
            return {"seen/some": float(len(self.some))}

    seated = table(tmp_path, 3)
    looking = Looking(3)
    seated.players["solver"] = looking
    episodes, _ = step(seated)
    metrics = seated.learn(episodes)
    assert looking.all == questions(episodes) and metrics["seen/all"] == 6
    assert looking.some == [row["query"] for row in seated.decisions() if row["admitted"]] != looking.all
    assert metrics["seen/some"] == len(looking.some)


def test_a_run_that_refills_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """DAPO with a data set, its first turns played ahead; the run went on from its checkpoint of step 2."""
    words = ["experiment=dapo", "branch.challenger=4", "pipeline=true", "learner.importance_cap=2.0", "steps=4"]
    run(*SMALL, *words, f"run_dir={tmp_path / 'whole'}")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    run(f"resume={tmp_path / 'parts'}")
    for name in ("metrics.jsonl", "episodes.jsonl", "gate.jsonl", "checkpoints/4/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    logs = {name: (tmp_path / "whole" / f"{name}.jsonl").read_text().splitlines() for name in ("metrics", "gate")}
    metrics, decisions = [json.loads(line) for line in logs["metrics"]][1:], [json.loads(line) for line in logs["gate"]]
    assert sum(row["gate/further_rounds"] for row in metrics) > 0
    for row in metrics:
        mine = [decision for decision in decisions if decision["step"] == row["step"]]
        admitted = sum(decision["admitted"] for decision in mine)
        assert admitted + row["gate/missing"] == 4 and row["gate/dropped"] == pytest.approx(1 - admitted / len(mine))
    assert len({decision["query"] for decision in decisions}) > 16
