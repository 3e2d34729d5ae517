"""A corpus in windows: what is predicted, in which order, and that a cursor goes on."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from learners.corpus import Corpus
from tests.helpers import shared_engine

TEXT = "A small corpus.\nIt has a few lines, and é is in it.\n" * 4


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_text_is_predicted_once_per_epoch(text: Path) -> None:
    """Windows overlap by one token: every token but the file's first is said exactly once, after its predecessor."""
    engine = shared_engine()
    corpus = Corpus(text, engine, context=16)
    stream = engine.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(corpus) == -(-(len(stream) - 1) // 16)
    for epoch in range(2):
        windows = corpus.draw(len(corpus))
        assert Counter(t for w in windows for t in w.token_ids) == Counter(stream[1:])
        assert all(len(w.prompt_ids) == 1 and len(w.token_ids) <= 16 for w in windows)
        assert Counter(p for w in windows for p in pairwise((*w.prompt_ids, *w.token_ids))) == Counter(pairwise(stream))
        assert corpus.epochs == epoch + 1
    order = [Corpus(text, engine, context=16, seed=seed).draw(6) for seed in (0, 0, 1)]
    assert order[0] == order[1] != order[2]


def test_the_cursor_goes_on(text: Path, tmp_path: Path) -> None:
    engine = shared_engine()
    corpus = Corpus(text, engine, context=16)
    corpus.draw(len(corpus) + 3)
    corpus.save(tmp_path)
    resumed = Corpus(text, engine, context=16)
    resumed.load(tmp_path)
    assert resumed.draw(9) == corpus.draw(9)
    for other in (Corpus(text, engine, context=8), Corpus(text, engine, context=16, seed=1)):
        with pytest.raises(ValueError, match="changed since the checkpoint"):
            other.load(tmp_path)
    text.write_text(TEXT.replace("small", "large"), encoding="utf-8")
    with pytest.raises(ValueError, match="changed since the checkpoint"):
        Corpus(text, engine, context=16).load(tmp_path)


def test_rows_of_a_file(tmp_path: Path) -> None:
    """Documents are one stream with an end after each; of a chat the reply is learned. Control tokens are letters."""
    engine = shared_engine()
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "one<|eot_id|>"}, {"prompt": "2 + 2?", "reference": "4"}, {"text": "two"}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    corpus = Corpus(file, engine, context=64)
    windows = corpus.draw(2)
    chat = engine.encode({"system": "", "user": "2 + 2?"}, "4")
    assert len(corpus) == 2 and chat in windows
    (stream,) = [w for w in windows if w != chat]
    ids, end = (*stream.prompt_ids, *stream.token_ids), engine.tokenizer.eos_token_id
    assert ids.count(end) == 2 and ids[-1] == end and engine.tokenizer.decode(ids[:13]) == "one<|eot_id|>"


def test_a_template_makes_a_text_of_any_rows(tmp_path: Path) -> None:
    engine, file = shared_engine(), tmp_path / "rows.jsonl"
    file.write_text('{"title": "A", "body": 1}\n{"title": "B", "body": "x", "text": "no"}\n', encoding="utf-8")
    (window,) = Corpus(file, engine, says="{title}: {body}\n", context=64).draw(1)
    ids = (*window.prompt_ids, *window.token_ids)
    assert engine.tokenizer.decode(ids) == "A: 1\nB: x\n"
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: learner\.corpus_says='\{tilte\}' may name title, body"):
        Corpus(file, engine, says="{tilte}")
    with pytest.raises(ValueError, match=r"is for rows, and corpus\.txt is a text"):
        Corpus(tmp_path / "corpus.txt", engine, says="{title}")


def test_refusals_of_a_corpus(tmp_path: Path) -> None:
    engine, file = shared_engine(), tmp_path / "rows.jsonl"
    wrong: list[tuple[str, bytes, int]] = [
        (r"rows\.jsonl:2: the line is not JSON", b'{"text": "a"}\n{', 16),
        (r"rows\.jsonl:1: a row has the column 'text', or 'prompt' and 'reference'", b'{"prompt": "a"}', 16),
        (r"rows\.jsonl:1: a row is a JSON object, and this is a list", b"[]", 16),
        (r"the chat is longer than learner\.context=16", b'{"prompt": "a", "reference": "b"}', 16),
        (r"is not UTF-8", b"\xff\xfe", 16),
        (r"holds nothing to predict", b"", 16),
        (r"learner\.context=4096 must be 1 or more, and 'tiny llama' has 512 positions", b"", 4096),
    ]
    for message, content, context in wrong:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Corpus(file, engine, context=context)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        Corpus(tmp_path / "nowhere.txt", engine)
