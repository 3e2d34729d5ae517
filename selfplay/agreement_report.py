"""The agreement report: what ``scores.jsonl`` says of two verifiers, whole, by step, by role, and at its worst.

The report is one JSON value, ``agreement.json``; the table on the screen and the picture are drawn from it alone.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from selfplay.agreement import STATISTICS, Agreement, Watched, compare, watch, widening
from selfplay.judged import Judged, judged_cases

BINS = 20
TEXT = 300  # characters of a query or an answer that a report keeps; scores.jsonl has them whole
SCORES = "scores.jsonl"

Payoff = Mapping[str, Mapping[str, float]]


class AgreementError(ValueError):
    """Two verdicts that cannot be compared, in one sentence."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which column is judged against which: ``stored.<part>`` is what was paid, ``new.<part>`` the other verdict.

    ``replaced`` maps a stored part to the new one that takes its place when a role is paid anew.
    """

    columns: tuple[tuple[str, str], ...]
    replaced: Mapping[str, str]
    gold_is_new: bool


def pair(stored: Sequence[str], new: Sequence[str], gold: str | None = None) -> Pairing:
    """Each stored part against the new part of its name, or against the only new one there is.

    ``gold="new.<part>"`` holds every stored part against that one; ``gold="stored.<part>"`` turns the question round:
    how good are the new verifier, and the other stored parts, where that part is right? A role is paid anew with the
    parts of the same name replaced, the others kept; where no name is shared and there is one new part (or one that
    ``gold`` names), that takes the place of them all. Raises ``AgreementError``.
    """
    side, _, part = (gold or "").partition(".")
    known = {"stored": stored, "new": new}
    if gold and part not in known.get(side, ()):
        choices = [f"new.{name}" for name in new] + [f"stored.{name}" for name in stored]
        raise AgreementError(f"rescore.gold={gold} is no column; there are {', '.join(choices)}")
    only = part if side == "new" else new[0] if len(new) == 1 else None
    shared = {name: name for name in stored if name in new}
    replaced = shared or (dict.fromkeys(stored, only) if only else {})
    if side == "stored":
        others = [f"new.{name}" for name in new] + [f"stored.{name}" for name in stored if name != part]
        return Pairing(tuple((other, f"stored.{part}") for other in others), replaced, False)
    matched = {name: part if side == "new" else name if name in new else only for name in stored}
    alone = [name for name, match in matched.items() if match is None]
    if alone:
        wanted = " or ".join(f"rescore.gold=new.{name}" for name in new)
        raise AgreementError(f"the new verdict has no part {', '.join(alone)}: say what to hold it against, {wanted}")
    return Pairing(tuple((f"stored.{name}", f"new.{match}") for name, match in matched.items()), replaced, True)


def write_report(
    folder: Path,
    judge: str,
    gold: str | None = None,
    threshold: float = 0.5,
    worst: int = 10,
    payoff: Payoff | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare what ``folder/scores.jsonl`` holds; writes ``agreement.json`` and ``agreement.png`` beside it.

    ``judge`` is the new verifier's name, ``payoff`` what a point of each part is worth to each role (none: no role is
    compared), ``worst`` how many disagreements are listed. Raises ``AgreementError`` and ``RecordError``.
    """
    from selfplay.agreement_show import draw

    rows = _Rows(folder / SCORES)
    pairing = pair(rows.parts("stored"), rows.parts("new"), gold)
    report = {
        "judge": judge,
        "threshold": threshold,
        "cases": len(rows.steps),
        "questions": len(set(rows.groups)),
        "steps": [rows.steps[0], rows.steps[-1]],
        "pairs": [_pair(rows, columns, threshold, worst) for columns in pairing.columns],
        "roles": _roles(rows, pairing, payoff or {}),
        "notes": [*notes, *rows.notes],
    }
    report = _plain(report)
    try:
        (folder / "agreement.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="ascii")
        draw(report, folder / "agreement.png")
    except OSError as error:
        raise AgreementError(f"cannot write the report into {folder}: {error.strerror}") from error
    return report


class _Rows:
    """The columns of ``scores.jsonl``. Texts stay on the disk: a report needs those of the worst cases only."""

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()
        self.steps, self.groups, self.cases = list[int](), list[str](), list[tuple[int, int]]()
        self.columns: dict[str, list[float]] = {}
        for row in judged_cases(path, self.notes):
            self.steps.append(row.step)
            self.groups.append(row.group)
            self.cases.append((hash(tuple(sorted(row.case.items()))), row.index))
            sides = {"stored": row.stored, "new": row.new, "returns": row.returns}
            for name, score in ((f"{side}.{part}", v) for side, scores in sides.items() for part, v in scores.items()):
                column = self.columns.setdefault(name, [])
                column += [math.nan] * (len(self.steps) - 1 - len(column)) + [score]
        for column in self.columns.values():
            column += [math.nan] * (len(self.steps) - len(column))
        if not self.steps:
            raise AgreementError(f"{path} holds no case that was judged")

    def parts(self, side: str) -> list[str]:
        return [name.removeprefix(f"{side}.") for name in self.columns if name.startswith(f"{side}.")]

    def bins(self) -> list[range]:
        """Places of the cases of at most ``BINS`` stretches of steps, about equally many steps in each."""
        starts = [place for place, step in enumerate(self.steps) if not place or step != self.steps[place - 1]]
        chunks = np.array_split(np.array(starts), min(BINS, len(starts)))
        edges = [int(chunk[0]) for chunk in chunks] + [len(self.steps)]
        return [range(low, high) for low, high in pairwise(edges)]

    def texts(self, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], Judged]:
        return {(row.step, row.index): row for row in judged_cases(self.path, []) if (row.step, row.index) in wanted}


