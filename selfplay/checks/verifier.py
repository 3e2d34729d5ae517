"""The judge of verifiers: does a callable keep the contract, whatever it judges?

That a verifier keeps the contract does not make it right: golds and near misses are its author's to write.
"""

from __future__ import annotations

import math
import random
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from selfplay.checks import NASTY
from selfplay.deadline import DeadlinePassed, backstop
from selfplay.deadline import deadline as until
from selfplay.types import Case, Stateful, Verifier

BLANK = ("", " \n\t")
"""Answers that say nothing."""

ROUNDING = 1e-4
"""By how much a score may differ when its neighbours change: a model's batches round differently."""

GRACE = 1.0
"""Seconds that a verifier of the main thread has to notice its deadline by itself."""

_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # the last is torch.save's archive


def check_verifier(
    verifier: Verifier,
    cases: Sequence[Case] | None = None,
    *,
    slot: str = "answer",
    deadline: float | None = 300.0,
    blank_may_score: bool = False,
    order_may_matter: bool = False,
    memory: bool = False,
) -> None:
    """Raise ``AssertionError``, in a sentence, unless the verifier keeps the contract on ``cases`` (default: hostile
    ones).

    - one finite number or nan for each case, none for none, and no exception;
    - the cases are as before, and the same cases score the same again;
    - the order of the batch changes no case's score (``order_may_matter=True`` for those whose chance is drawn for
      the batch as a whole);
    - blank text in ``slot`` scores nan, or no more than the lowest score of any other case (``blank_may_score=True``
      for controls, and for models whose score is what it is);
    - a call ends within ``deadline`` seconds. It runs in a thread that is left behind if it does not; a verifier that
      runs in the main thread (``runs_in``) is interrupted, and None calls it here without a limit;
    - ``metrics()``, if any, gives numbers; ``save`` and ``load``, if any, bring back what was, and pickle nothing.

    ``memory=True`` is for a verifier whose scores depend on what it saw before. It needs ``save`` and ``load``, and all
    of the above is asked from its state at the start.
    """
    given = list(cases) if cases is not None else hostile_cases()
    assert given, "check_verifier needs at least one case"
    with tempfile.TemporaryDirectory(prefix="check-verifier-") as folder:
        trial = _Trial(verifier, deadline, Path(folder) if memory else None)
        trial([])
        scores = trial(given)
        assert _same(scores, trial(given)), "the same cases scored differently the second time"
        if not order_may_matter:
            _check_order(trial, given, scores)
        if not blank_may_score:
            _check_blank(trial, given, slot)
    _check_metrics(verifier)
    if isinstance(verifier, Stateful):
        _check_state(verifier, _Trial(verifier, deadline, None), given)


def hostile_cases() -> list[Case]:
    """Two plain answers and the hostile ones, without a reference; the second has a slot more, as a game may."""
    question = {"query": "1 + 1 = ?", "reference": ""}
    plain: list[Case] = [{**question, "answer": "2"}, {**question, "answer": "3", "draft": "4"}]
    return plain + [{**question, "answer": text} for text in NASTY]


class _Trial:
    """Calls a verifier and checks what holds of any call. With a ``start`` folder it first goes back to the state
    that it was made in."""

    def __init__(self, verifier: Verifier, seconds: float | None, start: Path | None) -> None:
        self._verifier, self._seconds, self._start = verifier, seconds, start
        if start is not None:
            assert isinstance(verifier, Stateful), (
                "a verifier with a memory needs save(folder) and load(folder): a resumed run would judge otherwise"
            )
            verifier.save(start)

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        if self._start is not None:
            cast("Stateful", self._verifier).load(self._start)
        given = [dict(case) for case in cases]
        shown = [dict(case) for case in cases]
        caught = self._call(shown)
        if isinstance(caught.error, DeadlinePassed):
            raise AssertionError(f"the verifier did not end within {self._seconds} s on {len(cases)} cases")
        if caught.error is not None:
            raised = f"the verifier raised {type(caught.error).__name__}: {caught.error}"
            raise AssertionError(f"{raised} ({self._culprit(given)})") from caught.error
        assert len(shown) == len(given), f"the verifier changed the list of {len(given)} cases into one of {len(shown)}"
        for before, after in zip(given, shown, strict=True):
            assert before == after, f"the verifier wrote into its cases ({_told(before)} became {_told(after)})"
        return _scores(caught.value, given)

    def _culprit(self, cases: Sequence[Case]) -> str:
        """The case that raises when it is alone, if there is one."""
        for case in cases:
            if self._call([dict(case)]).error is not None:
                return f"on {_told(case)}"
        return f"on a batch of {len(cases)}, though on none of its cases alone" if cases else "on an empty call"

    def _call(self, shown: list[dict[str, str]]) -> _Caught:
        caught = _Caught()
        seconds = self._seconds
        if seconds is None:
            with caught:
                caught.value = self._verifier(shown)
        elif getattr(self._verifier, "runs_in", "worker") == "main":
            with caught, until(seconds), backstop(seconds + GRACE):
                caught.value = self._verifier(shown)
        else:

            def work() -> None:
                with caught, until(seconds):
                    caught.value = self._verifier(shown)

            # A daemon: a call that never ends must not keep the interpreter from ending.
            thread = threading.Thread(target=copy_context().run, args=(work,), name="check-verifier", daemon=True)
            thread.start()
            thread.join(seconds)
            if thread.is_alive():
                caught = _Caught()  # what the thread still does goes to the old one
                caught.error = DeadlinePassed()
        return caught


