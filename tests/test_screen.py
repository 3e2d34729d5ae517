"""Both screens: what they show, when, and that no model text can steer a terminal or stop a run."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from selfplay.screen import LiveScreen, PlainScreen, Screen, Transcript, open_screen, pick_transcript
from selfplay.types import Action, Episode, Turn

NAN = float("nan")
ROLES = ("challenger", "solver")
METRICS = {
    "reward/challenger": -0.25,
    "reward/solver": 0.25,
    "advantage_std/solver": 0.125,
    "completions/mean_length/solver": 1234.0,
    "kl/solver": 0.0625,
    "entropy/solver": 1.5,
    "forfeits/challenger": 3,
    "rewards/score/mean": 0.75,
    "proposals/valid_share": 0.875,
    "loss": 0.5,
    "grad_norm": None,
}
EVIL = "[bold red]x[/] \x1b[2J\x1b]0;title\x07 \u202edesrever\x00\r\n[/nonsense] \ud800"


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


LAP = {
    "generate": 1.5,
    "judge": 0.0,
    "update": 0.75,
    "other": 0.25,
    "evaluate": 0.5,
    "total": 3.0,
    "tokens_per_second": 1200.0,
    "generate_tokens_per_second": 2400.0,
    "update_tokens_per_second": 4800.0,
    "roofline/generate": 0.5,
    "roofline/update": 0.04,
}


def console(terminal: bool, encoding: str = "utf-8", width: int = 80) -> tuple[Console, io.BytesIO]:
    """A console over bytes, as a real terminal or pipe is, so that an encoding error would show."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=file, force_terminal=terminal, width=width, height=40, color_system=None), raw


def text(raw: io.BytesIO) -> str:
    return raw.getvalue().decode("utf-8", "replace")


def turn(role: str, move: str | dict[str, float], group: int, user: str = "") -> Turn:
    return Turn(role, f"{role}_0", {"system": "be brief", "user": user}, Action(move), group)


def test_the_right_screen_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(terminal: bool) -> type[Screen]:
        with open_screen(10, ROLES, console(terminal)[0]) as screen:
            return type(screen)

    assert opened(True) is LiveScreen
    assert opened(False) is PlainScreen
    monkeypatch.setenv("CI", "true")
    assert opened(True) is PlainScreen
    monkeypatch.setenv("CI", "false")
    assert opened(True) is LiveScreen
    monkeypatch.setenv("TERM", "dumb")
    assert opened(True) is PlainScreen


def test_plain_lines_come_twenty_times_and_at_every_evaluation() -> None:
    out, raw = console(False)
    with open_screen(200, ROLES, out) as screen:
        for step in range(201):
            screen.update(step, {"eval/heldout_accuracy": 0.5} if step == 57 else METRICS)
    lines = text(raw).splitlines()
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in lines]
    assert steps == sorted({*range(0, 201, 10), 57})
    assert "\x1b" not in text(raw)


def test_plain_line_content() -> None:
    out, raw = console(False)
    with open_screen(4, ROLES, out) as screen:
        screen.update(0, {"eval/heldout_accuracy": 0.25})
        screen.update(2, {**METRICS, "eval/heldout_accuracy": 0.5, "eval/heldout_accuracy_greedy": 0.625})
    first, second = text(raw).splitlines()
    assert first == "step 0/4 | left - | held-out sampled 0.250, step 0 0.250 (+0.000)"
    assert second == (
        "step 2/4 | left - | challenger: reward -0.25 forfeits 3 | "
        "solver: reward 0.25 spread 0.125 tokens 1234 KL 0.0625 entropy 1.5 | "
        "held-out sampled 0.500, step 0 0.250 (+0.250), greedy 0.625 | "
        "valid proposals 0.875  loss 0.5  grad norm -  rewards/score 0.75"
    )


