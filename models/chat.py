"""Chats to token ids: the model's own chat template, with control tokens in the players' words made harmless."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from selfplay.types import Chat


class ChatError(ValueError):
    """A chat that cannot be put into tokens, in one sentence."""


def messages(chat: Chat) -> list[dict[str, str]]:
    """The chat as transformers wants it; an absent system text is no message at all."""
    return [{"role": role, "content": whole(chat[role])} for role in ("system", "user") if chat.get(role)] or [
        {"role": "user", "content": ""}
    ]


def whole(text: str) -> str:
    """The text with every half of a surrogate pair as ``?``: no tokenizer takes what UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()


class ChatEncoder:
    """Prompt ids for chats, each distinct chat rendered once per call.

    A player's text that spells ``<|im_end|>`` is encoded as those letters, never as the control token: otherwise one
    player could write another player's prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        if not tokenizer.chat_template:
            raise ChatError(
                f"the tokenizer of {name!r} has no chat template: choose an instruction-tuned model, or add "
                f"`chat_template` to its tokenizer_config.json"
            )
        self._tokenizer = tokenizer
        self._sanitizes = "sanitize_control_tokens" in inspect.signature(tokenizer.apply_chat_template).parameters

    def __call__(self, chats: Sequence[Chat]) -> list[tuple[int, ...]]:
        keys = [(chat.get("system", ""), chat.get("user", "")) for chat in chats]
        encoded = {key: self._encode(chat) for key, chat in dict(zip(keys, chats, strict=True)).items()}
        return [encoded[key] for key in keys]

    def _encode(self, chat: Chat) -> tuple[int, ...]:
        conversation = messages(chat)
        options: dict[str, object] = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        if self._sanitizes:
            options["sanitize_control_tokens"] = True
        else:
            conversation = [{**message, "content": self._defuse(message["content"])} for message in conversation]
        try:
            return tuple(self._tokenizer.apply_chat_template(conversation, **options))
        except TemplateError:
            if len(conversation) == 1:
                raise
            # Some templates refuse a system message: the persona then opens what the user says.
            told = "\n\n".join(message["content"] for message in conversation)
            return tuple(self._tokenizer.apply_chat_template([{"role": "user", "content": told}], **options))

    def _defuse(self, text: str) -> str:
        """For transformers that cannot sanitize: a zero-width space inside every control token breaks its spelling."""
        for token in self._tokenizer.added_tokens_encoder:
            text = text.replace(token, token[:1] + "\u200b" + token[1:])
        return text
