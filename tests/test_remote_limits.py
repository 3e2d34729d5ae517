"""What the engine behind a server may do at once, spend, keep and show, and which settings it takes."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from models.remote import Ledger, connect, forget
from selfplay.remote.reply import RemoteError
from tests.chat_server import SECRET, Answer, Serve, completion, three_together
from tests.helpers import chat
from tests.test_remote_engine import counts, echo, engine, say

pytestmark = pytest.mark.usefixtures("quick_client")


def test_concurrency_is_limited_and_used(serve: Serve) -> None:
    """The first three requests wait for one another, so that fewer at once would be late; never are there four."""
    server = serve(three_together())
    say(engine(server, concurrency=3), *map(str, range(12)))
    assert server.at_once == 3 and len(server.asked) == 12


def test_what_fits_is_what_the_server_tells(serve: Serve) -> None:
    """It is asked once; without an answer everything fits."""
    server = serve(echo, models={"m": 100, "n": None})
    assert engine(server).fits([chat("a"), chat("b")], 99) == [True, True]
    assert engine(server).fits([chat("a")], 100) == [False]
    assert connect("n", server.url).fits([chat("a")], 10**9) == [True]
    assert server.looks == 2
    assert engine(serve(echo)).fits([chat("a")], 10**9) == [True]


def test_the_only_model_needs_no_name(serve: Serve) -> None:
    server = serve(echo, models={"some/model": None})
    remote = connect(base_url=server.url)
    assert remote.name == "the model at 127.0.0.1" and server.looks == 0, "nothing is sent before it is needed"
    say(remote, "a")
    assert server.asked[0].body["model"] == "some/model" == remote.name
    several = connect(base_url=serve(echo, models={"b": None, "a": None}).url)
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1 lists 2 models: set `name` to the one that you mean \(a, b\)"):
        say(several, "a")
    with pytest.raises(RemoteError, match="status 404"):
        connect(base_url=serve(echo).url).fits([chat("a")], 5)


def test_the_budget_stops_the_run_and_is_kept(serve: Serve, tmp_path: Path) -> None:
    """A row costs 15 tokens, and of 100 so many are sent that the next one's estimate still fits. Silence would be a
    forfeit that somebody else is paid for, so it is an error. A resumed run finds what was spent, and with a larger
    budget it goes on."""
    server = serve(echo)
    remote, other = engine(server, budget_tokens=100, concurrency=1, price_out=2.0), connect("x/n", server.url)
    with pytest.raises(RemoteError, match=r"the budget of the model 'm' at http.* is spent"):
        say(remote, *"abcdefgh", max_tokens=5)
    say(other, "a")
    sent = len(server.asked) - 1
    assert 0 < sent < 7 and remote.budget.spent == (10 * sent, 5 * sent)
    told = {name: count for name, count in Ledger().metrics().items() if count}
    assert told == {
        "remote/m/requests": sent, "remote/m/over_budget": 1, "remote/m/tokens_in": 10 * sent,
        "remote/m/tokens_out": 5 * sent, "remote/m/money": pytest.approx(5 * sent * 2e-6),
        "remote/n/requests": 1, "remote/n/tokens_in": 10, "remote/n/tokens_out": 5,
    }  # fmt: skip
    Ledger().save(tmp_path)
    forget()
    resumed, fresh = (engine(server, budget_tokens=tokens) for tokens in (100, None))
    Ledger().load(tmp_path)
    assert resumed.budget.spent == remote.budget.spent and fresh.budget.spent == (0, 0)
    with pytest.raises(RemoteError, match="budget"):
        say(resumed, "z", max_tokens=5)
    forget()
    larger = engine(server, budget_tokens=200)
    Ledger().load(tmp_path)
    assert larger.budget.spent == remote.budget.spent and say(larger, "z", max_tokens=5)


def test_a_second_engine_asks_nothing(serve: Serve, tmp_path: Path) -> None:
    """What was said, and why it ended, and what was likely, from the folder alone."""
    likely = [("3", -0.5)]
    server = serve(lambda asked: Answer(raw=completion(f"to {asked.prompt}", "length", likely)))
    first, again = (engine(server, cache=str(tmp_path), seed=seed) for seed in (0, 1))
    assert say(first, "a", "b") == say(again, "a", "b") and say(first, "a")[0].finish == "length"
    assert first.choices([chat("a")], ["3"]) == again.choices([chat("a")], ["3"]) == [[-0.5]]
    assert len(server.asked) == 3 and counts(again) == {"cache_hits": 3}


def test_the_key_is_never_shown(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the header, and neither in an error, a log, the cache nor the engine, though the server repeats it."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve(
        lambda asked: Answer(f"I know {asked.headers['authorization']}", status=500 if asked.prompt == "b" else 200,
                             raw=json.dumps({"error": SECRET}).encode() if asked.prompt == "b" else None)
    )  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        remote = engine(server, cache=str(tmp_path), retries=0)
        assert say(remote, "a")[0].text == "I know Bearer [key]"
        with pytest.raises(RemoteError) as caught:
            say(remote, "b")
    kept = "".join(file.read_text() for file in tmp_path.iterdir())
    inside = repr([vars(remote), vars(remote._queue), vars(remote._queue.client)])
    told = "".join(traceback.format_exception(caught.value))
    for text in (caplog.text, kept, inside, repr(remote), told, repr(remote.metrics())):
        assert SECRET not in text
    assert server.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    with pytest.raises(ValueError, match=r"^base_url: example\.com would get the key in clear text.* or key_env=null"):
        connect("m", "http://example.com/v1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concurrency": 0}, "concurrency must be above 0"),
        ({"timeout": 0.0}, "timeout=0.0 must be above 0"),
        ({"retries": -1}, "retries=-1"),
        ({"budget_money": 1.0}, "without price_in or price_out"),
        ({"base_url": "127.0.0.1:8000"}, "^base_url must look like"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        connect("m", **settings)
