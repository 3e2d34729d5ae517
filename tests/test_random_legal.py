"""The random player: legal moves where there are any, else what the chat shows in brackets; by the row's seed."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.random_legal import RandomLegal
from selfplay.testing import check_agent
from selfplay.types import Chooser

CHAT = {"system": "", "user": "[GAME] Say [check] or [bet].\n[Player 1] [fold]"}


def test_it_keeps_the_contract_of_agents() -> None:
    check_agent(RandomLegal(), [CHAT, {"system": "", "user": "nothing"}])
    assert isinstance(RandomLegal(), Chooser) and RandomLegal() == RandomLegal() and hash(RandomLegal())


def test_every_legal_move_is_as_likely_as_the_others() -> None:
    """3,000 draws of three: each within four standard deviations, 4 * sqrt(3000 * 2 / 9) = 103, of 1,000."""
    infos = [{"legal_actions": ["a", "b", "c"]}] * 3_000
    drawn = Counter(action.move for action in RandomLegal().choose([CHAT] * 3_000, range(3_000), infos))
    assert set(drawn) == {"a", "b", "c"} and all(abs(count - 1_000) < 103 for count in drawn.values())


def test_without_a_list_it_says_what_stands_in_brackets() -> None:
    said = {action.move for action in RandomLegal().act([CHAT] * 50, range(50))}
    assert said == {"[check]", "[bet]", "[fold]"}
    numbers = {action.move for action in RandomLegal().act([{"system": "", "user": "as [2 x]"}] * 50, range(50))}
    assert "[2 x]" in numbers and len(numbers) > 10 and all(len(move) == 5 for move in numbers)


def test_without_brackets_it_falls_back() -> None:
    said = {action.move for action in RandomLegal(["hi", "ho"]).act([{"system": "", "user": ""}] * 30, range(30))}
    assert said == {"hi", "ho"}
    with pytest.raises(ValueError, match="at least one line"):
        RandomLegal("hi")
