"""The Python side of a jail: compiles a program, calls its function or runs it as a script, tells the values.

A module for another language offers the same: ``warm(cut_off)``, called once in the worker before it shuts itself in,
and ``run()``, called in each jail, which never returns. The request is on descriptor 0: its length in decimal and a
newline, then that many bytes of JSON (``mode``, ``source``, ``function``, ``inputs``, ``value_bytes``); what follows is
the program's stdin. What it finds goes to descriptor 3, one line each:

| line | meaning |
|---|---|
| ``c`` | the source compiled |
| ``v <json>`` | a value, typed as in ``typed.py``; in the order of the inputs |
| ``e <json>`` | it is over: [kind, text], kind one of rejected, crash, memory, output_limit, wrong |
| ``x <json>`` | answer to a call that raised: [type, text] |
| ``q <json>`` | from the tests' jail: call the function with [arguments, keywords]; the answer comes on descriptor 4 |
| ``d`` | it came to its end |

None of these is believed beyond what a wrong program could say as well: it can only ever spoil its own result.
"""

from __future__ import annotations

import _sitebuiltins
import atexit
import builtins
import contextlib
import importlib
import importlib.abc
import io
import json
import os
import random
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn, cast

from verifiers.sandbox import typed
from verifiers.sandbox.jail import CALLS, ERRORS, IN, OUT, RESULT

_WARM = """
    __future__ _sitebuiltins _strptime abc array ast atexit base64 binascii bisect builtins calendar cmath collections
    collections.abc contextlib copy copyreg csv dataclasses datetime decimal enum errno fractions functools gc
    graphlib heapq importlib importlib.abc io itertools json keyword linecache locale math numbers operator os pickle
    pprint queue random re reprlib sched select signal statistics string struct sys tempfile textwrap threading time
    timeit token tokenize traceback types typing unicodedata warnings weakref zlib concurrent.futures
    concurrent.futures.thread encodings.ascii encodings.latin_1 encodings.utf_16
"""
_MAX_TEXT = 300

_ours: list[str] = []  # modules that no program is to import

_RARER = """
    argparse ast asyncio bz2 cProfile codecs colorsys concurrent.futures configparser ctypes decimal difflib doctest
    email email.message encodings.idna encodings.punycode encodings.rot_13 encodings.shift_jis getopt getpass gettext
    graphlib gzip hashlib hmac html html.parser inspect ipaddress json.tool lzma mimetypes mmap multiprocessing
    multiprocessing.pool optparse pathlib pickle platform plistlib profile pstats sched secrets selectors shlex shutil
    socket socketserver sqlite3 ssl subprocess symtable sysconfig tarfile tomllib tracemalloc unittest unittest.mock
    urllib.parse urllib.request uuid xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client zipfile zoneinfo
"""
_write, _leave = os.write, os._exit  # bound now: a program may patch what it likes


def warm(cut_off: bool) -> None:
    """Import what programs import: it saves time. A jail that is ``cut_off`` may not reach the library's files, so what
    is rarer is imported too."""
    for name in (_WARM + _RARER if cut_off else _WARM).split():
        with contextlib.suppress(ImportError):  # a Python that was built without it
            importlib.import_module(name)
    _ours.extend(name for name in sys.modules if name.partition(".")[0] == "verifiers")
    for name in ("exit", "quit"):  # ``site`` would have made them
        setattr(builtins, name, _sitebuiltins.Quitter(name, ""))


def run() -> NoReturn:
    """Read the request, run it, end the process."""
    request = json.loads(_exactly(int(_line())))
    program = _Run(request)
    try:
        program.go(request["mode"])
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its result
        del program.reserve
        error.__traceback__ = None  # and with it what its frames hold
        program.end(*_fault(error))
    _say("d")
    _leave(0)


