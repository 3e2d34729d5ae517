"""A model behind any OpenAI-compatible server, as a player, a teacher or a judge: it can be asked, and never trained.

``vllm serve``, a llama.cpp server and hosted APIs speak the same ``/chat/completions``. The chat template, the weights
and the arithmetic are the server's; text is all that comes back, so completions hold no tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from models.chat import messages
from selfplay.remote.client import canonical
from selfplay.remote.queue import RequestQueue
from selfplay.remote.reply import Misconfigured, RemoteError, Reply
from selfplay.types import Chat, Completion

TOP = 20
"""Alternatives to a token that are asked for: as many as hosted APIs, and vLLM unless told otherwise, tell."""

_CONTROL = re.compile(
    r"<(?=[|\uff5c][^<>|\uff5c\s]{1,64}[|\uff5c]>|/?s>|(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


class RemoteEngine:
    """An engine over ``queue``: it generates and weighs replies. There are no weights to train, copy or save.

    ``name`` as in ``connect``; ``budget`` is what a resumed run must find again.
    """

    def __init__(self, queue: RequestQueue, name: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        self._queue, self._told, self._extra = queue, name, dict(extra or {})
        self.budget = queue.budget
        self._listed: dict[str, int | None] | None = None
        self._refused = 0

    @property
    def name(self) -> str:
        """The model's name, or its server's as long as nobody asked it which model it has."""
        return self._told or f"the model at {self._queue.client.host}"

    @property
    def model(self) -> NoReturn:
        """What a learner asks for first, and is refused here. Raises ``ValueError``."""
        raise ValueError(
            f"{self.name} is behind a server, and its weights are not here to be trained: "
            "seat it beside a model that learns (seats.<role>=remote), or say learner=frozen"
        )

    def generate(
        self,
        chats: Sequence[Chat],
        *,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """One completion per chat, in order, with its text and no tokens. Row i is asked with ``seeds[i]`` in 31 bits
        (some servers take no more); what the server makes of a seed is its own affair.

        At ``temperature`` 0 no seed is sent, and equal chats are asked once. A chat that is too long for the model's
        context, or that the server's filter stops, is answered with silence and counted. Raises ``RemoteError`` as
        soon as a request fails for good or the budget is spent, and ``DeadlinePassed``.
        """
        sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        drawn = [{"seed": seed % 2**31} if temperature else {} for seed in seeds]
        bodies = [self._body(chat, {**sampling, **seed}) for chat, seed in zip(chats, drawn, strict=True)]
        return [_completion(reply) for reply in self._ask(bodies, max_tokens)]

    def fits(self, chats: Sequence[Chat], max_tokens: int) -> list[bool]:
        """Whether ``max_tokens`` of reply leave room in the context, where the server tells how long that is. How many
        tokens a chat takes only the server knows: ``generate`` hears of it."""
        context = self._models().get(self._model_name())
        return [context is None or max_tokens < context for _ in chats]

    def choices(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[list[float]]:
        """The log-probability of each one-token reply as the next token after each chat, at temperature 1.

        -inf where it is not among the ``TOP`` likeliest, which is all that a server tells. Raises ``RemoteError``,
        also where a server tells none.
        """
        weighing = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
        found: list[list[float]] = []
        for reply in self._ask([self._body(chat, weighing) for chat in chats], 1):
            if reply is None:
                found.append([-math.inf] * len(replies))
                continue
            if not reply.first:
                raise RemoteError(
                    f"{self.name} tells no top_logprobs, so nobody knows how likely a reply is: say expected=false"
                )
            likely = dict(reversed(reply.first))  # of two tokens that are spelled alike the likelier one
            found.append([likely.get(text, -math.inf) for text in replies])
        return found

    def logprobs(self, completions: Sequence[Completion]) -> NoReturn:
        """A learner's question, which only tokens could answer. Raises ``ValueError``."""
        raise ValueError(f"{self.name} is behind a server, which does not score a learner's tokens: it is no reference")

    def begin_step(self) -> None:
        """Nothing: what a server keeps of earlier prompts is its own affair."""

    def snapshot(self) -> RemoteEngine:
        """Itself: nothing that happens here changes its weights."""
        return self

    def metrics(self) -> dict[str, float]:
        """What ``RequestQueue`` counted since the last call, the ``money`` that it cost, and chats ``refused``."""
        refused, self._refused = self._refused, 0
        return {**self._queue.metrics(), "refused": float(refused)}

    def _ask(self, bodies: Sequence[Mapping[str, Any]], max_tokens: int) -> list[Reply | None]:
        """The reply to each request, equal ones asked once; None where the server refused the prompt."""
        if not bodies:
            return []
        keys = [canonical(body) for body in bodies]
        try:
            outcomes = self._queue.ask(dict(zip(keys, bodies, strict=True)), max_tokens)
        except Misconfigured as error:
            close = get_close_matches(self._model_name(), [name for name in self._models() if name != self._told], n=1)
            raise Misconfigured(f"{error}{f': did you mean {close[0]}?' if close else ''}") from None
        replies = [outcome if isinstance(outcome, Reply) else None for outcome in map(outcomes.__getitem__, keys)]
        self._refused += replies.count(None)
        return replies

    def _body(self, chat: Chat, fields: Mapping[str, Any]) -> dict[str, Any]:
        told = [{**message, "content": defused(message["content"])} for message in messages(chat)]
        body = {"model": self._model_name(), **fields, **self._extra, "messages": told}
        return {name: value for name, value in body.items() if value is not None}

    def _model_name(self) -> str:
        """The name that requests bear. Raises ``RemoteError`` where none was told and the server has several."""
        if self._told is None:
            listed = self._models()
            if len(listed) != 1:
                some = ", ".join(sorted(listed)[:8]) or "none"
                host = self._queue.client.host
                raise Misconfigured(f"{host} lists {len(listed)} models: set `name` to the one that you mean ({some})")
            (self._told,) = listed
        return self._told

    def _models(self) -> dict[str, int | None]:
        """What the server lists, asked once. That it lists nothing is no error where a name was told: whatever is
        wrong with it, the requests will say so better."""
        if self._listed is None:
            try:
                self._listed = self._queue.models()
            except RemoteError:
                if self._told is None:
                    raise
                self._listed = {}
        return self._listed


def defused(text: str) -> str:
    """The text with a zero-width space inside what spells a control token: a server's template may take it for one,
    and then one player could write another player's prompt. The usual spellings only; the model's own are unknown."""
    return _CONTROL.sub(lambda found: found[0] + "\u200b", text)


def _completion(reply: Reply | None) -> Completion:
    if reply is None:
        return Completion("", (), (), (), "length")
    return Completion(reply.text, (), (), (), "length" if reply.finish == "length" else "stop")
