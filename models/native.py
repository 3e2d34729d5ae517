"""Kernels in C (``models/kernels``), compiled for this machine's processor the first time that they are wanted.

Attention of a decoding step, softmax under a mask, a norm or a log-probability is a chain of small operators to torch;
here each is one pass over memory. Compiling takes about a second and happens once: the result lies in the user's cache.
Without a compiler, and where ``runtime.kernels`` or the variable ``SPARRING_KERNELS`` says so, torch's operators
compute the same up to rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfplay.compose import ConfigError, did_you_mean

log = logging.getLogger(__name__)

Kernel = Callable[..., None]

SWITCH = "SPARRING_KERNELS"
CHOICES = ("auto", "compiled", "torch")
_TOLD = os.environ.get(SWITCH, "auto")
SOURCES = Path(__file__).parent / "kernels"
_TYPES = {torch.float32: "float", torch.bfloat16: "bfloat16"}
_WORDS = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}
_SIGNATURES = {
    "attend": "ppppp" "ppp" "ipp" "iiiiiii" "f" "i",
    "draw": "ppppp" "ii" "f" "i",
    "rotate": "pppp" "iiiii" "i",
    "sibling_weights": "pppp" "iiiiii" "i",
    "sibling_gradients": "pppppp" "iiiiii" "i",
    "logsumexp": "pp" "ii" "i",
    "logprob_gradients": "ppppp" "ii" "i",
    "rms_norm": "pppp" "ii" "f" "i",
    "rms_norm_gradients": "pppppp" "ii" "i",
    "silu_times": "ppp" "i" "i",
    "silu_times_gradients": "ppppp" "i" "i",
}  # fmt: skip
"""Arguments of every kernel: p a tensor or None, i a number, f a fraction. Each exists for float and bfloat16."""
_MATHS = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=fast")
"""Sums may be reordered, so that they can be vectorized; infinity and nan keep their meaning."""


class _Refused(RuntimeError):
    """The compiler did not take the sources."""


def kernel(name: str, *tensors: Tensor) -> Kernel | None:
    """``name`` for tensors of one precision that lie on a CPU; None where torch has to do it.

    It takes tensors (contiguous, or as the kernel says), None and numbers, and works on ``torch.get_num_threads()``.
    """
    dtype = tensors[0].dtype
    for tensor in tensors:
        if tensor.dtype != dtype or not tensor.is_cpu:
            return None
    library = compiled()
    return None if library is None else library.get((name, dtype))


def use(wanted: str) -> None:
    """``auto``, ``compiled`` or ``torch`` for this process and those that it starts; ``auto`` is what the environment
    told at first. Raises ``ConfigError`` for another word, and where ``compiled`` cannot be."""
    _check("runtime.kernels", wanted)
    chosen = _TOLD if wanted == "auto" else wanted
    if chosen != os.environ.get(SWITCH, "auto"):
        os.environ[SWITCH] = chosen
        compiled.cache_clear()
    if wanted == "compiled":
        compiled()


def used() -> str:
    """What ``auto`` has become: ``compiled`` or ``torch``."""
    return "torch" if compiled() is None else "compiled"


@cache
def compiled() -> dict[tuple[str, torch.dtype], Kernel] | None:
    """All kernels, compiled now if they never were; None for torch's operators. Raises ``ConfigError`` for a switch
    that is unknown or cannot be followed."""
    wanted = os.environ.get(SWITCH, "auto")
    _check(SWITCH, wanted)
    if wanted == "torch":
        return None
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    processor = _processor()
    if compiler is None or processor is None:
        lacks = "a C compiler on the PATH" if compiler is None else "a processor with AVX2 or of the Arm family"
        if wanted == "compiled":
            raise ConfigError(f"runtime.kernels=compiled needs {lacks}; auto and torch do without")
        log.info("without %s torch's operators are used where kernels of our own would be faster", lacks)
        return None
    sources = sorted(SOURCES.glob("*.c"))
    command = [compiler, "-std=gnu11", "-O3", *processor, *_MATHS, "-fPIC", "-shared", *map(str, sources), "-lm"]
    command.append("-fopenmp" if platform.system() == "Linux" else "-fopenmp-simd")  # elsewhere a runtime may lack
    try:
        library = ctypes.CDLL(str(_built(command)))
    except (_Refused, OSError) as error:  # a compiler that is only a name; a home where nothing may be executed
        if wanted == "compiled":
            raise ConfigError(f"runtime.kernels=compiled, but {error}") from error
        log.warning("torch's operators take the place of kernels of our own, which are faster: %s", error)
        return None
    return {
        (name, dtype): _callable(getattr(library, f"{name}_{kind}"), signature)
        for name, signature in _SIGNATURES.items()
        for dtype, kind in _TYPES.items()
    }


def _check(key: str, wanted: str) -> None:
    if wanted not in CHOICES:
        raise ConfigError(f"{key}={wanted} is unknown{did_you_mean(wanted, CHOICES)}: {', '.join(CHOICES)}")


def _callable(function: Any, signature: str) -> Kernel:
    function.argtypes, function.restype = [_WORDS[word] for word in signature], None

    def call(*arguments: Tensor | float | None) -> None:
        function(*[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments], torch.get_num_threads())

    return call


def _processor() -> tuple[str, ...] | None:
    """What to compile for: this processor, but nothing beyond what torch uses of it."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    return {
        "AVX512": ("-march=native", "-mprefer-vector-width=512"),
        "AVX2": ("-march=x86-64-v3",),
    }.get(torch.backends.cpu.get_cpu_capability())


def _built(command: list[str]) -> Path:
    """The library that ``command`` makes, from the cache if this machine has made it before."""
    identity = hashlib.sha256("\0".join(command).encode())
    for source in sorted(SOURCES.iterdir()):
        identity.update(source.read_bytes())
    identity.update(_model_of_processor().encode())
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=False).stdout
    identity.update(version.encode())
    folder = _cache()
    library = folder / f"kernels-{identity.hexdigest()[:16]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as making:  # several processes may be at it
            made = Path(making) / library.name
            run = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
            if run.returncode:
                raise _Refused(f"{command[0]} could not compile them: {run.stderr.strip() or run.returncode}")
            made.replace(library)
    return library


def _cache() -> Path:
    """A folder of this user's; a new one for this process alone where the home folder cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparring"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):  # the latter where nobody knows of a home
        return Path(tempfile.mkdtemp(prefix="sparring-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="sparring-"))


def _model_of_processor() -> str:
    """Names the processor: a home folder may be shared by machines."""
    told = Path("/proc/cpuinfo")
    if not told.exists():
        return platform.processor()
    lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
    return "".join(line for line in lines[:64] if line.startswith(("model name", "flags")))