class _Source(importlib.abc.InspectLoader):
    """A program as a module: ``exec_module`` of the standard library runs it. Raises what the compiler raises."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.code = self.source_to_code(source, "program.py")

    def get_source(self, fullname: str) -> str:
        return self.source

    def is_package(self, fullname: str) -> bool:
        return False

    def get_code(self, fullname: str) -> types.CodeType:
        return self.code


class _Raised(Exception):
    """The solution raised, in its own jail."""


class _Run:
    """One request."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.source: str = request["source"]
        self.name: str = request["function"] or ""
        self.inputs: list[list[Any]] = request["inputs"]
        self.limit: int = request["value_bytes"]
        self.reserve = bytes(1 << 20)  # so that a program that is out of memory can still be told so
        self.lock = threading.Lock()
        self.calls = open(CALLS, "rb", closefd=False) if request["mode"] in ("session", "tests") else io.BytesIO()  # noqa: SIM115
        self.raised: list[BaseException] = []
        sys.stdin = sys.__stdin__ = open(IN, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = self.out = open(OUT, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(ERRORS, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.argv[:] = ["program.py"]
        random.seed(0)  # the same program says the same again

    def go(self, mode: str) -> None:
        """Raises what the program raises."""
        try:
            loader = _Source(self.source)
        except BaseException as error:  # noqa: BLE001 - syntax, encoding, NUL, depth, memory
            self.end("rejected", _fault(error)[1])
        _say("c")
        name = "__main__" if mode == "stdio" else "program"
        module = types.ModuleType(name)
        module.__loader__, module.__file__ = loader, "program.py"
        if mode == "tests":
            vars(module)[self.name] = self.ask
        sys.modules[name] = sys.modules["__main__"] = module
        for ours in _ours:
            sys.modules.pop(ours, None)
        if mode == "stdio":
            self.script(loader, module)
        elif mode == "tests":
            self.assertions(loader, module)
        else:
            loader.exec_module(module)
            function = vars(module).get(self.name)
            if not callable(function):
                self.end("crash", f"there is no function {self.name!r}")
            if mode == "session":
                self.serve(function)
            for arguments in self.inputs:
                self.tell(function(*arguments))
        self.flush()

    def script(self, loader: _Source, module: types.ModuleType) -> None:
        """As a script runs: threads are waited for and exit handlers called."""
        try:
            loader.exec_module(module)
        except SystemExit as error:
            if error.code not in (None, 0):
                raise
        cast("Any", threading)._shutdown()
        cast("Any", atexit)._run_exitfuncs()

    def assertions(self, loader: _Source, module: types.ModuleType) -> None:
        """Tests of a model: an assertion that fails, or a call that raises, is the solution's fault."""
        try:
            loader.exec_module(module)
        except AssertionError as error:
            self.end("wrong", _fault(error)[1])
        except Exception as error:
            if any(error is one for one in self.raised):
                self.end("wrong", _fault(error)[1])
            raise

    def serve(self, function: Callable[..., object]) -> NoReturn:
        """Answer calls until there are no more."""
        while line := self.calls.readline():
            arguments, keywords = json.loads(line)
            try:
                value = function(*arguments, **keywords)
            except Exception as error:  # the tests may be waiting for just this one
                if isinstance(error, MemoryError):
                    raise
                _say("x " + json.dumps([_type(error), _text(error)]))
                continue
            self.tell(value)
        self.flush()
        _leave(0)

    def ask(self, *arguments: object, **keywords: object) -> object:
        """The function, as the tests see it: its calls go to the solution's jail."""
        with self.lock:
            _say("q " + typed.encode([arguments, keywords], self.limit))
            kind, *rest = json.loads(self.calls.readline())
        if kind == "v":
            return rest[0]
        error = _error(*rest)
        self.raised.append(error)
        raise error

    def tell(self, value: object) -> None:
        _say("v " + typed.encode(value, self.limit))

    def end(self, kind: str, text: str) -> NoReturn:
        self.flush()
        _say("e " + json.dumps([kind, text]))
        _leave(0)

    def flush(self) -> None:
        for stream in (getattr(sys, "stdout", None), self.out):  # a program may replace it, or close it
            with contextlib.suppress(Exception):  # and what it replaced it by may raise anything
                cast("Any", stream).flush()


def _error(name: str, text: str) -> Exception:
    """What the solution raised, as the same builtin exception where that takes one text."""
    known = vars(builtins).get(name)
    silent = (AssertionError, StopIteration, StopAsyncIteration)  # the last two would end a loop of the tests' quietly
    if isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, silent):
        with contextlib.suppress(TypeError):
            return known(text)
    return _Raised(f"{name}: {text}")


def _fault(error: BaseException) -> tuple[str, str]:
    kind = "memory" if isinstance(error, MemoryError) else "crash"
    kind = "output_limit" if isinstance(error, typed.TooLong) else kind
    return kind, f"{_type(error)}: {_text(error)}".removesuffix(": ")


def _type(error: BaseException) -> str:
    return str(type.__dict__["__name__"].__get__(type(error)))[:_MAX_TEXT]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_TEXT]
    except BaseException:  # noqa: BLE001 - its __str__ is the program's
        return "(its text cannot be told)"


def _say(line: str) -> None:
    view = memoryview(line.encode() + b"\n")
    while view:
        view = view[_write(RESULT, view) :]


def _line() -> bytes:
    """The first line of the request, byte by byte: what follows is for others."""
    found = bytearray()
    while (byte := os.read(IN, 1)) not in (b"\n", b""):
        found += byte
    return bytes(found)


def _exactly(count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (part := os.read(IN, count - len(found))):
        found += part
    return bytes(found)
