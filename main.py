"""Sparring's one entry point: it composes the configuration and shows the self-play iteration on one screen.

Only Hydra is imported here; everything heavy is imported by the mode that needs it, so that ``--help`` and a wrong
name answer at once.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from selfplay.compose import (
    OURS,
    ConfigError,
    build,
    check_modules,
    check_targets,
    did_you_mean,
    merge_seats,
    others_seated,
    resolved,
    roles_by_name,
)
from selfplay.console import run

if TYPE_CHECKING:
    from selfplay.table import Table
    from selfplay.types import Verifier
    from verifiers.panel import Panel


def train(cfg: DictConfig) -> None:
    """The self-play iteration: play, judge, learn, look, record, keep."""
    from selfplay import checkpoint, curves
    from selfplay.audit import open_audit
    from selfplay.metrics import count_tokens, describe, timings
    from selfplay.pipeline import open_pipeline
    from selfplay.record import Recorder, Stopwatch, log_files, read
    from selfplay.refill import play_step
    from selfplay.runs import open_run, run_name, write_config
    from selfplay.screen import open_screen, pick_transcript
    from selfplay.seeds import derive
    from selfplay.signals import StopSignal
    from selfplay.summary import report, summarize

    run = open_run(cfg, run_name(), HydraConfig.get().overrides.task)
    cfg, kept = run.cfg, run.checkpoint
    table = seat_players(cfg)
    audit = open_audit(cfg, run.folder, partial(seat_verifier, cfg))  # before a checkpoint's weights: see `reference`
    pipeline = open_pipeline(cfg.pipeline, table.learner)
    state = table.state | (audit.state if audit else {}) | ({"pipeline": pipeline} if pipeline else {})
    watch = Stopwatch(table.least_seconds)
    options = {"cohorts": cfg.cohorts, "max_turns": cfg.max_turns, "watch": watch, "pipeline": pipeline}
    ledger = sys.modules["models.remote"].Ledger() if "models.remote" in sys.modules else None
    state |= {"remote": ledger} if ledger else {}
    tokens, began = 0, time.perf_counter()
    if kept is None:
        write_config(cfg, run.folder)  # now that "auto" has become a choice: a resumed run must not choose again
    else:
        checkpoint.load(kept, state)
        checkpoint.cut_logs(kept, log_files(run.folder, gated=table.gated))
        tokens, began = int(str(kept.extra["tokens"])), began - float(str(kept.extra["seconds"]))

    with (
        StopSignal() as stop,
        Recorder(run.folder, cfg.runtime.tensorboard, table.gated, episodes_every=cfg.runtime.episodes_every) as record,
        open_screen(cfg.steps, table.game.roles) as screen,
    ):

        def keep(step: int) -> None:
            extra = {"tokens": tokens, "seconds": time.perf_counter() - began}
            keep_last = cfg.runtime.keep_checkpoints
            checkpoint.save(run.checkpoints, step, state, logs=record.logs, keep=keep_last, extra=extra)

        screen.say(f"run folder: {run.folder}")
        if kept is None:
            keep(0)
        elif run.first_step:
            screen.update(0, read(record.logs[0])[0])
        for step in range(run.first_step, cfg.steps + 1):
            metrics, episodes = {}, []
            table.begin_step()
            if step:  # step 0 is the exam before any learning
                seed = derive(cfg.seed, "step", step)
                after = derive(cfg.seed, "step", step + 1) if step < cfg.steps else None
                episodes, metrics = play_step(table, cfg.branch, seed=seed, next_seed=after, **options)
                for sentence in table.warnings(episodes):
                    screen.say(sentence)
                metrics |= describe(episodes) | table.metrics() | (ledger.metrics() if ledger else {})
                with watch("update"):
                    metrics |= table.learn(episodes)
                tokens += count_tokens(episodes)
                metrics["num_tokens"] = float(tokens)
            last = step == cfg.steps or stop.asked
            if audit and audit.due(step, last):
                with watch("audit"):
                    metrics |= audit.look(step, episodes)
            if table.examination and table.examination.due(step, last):
                with watch("evaluate"):
                    metrics |= table.examination.sit(derive(cfg.seed, "exam", step), thorough=step == 0 or last)
            times = timings(watch.lap(), count_tokens(episodes))
            record.step(step, metrics, episodes, times, table.decisions())
            screen.update(step, metrics, pick_transcript(episodes), times)
            if step and (step % cfg.runtime.checkpoint_every == 0 or last):
                keep(step)
            if last:
                break
        summary = summarize(read(record.logs[0]), cfg.steps, tokens, time.perf_counter() - began)
        record.summary(summary)
        if audit:
            audit.report()
    screen.say("\n".join((*table.last_words(run.folder), report(summary, run.folder, curves.draw(run.folder)))))


def play(cfg: DictConfig) -> None:
    """One game at the console, with whoever sits where; nobody learns."""
    from agents.human import HumanLeft
    from selfplay.rollout import rollout
    from selfplay.transcript import show

    table = seat_players(cfg)
    try:
        episodes = rollout([table.game], table.agents, seed=cfg.seed, max_turns=cfg.max_turns)
    except HumanLeft:
        print("The game was left; nothing is kept.")
        return
    for episode in episodes:
        show(episode)


def evaluate(cfg: DictConfig) -> None:
    """The held-out exam of one model, and how well the verifier tells its right answers from its wrong ones."""
    import json

    from selfplay.seeds import derive
    from verifiers.panel import guarded

    table = seat_players(cfg)
    if table.examination is None:
        raise ConfigError("mode=eval needs an exam: exam.path=<rows of query and reference, JSONL>")
    seed = derive(cfg.seed, "exam", 0)
    judges = {name: guarded(one, cfg.runtime.verifier_deadline) for name, one in table.panel.verifiers.items()}
    told = table.examination.told(judges, seed)
    print(json.dumps({"model": table.engine.name, "questions": len(table.examination.exam), **told}, indent=2))


def tournament(cfg: DictConfig) -> None:
    """Everybody against everybody, seats swapped; nobody learns."""
    from selfplay.tournament import hold

    hold(cfg, partial(seat_verifier, cfg), partial(set_processor, cfg))


def rescore(cfg: DictConfig) -> None:
    """A stored run judged again by another verifier, and how far the two agree; nobody plays."""
    from selfplay.rescore import judge_again

    if cfg.run is None:
        raise ConfigError("mode=rescore needs a run folder: run=runs/<name>/<time>-<seed>")
    name = str(HydraConfig.get().runtime.choices["verifier"])
    panel = seat_verifier(cfg, cfg.verifier)
    if "torch" in sys.modules:  # the verifier has a model
        set_processor(cfg)
    name = name if name != "custom" else str(cfg.verifier._target_).rpartition(".")[2]
    judge_again(cfg.run, panel, name, **cfg.rescore)


def pretrain(cfg: DictConfig) -> None:
    """The recipe of the embedded model, into ``run_dir``."""
    from models.pretrain import run_recipe

    folder = Path(cfg.run_dir or f"runs/pretrain/{time.strftime('%Y-%m-%d_%H-%M-%S')}-{cfg.seed}")
    set_processor(cfg)
    run_recipe(build(cfg.pretrain, cfg.allow), folder)


def new(cfg: DictConfig) -> None:
    """A package for a verifier or a game of the user's own, ready to be chosen."""
    from selfplay.scaffold import create

    create(cfg.kind or "verifier", cfg.name, cfg.into)


