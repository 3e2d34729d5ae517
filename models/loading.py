"""Loading a model from a hub id or a folder, once: equal arguments give the same live engine."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models.engine import Engine
from models.linear import product
from models.lora import Lora, add_lora
from models.memory import batch_tokens as tokens_that_fit
from models.memory import free_memory
from models.vllm_options import VllmOptions

log = logging.getLogger(__name__)

TINY = Path(__file__).parent / "tiny"
ENGINES = ("inprocess", "vllm")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class LoadError(RuntimeError):
    """A model that cannot be loaded, in one sentence."""


def load(
    path: str = "tiny",
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | str = "auto",
    prefix_mib: int = 256,
    attention: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    lora: Mapping[str, Any] | None = None,
    engine: str = "inprocess",
    vllm: Mapping[str, Any] | None = None,
) -> Engine:
    """The engine of ``path``: ``"tiny"`` is the embedded model, else a folder or a hub id.

    ``dtype`` is the precision of the arithmetic (masters stay float32): ``auto`` takes bfloat16 on an accelerator
    that has it and otherwise races the two. ``batch_tokens`` bounds the positions that are decoded at once, ``auto``
    by the memory that is free now; ``prefix_mib`` bounds what is kept of prompts within a step (0: nothing).
    ``attention`` is transformers' ``attn_implementation`` or ``auto``. ``lora`` holds the settings of ``Lora``: then
    adapters learn, and the model's own weights stay. ``engine`` samples by this process's transformers model or by
    ``vllm``, whose settings are ``VllmOptions``. Raises ``LoadError``, ``LoraError`` and ``VllmError``.
    """
    if engine not in ENGINES:
        other = "; a server is model=remote" if engine == "remote" else ""
        raise LoadError(f"model.engine={engine!r} is unknown: use {' or '.join(ENGINES)}{other}")
    if vllm is not None and engine != "vllm":
        raise LoadError(f"model.vllm has no use with model.engine={engine}: set model.engine=vllm, or drop it")
    if batch_tokens != "auto" and (not isinstance(batch_tokens, int) or batch_tokens < 1):
        raise LoadError(f"model.batch_tokens={batch_tokens!r} must be auto or at least 1")
    if prefix_mib < 0:
        raise LoadError(f"model.prefix_mib={prefix_mib} must be at least 0")
    place = choose_device(device)
    # What "auto" turned out to be is part of the key, so that a resolved configuration finds the same engine.
    precision = choose_dtype(dtype, place)
    source = (path, revision, trust_remote_code)
    tokens = batch_tokens if isinstance(batch_tokens, int) else _tokens_that_fit(source, precision, place)
    adapters = None if lora is None else Lora.of(lora)
    served = VllmOptions.of(vllm) if engine == "vllm" else None
    return _load(source, precision, place, tokens, prefix_mib, attention, adapters, served)


Source = tuple[str, str | None, bool]
"""Of a model: its path, its revision, and whether its own code may run."""


@cache
def _load(
    source: Source,
    precision: torch.dtype,
    place: torch.device,
    batch_tokens: int,
    prefix_mib: int,
    attention: str,
    lora: Lora | None,
    vllm: VllmOptions | None,
) -> Engine:
    path, revision, trust_remote_code = source
    _check_folder(path)
    transformers_logging.disable_progress_bar()  # the run has a screen of its own
    started = time.perf_counter()
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    attend = {} if attention == "auto" else {"attn_implementation": attention}
    try:
        tokenizer = AutoTokenizer.from_pretrained(_place(path), **options)
        model, report = AutoModelForCausalLM.from_pretrained(
            _place(path), dtype=torch.float32, output_loading_info=True, **options, **attend
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise LoadError(f"cannot load model.path={path!r}: {_first_line(error)}") from error
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        raise LoadError(f"model.path={path!r} lacks weights of a causal language model: {min(report['missing_keys'])}")
    if lora is not None:
        add_lora(model, lora)
    model.to(place).eval()
    log.info("loaded %s on %s (%s) in %.1f s", path, place, precision, time.perf_counter() - started)
    settings = {"batch_tokens": batch_tokens, "prefix_mib": prefix_mib, "attention": attention}
    if vllm is not None:
        from models.vllm_engine import VllmEngine  # vLLM takes seconds to import, and is an extra

        return VllmEngine(
            model, tokenizer, name=path, source=_place(path), dtype=precision, options=vllm, **options, **settings
        )
    return Engine(model, tokenizer, name=path, dtype=precision, **settings)


@cache
def _tokens_that_fit(source: Source, precision: torch.dtype, place: torch.device) -> int:
    """Decided once per process: after loading there is less memory, and "auto" must go on meaning the same."""
    path, revision, trust_remote_code = source
    _check_folder(path)
    try:
        config = AutoConfig.from_pretrained(_place(path), revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise LoadError(f"cannot load model.path={path!r}: {_first_line(error)}") from error
    return tokens_that_fit(config, precision.itemsize, free_memory(place))


def _place(path: str) -> str:
    return str(TINY) if path == "tiny" else path


def reference(model: Engine) -> Engine:
    """The frozen copy of a model as it was first seen: pi_ref, and the judge of Language Self-Play."""
    return _reference(model)


@cache
def _reference(model: Engine) -> Engine:
    return model.snapshot()


def twin(model: Engine) -> Engine:
    """A second copy of a model as it was first seen, to be trained in another role."""
    return _twin(model)


@cache
def _twin(model: Engine) -> Engine:
    return model.twin()


def forget() -> None:
    """Drop what was loaded: the next ``load`` reads the weights again."""
    if "models.vllm_sampler" in sys.modules:  # one at a time can live in a process
        sys.modules["models.vllm_sampler"].close_all()
    _load.cache_clear()
    _tokens_that_fit.cache_clear()
    _reference.cache_clear()
    _twin.cache_clear()


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU; anything else is taken at its word."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LoadError(f"model.device={name!r} is not a device: try auto, cuda, mps or cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LoadError(f"model.device={name!r}, but torch finds no CUDA device here: try auto or cpu")
    if device.type in ("cuda", "mps") and device.index is None:  # as a model on it will name it
        return torch.device(device.type, torch.cuda.current_device() if device.type == "cuda" else 0)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The named precision; ``auto`` is bfloat16 where it is clearly the faster one on ``device``."""
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise LoadError(f"model.dtype={name!r} is unknown: use auto, {' or '.join(DTYPES)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu":
        return torch.float32
    return _faster_on_cpu()


@cache
def _faster_on_cpu() -> torch.dtype:
    """Raced once per process, so that every ``auto`` means the same."""
    return torch.bfloat16 if _gemm_seconds(torch.bfloat16) < 0.8 * _gemm_seconds(torch.float32) else torch.float32


def _gemm_seconds(dtype: torch.dtype) -> float:
    """The best of a few products: without matrix units bfloat16 is several times slower than float32 on a CPU."""
    a, b = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    times = []
    for _ in range(16):
        started = time.perf_counter()
        product(a, b)
        times.append(time.perf_counter() - started)
    return min(times)


def _check_folder(path: str) -> None:
    """Say what is missing from a folder, before transformers mistakes its name for a hub id."""
    folder = Path(_place(path))
    if not folder.is_dir():
        if path.startswith((".", "/", "~")) or folder.exists():
            raise LoadError(f"model.path={path!r} is not a folder")
        return
    if not (folder / "config.json").is_file():
        raise LoadError(f"model.path={path!r} has no config.json: it is not a save_pretrained folder")
    _read_object(path, folder / "config.json")
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_object(path, index).get("weight_map")
        if not isinstance(shards, dict):
            raise LoadError(f"model.path={path!r} is half written: {index.name} has no weight_map")
        missing = sorted(set(shards.values()) - {file.name for file in weights})
        if missing:
            raise LoadError(f"model.path={path!r} is half written: {missing[0]} is missing")
    elif not weights:
        raise LoadError(f"model.path={path!r} has no weights (*.safetensors): was the save cut short?")


def _read_object(path: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON and bad UTF-8
        raise LoadError(f"cannot load model.path={path!r}: {file.name} is not JSON ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise LoadError(f"cannot load model.path={path!r}: {file.name} is not a JSON object")
    return content


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
