"""Checkpoints: whole or absent after any kill, every changed byte found, logs cut back to the byte."""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.checkpoint import Checkpoint, CheckpointError, cut_logs, latest, load, save, verify


class Part:
    """A Stateful part that keeps one JSON value."""

    def __init__(self, value: object = None) -> None:
        self.value = value

    def save(self, folder: Path) -> None:
        assert not list(folder.iterdir()), "a part was promised an empty folder"
        (folder / "value.json").write_text(json.dumps(self.value))

    def load(self, folder: Path) -> None:
        self.value = json.loads((folder / "value.json").read_text())


# A trainer of two parts: each step draws from a generator, updates a state that depends on all draws before, records a
# line of varying length and saves. Called as: run folder, last step, event at which it kills itself (0 = never).
SOURCE = """
import json, os, random, signal, sys
from pathlib import Path
from selfplay.checkpoint import cut_logs, latest, load, save
from selfplay.record import Recorder
from selfplay.types import Action, Episode, Turn

folder, last, fatal = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
parts = {"model": Part([0.0] * 50), "random": Part(random.Random(0).getstate())}
events = 0
def count(event, args):
    global events
    if event.startswith(("open", "os.", "shutil.")):
        events += 1
        if events == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
if fatal:
    sys.addaudithook(count)

checkpoint = latest(folder / "checkpoints")
logs = [folder / "metrics.jsonl", folder / "episodes.jsonl", folder / "timings.jsonl"]
if checkpoint:
    load(checkpoint, parts)
    cut_logs(checkpoint, logs)
with Recorder(folder, tensorboard=False) as recorder:
    if not checkpoint:
        save(folder / "checkpoints", 0, parts, logs=recorder.logs)
    for step in range(checkpoint.step + 1 if checkpoint else 1, last + 1):
        generator = random.Random()
        version, words, gauss = parts["random"].value
        generator.setstate((version, tuple(words), gauss))
        weights = parts["model"].value = [0.9 * value + generator.random() for value in parts["model"].value]
        turn = Turn("solver", "solver_0", {"user": "?"}, Action("word " * generator.randrange(200)), 0)
        episode = Episode((turn,), {"solver": weights[0]}, {"query": "?"}, {"score": weights[1]})
        parts["random"].value = generator.getstate()
        recorder.step(step, {"loss": sum(weights)}, [episode], {"total": 1.0})
        save(folder / "checkpoints", step, parts, logs=recorder.logs, extra={"seed": 0})
        print(step, flush=True)
print("end", flush=True)
"""
TRAINER = "from __future__ import annotations\n" + inspect.getsource(Part) + SOURCE


def train(folder: Path, last: int, fatal: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAINER, str(folder), str(last), str(fatal)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newest(root: Path) -> int:
    """The step of the newest checkpoint, after reading every one that is there."""
    return max(verify(folder).step for folder in root.iterdir() if not folder.name.startswith("."))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"1\n2\n")
    parts = {"model": Part([1.5]), "bank": Part(["a"])}
    return verify(save(tmp_path / "checkpoints", 3, parts, logs=[log], extra={"note": [1, 2.5, None]}))


def test_model_lies_in_the_root_and_everything_returns(checkpoint: Checkpoint) -> None:
    assert sorted(content(checkpoint.path)) == ["manifest.json", "state/bank/value.json", "value.json"]
    assert checkpoint.path.name == "3"
    assert (checkpoint.step, checkpoint.parts) == (3, ("bank", "model"))
    assert checkpoint.logs == {"metrics.jsonl": 4}
    assert checkpoint.extra == {"note": [1, 2.5, None]}
    parts = {"bank": Part(), "model": Part()}
    load(checkpoint, parts)
    assert parts["model"].value == [1.5] and parts["bank"].value == ["a"]