def _pair(rows: _Rows, columns: tuple[str, str], threshold: float, worst: int) -> dict[str, Any]:
    judged, gold = (rows.columns[name] for name in columns)
    differences = [a - b for a, b in zip(judged, gold, strict=True)]
    bins: list[dict[str, Any]] = []
    looks: list[Watched] = []
    grown: dict[str, int | None] = {"gap": None, "blind": None}
    for part in rows.bins():
        cut = slice(part.start, part.stop)
        groups = rows.groups[cut]
        looks.append(watch(judged[cut], gold[cut], groups))
        for key, step in grown.items():
            if step is None and widening([look[key] for look in looks]):
                grown[key] = rows.steps[part.stop - 1]
        span = {"first": rows.steps[part.start], "last": rows.steps[part.stop - 1]}
        bins.append(span | numbers(compare(judged[cut], gold[cut], groups, threshold)))
    return {
        "judged": columns[0],
        "gold": columns[1],
        "alarm": grown["gap"],  # the last step of the stretch in which the gap was seen to have widened
        "blind": grown["blind"],  # the same for the share of what was paid that gold cannot tell
        "all": numbers(compare(judged, gold, rows.groups, threshold)),
        "by_step": bins,
        "worst": _worst(rows, columns, differences, worst),
    }


def _worst(rows: _Rows, columns: tuple[str, str], differences: Sequence[float], number: int) -> list[dict[str, Any]]:
    """The distinct cases with the largest disagreement; among equals the most frequent, then the latest."""
    times: dict[int, int] = {}
    place_of: dict[int, int] = {}
    for place, difference in enumerate(differences):
        case = rows.cases[place][0]
        if abs(difference) > 0:  # false for nan
            times[case] = times.get(case, 0) + 1
            seen = place_of.get(case)
            if seen is None or abs(difference) >= abs(differences[seen]):
                place_of[case] = place
    chosen = heapq.nlargest(number, place_of, key=lambda c: (abs(differences[place_of[c]]), times[c], place_of[c]))
    places = [place_of[case] for case in chosen]
    names = {place: (rows.steps[place], rows.cases[place][1]) for place in places}
    texts = rows.texts(set(names.values())) if names else {}
    return [
        {
            "step": names[place][0],
            "index": names[place][1],
            "times": times[case],
            "judged": rows.columns[columns[0]][place],
            "gold": rows.columns[columns[1]][place],
            **{slot: cut(text) for slot, text in texts[names[place]].case.items() if text},
        }
        for case, place in zip(chosen, places, strict=True)
    ]


def _roles(rows: _Rows, pairing: Pairing, payoff: Payoff) -> list[dict[str, Any]]:
    """What each role was paid against what the other verdict would have paid it."""
    found: list[dict[str, Any]] = []
    for role, worth in payoff.items():
        earned = rows.columns.get(f"returns.{role}")
        changed = [part for part in worth if part in pairing.replaced and worth[part]]
        if earned is None or not changed:
            continue
        names = {part: f"new.{pairing.replaced[part]}" if part in changed else f"stored.{part}" for part in worth}
        terms = [[weight * score for score in rows.columns[names[part]]] for part, weight in worth.items() if weight]
        anew = [math.fsum(values) for values in zip(*terms, strict=True)]  # nan stays nan
        judged, gold = (earned, anew) if pairing.gold_is_new else (anew, earned)
        result = compare(judged, gold, rows.groups)
        kept = {name: asdict(result.estimates[name]) for name in ("rank", "gap")}
        found.append({"role": role, "replaced": changed, "cases": result.cases, **kept})
    return found


def numbers(result: Agreement) -> dict[str, Any]:
    """An agreement as the report holds it."""
    plain = asdict(result)
    estimates = plain.pop("estimates")
    return plain | {name: estimates[name] for name in STATISTICS}


def cut(text: str) -> str:
    return text if len(text) <= TEXT else text[:TEXT] + "..."


def _plain(value: Any) -> Any:
    """JSON knows no nan: null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