def show_choices(cfg: DictConfig) -> None:
    """Everything that can be chosen here: ours, plugins', and of ``--config-dir``."""
    from selfplay.catalog import show

    show(cfg.kind)


def doctor(cfg: DictConfig) -> None:
    """What holds on this machine, and what would be slow."""
    from selfplay.doctor import examine
    from selfplay.machine import threads_asked
    from verifiers.sandbox import probe

    examine(probe, cfg.run_dir or "runs", cfg.runtime.threads or threads_asked())


def seat_players(cfg: DictConfig) -> Table:
    """Build everybody from the configuration and check that they fit together."""
    from models.native import used
    from selfplay.gate import gate_node, open_gate
    from selfplay.personas import persona_players
    from selfplay.standings import open_standings
    from selfplay.table import Table, check_fit, check_gate, copies, open_examination
    from selfplay.warnings import Warnings
    from verifiers.panel import guarded
    from verifiers.slots import check_slots

    set_processor(cfg)
    engine = build(cfg.model, cfg.allow)
    if "dtype" in cfg.model:  # what "auto" has become
        cfg.model.update(dtype=engine.precision, device=str(engine.device), batch_tokens=engine.batch_tokens)
        cfg.runtime.kernels = used()
    game = build(cfg.env, cfg.allow)
    check_slots(resolved(cfg.verifier), game.slots)
    check_slots(gate_node(cfg), game.slots, "gate")
    panel = seat_verifier(cfg, cfg.verifier)
    check_fit(game, panel, cfg.branch)
    nodes = merge_seats(cfg, roles_by_name(game), others_seated(game)) | persona_players(cfg)
    players = {name: build(node, cfg.allow) for name, node in nodes.items()}
    examination = open_examination(
        resolved(cfg.exam),
        lambda: build(cfg.agent, cfg.allow),
        lambda: guarded(build_verifier(cfg, cfg.exam.verifier), cfg.runtime.verifier_deadline),
    )
    learner = cfg.learner if cfg.mode == "train" else {"_target_": "learners.frozen.Frozen"}
    gate = open_gate(cfg, partial(seat_verifier, cfg)) if cfg.mode == "train" else None
    check_gate(game, gate)
    seated = (copies(game, cfg.games), players, panel, build(learner, cfg.allow), engine)
    return Table(*seated, examination, gate, open_standings(game), Warnings(game, cfg.max_turns))


