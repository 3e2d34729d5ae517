"""vLLM in this process: token ids in, token ids and log-probabilities out. Weights come from the trainer only.

Of vLLM's own machinery it uses ``LLM`` with its ``enqueue`` and ``step`` (so that a judge's deadline is asked after
every step), ``reload_weights`` and ``apply_model``. Shape legend: B rows.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from models.speech import Sampling
from models.vllm_options import VllmError, VllmOptions
from selfplay.deadline import DeadlinePassed, check

Result = TypeVar("Result")

_LIVE: WeakSet[VllmSampler] = WeakSet()
"""The one that is open: vLLM keeps its process groups in globals, and closing one model would pull them away from
another."""

CPU_KV_GIB = 1.0
"""vLLM takes ``gpu_memory_utilization`` for a share of main memory on a CPU; that belongs to the trainer as well."""


class Sampled(NamedTuple):
    """One row's tokens with their log-probabilities at temperature 1; ``scored`` are those of its prompt after the
    first token, where they were asked for, and ``chosen`` those of given replies as the first token."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    scored: tuple[float, ...] = ()
    chosen: tuple[float, ...] = ()


class VllmSampler:
    """One vLLM model on the device that the installed vLLM was built for. Its weights are noise until ``reload``.
    Raises ``VllmError``.
    """

    def __init__(
        self,
        source: str,
        options: VllmOptions,
        *,
        dtype: torch.dtype,
        device: torch.device,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        prepare_environment()
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of torch, to vLLM
                import vllm.triton_utils  # noqa: F401
            from vllm import LLM
            from vllm.platforms import current_platform
        except (ImportError, RuntimeError) as error:  # RuntimeError: of a torchvision that was built for another torch
            raise VllmError(
                f"vLLM cannot be imported ({_first_line(error)}): `pip install vllm` for a GPU, or see docs/vllm.md"
            ) from error
        self.kind = str(current_platform.device_type)
        if self.kind != device.type:
            raise VllmError(
                f"this vLLM was built for {self.kind!r} and the model trains on {device.type!r}: set "
                f"model.device={self.kind} or install the other vLLM"
            )
        gc.collect()  # one that was dropped and not closed closes now, and not under the feet of this one
        if _LIVE:
            raise VllmError("one vLLM model at a time in a process: close the other, or let it be remote")
        on_cpu = self.kind == "cpu"
        self._eager = on_cpu if options.enforce_eager is None else options.enforce_eager
        kv_gib = CPU_KV_GIB if on_cpu and options.kv_cache_gib is None else options.kv_cache_gib
        self._sleeps, self._asleep = options.sleep, False
        threads, set_threads = torch.get_num_threads(), torch.set_num_threads
        try:
            self._llm = LLM(
                model=source,
                skip_tokenizer_init=True,  # ids in, ids out: nothing is put into tokens twice
                load_format="dummy",  # the trainer's weights follow; if they fail to arrive there is noise to see
                dtype=str(dtype).removeprefix("torch."),
                revision=revision,
                trust_remote_code=trust_remote_code,
                max_model_len=options.max_model_len,
                gpu_memory_utilization=options.gpu_memory_utilization,
                kv_cache_memory_bytes=None if kv_gib is None else int(kv_gib * 2**30),
                max_num_seqs=options.max_num_seqs,
                enforce_eager=self._eager,
                enable_prefix_caching=True,
                # Between the halves of a prompt vLLM sets a row's generator back, which a CPU's cannot.
                enable_chunked_prefill=not on_cpu,
                enable_sleep_mode=options.sleep,
                logprobs_mode="raw_logprobs",  # before temperature and top_p: the model's at temperature 1
                max_logprobs=128,  # vLLM's own bound on `logprob_token_ids`, for judges' replies
                use_tqdm_on_load=False,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise VllmError(f"vLLM refuses {source!r}: {_first_line(error)}") from error
        finally:
            # On a CPU vLLM puts a function that does nothing in its place; the trainer's threads are not vLLM's.
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
        _LIVE.add(self)
        self.max_model_len = int(self._llm.model_config.max_model_len)
        self.block = int(self._llm.llm_engine.vllm_config.cache_config.block_size)

    # -- rows ------------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Sampled]:
        """One completion per prompt, in order; the token that stopped a row is its last."""
        options = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": sorted(sampling.stop_ids),
        }
        return self._run(prompts, [self._params(**options, seed=seed) for seed in seeds])

    def choose(self, prompts: Sequence[Sequence[int]], ids: Sequence[int]) -> list[tuple[float, ...]]:
        """The log-probabilities of the tokens ``ids`` as the first after each prompt."""
        params = self._params(temperature=0.0, max_tokens=1, logprobs=len(ids), logprob_token_ids=list(ids))
        return [row.chosen for row in self._run(prompts, [params] * len(prompts))]

    def examine(self, prompts: Sequence[Sequence[int]], extra: int) -> list[Sampled]:
        """Each prompt's own tokens scored afresh, and ``extra`` greedy tokens after it by way of the prefix cache."""
        greedy = self._params(temperature=0.0, max_tokens=extra)
        fresh = self._params(temperature=0.0, max_tokens=1, prompt_logprobs=0)  # these never read the prefix cache
        # The cached ones go first: what an older version left in the cache would be found by them.
        rows = self._run([*prompts, *prompts], [greedy] * len(prompts) + [fresh] * len(prompts))
        cached, scored = rows[: len(prompts)], rows[len(prompts) :]
        return [a._replace(scored=b.scored) for a, b in zip(cached, scored, strict=True)]

    def _params(self, **options: Any) -> Any:
        from vllm import SamplingParams

        # The stop ids are ours and are given; vLLM's own end of sequence must not add to them.
        return SamplingParams(**{"logprobs": 0, "detokenize": False, "ignore_eos": True, **options})

    def _run(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Sampled]:
        if not prompts:
            return []
        engine = self._llm.llm_engine
        names = self._llm.enqueue(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts], sampling_params=list(params), use_tqdm=False
        )
        done: list[Any] = []
        try:
            with self._stance():
                while engine.has_unfinished_requests():
                    check()  # a judge's call has a deadline; nothing else can end it
                    done += [output for output in self._step() if output.finished]
        finally:
            if len(done) < len(
                names
            ):  # time was up, or somebody pressed Ctrl-C: the next call must not meet these rows
                engine.abort_request(names, internal=True)
        done.sort(key=lambda output: int(output.request_id))  # counted by vLLM as they were handed in
        return [_sampled(output, one) for output, one in zip(done, params, strict=True)]

    def _stance(self) -> AbstractContextManager[Any]:
        """One small kernel of vLLM's sampler is compiled at first use, for ten seconds and with a C++ compiler: on a
        CPU that is told to be eager it runs as it stands."""
        eager = self._eager and self.kind == "cpu"
        return torch.compiler.set_stance("force_eager") if eager else nullcontext()

    def _step(self) -> Sequence[Any]:
        try:
            return self._llm.llm_engine.step()
        except DeadlinePassed:  # an alarm's, in the middle of a step
            raise
        except RuntimeError as error:
            raise VllmError(f"vLLM cannot run {self._llm.model_config.model!r}: {_first_line(error)}") from error

    # -- weights ---------------------------------------------------------------------------------------------------

    def reload(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take these weights, named as a checkpoint names them, into the tensors that are in use; what the prefix
        cache holds is forgotten. Nothing goes by way of a disk."""
        engine = self._llm.llm_engine
        try:
            engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights, "is_checkpoint_format": True})
        except (KeyError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
            raise VllmError(f"vLLM does not take the weights of {self._llm.model_config.model!r}: {error!r}") from error
        engine.apply_model(_repack_tied)
        self.forget()

    def forget(self) -> None:
        """Empty the prefix cache."""
        if not self._llm.reset_prefix_cache():
            raise VllmError("vLLM did not empty its prefix cache: rows of other weights may still be in it")

    def apply(self, function: Callable[[nn.Module], Result]) -> Result:
        """What ``function`` says of vLLM's model."""
        with torch.no_grad():
            return self._llm.llm_engine.apply_model(function)[0]

    # -- memory ----------------------------------------------------------------------------------------------------

    def sleep(self) -> bool:
        """Give weights and cache back to the device if the option ``sleep`` is on. True when it fell asleep just now:
        the weights are gone, and ``reload`` must follow ``wake``."""
        if not self._sleeps or self._asleep:
            return False
        self._llm.sleep(level=2)  # the trainer has the weights: no copy of them is kept in main memory
        self._asleep = True
        return True

    def wake(self) -> None:
        """Take the memory again, if it was given back."""
        if self._asleep:
            if self.kind == "cuda":
                torch.cuda.empty_cache()  # what the update left in torch's allocator is memory that vLLM cannot have
            self._llm.wake_up()
            self._asleep = False

    def close(self) -> None:
        """Free what vLLM holds; the sampler is of no use afterwards."""
        if self in _LIVE:
            _LIVE.discard(self)
            self._llm.llm_engine.engine_core.shutdown()
            del self._llm
            gc.collect()


def close_all() -> None:
    """Close the vLLM model of this process, if there is one."""
    for sampler in list(_LIVE):
        sampler.close()


def prepare_environment() -> None:
    """vLLM's switches, before it is first imported. A user's own choice stands, but for the one we depend on."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # its core in this process: weights are handed over, not sent
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it would report its use to its makers
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # the run has a screen of its own
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # it reads that late, and speaks before
    # In one process the trainer and the sampler take turns on the same threads: bound ones would stay with vLLM.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def _sampled(output: Any, params: Any) -> Sampled:
    """A finished request in our terms."""
    (spoken,) = output.outputs
    ids = tuple(spoken.token_ids)
    tables = spoken.logprobs
    scored = ()
    if params.prompt_logprobs is not None:
        pairs = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)  # the first follows nothing
        scored = tuple(table[token].logprob for token, table in pairs)
    chosen = tuple(tables[0][token].logprob for token in params.logprob_token_ids or ())
    logprobs = tuple(table[token].logprob for token, table in zip(ids, tables, strict=True))
    return Sampled(ids, logprobs, scored, chosen)


def _repack_tied(model: nn.Module) -> None:
    """A language head that shares the embedding's weight is no tensor of the checkpoint, so a reload passes it by; on
    a CPU it computes with a packed copy, which would stay the old one."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    owners = {
        id(module.weight)
        for module in model.modules()
        if isinstance(getattr(module, "weight", None), Tensor) and not isinstance(module, ParallelLMHead)
    }
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and id(module.weight) in owners:
            module.quant_method.process_weights_after_loading(module)


def _first_line(error: BaseException) -> str:
    """The heart of an error's text; of one that counts failed checks (pydantic's), the first check."""
    checks = getattr(error, "errors", None)
    text = str(checks()[0]["msg"]) if callable(checks) else str(error)
    return text.strip().split("\n")[0] or type(error).__name__
