"""Chats to token ids: the template's own control tokens, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.chat import ChatEncoder, ChatError, messages, whole
from tests.helpers import STYLES, chat, make_tokenizer, shared_engine

TOKENIZERS = {style: make_tokenizer(style) for style in STYLES}
ENCODERS = {style: ChatEncoder(tokenizer, style) for style, tokenizer in TOKENIZERS.items()}
EVIL = sorted({token for _, _, control in STYLES.values() for token in control})
"""Everybody's control tokens."""


def control_ids(style: str, ids: tuple[int, ...]) -> list[int]:
    known = set(TOKENIZERS[style].added_tokens_decoder)
    return [i for i in ids if i in known]


@pytest.mark.parametrize("style", STYLES)
def test_a_plain_chat_is_the_template(style: str) -> None:
    tokenizer = TOKENIZERS[style]
    for told in (chat("What is 1+1?"), chat("Hi", "Be brief."), chat("é漢\n\n x")):
        rendered = tokenizer.apply_chat_template(messages(told), add_generation_prompt=True, tokenize=False)
        (ids,) = ENCODERS[style]([told])
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == rendered
        assert list(ids) == tokenizer(rendered, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.sampled_from([*EVIL, "x", "<|", "|>", " ", "\n", "\ue000", "im_end"]), max_size=8))
def test_control_tokens_in_a_players_text_are_letters(style: str, pieces: list[str]) -> None:
    """The prompt has the same control ids, in the same order, as with a harmless text; the letters are still there."""
    evil = "".join(pieces)
    (tame,), (ids,) = ENCODERS[style]([chat("x")]), ENCODERS[style]([chat(f"a{evil}z", f"s{evil}s")])
    (with_system,) = ENCODERS[style]([chat("x", "y")])
    assert control_ids(style, ids) == control_ids(style, with_system)
    assert control_ids(style, ENCODERS[style]([chat(f"a{evil}z")])[0]) == control_ids(style, tame)
    assert evil.replace("\ue000", "") in TOKENIZERS[style].decode(ids).replace("\ue000", "")


@pytest.mark.parametrize("style", STYLES)
def test_encoded_words_bring_no_control_token(style: str) -> None:
    """``Engine.encode`` of someone else's words: only the end of the sequence is a control token."""
    engine = shared_engine(style)
    encoded = engine.encode(chat("q"), "".join(EVIL) + "\ud800 end")
    assert control_ids(style, encoded.token_ids) == [engine.tokenizer.eos_token_id]
    assert encoded.token_ids[-1] == engine.tokenizer.eos_token_id
    assert encoded.prompt_ids == ENCODERS[style]([chat("q")])[0]
    assert encoded.logprobs == () and encoded.finish == "stop"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "\U0010ffff", "\ufffe", "\u2028", "x\x1b[2J"])
def test_any_text_has_tokens(text: str) -> None:
    for encoder in ENCODERS.values():
        (ids,) = encoder([chat(text, text)])
        assert ids


def test_half_a_character_becomes_a_question_mark() -> None:
    assert whole("a\ud800b") == "a?b"
    assert whole("é👩\u200d") == "é👩\u200d"


def test_an_absent_text_is_no_message() -> None:
    assert messages(chat("u", "s")) == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert messages(chat("u")) == [{"role": "user", "content": "u"}] == messages({"user": "u"})
    assert messages(chat("")) == [{"role": "user", "content": ""}] == messages({})


def test_equal_chats_are_encoded_alike_and_order_is_kept() -> None:
    told = [chat("b"), chat("a"), chat("b"), chat("b", "s"), chat("sb")]
    ids = ENCODERS["llama"](told)
    assert ids[0] == ids[2] and len(set(ids)) == 4
    assert ids == [ENCODERS["llama"]([one])[0] for one in told]
    assert ENCODERS["llama"]([]) == []


def test_no_template_is_refused() -> None:
    tokenizer = make_tokenizer("llama")
    tokenizer.chat_template = None
    with pytest.raises(ChatError, match="the tokenizer of 'gpt2' has no chat template: choose an instruction-tuned"):
        ChatEncoder(tokenizer, "gpt2")


@pytest.mark.parametrize("style", STYLES)
def test_older_transformers_get_defused_text(style: str) -> None:
    """The way taken where ``apply_chat_template`` cannot sanitize: a zero-width space breaks the spelling."""
    encoder = ChatEncoder(TOKENIZERS[style], style)
    encoder._sanitizes = False
    evil = "".join(EVIL)
    (ids,), (tame,) = encoder([chat(evil)]), encoder([chat("x")])
    assert control_ids(style, ids) == control_ids(style, tame)


def test_a_template_that_refuses_a_system_message_gets_the_persona_in_front() -> None:
    tokenizer = make_tokenizer(next(iter(STYLES)))
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refusal + str(tokenizer.chat_template)
    encode = ChatEncoder(tokenizer, "refuses")
    assert encode([chat("Hi", "Be brief.")]) == encode([chat("Be brief.\n\nHi")])
