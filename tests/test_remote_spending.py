"""What a remote judge spends, keeps and hides: the budget, the cache and the key, against a real server."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfplay.remote.reply import RemoteError
from tests.chat_server import POINTS_5, SECRET, Answer, Asked, Serve
from tests.test_remote import case, counts, first, judge
from verifiers.remote import Remote

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("quick_client")


# -- the budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_stops_the_requests(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    """A request of 125 bytes is estimated at 41 tokens and 4 of reply, and costs 15. Of 200 tokens, the k-th is sent
    while 15 (k - 1) + 45 <= 200: 11 of 40. What is reserved for requests under way is given back when they end, so
    that it is the same number with eight at once."""
    server = serve("4")
    remote = judge(server, form="short", budget_tokens=200, max_tokens=4, concurrency=concurrency)
    scores = remote([case(str(number)) for number in range(10, 50)])
    sent = len(server.asked)
    assert sent == 11 and sum(score == score for score in scores) == sent
    found = counts(remote)
    assert (found["requests"], found["over_budget"], found["tokens_in"]) == (sent, 40 - sent, 10 * sent)
    assert sum("budget" in record.message for record in caplog.records) == 1
    remote.save(tmp_path)
    resumed = judge(server, form="short", budget_tokens=200, max_tokens=4)
    resumed.load(tmp_path)
    assert math.isnan(resumed([case("99")])[0]) and len(server.asked) == sent, "a resumed run does not start anew"


def test_the_budget_in_money(serve: Serve) -> None:
    """4 tokens of reply at 1,000 a million are 0.004: one request fits into 0.005, a second would not, as the first has
    cost 5 x 0.001."""
    server = serve("4")
    remote = judge(server, form="short", budget_money=0.005, price_out=1000.0, max_tokens=4, concurrency=1)
    assert [math.isnan(score) for score in remote([case("1"), case("2")])] == [False, True]
    found = counts(remote)
    assert found["money"] == 0.005 and found["over_budget"] == 1


def test_what_may_have_been_charged_counts(serve: Serve) -> None:
    """A reply without usage counts as estimated, and so does one that came too late."""
    silent = Answer(raw=json.dumps({"choices": [{"message": {"content": "4"}}]}).encode())
    for script in (lambda asked: silent, first(Answer(after=30.0), Answer("4"))):
        server = serve(script)
        remote = judge(server, form="short", budget_tokens=300, max_tokens=150, concurrency=1, timeout=1.0)
        scores = remote([case("1"), case("2")])
        assert scores[0] == 4 / 7 and math.isnan(scores[1])
        assert counts(remote)["over_budget"] == 1


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_a_second_instance_asks_nothing(serve: Serve, tmp_path: Path) -> None:
    """Across instances and servers; unreadable verdicts are kept as well; another seed or model asks again."""
    folder = str(tmp_path / "cache")
    cases = [case("2"), case("3"), case("4")]
    server = serve(lambda asked: Answer("No." if asked.prompt.endswith("4") else "6"))
    scores = judge(server, form="short", cache=folder, concurrency=1)(cases)
    again = judge(serve(), form="short", cache=folder, budget_tokens=0)
    assert repr(again(cases)) == repr(scores) == repr([6 / 7, 6 / 7, math.nan])
    assert counts(again) == {"cache_hits": 3, "unparsable": 1}
    judge(server, form="short", cache=folder, seed=1)(cases)
    Remote("other", server.url, form="short", cache=folder)(cases)
    assert len(server.asked) == 9
    names = sorted(file.name for file in Path(folder).iterdir())
    assert len(names) == 9 and all(len(name) == 64 + len(".json") for name in names), "no scratch files"


@pytest.mark.parametrize(
    "damage",
    ["", "{", "null", '{"request": {}, "reply": "7", "tokens_in": 1, "tokens_out": 1}', "\x00\xff", "[" * 5000],
)
def test_a_corrupt_entry_is_asked_anew(serve: Serve, tmp_path: Path, damage: str) -> None:
    server = serve()
    judge(server, cache=str(tmp_path))([case("2")])
    (entry,) = tmp_path.iterdir()
    good = entry.read_bytes()
    entry.write_bytes(damage.encode("latin-1"))
    remote = judge(server, cache=str(tmp_path))
    assert remote([case("2")]) == [5 / 7]
    assert counts(remote) == {"requests": 1, "cache_corrupt": 1, "tokens_in": 10, "tokens_out": 5}
    assert entry.read_bytes() == good


def test_errors_are_not_kept(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(RemoteError):
        judge(serve(lambda asked: Answer(status=400)), cache=str(tmp_path))([case("2")])
    assert not list(tmp_path.iterdir())


# -- the key -----------------------------------------------------------------------------------------------------------


def echo(asked: Asked) -> Answer:
    """A server that repeats the key wherever it can."""
    key = asked.headers.get("authorization", "")
    kind = asked.number % 3
    if kind == 0:
        return Answer(f"{key}\n{POINTS_5}\n{key}", headers={"X-Key": key})
    status = 400 if kind == 1 else 500
    return Answer(status=status, raw=json.dumps({"error": {"message": f"I do not like {key}"}}).encode())


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error with all that led to it and is shown with it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_the_key_goes_into_the_header_only(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    server = serve(echo)
    with caplog.at_level(logging.DEBUG):
        remote = judge(server, cache=str(tmp_path), retries=1)
        scores = remote([case(str(number)) for number in range(9)])
        refusing = judge(serve(lambda asked: Answer(status=401, raw=echo(Asked(1, {}, asked.headers)).raw)))
        with pytest.raises(RemoteError, match="OPENAI_API_KEY is not accepted") as caught:
            refusing([case("2")])
        unheard = Remote("m", "http://127.0.0.1:1/v1", retries=0)
        with pytest.raises(RemoteError) as alone:
            unheard([case("2")])
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {SECRET}"}
    assert any(score == 5 / 7 for score in scores)
    kept = "".join(file.read_text() for file in tmp_path.iterdir())
    shown = [
        caplog.text,
        kept,
        repr(remote),
        repr(vars(remote)),
        repr(vars(remote._queue)),
        repr(vars(remote._queue.client)),
        repr(remote.metrics()),
    ]
    for error in (caught.value, alone.value):
        shown += [repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
        assert not {type(link).__module__.split(".")[0] for link in chain(error)} & {"httpx", "httpcore"}, (
            "they know it"
        )
    assert "[key]" in kept and caplog.text
    for text in shown:
        assert SECRET not in text


def test_the_key_is_not_sent_elsewhere(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after a redirect to another place, not in clear text to another machine, and not out of an address."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    thief = serve()
    place = {"Location": thief.url.replace("127.0.0.1", "localhost") + "/chat/completions"}
    with pytest.raises(RemoteError, match="redirects are not followed"):
        judge(serve(lambda asked: Answer(status=307, headers=place)))([case("2")])
    assert thief.asked == []
    with pytest.raises(ValueError, match=r"example\.com would get the key in clear text"):
        Remote("m", "http://example.com/v1")
    Remote("m", "http://example.com/v1", key_env=None)
    with pytest.raises(ValueError, match="holds a password") as caught:
        Remote("m", f"https://user:{SECRET}@example.com/v1")
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET} {SECRET}")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds something that is no key") as caught:
        judge(thief)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("OTHER_KEY", SECRET)
    judge(thief, key_env="OTHER_KEY")([case("2")])
    assert thief.asked[0].headers["authorization"] == f"Bearer {SECRET}"


def test_a_run_does_not_write_the_key(serve: Serve, tmp_path: Path) -> None:
    """A whole run under a server that repeats the key: neither folder, nor cache, nor what it prints holds it."""
    server = serve(lambda asked: Answer(f"{asked.headers['authorization']}" if asked.number % 4 == 3 else "5"))
    words = ["env=lsp", "model=tiny", "verifier=remote", "verifier.model=m", f"verifier.base_url={server.url}"]
    words += ["verifier.form=short", f"verifier.cache={tmp_path / 'cache'}", "branch.challenger=3", "branch.solver=2"]
    words += ["steps=2", "exam.path=null", "runtime.threads=1", f"run_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "OPENAI_API_KEY": SECRET, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "main.py", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = len(server.asked)
    assert asked and all(one.headers["authorization"] == f"Bearer {SECRET}" for one in server.asked)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "config.yaml" for file in files) and any("cache" in file.parts for file in files)
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file.name
    assert SECRET not in done.stdout + done.stderr
