"""Copies of a game's state: as ``copy.deepcopy`` makes them, shared and cyclic parts among them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from envs.copying import twin

LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
STATE = st.recursive(
    LEAF | st.tuples(LEAF, LEAF) | st.sets(st.integers(), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=12,
)


@given(STATE)
def test_as_deepcopy_does(value: Any) -> None:
    made = twin(value, {})
    assert made == value and repr(made) == repr(copy.deepcopy(value))
    assert made is not value or not isinstance(value, dict | list | set)


def test_a_change_stays_in_the_copy() -> None:
    value = {"infos": {"a_0": {"legal_actions": ["x"]}}, "seen": {3: ["y"]}}
    made = twin(value, {})
    made["infos"]["a_0"]["legal_actions"].append("z")
    made["seen"][3].append("z")
    assert value == {"infos": {"a_0": {"legal_actions": ["x"]}}, "seen": {3: ["y"]}}


def test_what_is_shared_stays_shared_and_cycles_end() -> None:
    memo: dict[int, Any] = {}
    shared = ["x"]
    one, two = twin({"a": shared, "b": {"c": shared}}, memo), twin([shared], memo)
    assert one["a"] is one["b"]["c"] is two[0] is not shared
    cycle: dict[str, Any] = {"list": []}
    cycle["list"].append(cycle)
    made = twin(cycle, {})
    assert made["list"][0] is made is not cycle