def seat_verifier(cfg: DictConfig, node: DictConfig) -> Panel:
    """The verifier of a node in its seat, where its failures are nan and counted."""
    from verifiers.panel import seat

    return seat(build_verifier(cfg, node), cfg.runtime.verifier_deadline)


def build_verifier(cfg: DictConfig, node: DictConfig) -> Verifier:
    """The verifier of a node, each of its members where a deadline can be kept."""
    from verifiers.assemble import assemble

    memory = cfg.runtime.verifier_memory_mib
    return assemble(resolved(node), partial(build, allow=cfg.allow), allow=list(cfg.allow), memory_mib=memory)


def set_processor(cfg: DictConfig) -> None:
    """Kernels and CPU threads as told; threads else as many as this process has cores: never torch's own guess."""
    import torch

    from models.native import use
    from selfplay.machine import cores_usable, threads_asked

    use(cfg.runtime.kernels)
    torch.set_num_threads(cfg.runtime.threads or threads_asked() or cores_usable())


MODES = {
    "train": train, "play": play, "eval": evaluate, "tournament": tournament, "rescore": rescore, "pretrain": pretrain,
    "new": new, "list": show_choices, "doctor": doctor,
}  # fmt: skip


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Run one mode; an error of ours is one sentence (HYDRA_FULL_ERROR=1 shows where it came from)."""
    try:
        check_modules()
        if cfg.mode not in MODES:
            raise ConfigError(f"mode={cfg.mode} is unknown{did_you_mean(cfg.mode, MODES)}: {', '.join(MODES)}")
        check_targets(cfg)
        for name in {"models.loading", "models.remote"} & set(sys.modules):
            sys.modules[name].forget()  # a sweep: the next job must find neither trained weights nor a spent budget
        MODES[cfg.mode](cfg)
    except Exception as error:
        ours = type(error).__module__.split(".")[0] in OURS
        if not ours or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"sparring: {error}", file=sys.stderr)
        sys.exit(2)


def cli(words: list[str]) -> int:
    """The command line; returns the exit status. A mode may stand alone: ``python main.py doctor``."""
    return run(main, [f"mode={word}" if word in MODES else word for word in words])


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