class _Caught:
    """What a call gave, or what it raised; Ctrl-C goes through."""

    def __init__(self) -> None:
        self.value: object = None
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, (Exception, SystemExit)):
            self.error = error
        return self.error is not None


def _scores(value: object, cases: Sequence[Case]) -> list[float]:
    """What a call gave, as one number for each case."""
    kind = type(value).__name__
    listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    assert listed, f"the verifier gave {kind} instead of a list of scores"
    scores: list[Any] = list(cast("Iterable[Any]", value))
    assert len(scores) == len(cases), f"{len(scores)} scores for {len(cases)} cases"
    for case, score in zip(cases, scores, strict=True):
        number = isinstance(score, (int, float)) and not isinstance(score, bool)
        assert number and not math.isinf(score), f"{score!r} is not a score: one finite number or nan ({_told(case)})"
    return [float(score) for score in scores]


def _check_order(trial: _Trial, cases: Sequence[Case], scores: Sequence[float]) -> None:
    """Backwards and shuffled. Equal cases may swap their scores: which of two is which cannot be seen."""
    expected = _by_case(cases, scores)
    for places in (list(reversed(range(len(cases)))), random.Random(0).sample(range(len(cases)), len(cases))):
        moved = [cases[i] for i in places]
        for key, found in _by_case(moved, trial(moved)).items():
            same = all(_close(a, b) for a, b in zip(expected[key], found, strict=True))
            assert same, (
                f"the order of the batch changed the scores of {_told(dict(key))}: {expected[key]}, then {found}"
            )


def _check_blank(trial: _Trial, cases: Sequence[Case], slot: str) -> None:
    """Blank text beside the other cases, for the first few questions of theirs."""
    spoken = [case for case in cases if case.get(slot, "").strip()]
    asked = {tuple(sorted({**case, slot: ""}.items())): case for case in cases}
    blanks = [{**case, slot: text} for case in list(asked.values())[:4] for text in BLANK]
    scores = trial([*spoken, *blanks])
    known = [score for score in scores[: len(spoken)] if score == score]
    for case, score in zip(blanks, scores[len(spoken) :], strict=True):
        guessed = bool(known) and score == score and score > min(known) + ROUNDING
        assert not guessed, (
            f"blank text scores {score}, above the lowest other score {min(known)}: it must be nan or no more than any "
            f"({_told(case)}; blank_may_score=True if that is meant)"
        )


def _check_metrics(verifier: Verifier) -> None:
    own = getattr(verifier, "metrics", None)
    if own is None:
        return
    metrics: object = own()
    assert isinstance(metrics, Mapping), f"metrics() gave {type(metrics).__name__} instead of names and numbers"
    for name, value in cast("Mapping[object, Any]", metrics).items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value)
        assert isinstance(name, str) and number, f"metrics() gave {name!r}: {value!r}, which is no name and number"


def _check_state(verifier: Stateful, ask: _Trial, cases: Sequence[Case]) -> None:
    with tempfile.TemporaryDirectory(prefix="check-verifier-") as folder:
        verifier.save(Path(folder))
        for file in Path(folder).rglob("*"):
            pickled = file.is_file() and file.read_bytes()[:4].startswith(_PICKLED)
            assert not pickled, f"save() pickled {file.name}: nothing in a checkpoint is unpickled; write JSON"
        expected = ask(cases)
        ask(cases)  # a memory is somewhere else now
        verifier.load(Path(folder))
        assert _same(expected, ask(cases)), "after load() it judges otherwise than after save()"


def _by_case(cases: Sequence[Case], scores: Sequence[float]) -> dict[tuple[tuple[str, str], ...], list[float]]:
    """Equal cases' scores, ascending, nan last."""
    found: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for case, score in zip(cases, scores, strict=True):
        found.setdefault(tuple(sorted(case.items())), []).append(score)
    return {key: sorted(values, key=lambda value: (value != value, value)) for key, values in found.items()}


def _close(a: float, b: float) -> bool:
    return (a != a and b != b) or abs(a - b) <= ROUNDING


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


def _told(case: Case) -> str:
    text = repr(dict(case))
    return f"case {text if len(text) <= 160 else text[:160] + '...'}"
