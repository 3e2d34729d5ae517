"""What a server answers: a reply, or an error that says whether another attempt or another prompt would fare better."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, cast


class RemoteError(RuntimeError):
    """The server gave no reply, and would not if it were asked again. ``lost`` is the number of attempts that it may
    have worked on, and charge for."""

    def __init__(self, what: str, *, lost: int = 0) -> None:
        super().__init__(what)
        self.lost = lost


class Misconfigured(RemoteError):
    """No request will fare better: the address, the model's name or the key is wrong."""


class Refused(RemoteError):
    """This prompt gets no reply, and others may: it is too long for the model, or the server's filter stopped it."""


class OverBudget(RemoteError):
    """The request was not sent: it might have cost more than is left of the budget."""


class Unavailable(RemoteError):
    """Worth another attempt; ``after`` is how many seconds the server wants to be left alone."""

    def __init__(self, what: str, *, after: float | None = None, lost: int = 0) -> None:
        super().__init__(what, lost=lost)
        self.after = after


class Reply(NamedTuple):
    """What the model said, and the server's count of tokens, -1 where it gives none; ``lost`` as in ``RemoteError``.

    ``finish`` is why it stopped in the server's word, ``""`` where it gives none. ``first`` holds the likeliest first
    tokens with their log-probabilities, and is empty unless they were asked for and told.
    """

    text: str
    tokens_in: int
    tokens_out: int
    lost: int = 0
    finish: str = ""
    first: tuple[tuple[str, float], ...] = ()


def read_reply(data: bytes, *, silence: bool = False) -> Reply | None:
    """The chat completion that ``data`` is, None if it is none. With ``silence`` a model that ended without a word
    (its thoughts took all tokens, or a filter its words) said ``""``; else that is none, either."""
    try:
        answer: Any = json.loads(data)
        choice: Any = answer["choices"][0]
        text: object = choice["message"]["content"]
        ended: object = choice.get("finish_reason")
        usage: Any = answer.get("usage") or {}
        counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        first = _first_tokens(choice.get("logprobs"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    finish = ended if isinstance(ended, str) else ""
    if text is None and silence and finish:
        text = ""
    if not isinstance(text, str):
        return None
    tokens_in, tokens_out = (n if type(n) is int and 0 <= n < 1 << 40 else -1 for n in counted)
    return Reply(text, tokens_in, tokens_out, finish=finish, first=first)


def read_reason(data: bytes) -> tuple[str, str]:
    """The server's own words for an error and its name for the kind, each ``""`` where it says none in the usual
    places."""
    try:
        said: Any = json.loads(data)
        # Some servers put the message at the top, and FastAPI's own refusals are called "detail".
        error: Any = said.get("error") or said.get("detail") or said
        if isinstance(error, str):
            return error, ""
        if isinstance(error, list):
            return str(cast("list[Any]", error)[0]["msg"]), ""
        text: object = error["message"]
        return str(text), " ".join(str(error.get(name) or "") for name in ("code", "type"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""


def refuses_the_prompt(status: int, text: str, kind: str) -> bool:
    """Whether an error is about this very prompt. No status says so, hence the server's words decide."""
    if any(name in kind for name in _KINDS):
        return status in (400, 413, 422, 500)
    if status == 500:  # llama.cpp, when the context fills up while it writes
        return _CONTEXT.search(text[:2_000]) is not None
    return status in (400, 413, 422) and any(words.search(text[:2_000]) for words in (_CONTEXT, _TOO_LONG))


_KINDS = ("context_length_exceeded", "exceed_context_size", "content_filter", "content_policy_violation")
_CONTEXT = re.compile(r"context[ _]?(?:length|size|window|limit)", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"too long|prompt.{0,60}too large|max_tokens must be at least 1, got -|inputs` tokens \+"
    r"|(?:prompt|input|message)s?\b.{0,60}exceed.{0,60}token",
    re.IGNORECASE | re.DOTALL,
)


def _first_tokens(told: Any) -> tuple[tuple[str, float], ...]:
    """The alternatives to the first token, as ``top_logprobs`` lists them."""
    if not told or not told.get("content"):
        return ()
    listed: Any = told["content"][0].get("top_logprobs") or []
    return tuple((str(item["token"]), float(item["logprob"])) for item in listed)
