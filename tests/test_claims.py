"""The three claims: which runs they compare, what is read from them, and the whole of it once, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from benchmarks import claims
from benchmarks.claims import CLAIMS, COLUMNS, TWO_BY_TWO, VALID, averaged, summed
from benchmarks.claims_draw import Curves, draw, over_seeds
from selfplay.compose import register_resolvers
from selfplay.curves import HELDOUT

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG\r\n"


def composed(words: tuple[str, ...]) -> dict[str, Any]:
    register_resolvers()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        made = OmegaConf.to_container(hydra.compose("config", [*words]), resolve=False)
    assert isinstance(made, dict)
    return made  # type: ignore[return-value]


@pytest.mark.parametrize("pair", [("LSP", "LSP-Zero"), ("LSP, KL 0.3", "LSP-Zero, KL 0.3")], ids=lambda pair: pair[0])
def test_lsp_and_lsp_zero_differ_in_the_quality_reward_alone(pair: tuple[str, str]) -> None:
    lsp, zero = (composed(TWO_BY_TWO[label]) for label in pair)
    assert {key for key in lsp if lsp[key] != zero.get(key)} == {"env", "verifier"}
    assert lsp["env"].pop("payoff")["challenger"] == {"score": -1.0, "quality": 1.0}
    assert zero["env"].pop("payoff")["challenger"] == {"score": -1.0}
    assert lsp["env"] == zero["env"] and lsp["verifier"]["score"] == zero["verifier"]


def test_the_kl_of_the_second_pair_is_the_experiments_own() -> None:
    assert composed(TWO_BY_TWO["LSP, KL 0.3"]) == composed(("experiment=lsp",))
    assert composed(TWO_BY_TWO["LSP-Zero"]) == composed(("experiment=lsp_zero",))


def test_every_claim_is_held_against_one_of_its_lines() -> None:
    for claim in CLAIMS.values():
        assert claim.against in claim.lines and HELDOUT in claim.panels


# -- what is read from the runs --------------------------------------------------------------------------------------


def curves(*scores: float, valid: tuple[float, ...] = ()) -> Curves:
    steps = [10 * place for place in range(len(scores))]
    return {
        HELDOUT: (steps, [*scores]),
        f"{HELDOUT}_low": (steps, [score - 0.03 for score in scores]),
        f"{HELDOUT}_high": (steps, [score + 0.03 for score in scores]),
        VALID: (steps[1:], [*valid]) if valid else ([], []),
    }


def test_a_step_is_averaged_since_the_exam_before() -> None:
    line = ([1, 2, 3, 4, 6], [0.0, 1.0, 1.0, 0.5, 0.25])
    assert averaged(line, [0, 2, 4, 5, 6]) == ([2, 4, 6], [0.5, 0.75, 0.25])


def test_lines_are_compared_seed_by_seed() -> None:
    found = {
        "LSP-Zero": [curves(0.3, 0.9, 0.7, valid=(0.9, 0.2)), curves(0.4, 0.8, 0.8, valid=(0.9, 0.1))],
        "LSP": [curves(0.3, 0.6, 0.8, valid=(0.9, 0.9)), curves(0.4, 0.6, 0.9, valid=(0.9, 0.9))],
    }
    zero, lsp = summed("zero", found)
    assert set(zero) == set(COLUMNS)
    assert zero["peak"] == pytest.approx(0.85) and zero["end"] == pytest.approx(0.75)
    assert zero["gap"] is None and zero["valid"] == pytest.approx(0.15) and zero["steps"] == 20
    assert lsp["gap"] == "+0.100 +- 0.000" and lsp["versus"] == "LSP-Zero"  # both seeds by the same
    assert lsp["gain"] == "+0.500 +- 0.000" and lsp["start"] == pytest.approx(0.35)
    alone = {label: runs[:1] for label, runs in found.items()}
    assert summed("zero", alone)[1]["gap"] == "+0.100 +- 0.042" and summed("zero", alone)[1]["spread"] is None


def test_only_steps_of_every_seed_are_drawn(tmp_path: Path) -> None:
    whole, short = curves(0.3, 0.5, 0.7), curves(0.3, 0.7)
    steps, means, halves = over_seeds([whole[HELDOUT], short[HELDOUT]])
    assert steps == [0, 10] and means == pytest.approx([0.3, 0.6])
    assert halves == pytest.approx([0.0, 12.706 * 0.1])
    runs = {"LSP": [whole, short], "LSP, KL 0.3": [curves(0.3, 0.4, valid=(0.9,))], "GRPO": [curves(0.2, 0.9)]}
    file = draw(tmp_path / "x.png", "X", {HELDOUT: "a", VALID: "b"}, runs)
    assert file.read_bytes().startswith(PNG) and file.stat().st_size > 10_000


@pytest.mark.slow
def test_the_whole_of_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``main.py`` itself, two steps a run; a second call finds everything done."""
    page = tmp_path / "page.md"
    page.write_text("<!-- claims -->\n<!-- /claims -->\n", encoding="utf-8")
    words = ["--only", "after", "--seeds", "0", "--jobs", "1", "--steps", "2", "--start-steps", "1"]
    words += ["--runs", str(tmp_path / "runs"), "--figures", str(tmp_path), "--write", str(page)]
    words += ["--json", str(tmp_path / "x.json"), "--set", "exam.limit=20", "exam.final_samples=1", "branch.solver=2"]
    claims.main(words)
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [row["label"] for row in rows] == list(CLAIMS["after"].lines)
    assert {row["start"] for row in rows} == {rows[0]["start"]}, "they begin at one checkpoint"
    assert (tmp_path / "claims_after.png").read_bytes().startswith(PNG)
    before = page.read_text(encoding="utf-8")
    assert before.count("\n| after |") == 5
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("metrics.jsonl")}
    claims.main(words)
    assert page.read_text(encoding="utf-8") == before
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert "claims_after.png" in capsys.readouterr().err