def test_kill_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    """24 times kill -9 at a random moment: nothing is unreadable, and the finish is an unbroken run's to the byte."""
    moments = random.Random(1)
    broken, reached = tmp_path / "broken", 0
    for _ in range(24):
        trainer = train(broken, last=10**9)
        assert trainer.stdout
        lines = [trainer.stdout.readline() for _ in range(moments.randrange(1, 4))]
        time.sleep(moments.uniform(0, 0.01))
        trainer.kill()
        rest, _ = trainer.communicate()
        assert trainer.returncode == -signal.SIGKILL
        reached = max(int(line) for line in [*lines, *rest.split("\n")[:-1]])
        assert newest(broken / "checkpoints") in (reached, reached + 1), "more than the step under way was lost"
    last = reached + 3
    for folder in (broken, tmp_path / "unbroken"):
        output, _ = train(folder, last).communicate(timeout=120)
        assert output.endswith("end\n")
    assert content(broken) == content(tmp_path / "unbroken")
    assert (broken / "metrics.jsonl").read_bytes().count(b"\n") == last


def test_kill_at_file_operations_all_over_a_save(tmp_path: Path) -> None:
    """The same at every 13th open, rename, remove, ... from a resume at step 1 on, through two saves and a prune."""
    train(tmp_path / "start", 1).communicate(timeout=60)
    train(tmp_path / "unbroken", 4).communicate(timeout=60)
    fatal, found_steps = 3, set[int]()
    while True:
        folder = tmp_path / f"killed-{fatal}"
        shutil.copytree(tmp_path / "start", folder)
        output, _ = train(folder, 3, fatal).communicate(timeout=60)
        if output.endswith("end\n"):
            break
        found_steps.add(newest(folder / "checkpoints"))
        train(folder, 4).communicate(timeout=60)  # one further, for a kill within the last prune left one to drop
        assert content(folder) == content(tmp_path / "unbroken")
        fatal += 13
    assert found_steps >= {1, 2}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = {"model": Part([0.25] * 4), "bank": Part("x" * 40)}
    return save(tmp_path_factory.mktemp("victim"), 12, parts, extra={"note": "n"})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_found(data: st.DataObject, victim: Path) -> None:
    path = victim / data.draw(st.sampled_from(sorted(content(victim))))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        flipped = whole[place] ^ (1 << data.draw(st.integers(0, 7)))
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=path.name):
        verify(victim)
    path.write_bytes(whole)
    verify(victim)


def test_latest_passes_over_what_is_broken_and_says_why(tmp_path: Path) -> None:
    assert latest(tmp_path) is None and latest(tmp_path / "never") is None
    for step in (1, 2, 3):
        save(tmp_path, step, {"model": Part(step)}, keep=3)
    (tmp_path / "3" / "value.json").write_text("30")
    (tmp_path / "2" / "manifest.json").unlink()
    (tmp_path / "best").mkdir()
    with pytest.warns(RuntimeWarning) as told:
        found = latest(tmp_path)
    assert found and found.step == 1
    assert [str(warning.message) for warning in told] == [
        f"Passing over a broken checkpoint. {tmp_path / '3' / 'value.json'} is not 1 bytes long as it was written.",
        f"Passing over a broken checkpoint. {tmp_path / '2'} has no manifest.json, so it is no checkpoint or an "
        f"incomplete copy of one.",
    ]


def test_added_lost_renamed_and_linked_files_are_found(checkpoint: Checkpoint) -> None:
    intruder = checkpoint.path / "model.safetensors"
    intruder.write_text("other weights that a loader would prefer")
    with pytest.raises(CheckpointError, match=r"also holds the file model\.safetensors"):
        verify(checkpoint.path)
    intruder.unlink()
    intruder.symlink_to(checkpoint.path / "value.json")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is neither a plain file nor a folder"):
        verify(checkpoint.path)
    intruder.unlink()
    with pytest.raises(CheckpointError, match=r"says in its manifest\.json that it is step 3"):
        verify(checkpoint.path.rename(checkpoint.path.with_name("9")))


