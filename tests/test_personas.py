"""Personas with settings of their own: who plays for them, on which weights, and what is said of a wrong one."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from transformers import PreTrainedModel

from agents.llm import LLM
from envs.game import LanguageGame
from main import seat_players
from models.engine import Engine
from models.loading import forget
from models.lora import Lora, LoraError, add_lora, merged
from models.persona import adapted, with_adapter
from selfplay.compose import ConfigError, build, register_resolvers
from selfplay.personas import persona_players
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Chat, Completion
from tests.helpers import make_engine
from verifiers.panel import Panel

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = "{name: Ada, system: 'A'}, {name: Bob, system: 'B'}"


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft", reason="adapters want peft, an extra")


def configure(*words: str, members: str = MEMBERS, seating: str = "pairs", seats: str = "null") -> Any:
    """The configuration of a small duel between personas."""
    register_resolvers()
    cast = f"{{members: [{members}], seating: {seating}, seats: {seats}}}"
    fixed = ["env=lsp", "verifier=random", "branch.challenger=2", "branch.solver=1", "exam.path=null"]
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose("config", overrides=[*fixed, f"++env.personas={cast}", *words])


@pytest.fixture
def fresh() -> Iterator[None]:
    """No model of an earlier test, none for a later one."""
    forget()
    yield
    forget()


# -- who plays for them ----------------------------------------------------------------------------------------------


def test_sampling_makes_a_player_of_its_own() -> None:
    members = MEMBERS + ", {name: Cyd, system: 'C', sampling: {temperature: 0.5, max_tokens: 4}}"
    nodes = persona_players(configure(members=members))
    assert list(nodes) == ["Cyd"], "the others are played by whoever plays the role"
    cyd = build(nodes["Cyd"])
    assert (cyd.temperature, cyd.max_tokens, cyd.top_p, cyd.trained) == (0.5, 4, 1.0, True)
    assert cyd.engine is build(configure().model), "the model that all share"
    assert persona_players(configure("env.personas=null")) == {}


def test_the_model_is_loaded_once(fresh: None, caplog: pytest.LogCaptureFixture) -> None:
    members = MEMBERS + ", {name: Cyd, system: 'C', sampling: {top_p: 0.9}}, {name: Dag, system: 'D'}"
    with caplog.at_level(logging.INFO):
        table = seat_players(configure(members=members))
    assert sum("loaded" in record.message for record in caplog.records) == 1
    engines = {id(player.engine) for player in table.players.values()}  # type: ignore[attr-defined]
    assert engines == {id(table.engine)} and table.players["Cyd"].top_p == 0.9  # type: ignore[attr-defined]


class Counted(LLM):
    """An LLM that counts the rows of each of its calls."""

    calls: list[tuple[float, int]] = []  # noqa: RUF012 - of the class on purpose: a frozen dataclass has no state

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Any]:
        self.calls.append((self.temperature, len(observations)))
        return super().act(observations, seeds)


def test_personas_alike_share_a_batch() -> None:
    """Three tables in all ordered pairs of three: of the six seats that speak first and second, two are Cyd's."""
    names = ("Ada", "Bob", "Cyd")
    cast = {"members": [{"name": name, "system": name} for name in names], "seating": "pairs"}
    turns = [{"role": "one", "says": "query"}, {"role": "other", "says": "answer", "told": "{query}"}]
    game = LanguageGame(turns, {"one": {"score": 1.0}}, personas=cast)
    engine = make_engine()
    shared, cyd = Counted(engine, max_tokens=4), Counted(engine, temperature=0.5, max_tokens=4)
    Counted.calls.clear()
    panel = Panel(score=lambda cases: [1.0] * len(cases))
    players = {"one": shared, "other": shared, "Cyd": cyd, VERIFIER: panel}
    episodes = rollout([copy.deepcopy(game) for _ in range(6)], players, seed=3)
    assert sorted(Counted.calls[:2]) == [(0.5, 2), (1.0, 4)], "one call for Cyd, one for all others"
    assert {tuple(episode.personas.values()) for episode in episodes} == {
        (one, other) for one in names for other in names if one != other
    }


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (
            "sampling: {temperatures: 1}",
            r"personas.members\[2\].sampling has an unknown key 'temperatures' \(did you mean",
        ),
        ("sampling: 3", r"personas.members\[2\].sampling=3 is not a mapping of temperature"),
        ("sampling: {top_p: high}", r"sampling.top_p='high' is not a number"),
        ("adapter: 3", r"personas.members\[2\].adapter=3 is not a folder"),
    ],
)
def test_settings_that_are_none(member: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        persona_players(configure(members=f"{MEMBERS}, {{name: Cyd, system: 'C', {member}}}"))


def test_a_name_is_read_as_the_game_reads_it() -> None:
    """With blanks around it it would be nobody's, and the persona would play by the settings of all others."""
    members = f"{MEMBERS}, {{name: ' Cyd ', sampling: {{top_p: 0.9}}}}"
    assert list(persona_players(configure(members=members))) == ["Cyd"]


def test_a_persona_has_one_player() -> None:
    members = MEMBERS + ", {name: Cyd, system: 'C', sampling: {top_p: 0.9}}"
    with pytest.raises(ConfigError, match=r"seats\.Cyd names another"):
        persona_players(configure("++seats.Cyd=random_text", members=members))
    with pytest.raises(ConfigError, match=r"agents\.scripted\.RandomText does not sample by it"):
        persona_players(configure("agent=random_text", members=members))
    adapter = MEMBERS + ", {name: Cyd, system: 'C', adapter: nowhere}"
    with pytest.raises(ConfigError, match="has no model to put it on"):
        persona_players(configure("agent=random_text", members=adapter))
    with pytest.raises(ConfigError, match=r"temperature=-1"):
        build(persona_players(configure(members=MEMBERS + ", {name: C, sampling: {temperature: -1}}"))["C"])


# -- adapters ----------------------------------------------------------------------------------------------------------


def write_adapter(folder: Path, model: PreTrainedModel, **settings: Any) -> Path:
    """What peft's own ``save_pretrained`` writes of an adapter with some effect."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(**{"r": 2, "lora_alpha": 8.0, "target_modules": ["q_proj", "down_proj"], **settings})
    shell = get_peft_model(copy.deepcopy(model), config)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in shell.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    shell.save_pretrained(str(folder))
    return folder


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits


def words(engine: Engine) -> list[Completion]:
    chats = [{"system": "", "user": f"Say {n}."} for n in range(3)]
    return engine.generate(chats, temperature=1.0, top_p=1.0, max_tokens=8, seeds=[1, 2, 3])


def test_an_adapter_says_what_peft_would(peft: Any, tmp_path: Path) -> None:
    base = make_engine().model
    folder = write_adapter(tmp_path / "cyd", base)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()
    before, seen = copy.deepcopy(base.state_dict()), logits(base)
    for share in (True, False):
        plain = with_adapter(base, folder, share=share)
        torch.testing.assert_close(logits(plain), logits(theirs), atol=1e-4, rtol=1e-4)
        assert plain.state_dict().keys() == base.state_dict().keys()
        assert not any(parameter.requires_grad for parameter in plain.parameters())
    assert torch.equal(logits(base), seen) and all(torch.equal(p, before[n]) for n, p in base.state_dict().items())
    assert all(parameter.requires_grad for parameter in base.parameters()), "the base goes on learning"
    assert not torch.allclose(logits(theirs), seen, atol=1e-3)


@pytest.mark.parametrize("share", [True, False])
def test_what_the_adapter_leaves_alone_is_shared(peft: Any, tmp_path: Path, share: bool) -> None:
    base = make_engine().model
    plain = with_adapter(base, write_adapter(tmp_path / "cyd", base), share=share)
    touched = {name for name, p in plain.named_parameters() if "q_proj" in name or "down_proj" in name}
    theirs = dict(base.named_parameters())
    same = {name for name, p in plain.named_parameters() if p.data_ptr() == theirs[name].data_ptr()}
    assert same == (set(theirs) - touched if share else set())


def test_a_model_that_learns_adapters_lends_its_base(peft: Any, tmp_path: Path) -> None:
    """Shared whatever is said, for nobody writes it; and without the adapters that it learns."""
    base = make_engine().model
    folder = write_adapter(tmp_path / "cyd", base)
    expected = logits(with_adapter(base, folder, share=False))
    learning = copy.deepcopy(base)
    add_lora(learning, Lora(r=4))
    plain = with_adapter(learning, folder, share=False)
    torch.testing.assert_close(logits(plain), expected)
    embedded = plain.get_input_embeddings().weight
    assert embedded.data_ptr() == learning.get_input_embeddings().weight.data_ptr()  # type: ignore[union-attr]
    assert torch.equal(logits(merged(learning)), logits(base))


def test_the_engine_of_an_adapter(peft: Any, tmp_path: Path) -> None:
    engine = make_engine()
    folder = write_adapter(tmp_path / "cyd", engine.model)
    made = adapted(engine, str(folder), share=True)
    assert adapted(engine, str(folder), share=True) is made, "two personas with one adapter share a batch"
    assert adapted(make_engine(), str(folder), share=True) is not made
    assert words(made) != words(engine) and made.work is engine.work


def test_a_table_with_an_adapter(peft: Any, fresh: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody trains its turns; the model is loaded once; where nothing is trained the rest is shared."""
    model = build(configure().model).model
    folder = write_adapter(tmp_path / "cyd", model)
    forget()
    members = MEMBERS + f", {{name: Cyd, system: 'C', adapter: '{folder}', sampling: {{max_tokens: 4}}}}"
    with caplog.at_level(logging.INFO):
        learning = seat_players(configure(members=members))
        measured = seat_players(configure("learner=frozen", members=members))
    assert sum("loaded" in record.message for record in caplog.records) == 1
    for table, shared in ((learning, False), (measured, True)):
        cyd: Any = table.players["Cyd"]
        own = cyd.engine.model.get_input_embeddings().weight.data_ptr()
        assert (own == table.engine.model.get_input_embeddings().weight.data_ptr()) == shared
        assert not cyd.trained and cyd.max_tokens == 4


def test_adapters_that_cannot_be_used(peft: Any, tmp_path: Path) -> None:
    engine = make_engine()
    with pytest.raises(LoraError, match=r"nowhere has no adapter_config\.json"):
        adapted(engine, str(tmp_path / "nowhere"))
    other = write_adapter(tmp_path / "wide", engine.model)
    claimed = json.loads((other / "adapter_config.json").read_text(encoding="utf-8"))
    (other / "adapter_config.json").write_text(json.dumps({**claimed, "r": 4}))
    with pytest.raises(LoraError, match=r"was made for another model: they differ in a shape"):
        adapted(engine, str(other))
    dora = write_adapter(tmp_path / "dora", engine.model, use_dora=True)
    with pytest.raises(LoraError, match="more than plain LoRA"):
        adapted(engine, str(dora))
    missing = write_adapter(tmp_path / "missing", engine.model)
    config = json.loads((missing / "adapter_config.json").read_text(encoding="utf-8"))
    (missing / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["elsewhere"]}))
    with pytest.raises(LoraError, match="fits no layer of the model"):
        adapted(engine, str(missing))
    (missing / "adapter_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoraError, match="cannot be read"):
        adapted(engine, str(missing))
