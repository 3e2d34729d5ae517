"""Choosing among legal moves by the model's own probabilities: against products over the tree of all moves, written
down a second time; and the player that does it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from agents.llm import LLM
from agents.pool import Pool
from models import sampler
from selfplay.types import Action, Completion
from tests.helpers import chat, make_engine, shared_engine
from tests.moves import BANDIT, MOVES, chances, pick, steps, tokens


@pytest.mark.parametrize("style", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("heat", [1.0, 3.0])
def test_moves_come_as_often_as_the_tree_says(style: str, heat: float) -> None:
    """Of 3,000 draws every move's share is within four standard errors of the product over its tokens."""
    engine, count = shared_engine(style), 3_000
    wanted = chances(engine, chat("Your move."), MOVES, heat)
    assert sum(wanted.values()) == pytest.approx(1, abs=1e-5)
    found = Counter(one.text for one in pick(engine, ["Your move."] * count, [MOVES] * count, heat))
    for move, chance in wanted.items():
        assert abs(found[move] / count - chance) <= 4 * math.sqrt(chance * (1 - chance) / count) + 1e-4, move


@pytest.mark.parametrize("style", ["llama", "gemma3"])
def test_logprobs_are_those_of_the_tree_at_temperature_1(style: str) -> None:
    """Whatever the sampler's temperature; and ``token_ids`` are the move's own, up to the last that was drawn."""
    engine = shared_engine(style)
    for heat in (1.0, 3.0):
        for one in pick(engine, ["Your move."] * 40, [MOVES] * 40, heat):
            whole = steps(engine, chat("Your move."), MOVES, one.text)
            assert one.finish == "stop" and one.prompt_ids == engine.encode(chat("Your move."), "").prompt_ids
            assert one.token_ids == tokens(engine, one.text)[: len(one.token_ids)]
            assert one.logprobs == pytest.approx([x.item() for x in whole[: len(one.token_ids)]], abs=1e-5)
            assert not any(x.item() for x in whole[len(one.token_ids) :]), "what is left out had to come"
            assert len(one.allowed) == len(one.token_ids) and len(one.allowed[-1]) > 1


def test_the_end_of_a_move_is_drawn_where_another_goes_on() -> None:
    """After "5" comes the end or a 0, after "50" the end or a 5; after "505" nothing is open."""
    engine = shared_engine()
    said = {one.text: one for one in pick(engine, ["n"] * 400, [["5", "50", "505"]] * 400, heat=9.0)}
    end, five, zero = engine.tokenizer.eos_token_id, *tokens(engine, "50")[:2]
    assert said["5"].token_ids == (five, end) and said["50"].token_ids == (five, zero, end)
    assert said["505"].token_ids == (five, zero, five)
    assert said["505"].allowed == ((five,), tuple(sorted((zero, end))), tuple(sorted((five, end))))
    assert said["505"].logprobs[0] == 0.0


@pytest.mark.parametrize("style", ["llama", "qwen2", "mistral", "gemma3"])
def test_a_row_is_its_own(style: str) -> None:
    """In any batch, in any order, beside any others: the same move of the same tokens."""
    engine = shared_engine(style)
    asked = [f"{'long ' * (i % 7)}question {i % 5}" for i in range(24)]
    legal = [MOVES[: 2 + i % 5] for i in range(24)]
    engine.begin_step()
    together = pick(engine, asked, legal)
    small = make_engine(style, batch_tokens=150, prefix_mib=0)
    for i, one in enumerate(together):
        for other in (engine, small):
            (alone,) = pick(other, [asked[i]], [legal[i]], first=i)
            assert (alone.text, alone.token_ids, alone.allowed) == (one.text, one.token_ids, one.allowed)
            assert alone.logprobs == pytest.approx(one.logprobs, abs=1e-4)
    listed = [list(reversed(moves)) for moves in legal]
    assert [one.text for one in pick(small, asked, listed)] == [one.text for one in together], "a set, not a list"
    engine.begin_step()
    assert pick(engine, asked, legal) == together, "to the bit, where nothing was read before"


def test_greedy_takes_the_likelier_token_at_every_fork() -> None:
    engine = shared_engine()
    for text in ("a", "another", "one more"):
        left = list(MOVES)
        for t in itertools.count():
            if len(left) == 1:
                break
            best = max(left, key=lambda m: steps(engine, chat(text), left, m)[t].item())
            left = [m for m in left if tokens(engine, m)[t] == tokens(engine, best)[t]]
        assert [one.text for one in pick(engine, [text] * 3, [MOVES] * 3, heat=0.0)] == left * 3


