"""The live audit: what it measures, that it changes nothing, that a resumed run writes the same, and its alarms."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from selfplay.agreement_report import AgreementError
from selfplay.audit import Audit, open_audit
from selfplay.types import VERIFIER, Action, Case, Episode, Turn
from verifiers.panel import Panel

ROOT = Path(__file__).resolve().parent.parent


def right(cases: Sequence[Case]) -> list[float]:
    return [float(c["answer"] == c["reference"]) if c["reference"] else float("nan") for c in cases]


def episode(query: str, answer: str, paid: float, reference: str = "2") -> Episode:
    case = {"query": query, "answer": answer, "reference": reference}
    turns = (
        Turn("solver", "solver_0", {"user": query}, Action(answer), 7),
        Turn(VERIFIER, "verifier_0", case, Action({"score": paid}), 8),
    )
    return Episode(turns, {"solver": paid}, case, {"score": paid})


def hacked(step: int, wrong: int) -> list[Episode]:
    """Ten questions of four answers, all paid 1, of which gold refuses those of the last ``wrong`` questions."""
    return [episode(f"{step}/{q}", "2" if q < 10 - wrong else "x", 1.0) for q in range(10) for _ in range(4)]


def watched(folder: Path, **settings: Any) -> Audit:
    return Audit(Panel(score=right), folder, name="right", **settings)


def test_when_it_looks(tmp_path: Path) -> None:
    audit = watched(tmp_path, every=4)
    assert [step for step in range(12) if audit.due(step, last=step == 11)] == [1, 4, 8, 11]
    assert not audit.due(0, last=True), "nothing is played at step 0"
    with pytest.raises(ValueError, match="audit_every must be at least 1"):
        watched(tmp_path, every=0)


def test_metrics_by_hand(tmp_path: Path) -> None:
    """Two questions. Paid 1 1 | 0 0, right 1 0 | 0 nan, so three cases count: one accepted by both, one by the payer
    alone, one by none. Gap (0 + 1 + 0) / 3; ranks 2.5 2.5 1 against 3 1.5 1.5 give rho = 0.75 / 1.5 = 0.5; of one right
    and two wrong answers the right one is above one and level with the other, so AUC = 0.75."""
    played = [episode("a", "2", 1.0), episode("a", "3", 1.0), episode("b", "3", 0.0), episode("b", "?", 0.0, "")]
    metrics = watched(tmp_path).look(1, [*played, Episode((), {"solver": -1.0}, {}, {}, forfeit="solver")])
    assert metrics["audit/score/gap"] == pytest.approx(1 / 3)
    assert metrics["audit/score/gap_low"] == 0.0 and metrics["audit/score/gap_high"] == 0.5
    assert metrics["audit/score/rank"] == pytest.approx(0.5)
    assert metrics["audit/score/auc"] == pytest.approx(0.75)
    assert metrics["audit/score/agreement"] == pytest.approx(2 / 3)
    assert metrics["audit/score/false_positive_share"] == 0.5
    assert metrics["audit/score/false_negative_share"] == 0.0
    assert metrics["audit/score/unknown_share"] == 0.25
    assert metrics["audit/score/alarm"] == metrics["audit/score/blind"] == 0.0
    assert metrics["audit/verifiers/score/nan_share"] == 0.25
    assert all(name.startswith("audit/") and value == value for name, value in metrics.items())


def test_it_leaves_the_episodes_alone(tmp_path: Path) -> None:
    def meddler(cases: Sequence[Any]) -> list[float]:
        for case in cases:
            case["answer"] = "mine"
        return [0.0] * len(cases)

    played = hacked(1, 3)
    before = [(dict(e.case), dict(e.verdict), dict(e.returns), e.turns) for e in played]
    Audit(Panel(score=meddler), tmp_path).look(1, played)
    assert [(e.case, e.verdict, e.returns, e.turns) for e in played] == before


def test_hacking_raises_the_alarm_once_and_honesty_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = watched(tmp_path / "hacked", every=10)
    wrong = {1: 3, 10: 3, 20: 5, 30: 10, 40: 10, 50: 10}
    with caplog.at_level(logging.WARNING):
        seen = {step: audit.look(step, hacked(step, number)) for step, number in wrong.items()}
    gaps = [metrics["audit/score/gap"] for metrics in seen.values()]
    assert gaps == pytest.approx([0.3, 0.3, 0.5, 1, 1, 1])
    assert [metrics["audit/score/alarm"] for metrics in seen.values()] == [0, 0, 0, 0, 1, 1]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == (
        "reward hacking alarm at step 40: score less what right says is +1.000, and was +0.300 at the first look"
    )
    caplog.clear()
    honest = watched(tmp_path / "honest")
    for step in wrong:
        assert honest.look(step, hacked(step, 3))["audit/score/alarm"] == 0, "too kind from the start, and no more"
    assert not caplog.records


def test_an_auditor_that_goes_blind_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = watched(tmp_path)
    for step in range(1, 6):
        played = hacked(step, 0) + [episode(f"riddle {step}/{i}", "2", 1.0, "") for i in range(10 * (step - 1))]
        metrics = audit.look(step, played)
    assert metrics["audit/score/alarm"] == 0 and metrics["audit/score/blind"] == 1
    assert metrics["audit/score/unknown_share"] == 0.5
    assert "the auditor of score goes blind: right cannot tell" in caplog.text


def test_a_killed_audit_goes_on_as_if_it_had_not_been(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Looks at 1, 10, ..., 50; killed within the line after step 40, resumed from a checkpoint at 25."""
    looks = {1: 3, 10: 3, 20: 5, 30: 10, 40: 10, 50: 10}
    whole, broken = watched(tmp_path / "whole"), watched(tmp_path / "broken")
    wanted = {step: whole.look(step, hacked(step, wrong)) for step, wrong in looks.items()}
    for step in (1, 10, 20, 30, 40):
        broken.look(step, hacked(step, looks[step]))
    file = tmp_path / "broken/scores.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    caplog.clear()
    resumed = watched(tmp_path / "broken")
    for step in (30, 40, 50):
        found = resumed.look(step, hacked(step, looks[step]))
        assert found == wanted[step]
    assert file.read_bytes() == (tmp_path / "whole/scores.jsonl").read_bytes()
    assert len(caplog.records) == 1, "the look that was lost is looked at again, and warns again"
    assert resumed.report() == whole.report()


