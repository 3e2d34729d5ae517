"""The hint's delta: by hand, on the embedded model, where it cannot be told, and in two steps of G-Zero."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from models.loading import load
from selfplay.shapes import HintDelta as Shape
from selfplay.testing import check_verifier
from selfplay.types import Action, Case, Completion, Episode, Turn
from tests.helpers import shared_engine
from tests.test_gate_run import run
from verifiers import hint_delta
from verifiers.hint_delta import HintDelta

NAN = pytest.approx(math.nan, nan_ok=True)


def case(answer: str, hint: str = "think", query: str = "3 + 4 = ?") -> Case:
    return {"query": query, "hint": hint, "answer": answer, "reference": ""}


class Written:
    """An engine whose words have the log-probability that is written in the prompt's last line, all tokens the same."""

    def fits(self, chats: Sequence[dict[str, str]], max_tokens: int) -> list[bool]:
        return [len(chat["user"]) + max_tokens <= 40 for chat in chats]

    def encode(self, chat: dict[str, str], text: str) -> Completion:
        ids = tuple(range(len(text.split())))
        return Completion(text, tuple(map(ord, chat["user"])), ids, (), "stop")

    def logprobs(self, completions: Sequence[Completion]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(one.token_ids) for one in completions)
        said = [float("".join(map(chr, one.prompt_ids)).rpartition("\n")[2]) for one in completions]
        mask = torch.tensor([[place < len(one.token_ids) for place in range(width)] for one in completions])
        return torch.tensor(said)[:, None].expand(-1, width).masked_fill(~mask, -99.0), mask


def test_delta_by_hand() -> None:
    """-1.0 per token without and -1.8 with the hint: +0.8, however many tokens, and the shape's reward with 450
    characters of hint and a share of 0.25 is 0.8 - 0.075 - 0.25 = 0.475."""
    verifier = HintDelta(Written(), told="{query}", hinted="{query}{hint}")
    deltas = verifier(
        [case("a", "\n-1.8", "q\n-1.0"), case("a b c d", "\n-1.8", "q\n-1.0"), case("a", "\n-.5", "q\n-1")]
    )
    assert deltas == pytest.approx([0.8, 0.8, -0.5])
    hint = "h" * 450
    turns = [Turn("challenger", "challenger_0", {}, Action(str(n)), 0) for n in range(4)]
    leaves = {
        turn: [Episode((turn,), {"challenger": 0.8}, {"query": f"{n} a b", "hint": hint}, {"delta": deltas[0]})]
        for n, turn in zip(("one two", "three four", "five six", "seven eight"), turns, strict=True)
    }
    assert Shape()(turns, leaves) == pytest.approx([0.475] * 4)


def test_where_it_cannot_be_told() -> None:
    verifier = HintDelta(Written(), told="{query}", hinted="{query}{hint}")
    rows = [
        case("a", ""),
        case(" ", "\n-2", "q\n-1"),
        case("a", "x" * 40 + "\n-2", "q\n-1"),
        case("a", "\n-2", "q\n-1"),
    ]
    assert verifier(rows) == [NAN, NAN, NAN, pytest.approx(1.0)]
    assert verifier.metrics() == {"asked": 2, "too_long": 1} and verifier.metrics() == {"asked": 0, "too_long": 0}
    assert verifier([]) == [] and verifier([{"query": "q", "answer": "a", "reference": ""}]) == [NAN]


def test_it_is_the_engines_log_probability() -> None:
    """On the embedded model: with the hint in the prompt, less, for each answer by itself."""
    engine = shared_engine()
    verifier = HintDelta(engine, hinted="{query} {hint}")
    rows = [case(answer, hint) for answer in ("7", "-46", "x = 3") for hint in ("?", "7", "Judge:")]
    for row, delta in zip(rows, verifier(rows), strict=True):
        means: list[float] = []
        for text in (row["query"], f"{row['query']} {row['hint']}"):
            with torch.no_grad():
                logp, mask = engine.logprobs([engine.encode({"system": "", "user": text}, row["answer"])])
            means.append(float(logp[mask].mean()))
        assert delta == pytest.approx(means[0] - means[1], abs=1e-5)


def test_what_the_model_believes_anyway_is_moved_by_a_misleading_word() -> None:
    """The embedded model answers "7"; asked for its judgement as well it would say something else."""
    verifier = HintDelta(load("tiny"), hinted="{hint} {query}")
    (delta,) = verifier([case("7", "Judge:")])
    assert delta > 0.1


def test_the_answers_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [case(str(number)) for number in range(40)]
    verifier = HintDelta(shared_engine())
    whole = verifier(rows)
    monkeypatch.setattr(hint_delta, "AT_ONCE", 7)
    assert verifier(rows) == pytest.approx(whole, abs=1e-5)
    assert [verifier([row])[0] for row in rows] == pytest.approx(whole, abs=1e-5)


def test_it_leaves_no_gradient_behind() -> None:
    engine = shared_engine()
    HintDelta(engine)([case("7")])
    assert all(weight.grad is None for weight in engine.model.parameters())


def test_it_keeps_the_contract() -> None:
    check_verifier(HintDelta(shared_engine()), [case(text) for text in ("7", "no", "", "7")])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"told": "{quert}"}, r"told='\{quert\}' may hold \{query\} and no other braces"),
        ({"told": "{query} {hint}"}, r"told=.* may hold \{query\} and no other"),
        ({"hinted": "{query} {tip}"}, r"hinted=.* may hold \{query\} and \{hint\} and no other"),
        ({"hinted": "{query}"}, r"hinted='\{query\}' must hold \{hint\}, or nothing is compared"),
    ],
)
def test_templates(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HintDelta(Written(), **settings)


def test_a_challenger_that_repeats_itself_is_read_in_no_time() -> None:
    """The expression went through all pairs of tags: 120 of them, 4,000 characters, took four seconds."""
    node = OmegaConf.load(Path(__file__).parent.parent / "conf" / "experiment" / "g_zero.yaml")
    says = re.compile(node.hints.full.says)
    unit = "<request>Write.</request><hint>Be kind.</hint>"
    began = time.process_time()
    assert says.fullmatch(unit * 340 + "x") is None and time.process_time() - began < 2
    told = says.fullmatch(f"Well: {unit}\n<request>\n Write <b>it</b>.\n </request>\n<hint>\nBe\nkind.\n</hint>\n")
    assert told is not None and told.groupdict() == {"query": "Write <b>it</b>.", "hint": "Be\nkind."}


def test_two_steps_of_g_zero(tmp_path: Path) -> None:
    """The Challenger is paid by delta and learns; the Solver learns its aided answers."""
    folder = tmp_path / "run"
    words = ["exam.path=null", "runtime.threads=1", "runtime.tensorboard=false", "steps=2", "seed=3"]
    run("experiment=g_zero", *words, f"run_dir={folder}")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][1:]
    assert len(metrics) == 2
    for row in metrics:
        assert row["verifiers/score/nan_share"] == 0 and row["rewards/score/std"] > 0
        assert row["grad_norm/challenger"] > 0 and row["pairs/found/solver"] > 0 and row["grad_norm/solver"] > 0
    episodes = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    assert {tuple(turn["role"] for turn in row["turns"]) for row in episodes} == {
        ("challenger", "solver", "helped", "verifier")
    }
    start = Path(__file__).resolve().parent.parent / "models" / "tiny" / "model.safetensors"
    assert (folder / "checkpoints" / "2" / "model.safetensors").read_bytes() != start.read_bytes()
