"""A data set in a seat: every row once per epoch, an exact resume, and faults that name their line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.dataset import Dataset
from selfplay.types import Chat, Stateful

CHAT: Chat = {"system": "", "user": "Ask something."}


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def draw(data: Dataset, count: int) -> list[Any]:
    actions = data.act([CHAT] * count, list(range(count)))
    assert all(action.completion is None for action in actions)
    return [action.move for action in actions]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return write(tmp_path / "ten.jsonl", [{"prompt": f"q{i}", "reference": f"r{i}"} for i in range(10)])


def test_every_row_once_per_epoch_across_calls(ten: Path) -> None:
    data = Dataset(ten)
    moves = [move for count in (3, 4, 1, 0, 7, 15) for move in draw(data, count)]
    epochs = [moves[start : start + 10] for start in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [[f"q{i}" for i in range(10)]] * 3
    assert epochs[0] != epochs[1] != epochs[2], "each epoch has an order of its own"
    assert epochs[0] != sorted(epochs[0]), "and it is not the file's"


def test_order_depends_on_the_seed_alone(ten: Path) -> None:
    first = draw(Dataset(ten, seed=1), 20)
    assert Dataset(ten, seed=1).act([CHAT] * 20, [9] * 20) == Dataset(ten, seed=1).act([CHAT] * 20, [0] * 20)
    assert draw(Dataset(ten, seed=1), 20) == first != draw(Dataset(ten, seed=2), 20)


@pytest.mark.parametrize("before", [0, 3, 9, 10, 11, 25])
def test_resume_continues_exactly(ten: Path, tmp_path: Path, before: int) -> None:
    data, resumed = Dataset(ten), Dataset(ten)
    assert isinstance(data, Stateful)
    draw(data, before)
    data.save(tmp_path)
    draw(resumed, 17)  # whatever the fresh object did before must not matter
    resumed.load(tmp_path)
    assert draw(resumed, 30) == draw(data, 30)


def test_resume_refuses_other_data(ten: Path, tmp_path: Path) -> None:
    Dataset(ten).save(tmp_path)
    for other in (Dataset(ten, seed=1), Dataset(ten, limit=9), Dataset(ten, says="{reference}")):
        with pytest.raises(ValueError, match="changed since the checkpoint"):
            other.load(tmp_path)


def test_a_sealed_reference_travels_with_the_question(tmp_path: Path) -> None:
    rows = [{"prompt": "1 {or} 2?\nSay.", "reference": {"any": [1, "é"]}}, {"prompt": "6*7", "reference": 42}]
    data = Dataset(write(tmp_path / "a.jsonl", rows), says="{prompt}\n#### {reference}")
    game = re.compile(r"(?P<query>[\s\S]*?)\n#### (?P<reference>[\s\S]*)")
    said = {match["query"]: match["reference"] for move in draw(data, 2) if (match := game.fullmatch(move))}
    assert said == {"1 {or} 2?\nSay.": '{"any": [1, "é"]}', "6*7": "42"}


def test_limit_takes_the_first_rows(ten: Path) -> None:
    data = Dataset(ten, limit=3)
    assert len(data) == 3
    assert sorted(draw(data, 3)) == ["q0", "q1", "q2"]
    assert len(Dataset(ten, limit=100)) == 10
    with pytest.raises(ValueError, match="limit is 0"):
        Dataset(ten, limit=0)


def test_messages(tmp_path: Path) -> None:
    first = [("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2")]
    talk = [{"role": role, "content": text} for role, text in first]
    rows: list[Any] = [
        {"messages": talk},
        {"messages": talk, "prompt": None, "reference": "own"},
        {"prompt": talk, "reference": None},
        {"messages": talk, "prompt": "text wins", "reference": "r"},
    ]
    data = Dataset(write(tmp_path / "a.jsonl", rows), says="{prompt}|{reference}")
    assert sorted(draw(data, 4)) == ["text wins|r", "u2|a2", "u2|a2", "u2|own"]
    unanswered = Dataset(write(tmp_path / "b.jsonl", [{"messages": talk[:4]}]))
    assert draw(unanswered, 1) == ["u2"]
    with pytest.raises(ValueError, match=r"b\.jsonl:1: there is no column 'reference'"):
        Dataset(tmp_path / "b.jsonl", says="{reference}")


@pytest.mark.parametrize("messages", [["hi"], [{"role": "user"}], [{"role": "user", "content": [{"text": "x"}]}]])
def test_messages_that_are_none(tmp_path: Path, messages: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl:1: a message has a 'role' .* and message 1 has not"):
        Dataset(write(tmp_path / "a.jsonl", [{"messages": messages}]))


def test_messages_without_a_user(tmp_path: Path) -> None:
    row = {"messages": [{"role": "assistant", "content": "x"}]}
    with pytest.raises(ValueError, match="none of the role 'user'"):
        Dataset(write(tmp_path / "a.jsonl", [row]))


def test_bom_blank_lines_crlf_and_line_separators(tmp_path: Path) -> None:
    file = tmp_path / "A.JSONL"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\n  \n' + '{"prompt": "é\u2028b"}'.encode())
    assert sorted(draw(Dataset(file), 2)) == ["a", "é\u2028b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows"),
        (b"\n\n", "holds no rows"),
        (b'{"prompt": "a"}\n{"prompt": ', r"a\.jsonl:2: the line is not JSON"),
        (b'{"prompt": "a"}\n\n["b"]', r"a\.jsonl:3: a row is a JSON object, and this is a list"),
        (b'{"prompt": "\xff"}', r"a\.jsonl:1: the line is not UTF-8"),
        (b'{"prompt": ' + b"[" * 100_000, r"a\.jsonl:1: the JSON is nested too deeply"),
        (b'{"prompt": "\\ud83d"}', r"a\.jsonl:1: .* surrogate"),
        (b'{"prompt": "a"}\n{"promt": "b"}', r"a\.jsonl:2: there is no column 'prompt'; did you mean 'promt'\?"),
        (b'{"x": 1, "y": 2}', r"a\.jsonl:1: there is no column 'prompt'; the row has x, y"),
        (b'{"prompt": null}', r"a\.jsonl:1: the column 'prompt' is null"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Dataset(file)


def test_wrong_paths(ten: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tem\.jsonl; did you mean ten\.jsonl\?"):
        Dataset(tmp_path / "tem.jsonl")
    with pytest.raises(FileNotFoundError, match="no data file"):
        Dataset(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(ValueError, match=r"did you mean \.jsonl\?"):
        Dataset(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"known are \.jsonl and \.parquet"):
        Dataset(tmp_path / "a.xyz")


@pytest.mark.parametrize(
    "says", ["", "no column", "{}", "{0}", "{prompt", "{prompt.__class__}", "{a[0]}", "{a!r}", "{a:>9}"]
)
def test_templates_name_columns_only(ten: Path, says: str) -> None:
    with pytest.raises(ValueError, match="template says="):
        Dataset(ten, says=says)


def test_braces_in_the_template_are_doubled(ten: Path) -> None:
    assert draw(Dataset(ten, says="{{{prompt}}}", limit=1), 1) == ["{q0}"]


def test_parquet_equals_jsonl(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": f"q{i} é", "reference": i, "messages": None} for i in range(5)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    says = "{prompt}: {reference}"
    lines = Dataset(write(tmp_path / "a.jsonl", rows), says=says)
    table = Dataset(tmp_path / "a.parquet", says=says)
    assert draw(table, 12) == draw(lines, 12)
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: there is no column 'prompts'; did you mean 'prompt'"):
        Dataset(tmp_path / "a.parquet", says="{prompts}")


def test_parquet_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(arrow.Table.from_pylist([{"prompt": b"bytes"}]), file)
    with pytest.raises(ValueError, match="row 1: the column 'prompt' holds a bytes"):
        Dataset(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a whole parquet file"):
        Dataset(file)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an environment without it looks like to `import`
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        Dataset(file)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 12), calls=st.lists(st.integers(0, 9), max_size=8), seed=st.integers(0, 2**63 - 1))
def test_no_row_repeats_before_all_are_seen(
    tmp_path_factory: pytest.TempPathFactory, size: int, calls: list[int], seed: int
) -> None:
    file = write(tmp_path_factory.mktemp("data") / "a.jsonl", [{"prompt": str(i)} for i in range(size)])
    data = Dataset(file, seed=seed)
    moves = [move for count in calls for move in draw(data, count)]
    for start in range(0, len(moves), size):
        epoch = moves[start : start + size]
        assert len(set(epoch)) == len(epoch)