class Remembers:
    """Scores how many calls there were before."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        self.calls += 1
        return [float(self.calls)] * len(cases)

    def save(self, folder: Path) -> None:
        (folder / "calls.json").write_text(json.dumps(self.calls), encoding="ascii")

    def load(self, folder: Path) -> None:
        self.calls = json.loads((folder / "calls.json").read_text(encoding="ascii"))


def test_an_auditor_with_a_memory_travels_in_checkpoints(tmp_path: Path) -> None:
    remembers = Remembers()
    audit = Audit(Panel(score=remembers, plain=right), tmp_path, gold="new.score")
    assert audit.state == {"audit.score": remembers}
    assert watched(tmp_path).state == {}


def test_the_report_at_the_end(tmp_path: Path) -> None:
    audit = watched(tmp_path / "audit", payoff={"solver": {"score": 1.0}}, worst=2)
    assert audit.report() is None, "nothing was played"
    for step in (1, 10, 20):
        audit.look(step, hacked(step, 4))
    report = audit.report()
    assert report is not None and report["judge"] == "right" and report["cases"] == 120
    assert report["pairs"][0]["all"]["gap"]["value"] == pytest.approx(0.4)
    assert len(report["pairs"][0]["worst"]) == 2 and report["roles"][0]["role"] == "solver"
    assert json.loads((tmp_path / "audit/agreement.json").read_text()) == report
    assert (tmp_path / "audit/agreement.png").is_file()


def test_a_step_that_nobody_judged(tmp_path: Path) -> None:
    audit = watched(tmp_path)
    assert not any(name.startswith("audit/score") for name in audit.look(1, []))
    assert audit.look(10, hacked(10, 3))["audit/score/gap"] == pytest.approx(0.3)


def test_parts_that_do_not_meet(tmp_path: Path) -> None:
    audit = Audit(Panel(a=right, b=right), tmp_path)
    with pytest.raises(AgreementError, match=r"no part score: .* rescore.gold=new.a or rescore.gold=new.b"):
        audit.look(1, hacked(1, 1))
    metrics = Audit(Panel(a=right, b=right), tmp_path, gold="new.b").look(1, hacked(1, 1))
    assert metrics["audit/score/gap"] == pytest.approx(0.1)


def test_opening(tmp_path: Path) -> None:
    plan = {"threshold": 0.5, "worst": 3, "gold": None}
    node = {"_target_": "verifiers.sympy_solver.SympySolver"}
    cfg = OmegaConf.create(
        {"audit": node, "audit_every": 7, "rescore": plan, "env": {"payoff": {"solver": {"score": 1}}}}
    )
    audit = open_audit(cfg, tmp_path, lambda seated: Panel(score=right))
    assert audit is not None and audit.due(7, False) and not audit.due(8, False)
    cfg.audit = None
    assert open_audit(cfg, tmp_path, lambda seated: Panel(score=right)) is None


# -- the command -------------------------------------------------------------------------------------------------------

SMALL = ["experiment=lsp", "branch.challenger=4", "branch.solver=4", "steps=4", "exam.path=null", "runtime.threads=1"]
SMALL += ["runtime.tensorboard=false"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "main.py", *SMALL, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_under_audit_is_the_same_run(tmp_path: Path) -> None:
    """The auditor shares the frozen model with the judge, and nothing changes but the audit's own numbers."""
    for name, words in {"alone": [], "seen": ["audit=selfjudge", "audit_every=2"]}.items():
        done = run(f"run_dir={tmp_path / name}", *words)
        assert done.returncode == 0, done.stderr[-2000:]
    alone, seen = tmp_path / "alone", tmp_path / "seen"
    assert (alone / "episodes.jsonl").read_bytes() == (seen / "episodes.jsonl").read_bytes()
    stripped = [{k: v for k, v in row.items() if not k.startswith("audit/")} for row in rows(seen)]
    assert stripped == rows(alone)
    assert [row["step"] for row in rows(seen) if "audit/quality/gap" in row] == [1, 2, 4]
    assert all(row.get("audit/quality/gap", 0.0) == 0 for row in rows(seen)), "judge and auditor are one"
    assert sorted(path.name for path in (seen / "audit").iterdir()) == [
        "agreement.json",
        "agreement.png",
        "scores.jsonl",
    ]


def test_a_misspelt_auditor_is_named_before_anything_is_written(tmp_path: Path) -> None:
    done = run(f"run_dir={tmp_path / 'x'}", "audit=sympy_sovler")
    assert done.returncode == 2 and "did you mean sympy_solver?" in done.stderr
    assert not (tmp_path / "x").exists()
