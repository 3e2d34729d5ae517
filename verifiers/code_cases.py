"""A case of code: the program in the answer, the tests in the reference, and whether a value is the right one.

Nothing here runs, parses or compiles a program: it looks for fences in text, reads JSON under budgets, and compares.
"""

from __future__ import annotations

import builtins
import json
import keyword
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from verifiers.thoughts import spoken

MAX_SOURCE = 1 << 17
"""Characters of a program; a longer one is rejected."""
MAX_REFERENCE = 1 << 22
"""Characters of a reference: inputs of contests are long."""
MAX_TESTS = 1_000
MAX_DEPTH = 20

_FENCE = re.compile(r"( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)", re.DOTALL)
_LANGUAGE = re.compile(r"\{?[ \t]*\.?([\w+#-]+)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # splitlines() would take a form feed in a string for an end
_PYTHON = frozenset({"", "python", "python3", "py"})
_ASSERTED = re.compile(r"^[ \t]*assert\b(.*)$", re.MULTILINE)
_CALLED = re.compile(r"(?<![\w.])([^\W\d]\w*)\(")


class UnreadableTests(ValueError):
    """A reference that holds no tests, in one sentence."""


@dataclass(frozen=True, slots=True)
class Calls:
    """``function(*inputs[i])`` is to return ``outputs[i]``."""

    function: str
    inputs: tuple[list[object], ...]
    outputs: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Streams:
    """A script that is given ``stdin[i]`` is to print ``stdout[i]``."""

    stdin: tuple[str, ...]
    stdout: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asserts:
    """``tests`` are assertions that call ``function``: a program too, which runs in a jail of its own."""

    function: str
    tests: str


Tests = Calls | Streams | Asserts

_KEYS = {
    frozenset({"function", "inputs", "outputs"}): Calls,
    frozenset({"stdin", "stdout"}): Streams,
    frozenset({"function", "tests"}): Asserts,
}


def block(text: str, languages: frozenset[str] = _PYTHON) -> str:
    """The last fenced block of one of ``languages`` outside ``<think>``, or the whole text where no fence opens.

    Fences are CommonMark's: of backticks or tildes, indented by up to three spaces, which the block's lines then lose;
    the language is the first word behind one. A block that says its language goes before those that say none, which
    often show an output; blank ones do not count. A block that never closes ends with the text, as one does that was
    cut at its length. Where there are fences but none of the languages, there is no block: "". A byte order mark at
    the start is no part of a program.
    """
    text = spoken(text).removeprefix("\ufeff")
    found = dict[bool, str]()  # by whether it says its language
    inside, fenced = list[str](), False
    opened = language = indent = ""

    def close() -> None:
        inner = "".join(inside)
        if language in languages and inner.strip():
            found[bool(language)] = inner.removeprefix("\ufeff")

    for line in _LINE.findall(text):
        fence = _FENCE.fullmatch(line)
        if fence is not None and not opened:
            indent, opened, language, fenced = fence[1], fence[2], _language(fence[3].strip()), True
            inside = []
        elif fence is not None and not fence[3].strip(" \t\r\n") and fence[2].startswith(opened):
            close()
            opened = ""
        elif opened:
            inside.append(line[min(len(indent), len(line) - len(line.lstrip(" "))) :])
    if opened:
        close()
    return found.get(True, found.get(False, "")) if fenced else text


def _language(info: str) -> str:
    """``python title="a.py"``, ``{.python}`` and ``Python:a.py`` are all python; "" only where nothing is said."""
    word = _LANGUAGE.match(info)
    return word[1].lower() if word else info


def read_tests(case_reference: str, case_tests: str = "", case_function: str = "") -> Tests:
    """The tests of a case. Raises ``UnreadableTests`` where there are none that could fail.

    ``case_reference`` is JSON with exactly the keys of one kind. Where it is blank, ``case_tests`` is taken: such JSON
    too, or bare assertions. For those the function is ``case_function``, or else the first name that an ``assert``
    calls and that is no builtin.
    """
    if case_reference.strip():
        return _from_json(case_reference)
    if not case_tests.strip():
        raise UnreadableTests("there is neither a reference nor tests")
    if case_tests.lstrip().startswith("{"):
        return _from_json(case_tests)
    tests = block(case_tests)
    return _asserts(case_function.strip() or _first_called(tests), tests)


def _first_called(tests: str) -> str:
    for line in _ASSERTED.findall(tests[:MAX_SOURCE]):
        for name in _CALLED.findall(line):
            if not hasattr(builtins, name) and not keyword.iskeyword(name):
                return name
    raise UnreadableTests("no assertion calls a function")


def _from_json(text: str) -> Tests:
    if len(text) > MAX_REFERENCE:
        raise UnreadableTests(f"the tests are longer than {MAX_REFERENCE} characters")
    try:
        read: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableTests(f"the tests are not JSON: {error}") from None
    if not isinstance(read, dict):
        raise UnreadableTests("the tests are no JSON object")
    data = cast("dict[str, object]", read)
    kind = _KEYS.get(frozenset(data))
    if kind is None:
        wanted = "; ".join(", ".join(sorted(keys)) for keys in _KEYS)
        raise UnreadableTests(
            f"the tests have the keys {', '.join(sorted(data)) or 'of nothing'}, not one of: {wanted}"
        )
    if kind is Streams:
        stdin, stdout = _paired(data["stdin"], data["stdout"])
        if not all(isinstance(text, str) for text in (*stdin, *stdout)):
            raise UnreadableTests("stdin and stdout are lists of texts")
        return Streams(cast("tuple[str, ...]", tuple(stdin)), cast("tuple[str, ...]", tuple(stdout)))
    if kind is Asserts:
        return _asserts(data["function"], data["tests"])
    inputs, outputs = _paired(data["inputs"], data["outputs"])
    if not all(isinstance(arguments, list) for arguments in inputs):
        raise UnreadableTests("every input is a list of arguments")
    if any(_deeper_than(value, MAX_DEPTH) for value in (inputs, outputs)):
        raise UnreadableTests(f"inputs or outputs are nested deeper than {MAX_DEPTH}")
    return Calls(_name(data["function"]), tuple(cast("list[list[object]]", inputs)), tuple(outputs))


def _paired(left: object, right: object) -> tuple[list[object], list[object]]:
    if not isinstance(left, list) or not isinstance(right, list):
        raise UnreadableTests("what goes in and what comes out are lists")
    into, out = cast("list[object]", left), cast("list[object]", right)
    if len(into) != len(out) or not 0 < len(into) <= MAX_TESTS:
        raise UnreadableTests(f"{len(into)} go in and {len(out)} come out, where 1 to {MAX_TESTS} pairs are due")
    return into, out


def _asserts(function: object, tests: object) -> Asserts:
    if not isinstance(tests, str) or not tests.strip() or len(tests) > MAX_SOURCE:
        raise UnreadableTests(f"tests are a text of 1 to {MAX_SOURCE} characters")
    return Asserts(_name(function), tests)


def _name(function: object) -> str:
    if not isinstance(function, str) or not function.isidentifier() or keyword.iskeyword(function):
        raise UnreadableTests("function is a name")
    return unicodedata.normalize("NFKC", function)  # as the compiler does with names


def _deeper_than(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (cast("dict[str, object]", outer).values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


# -- comparing ---------------------------------------------------------------------------------------------------------


def equal(expected: object, given: object, tolerance: float | None = None) -> bool:
    """Whether two JSON values are the same, types included: True is not 1, 1 is not 1.0, nan is nan, order counts.

    With a ``tolerance`` numbers (never bools) are the same when |a - b| <= tolerance * max(1, |expected|), be they
    integers or not.
    """
    if tolerance is not None and _is_number(expected) and _is_number(given):
        return close(cast("float", expected), cast("float", given), tolerance)
    if type(expected) is not type(given):
        return False
    if isinstance(expected, float):
        return expected == given or (expected != expected and given != given)
    if isinstance(expected, list):
        left, right = cast("list[object]", expected), cast("list[object]", given)
        return len(left) == len(right) and all(equal(a, b, tolerance) for a, b in zip(left, right, strict=True))
    if isinstance(expected, dict):
        mine, theirs = cast("dict[str, object]", expected), cast("dict[str, object]", given)
        return mine.keys() == theirs.keys() and all(equal(value, theirs[key], tolerance) for key, value in mine.items())
    return expected == given


def close(expected: float, given: float, tolerance: float) -> bool:
    """|a - b| <= tolerance * max(1, |expected|); equal infinities are close, nan to nan as well."""
    if expected == given or (expected != expected and given != given):
        return True
    try:
        finite = math.isfinite(given) and math.isfinite(expected)
        return finite and abs(expected - given) <= tolerance * max(1.0, abs(expected))
    except OverflowError:  # an integer beyond the floats
        return False


def equal_text(expected: str, given: str, tolerance: float | None = None) -> bool:
    """Whether two outputs are the same, white space at the ends of lines and blank lines at the end aside. With a
    ``tolerance`` words that are numbers are compared as such."""
    left, right = _lines(expected), _lines(given)
    if left == right or tolerance is None:
        return left == right
    if len(left) != len(right):
        return False
    return all(_equal_words(a.split(), b.split(), tolerance) for a, b in zip(left, right, strict=True))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _equal_words(expected: Sequence[str], given: Sequence[str], tolerance: float) -> bool:
    if len(expected) != len(given):
        return False
    for a, b in zip(expected, given, strict=True):
        if a != b:
            x, y = _number(a), _number(b)
            if x is None or y is None or not close(x, y, tolerance):
                return False
    return True


def _number(word: str) -> float | None:
    try:
        return float(word) if len(word) <= 400 else None
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
