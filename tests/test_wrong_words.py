"""Words of a configuration that fit no game: each is refused in a sentence that says what would do."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from envs import kuhn_poker
from selfplay.audit import open_audit
from selfplay.compose import ConfigError, merge_seats, resolved
from selfplay.table import check_fit, copies
from verifiers.none import Nobody


def test_a_key_that_must_be_set_is_named_whole() -> None:
    with pytest.raises(ConfigError, match=r"^env\.game is not set, and there is no usual value: env\.game=\.\.\.$"):
        resolved(OmegaConf.create({"env": {"game": "???"}}).env)


@pytest.mark.parametrize("number", [0, -3, 1.5, "2"])
def test_games_are_counted_in_whole_numbers(number: object) -> None:
    with pytest.raises(ConfigError, match=f"games={number}: a step plays a whole number of games, at least one"):
        copies(object(), number)  # type: ignore[arg-type]


def test_a_name_like_none_is_told_who_plays() -> None:
    cfg = OmegaConf.create({"seats": {"zz": "human"}, "agent": {}})
    with pytest.raises(ConfigError, match=r"seats\.zz: no such role in this game, where first, second play$"):
        merge_seats(cfg, ["first", "second"])
    game, nobody = kuhn_poker.raw_env(), Nobody()
    with pytest.raises(ConfigError, match=r"branch\.zz: no such role in this game, where first, second play$"):
        check_fit(game, nobody, ["zz"])
    with pytest.raises(ConfigError, match=r"branch\.frst: no such role in this game \(did you mean first\?\)$"):
        check_fit(game, nobody, ["frst"])


def test_where_nobody_judges_there_is_nothing_to_audit(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"audit": "random", "verifier": {"_target_": "verifiers.none.Nobody"}})
    with pytest.raises(ConfigError, match=r"audit: nobody judges this game \(verifier=none\)"):
        open_audit(cfg, tmp_path, lambda node: pytest.fail(f"no judge is made of {node}"))
