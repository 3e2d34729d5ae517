"""The person at the console: a real input stream and a real console, nothing of ours replaced."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from agents.human import Human, HumanLeft, visible
from selfplay.types import Chat


def play(monkeypatch: pytest.MonkeyPatch, typed: str, *chats: Chat) -> tuple[list[object], str]:
    """What the person said, given all that they typed, and what they saw."""
    screen = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    actions = Human(Console(file=screen, width=100)).act(chats, [0] * len(chats))
    assert all(action.completion is None for action in actions)
    return [action.move for action in actions], screen.getvalue()


def test_one_line_each_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    chats = [{"system": "You guess.", "user": "What is 6*7?"}, {"system": "", "user": "And 7*7?"}]
    moves, screen = play(monkeypatch, "42\n 49 é \n", *chats)
    assert moves == ["42", " 49 é "]
    positions = [screen.index(text) for text in ("You guess.", "6*7", "(1 of 2)", "7*7?", "(2 of 2)") if text[0] != "("]
    assert positions == sorted(positions)
    assert screen.count("Your role") == 1, "an absent system text has no panel"
    assert "(1 of 2)" in screen and "(2 of 2)" in screen


def test_several_lines_between_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    moves, _ = play(monkeypatch, '"""\nfirst\n\n  third "quoted"\n"""\n', {"system": "", "user": "Say."})
    assert moves == ['first\n\n  third "quoted"']
    moves, _ = play(monkeypatch, '"""\n"""\n', {"system": "", "user": "Say."})
    assert moves == [""]


def test_an_empty_line_is_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    moves, screen = play(monkeypatch, "\n", {"system": "", "user": ""})
    assert moves == [""]
    assert "You are told" not in screen


@pytest.mark.parametrize("typed", ["", "first\n", '"""\nnever closed\n'])
def test_end_of_input_leaves_the_game(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    chats = [{"system": "", "user": "one"}, {"system": "", "user": "two"}]
    with pytest.raises(HumanLeft, match="left the game"):
        play(monkeypatch, typed, *chats)


def test_markup_and_control_characters_are_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = "[bold red]x[/bold red] [/] :smile: \x1b[2J \x00 \r \ud83d \x9b1m"
    _, screen = play(monkeypatch, "ok\n", {"system": nasty, "user": nasty})
    for text in ("[bold red]x[/bold red] [/] :smile:", r"\x1b[2J", r"\x00", r"\r", r"\ud83d", r"\x9b1m"):
        assert screen.count(text) == 2, text
    assert not set("\x1b\x00\r\ud83d\x9b") & set(screen)


def test_visible_keeps_what_is_harmless() -> None:
    harmless = "tab\tline\n한국어 漢字 👩‍👩‍👧 \\ [x]"
    assert visible(harmless) == harmless


def test_half_characters_from_the_terminal_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    moves, _ = play(monkeypatch, "caf\udce9\n", {"system": "", "user": "Drink?"})
    assert moves == ["caf?"]


def test_the_legal_moves_are_shown_and_a_slip_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case and blanks do not matter; a move that is no text comes back as it is; who insists is heard."""
    screen = io.StringIO()
    human = Human(Console(file=screen, width=100))
    monkeypatch.setattr("sys.stdin", io.StringIO(" BET\n7\n3\nfold\nfold\n"))
    listed = [{"legal_actions": ["bet", "check"]}, {"legal_actions": [1, 2, 3]}, {"legal_actions": ["bet", "check"]}]
    actions = human.choose([{"system": "", "user": "Move."}] * 3, [0] * 3, listed)
    assert [action.move for action in actions] == ["bet", 3, "fold"]
    assert screen.getvalue().count("That is not one of the moves.") == 2 and "Moves: bet, check" in screen.getvalue()


def test_several_people_at_one_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of Bob's is shown before he says that he is there; whoever goes on is not asked."""
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    monkeypatch.setattr(Human, "_last", None)
    ada, bob = Human(console, name="Ada"), Human(console, name="Bob")
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    for _ in range(2):
        ada.act([{"system": "", "user": "Only Ada knows."}], [0])
    assert "It is the turn of" not in screen.getvalue() and "Ada: You are told" in screen.getvalue()
    with pytest.raises(HumanLeft):
        bob.act([{"system": "", "user": "Only Bob knows."}], [0])
    assert "It is the turn of Bob." in screen.getvalue() and "Only Bob knows." not in screen.getvalue()
    monkeypatch.setattr("sys.stdin", io.StringIO("\nmine\n"))
    monkeypatch.setattr(Human, "_last", "Ada")
    assert bob.act([{"system": "", "user": "Only Bob knows."}], [0])[0].move == "mine"
    assert "Only Bob knows." in screen.getvalue()


def test_input_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in `main.py ... < answers.txt`: a real file descriptor, and its end is the end of the game."""
    (tmp_path / "answers.txt").write_text("yes\n", encoding="utf-8")
    human = Human(Console(file=io.StringIO()))
    with (tmp_path / "answers.txt").open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert human.act([{"system": "", "user": "?"}], [0])[0].move == "yes"
        with pytest.raises(HumanLeft):
            human.act([{"system": "", "user": "?"}], [0])
