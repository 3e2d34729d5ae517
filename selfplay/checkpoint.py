"""Checkpoints that a ``kill -9`` cannot break: one new directory per step, sealed by a manifest, renamed into place.

::

    checkpoints/100/                config.json, model.safetensors ...   whatever the part "model" saved
                    state/<part>/                                        every other part
                    manifest.json                                        written last

A directory under its final name is always whole: its files reach the disk before the rename does. The manifest holds
the size and SHA-256 of every file, the byte offset of every log, and a digest of itself, so that a file that was
flipped, cut short, removed or added later is found before anything is loaded. Nothing here is ever unpickled.

A resumed run reads ``latest``, then ``load`` and ``cut_logs``, and goes on with ``step + 1``. A run that saves step 0
before its first log line can always be resumed. One folder has one writer at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from selfplay.types import Stateful

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model"  # the part that is saved in the checkpoint's own folder, where from_pretrained looks
STATE = "state"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, is not whole, or does not hold what was asked of it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory whose manifest was verified. ``logs`` maps a log's file name to its length in bytes at that step."""

    path: Path
    step: int
    parts: tuple[str, ...]
    logs: Mapping[str, int]
    extra: Mapping[str, object]


def save(
    root: Path,
    step: int,
    parts: Mapping[str, Stateful],
    *,
    logs: Sequence[Path] = (),
    keep: int = 2,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """Write ``root/<step>`` so that it appears whole or not at all, then drop all but the ``keep`` newest valid ones.

    ``logs`` are append-only files, flushed by their owner, whose lengths are recorded; ``extra`` is any plain JSON.
    Raises ``CheckpointError`` for a folder that cannot be written, for bad names, and where a whole checkpoint of
    this or a later step is already there: a run that went back in time must not mix with the one that it left.
    """
    if step < 0 or keep < 1:
        raise CheckpointError(f"A checkpoint needs step >= 0 and keep >= 1, not step={step} and keep={keep}.")
    for name in parts:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise CheckpointError(f"The part {name!r} cannot name a folder; use letters, digits, '_', '-' and '.'.")
    body: dict[str, Any] = {"format": FORMAT, "step": step, "parts": sorted(parts), "extra": _plain(extra or {})}
    target, temp = root / str(step), root / f".{step}.tmp-{os.getpid()}"
    with _told(f"Cannot save the checkpoint {target}"):
        root.mkdir(parents=True, exist_ok=True)
        sync(root.parent)
        for stale in root.glob(".[0-9]*.tmp-*"):  # an earlier run was killed here
            shutil.rmtree(stale)
        _refuse_to_rewrite(root, step)
        temp.mkdir()
        try:
            _save_parts(temp, parts)
            body["logs"] = {name: _durable_length(log) for name, log in _by_name(logs).items()}
            body["files"] = {name: _fingerprint(temp / name) for name in _files(temp)}
            (temp / MANIFEST).write_bytes(_seal(body))
            for path in (*temp.rglob("*"), temp):
                sync(path)
            if target.exists():  # broken, or _refuse_to_rewrite had spoken
                _remove(target)
            temp.rename(target)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)  # frees a full disk; what is left the next save sweeps
            raise
        sync(root)
        _prune(root, keep)
    return target


def latest(root: Path) -> Checkpoint | None:
    """The newest checkpoint under ``root`` that verifies, or None. One that does not is passed over with a warning."""
    for step in sorted(_steps(root), reverse=True):
        try:
            return verify(root / str(step))
        except CheckpointError as error:
            warnings.warn(f"Passing over a broken checkpoint. {error}", RuntimeWarning, stacklevel=2)
    return None


def verify(folder: Path) -> Checkpoint:
    """Read one checkpoint after checking every byte of it; ``CheckpointError`` says what is wrong."""
    with _told(f"Cannot read the checkpoint {folder}"):
        if not (folder / MANIFEST).is_file():
            raise CheckpointError(f"{folder} has no {MANIFEST}, so it is no checkpoint or an incomplete copy of one.")
        raw = (folder / MANIFEST).read_bytes()
        body = _unseal(raw, folder)
        if body.get("format") != FORMAT:
            raise CheckpointError(f"{folder} has format {body.get('format')}; this version reads format {FORMAT}.")
        if folder.name.isdecimal() and folder.name != str(body["step"]):
            raise CheckpointError(f"{folder} says in its {MANIFEST} that it is step {body['step']}.")
        recorded: dict[str, dict[str, Any]] = body["files"]
        present = [name for name in _files(folder) if name != MANIFEST]
        for name in sorted(recorded.keys() ^ set(present)):
            fault = "lacks" if name in recorded else "also holds"
            raise CheckpointError(f"{folder} {fault} the file {name}, against its {MANIFEST}.")
        for name in present:
            if (folder / name).stat().st_size != recorded[name]["bytes"]:  # cheap, so before any hash
                raise CheckpointError(f"{folder / name} is not {recorded[name]['bytes']} bytes long as it was written.")
        for name in present:
            if _fingerprint(folder / name) != recorded[name]:
                raise CheckpointError(f"{folder / name} is not what was written: its SHA-256 differs.")
    return Checkpoint(folder, body["step"], tuple(body["parts"]), body["logs"], body["extra"])