def test_keep_counts_whole_checkpoints_only(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, {"model": Part(step)}, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["2", "3"]
    (tmp_path / "3" / "value.json").write_text("3 ")
    save(tmp_path, 4, {"model": Part(4)}, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["2", "3", "4"]  # 3 is broken, so 2 is the second whole one
    save(tmp_path, 5, {"model": Part(5)}, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["4", "5"]


def test_leftovers_are_swept_and_a_broken_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1, {"model": Part(1)})
    save(tmp_path, 2, {"model": Part(2)})
    (tmp_path / ".2.tmp-77" / "state").mkdir(parents=True)
    (tmp_path / "2" / "value.json").unlink()
    with pytest.warns(RuntimeWarning, match="lacks the file value.json"):
        found = latest(tmp_path)
    assert found and found.step == 1
    save(tmp_path, 2, {"model": Part("again")})
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    part = Part()
    load(verify(tmp_path / "2"), {"model": part})
    assert part.value == "again"


def test_a_failed_save_leaves_no_trace(tmp_path: Path) -> None:
    class Bomb(Part):
        def save(self, folder: Path) -> None:
            super().save(folder)
            raise OSError(28, "No space left on device", str(folder / "value.json"))

    save(tmp_path, 1, {"model": Part(1)})
    with pytest.raises(CheckpointError, match=r"Cannot save the checkpoint .*2: No space left on device \(.*value"):
        save(tmp_path, 2, {"model": Part(2), "bank": Bomb(0)})
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("step", [1, 2])
def test_going_back_in_time_is_refused(tmp_path: Path, step: int) -> None:
    save(tmp_path, 2, {"model": Part(2)})
    with pytest.raises(CheckpointError, match=f"2 is already a whole checkpoint, so step {step} cannot be saved"):
        save(tmp_path, step, {"model": Part(0)})
    part = Part()
    load(verify(tmp_path / "2"), {"model": part})
    assert part.value == 2 and os.listdir(tmp_path) == ["2"]


def test_bad_requests_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    root, greedy = tmp_path / "other", Part()
    greedy.save = lambda folder: (folder / "state").mkdir()  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="no part 'bnak'; the nearest is 'bank'"):
        load(checkpoint, {"bnak": Part()})
    with pytest.raises(CheckpointError, match=r"no log 'metrics\.json'; the nearest is 'metrics\.jsonl'"):
        cut_logs(checkpoint, [tmp_path / "metrics.json"])
    with pytest.raises(CheckpointError, match="'model' wrote 'state'"):
        save(root, 1, {"model": greedy})
    with pytest.raises(CheckpointError, match=r"The part '\.\./x' cannot name a folder"):
        save(root, 1, {"../x": Part()})
    with pytest.raises(CheckpointError, match="plain JSON"):
        save(root, 1, {}, extra={"score": float("nan")})
    with pytest.raises(CheckpointError, match="keep=0"):
        save(root, 1, {}, keep=0)
    with pytest.raises(CheckpointError, match="different file names"):
        save(root, 1, {}, logs=[tmp_path / "a" / "log", tmp_path / "b" / "log"])
    with pytest.raises(CheckpointError, match="No such file"):
        save(root, 1, {}, logs=[tmp_path / "absent.jsonl"])
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Cannot save the checkpoint .*1: .* \(.*file.*\)\."):
        save(tmp_path / "file" / "checkpoints", 1, {"model": Part()})
    with pytest.raises(CheckpointError, match="Cannot read the checkpoints in"):
        latest(tmp_path / "file")


def test_logs_are_cut_together_or_not_at_all(tmp_path: Path) -> None:
    metrics, episodes = tmp_path / "metrics.jsonl", tmp_path / "episodes.jsonl"
    metrics.write_bytes(b"one\n")
    episodes.write_bytes(b"two\n")
    checkpoint = verify(save(tmp_path / "checkpoints", 1, {}, logs=[metrics, episodes]))
    metrics.write_bytes(b"one\nhalf a li")
    episodes.write_bytes(b"tw")
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl has 2 bytes, fewer than the 4 bytes"):
        cut_logs(checkpoint, [metrics, episodes])
    episodes.unlink()
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl is missing"):
        cut_logs(checkpoint, [metrics, episodes])
    assert metrics.read_bytes() == b"one\nhalf a li"
    episodes.write_bytes(b"two\nthree\n")
    cut_logs(checkpoint, [metrics, episodes])
    assert (metrics.read_bytes(), episodes.read_bytes()) == (b"one\n", b"two\n")