def test_time_left_is_the_mean_pace_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed at step 51 of 100; 2 steps in 100 s leave 47 steps, that is 2350 s = 39 min 10 s."""
    times = iter([1000.0, 1100.0])
    monkeypatch.setattr("selfplay.screen.time.monotonic", lambda: next(times))
    out, raw = console(False)
    with open_screen(100, ROLES, out) as screen:
        screen.update(0, {"eval/heldout_accuracy": 0.25})  # replayed from the record
        screen.update(51, {"loss": 0.5})
        screen.update(53, {"eval/heldout_accuracy": 0.75})
    last = text(raw).splitlines()[-1]
    assert last.startswith("step 53/100 | left 0:39:10 |")
    assert "held-out sampled 0.750, step 0 0.250 (+0.500)" in last


def test_live_display_shows_the_table_the_score_and_the_transcript() -> None:
    out, raw = console(True)
    with open_screen(100, ROLES, out) as screen:
        screen.update(0, {"eval/heldout_accuracy": 0.25, "eval/heldout_accuracy_low": 0.2})
        answers = [("right", {"score": 1.0}), ("middle", {"score": 0.5}), ("wrong", {"score": NAN})]
        interval = {"eval/heldout_accuracy_low": 0.4, "eval/heldout_accuracy_high": 0.6}
        screen.update(1, {"eval/heldout_accuracy": 0.5, **interval})
        screen.update(40, METRICS, Transcript("what?", answers))
        screen.say("a sentence [of ours]")
    shown = text(raw)
    last = shown[shown.rindex("step 40/100") :]
    rows = [line.split() for line in last.splitlines()]
    assert ["role", "reward", "spread", "tokens", "cut", "KL", "entropy", "flat", "forfeits"] in rows
    assert ["challenger", "-0.25", "-", "-", "-", "-", "-", "-", "3"] in rows
    assert ["solver", "0.25", "0.125", "1234", "-", "0.0625", "1.5", "-", "-"] in rows
    assert "40%" in last and "left" in last
    assert "held-out sampled 0.500 [0.400, 0.600], step 0 0.250 (+0.250)" in last
    assert "valid proposals 0.875  loss 0.5  grad norm -  rewards/score 0.75" in last
    above = shown[: shown.rindex("step 40/100")]
    for piece in ("what?", "best (score 1)", "right", "worst (score nan)", "wrong", "a sentence [of ours]"):
        assert piece in above
    assert "middle" not in shown


def test_where_the_time_goes_live() -> None:
    """Two steps. The second takes 1.5 + 0.75 + 0.25 + 0.5 = 3 s for 3,600 tokens and reached half of the limit in
    generate; the first 2.5 + 0.25 + 0.25 = 3 s for 1,800 tokens, and a tenth of it. Mean: generate 2 s of 3 (67 %),
    evaluate 0.25 s a step, 900 tokens/s, (1.5 x 0.5 + 2.5 x 0.1) / 4 = 25 % of the roofline in generate and, since the
    first update did nothing in its 0.25 s, 0.75 x 0.04 / 1 = 3 % in update. Step 0 is in no mean."""
    first = {"generate": 2.5, "judge": 0.0, "update": 0.25, "other": 0.25, "total": 3.0, "tokens_per_second": 600.0}
    out, raw = console(True)
    with open_screen(100, ROLES, out) as screen:
        screen.update(0, {}, None, {"evaluate": 50.0, "other": 50.0, "total": 100.0, "tokens_per_second": 0.0})
        screen.update(1, METRICS, None, {**first, "roofline/generate": 0.1})
        screen.update(2, METRICS, None, LAP)
    lines = text(raw)[text(raw).rindex("step 2/100") :].splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines][-7:-1]
    assert rows == [
        ["generate", "judge", "update", "evaluate", "other", "total", "tokens/s"],
        ["seconds", "1.50", "0.00", "0.75", "0.50", "0.25", "3.00", "1200"],
        ["mean", "2.00", "0.00", "0.50", "0.25", "0.25", "3.00", "900"],
        ["share", "67%", "0%", "17%", "8.3%", "8.3%"],
        ["roofline", "50%", "-", "4.0%", "-", "-"],
        ["mean", "25%", "-", "3.0%", "-", "-"],
    ]


def test_where_the_time_goes_in_a_line() -> None:
    out, raw = console(False)
    with open_screen(4, ROLES, out) as screen:
        screen.update(0, {}, None, {"evaluate": 50.0, "other": 0.5, "total": 50.5, "tokens_per_second": 0.0})
        screen.update(1, {"loss": 0.5}, None, LAP)
        screen.update(2, {"loss": 0.5}, None, {**LAP, "total": 9.0, "tokens_per_second": 12.0})
    zero, one, two = text(raw).splitlines()
    assert zero == "step 0/4 | left - | seconds: evaluate 50.0 other 0.50 total 50.5"
    seconds = "seconds: generate 1.50 judge 0.00 update 0.75 evaluate 0.50 other 0.25 total"
    roofline = "roofline: generate 50% update 4.0%"
    assert one.endswith(f"loss 0.5 | {seconds} 3.00 (mean 3.00) | tokens/s 1200 (mean 1200) | {roofline}")
    assert two.endswith(f"loss 0.5 | {seconds} 9.00 (mean 6.00) | tokens/s 12 (mean 309) | {roofline}")


def test_the_mean_moves() -> None:
    """Thirty steps of 1 s after one of 1,000 s: the mean is over the last twenty."""
    out, raw = console(False)
    with open_screen(31, ROLES, out) as screen:
        for step in range(1, 32):
            screen.update(
                step, {}, None, {"other": 1000.0 if step == 1 else 1.0, "total": 1000.0 if step == 1 else 1.0}
            )
    means = [line.split("(mean ")[1].rstrip(")") for line in text(raw).splitlines()]
    assert (means[0], means[1], means[-1]) == ("1000", "500", "1.00")


@pytest.mark.parametrize("terminal", [True, False])
def test_transcripts_come_now_and_then(terminal: bool) -> None:
    out, raw = console(terminal)
    with open_screen(100, ROLES, out) as screen:
        for step in range(1, 101):
            screen.update(step, METRICS, Transcript(f"question {step}", [("yes", {})]))
    assert 8 <= text(raw).count("question") <= 11
    assert "best (no verdict)" in text(raw) and "worst" not in text(raw)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("encoding", "width"), [("utf-8", 100), ("ascii", 100), ("latin-1", 100), ("ascii", 30)])
def test_model_text_is_harmless(terminal: bool, encoding: str, width: int) -> None:
    out, raw = console(terminal, encoding, width)
    with open_screen(1, ["solver", "名"], out) as screen:
        screen.update(1, METRICS, None, LAP)
        screen.update(1, METRICS, Transcript(EVIL, [("é名" + "z" * 1000, {"score": 1.0}), (EVIL, {})]))
        screen.say(EVIL)
    shown = text(raw)
    for forbidden in ("\x1b[2J", "\x1b]0", "\x07", "\u202e", "\x00", "\ud800"):
        assert forbidden not in shown
    assert width < 100 or all(piece in shown for piece in ("[bold red]x[/]", r"\x1b[2J", r"\u202e"))
    assert shown.count("z") == 298  # 300 characters, two of which precede


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters()), terminal=st.booleans())
def test_no_text_stops_a_run(text: str, terminal: bool) -> None:
    out, raw = console(terminal, "ascii")
    with open_screen(1, ROLES, out) as screen:
        screen.update(1, {}, Transcript(text, [(text, {"score": 0.5})]))
        screen.say(text)
    assert raw.getvalue().isascii()


@pytest.mark.parametrize("terminal", [True, False])
def test_no_numbers_and_no_steps_are_fine(terminal: bool) -> None:
    out, raw = console(terminal)
    with open_screen(0, [], out) as screen:
        screen.update(0, {})
        screen.close()
    assert "step 0/0" in text(raw)


def test_pick_the_widest_group_of_siblings() -> None:
    def leaf(query: str, answer: str, group: int, value: float) -> Episode:
        turns = (turn("solver", answer, group, user=query), turn("verifier", {"score": value}, 9))
        return Episode(turns, {"solver": value, "challenger": -value}, {"query": query}, {"score": value})

    narrow = [leaf("q1", "a", 1, 0.5), leaf("q1", "b", 1, 0.5)]
    wide = [leaf("q2", "bad", 2, 0.0), leaf("q2", "good", 2, 1.0), leaf("q2", "so so", 2, 0.5)]
    void = [leaf("q3", "a", 3, NAN), leaf("q3", "b", 3, 9.0), leaf("q3", "c", 3, NAN)]
    picked = pick_transcript([*narrow, *wide, *void])
    assert picked == Transcript("q2", [("good", {"score": 1.0}), ("so so", {"score": 0.5}), ("bad", {"score": 0.0})])
    assert pick_transcript(narrow) == Transcript("q1", [("a", {"score": 0.5}), ("b", {"score": 0.5})])
    assert pick_transcript(void[::2]) is None
    assert pick_transcript([]) is None


def test_pick_shows_a_forfeit_by_what_was_said() -> None:
    broken = Episode((turn("challenger", "no question", 0),), {"challenger": -1.0, "solver": 0.0}, {"query": ""}, {})
    assert pick_transcript([broken]) == Transcript("be brief", [("no question", {})])
    silent = Episode((turn("verifier", {"score": 1.0}, 0),), {"solver": 1.0}, {}, {"score": 1.0})
    assert pick_transcript([silent]) is None