def test_what_need_not_be_asked_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for moves that part at their first token, one more for those that part later, none for the only move;
    equal questions are read once, and the work is counted so."""
    engine, read = make_engine(prefix_mib=0), []
    inner = sampler.next_logits

    def look(model: Any, prompts: Sequence[Any], *rest: Any) -> Tensor:
        read.append(sorted(set(prompts)))
        return inner(model, prompts, *rest)

    monkeypatch.setattr(sampler, "next_logits", look)
    engine.work.take()
    (one,) = pick(engine, ["x"], [["only"]])
    assert (one.text, one.token_ids, one.logprobs, one.allowed, read) == ("only", (), (), (), [])
    assert engine.work.take().calls == 0
    pick(engine, ["x", "x", "y"] * 5, [["fold", "bet"]] * 15)
    assert [len(rows) for rows in read] == [2]
    assert engine.work.take().calls == 1
    read.clear()
    pick(engine, ["x"] * 40, [["fold", "call", "check"]] * 40, heat=9.0)
    assert [len(rows) for rows in read] == [1, 1], "the second question is asked behind the letter c alone"
    prompt = engine.encode(chat("x"), "").prompt_ids
    assert read[1][0] == (*prompt, *tokens(engine, "c")[:1])
    assert engine.work.take().calls == 2


def test_few_logits_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(prefix_mib=0)
    asked, legal = [f"question {i}" for i in range(20)], [MOVES] * 20
    wanted, read = pick(engine, asked, legal), []
    inner = sampler.next_logits

    def look(model: Any, prompts: Sequence[Any], *rest: Any) -> Tensor:
        read.append(len(set(prompts)))
        return inner(model, prompts, *rest)

    monkeypatch.setattr(sampler, "next_logits", look)
    monkeypatch.setattr(sampler, "LOGITS", 3 * engine.model.config.vocab_size)
    assert [one.text for one in pick(engine, asked, legal)] == [one.text for one in wanted]
    assert max(read) == 3


@pytest.mark.parametrize(
    ("legal", "sentence"),
    [
        ([], "there is no legal move to choose"),
        (["a", "b", "a"], "the legal move 'a' is there twice"),
        (["a", ""], "the legal move '' has no tokens of 'tiny llama'"),
        (["a\ud800", "a?"], "begin with the same tokens of 'tiny llama'"),
    ],
)
def test_moves_that_cannot_be_chosen_among(legal: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        pick(shared_engine(), ["x", "y"], [["a", "b"], legal])


def test_without_an_end_of_sequence_no_move_may_begin_like_another() -> None:
    engine = make_engine()
    engine.tokenizer.eos_token_id = None
    assert pick(engine, ["x"], [["5", "60"]])[0].text in ("5", "60")
    with pytest.raises(ValueError, match="the legal moves '5' and '50' begin with the same tokens"):
        pick(engine, ["x"], [["50", "5"]])


def test_a_chat_without_room_is_silence() -> None:
    engine = shared_engine()
    room = 512 - len(engine.encode(chat(""), "").prompt_ids)
    for letters, fits in ((room - 5, True), (room - 4, False)):  # "fold" is four letters and the end
        said = pick(engine, ["x" * letters, "y"], [["fold", "bet"]] * 2)
        assert (said[0].text in ("fold", "bet")) == fits and said[1].text in ("fold", "bet")
        assert fits or said[0] == Completion("", said[0].prompt_ids, (), (), "length")
    assert engine.choose([], [], temperature=1.0, seeds=[]) == []


# -- the player ------------------------------------------------------------------------------------------------------


def test_a_player_chooses_where_moves_are_listed() -> None:
    engine = make_engine()
    asked = [chat(f"question {i}") for i in range(5)]
    infos: list[dict[str, Any]] = [
        {"legal_actions": ["a", "b"]},
        {},
        {"legal_actions": [4, 7]},
        {"legal_actions": ["only"]},
        {"legal_actions": None},
    ]
    player = LLM(engine, max_tokens=6, moves="choose")
    acts = player.choose(asked, range(5), infos)
    assert acts[0].move in ("a", "b") and acts[2].move in (4, 7) and acts[3] == Action("only")
    (alone,) = pick(engine, ["question 0"], [["a", "b"]])
    said = acts[0].completion
    assert said is not None and (said.token_ids, said.allowed) == (alone.token_ids, alone.allowed)
    free = LLM(engine, max_tokens=6)
    engine.begin_step()
    spoken = free.act(asked, range(5))
    assert [acts[i].move for i in (1, 4)] == [spoken[i].move for i in (1, 4)]
    engine.begin_step()
    assert free.choose(asked, range(5), infos) == spoken, "free words are what they were"
    assert acts[1].completion is not None and not acts[1].completion.allowed
    assert all(act.completion is None for act in replace(player, trained=False).choose(asked, range(5), infos))
    assert player == LLM(engine, max_tokens=6, moves="choose") != free


def test_a_player_whose_chat_does_not_fit_is_silent() -> None:
    player = LLM(shared_engine(), moves="choose")
    (act,) = player.choose([chat("x" * 600)], [1], [{"legal_actions": ["a", "b"]}])
    assert act == Action("")


def test_a_player_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"agent.moves='chose' is unknown \(did you mean choose\?\): use free, choose"):
        LLM(shared_engine(), moves="chose")

    class Server:
        name = "a server"

    with pytest.raises(ValueError, match=r"agent.moves=choose needs a model .*a server \(Server\) has no `choose`"):
        LLM(Server(), moves="choose")
    assert LLM(Server()).moves == "free"


def test_a_pool_chooses_by_its_snapshot() -> None:
    engine = make_engine()
    pool, infos = Pool(engine, every=1, moves="choose"), [{"legal_actions": BANDIT}] * 8
    asked = [chat("Choose.")] * 8
    acts = pool.choose(asked, range(8), infos)
    wanted = engine.choose(asked, [BANDIT] * 8, temperature=1.0, seeds=range(8))
    assert [act.move for act in acts] == [one.text for one in wanted]
    assert all(act.completion is None for act in acts)
    with pytest.raises(ValueError, match=r"agent\.moves='pick' is unknown"):
        Pool(engine, moves="pick")
