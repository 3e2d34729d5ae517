"""The loader of the kernels: compiled once, switched off by a word, clear where a compiler refuses."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import native
from selfplay.compose import ConfigError


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As in a new process of a user without a cache; the folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.compiled.cache_clear()
    yield tmp_path / "cache" / "sparring"
    native.compiled.cache_clear()


def needs_compiler() -> None:
    if native.compiled() is None:
        pytest.skip("no C compiler, or no kernels for this processor")


def test_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    monkeypatch.setenv(native.SWITCH, "no")
    with pytest.raises(ConfigError, match="SPARRING_KERNELS=no is unknown: auto, compiled, torch"):
        native.compiled()


def test_torch_means_torch(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    monkeypatch.setenv(native.SWITCH, "torch")
    assert native.compiled() is None and native.kernel("draw", torch.zeros(1, 2)) is None
    assert not anew.exists()


def test_no_compiler_means_torch_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    """A run records what it used: resumed elsewhere, it must not go on with other rounding and not say so."""
    monkeypatch.setenv("PATH", str(anew))
    monkeypatch.setenv(native.SWITCH, "auto")
    native.use("auto")
    assert native.compiled() is None and native.used() == "torch"
    with pytest.raises(ConfigError, match=r"runtime\.kernels=compiled needs a C compiler on the PATH"):
        native.use("compiled")


def test_the_key_reaches_other_processes_and_is_taken_back(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    monkeypatch.setenv(native.SWITCH, "auto")
    monkeypatch.setattr(native, "_TOLD", "auto")
    with pytest.raises(ConfigError, match=r"runtime\.kernels=compild is unknown \(did you mean compiled\?\)"):
        native.use("compild")
    native.use("torch")
    assert native.used() == "torch" and native.os.environ[native.SWITCH] == "torch"
    native.use("auto")
    assert native.os.environ[native.SWITCH] == "auto", "the next job of a sweep starts from what was told"


def test_the_library_is_made_once_and_is_the_users_own(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    needs_compiler()
    (made,) = anew.iterdir()
    assert stat.S_IMODE(anew.stat().st_mode) == 0o700
    before = made.stat().st_mtime_ns
    native.compiled.cache_clear()
    assert native.compiled() is not None
    assert [*anew.iterdir()] == [made] and made.stat().st_mtime_ns == before


def test_other_sources_make_another_library(monkeypatch: pytest.MonkeyPatch, anew: Path, tmp_path: Path) -> None:
    needs_compiler()
    sources = tmp_path / "kernels"
    sources.mkdir()
    for source in native.SOURCES.iterdir():
        (sources / source.name).write_bytes(source.read_bytes())
    (sources / "common.h").open("a").write("\n/* another */\n")
    monkeypatch.setattr(native, "SOURCES", sources)
    native.compiled.cache_clear()
    native.compiled()
    assert len([*anew.iterdir()]) == 2


def test_a_compiler_that_refuses_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, anew: Path, tmp_path: Path
) -> None:
    needs_compiler()
    sources = tmp_path / "kernels"
    sources.mkdir()
    (sources / "kernels.c").write_text("this is no C\n")
    monkeypatch.setattr(native, "SOURCES", sources)
    before = sorted(anew.iterdir())
    native.compiled.cache_clear()
    assert native.compiled() is None
    assert "torch's operators take the place" in caplog.text and "could not compile them: " in caplog.text
    monkeypatch.setenv(native.SWITCH, "auto")
    with pytest.raises(ConfigError, match=r"runtime\.kernels=compiled, but \S+ could not compile them: "):
        native.use("compiled")
    assert sorted(anew.iterdir()) == before


def test_a_home_that_cannot_be_written_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch, anew: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(native.tempfile, "tempdir", None)
    needs_compiler()
    assert [*tmp_path.glob("sparring-*/kernels-*.so")]


def test_tensors_of_another_kind_are_left_to_torch() -> None:
    assert native.kernel("draw", torch.zeros(1, 2, dtype=torch.float64)) is None
    assert native.kernel("draw", torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bfloat16)) is None
    assert native.kernel("draw", torch.zeros(1, 2, device="meta")) is None


def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    needs_compiler()
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fopenmp", "-fsyntax-only"]
    run = subprocess.run([*command, *map(str, native.SOURCES.glob("*.c"))], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