def load(checkpoint: Checkpoint, parts: Mapping[str, Stateful]) -> None:
    """Let each part read its own folder back; the checkpoint may hold more parts than are asked for, never fewer."""
    for name in parts:
        if name not in checkpoint.parts:
            raise CheckpointError(f"{checkpoint.path} has no part {name!r}{_nearest(name, checkpoint.parts)}.")
    for name, part in parts.items():
        part.load(_folder_of(checkpoint.path, name))


def cut_logs(checkpoint: Checkpoint, logs: Sequence[Path]) -> None:
    """Cut each log back to its length at the checkpoint's step. Every log is checked before the first one is cut."""
    with _told(f"Cannot cut the logs back to {checkpoint.path}"):
        for name, log in _by_name(logs).items():
            if name not in checkpoint.logs:
                raise CheckpointError(f"{checkpoint.path} recorded no log {name!r}{_nearest(name, checkpoint.logs)}.")
            if not log.is_file():
                raise CheckpointError(f"The log {log} is missing, yet {checkpoint.path} recorded its length.")
            if log.stat().st_size < checkpoint.logs[name]:
                raise CheckpointError(
                    f"The log {log} has {log.stat().st_size} bytes, fewer than the {checkpoint.logs[name]} bytes "
                    f"that {checkpoint.path} recorded."
                )
        for log in logs:
            os.truncate(log, checkpoint.logs[log.name])
            sync(log)


def sync(path: Path) -> None:
    """Force a file's or a directory's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save_parts(temp: Path, parts: Mapping[str, Stateful]) -> None:
    if MODEL in parts:  # first: a part is promised an empty folder
        parts[MODEL].save(temp)
        for name in (STATE, MANIFEST):
            if (temp / name).exists():
                raise CheckpointError(f"The part {MODEL!r} wrote {name!r}, a name that the checkpoint itself uses.")
    for name, part in parts.items():
        if name != MODEL:
            _folder_of(temp, name).mkdir(parents=True)
            part.save(_folder_of(temp, name))


def _folder_of(checkpoint: Path, part: str) -> Path:
    return checkpoint if part == MODEL else checkpoint / STATE / part


def _refuse_to_rewrite(root: Path, step: int) -> None:
    for other in sorted(_steps(root)):
        if other >= step and _is_whole(root / str(other)):
            raise CheckpointError(
                f"{root / str(other)} is already a whole checkpoint, so step {step} cannot be saved: "
                f"resume from it, remove it, or use a new folder."
            )


def _prune(root: Path, keep: int) -> None:
    # Only what is older than the last one kept goes: where fewer than `keep` are whole, nothing is lost.
    whole = 0
    for step in sorted(_steps(root), reverse=True):
        if whole == keep:
            _remove(root / str(step))
        elif _is_whole(root / str(step)):
            whole += 1


def _remove(folder: Path) -> None:
    doomed = folder.with_name(f".{folder.name}.tmp-removed-{os.getpid()}")
    folder.rename(doomed)  # so that a half-removed checkpoint never bears a checkpoint's name
    shutil.rmtree(doomed)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except CheckpointError:
        return False
    return True


def _steps(root: Path) -> list[int]:
    with _told(f"Cannot read the checkpoints in {root}"):
        names = os.listdir(root) if root.exists() else []
    return [int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]*", name)]


def _files(folder: Path) -> list[str]:
    """Relative paths of all files, sorted. Links and devices are refused: what they hold cannot be sealed."""
    names: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path} is neither a plain file nor a folder, so a checkpoint cannot hold it.")
        if path.is_file():
            names.append(path.relative_to(folder).as_posix())
    return names


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _durable_length(log: Path) -> int:
    sync(log)
    sync(log.parent)  # a new file's name is on the disk only when its folder is
    return log.stat().st_size


def _by_name(logs: Sequence[Path]) -> dict[str, Path]:
    named = {log.name: log for log in logs}  # by name, so that the whole run folder may move
    if len(named) != len(logs):
        raise CheckpointError(f"Logs need different file names, not {', '.join(map(str, logs))}.")
    return named


def _seal(body: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "digest": digest}, indent=1, sort_keys=True) + "\n").encode()


def _unseal(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is not readable JSON: {error}.") from error
    if isinstance(body, dict):
        body = {key: value for key, value in cast(dict[str, Any], body).items() if key != "digest"}
        if raw == _seal(body):
            return body
    raise CheckpointError(f"{folder / MANIFEST} was changed after it was written: its own digest differs.")


def _plain(extra: Mapping[str, object]) -> dict[str, object]:
    try:
        return json.loads(json.dumps(extra, allow_nan=False))  # as a reader will see it: the digest is over that
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The extra entries of a checkpoint must be plain JSON: {error}.") from error


def _nearest(name: str, known: Sequence[str] | Mapping[str, int]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; the nearest is {close[0]!r}" if close else "; it has none at all"


@contextmanager
def _told(what: str) -> Generator[None, None, None]:
    """Turn an error of the file system into one sentence."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CheckpointError(f"{what}: {error.strerror or error}{where}.") from error
