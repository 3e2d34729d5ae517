"""A remote model at the table: it plays beside one that learns, judges, and is never trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.llm import LLM
from models.loading import reference
from models.remote import connect, forget
from selfplay.compose import ConfigError, build
from selfplay.rollout import rollout
from tests.chat_server import SECRET, Answer, Serve, embedded
from tests.helpers import chat
from verifiers.panel import Panel
from verifiers.selfjudge import SelfJudge

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("quick_client")


# -- in a seat ---------------------------------------------------------------------------------------------------------


def test_equal_settings_are_one_engine_with_one_budget(serve: Serve) -> None:
    """So equal players share a batch: two of three seats are asked together, and the third one by itself."""
    from envs.game import LanguageGame

    server = serve("hello")
    node = {"_target_": "agents.llm.LLM", "temperature": 0.5, "trained": False}
    engine = {"_target_": "models.remote.connect", "name": "m", "base_url": server.url, "extra": {"a": 1}}
    ann, bob, eve = (build({**node, "engine": {**engine, "seed": seed}}) for seed in (0, 0, 1))
    assert ann == bob != eve and ann.engine is bob.engine is not eve.engine
    turns = [{"role": role, "says": role, "told": "Greet."} for role in ("ann", "bob", "eve")]
    game = LanguageGame(turns, {role: {"score": 1.0} for role in ("ann", "bob", "eve")})
    players = {"ann": ann, "bob": bob, "eve": eve, "verifier": Panel(score=lambda cases: [1.0] * len(cases))}
    (episode,) = rollout([game], players)
    assert [turn.action.move for turn in episode.turns[:-1]] == ["hello"] * 3 and len(server.asked) == 3
    assert ann.engine.metrics()["requests"] == 2 and eve.engine.metrics()["requests"] == 1
    forget()
    assert build({**node, "engine": {**engine, "seed": 0}}).engine is not ann.engine


def test_what_it_says_is_never_trained_on(serve: Serve) -> None:
    """The seat's own file says trained: false; and nothing that it says has tokens to learn from."""
    engine = connect("m", serve("hello").url)
    (action,) = LLM(engine, trained=False).act([chat("Greet.")], [1])
    assert action.move == "hello" and action.completion is None
    (completion,) = engine.generate([chat("Greet.")], temperature=1.0, top_p=1.0, max_tokens=5, seeds=[1])
    assert completion.token_ids == completion.logprobs == ()


def test_a_learner_on_it_is_refused(serve: Serve) -> None:
    """When the learner is built, in one sentence; nothing was sent."""
    server = serve()
    engine = {"_target_": "models.remote.connect", "name": "big/model", "base_url": server.url}
    with pytest.raises(ConfigError, match="big/model is behind a server, and its weights are not here") as caught:
        build({"_target_": "learners.policy_gradient.PolicyGradient", "engine": engine})
    assert "\n" not in str(caught.value) and "learner=frozen" in str(caught.value)
    with pytest.raises(ValueError, match="it is no reference"):
        connect("m", server.url).logprobs([])
    assert server.asked == [] and server.looks == 0


def test_a_remote_model_is_its_own_frozen_copy(serve: Serve) -> None:
    """`reference`, which judges use, is the model itself; there is nothing to write into a checkpoint."""
    from selfplay.types import Stateful

    engine = connect("m", serve().url)
    assert reference(engine) is engine and not isinstance(engine, Stateful) and isinstance(engine.budget, Stateful)


def test_a_game_with_a_remote_solver_trains_the_challenger(serve: Serve, tmp_path: Path) -> None:
    """Two whole steps by the command line, twice: the second run plays from the cache, with not one request, and ends
    with the same bytes. The Challenger has learned, nobody has learned from the Solver, and the key is in no file."""
    server = serve(embedded())
    words = ["env=lsp", "verifier=sympy_solver", "branch.challenger=6", "branch.solver=2", "steps=2", "exam.path=null"]
    words += ["runtime.threads=1", "+agent@seats.solver=remote", "seats.solver.engine.name=tiny", "lr=0.001"]
    words += [f"seats.solver.engine.base_url={server.url}", f"seats.solver.engine.cache={tmp_path / 'cache'}"]
    environment = {**os.environ, "OPENAI_API_KEY": SECRET, "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    asked: list[int] = []
    for run in ("one", "two"):
        command = [sys.executable, "main.py", *words, f"run_dir={tmp_path / run}"]
        done = subprocess.run(command, **options, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        asked.append(len(server.asked))
    assert asked[0] == asked[1] > 0 and server.at_once > 1
    assert all(one.headers["authorization"] == f"Bearer {SECRET}" for one in server.asked)
    one, two = (tmp_path / run for run in ("one", "two"))
    learned = "checkpoints/2/model.safetensors"
    for file in ("episodes.jsonl", learned):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert (one / learned).read_bytes() != (one / learned.replace("2", "0", 1)).read_bytes()
    steps = [json.loads(line) for line in (one / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps[1]["completions/mean_length/challenger"] > 0 and "completions/mean_length/solver" not in steps[1]
    assert "kl/challenger" in steps[1] and "kl/solver" not in steps[1]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file.name


# -- as a judge --------------------------------------------------------------------------------------------------------


def test_judges_take_it_for_an_engine(serve: Serve) -> None:
    """The self-judge gives the scores of the same model asked here, sampled from its words and read off its chances."""
    import models

    questions = [("12 + 34 = ?", "46"), ("12 + 34 = ?", "92"), ("Solve x + 5 = 12.", "7")]
    cases = [{"query": query, "answer": answer, "reference": ""} for query, answer in questions]
    there, here = connect("tiny", serve(embedded()).url), models.load("tiny", dtype="float32", device="cpu")
    for expected in (False, True):
        ours, theirs = (SelfJudge(one, "short", max_tokens=4, expected=expected)(cases) for one in (here, there))
        assert theirs == pytest.approx(ours, abs=1e-5) and ours[0] > ours[1]


def test_a_judge_that_is_down_gives_nan_and_is_counted(serve: Serve) -> None:
    """The fault of a server is nobody's score."""
    server = serve(lambda asked: Answer(status=500))
    panel = Panel(score=SelfJudge(connect("m", server.url, retries=0), "short"))
    (action,) = panel.act([{"query": "1 + 1 = ?", "answer": "2", "reference": ""}], [0])
    assert action.move["score"] != action.move["score"] and panel.metrics()["verifiers/score/raised"] == 1.0
