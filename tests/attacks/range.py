"""The range: what the attacks aim at, seen from outside. After every program it says what was hit."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_SUBREAPER = 36  # prctl: processes that lose their parent become ours, so that none is overlooked
_KEY = "0x53504152"  # of kernel objects that attacks try to leave
_PATIENCE = 5.0  # seconds for the kernel to take down what was killed

_NEIGHBOUR = """
import signal, sys, time
log = open(sys.argv[1], "a", buffering=1)
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
    signal.signal(number, lambda number, frame: log.write("signal %d\\n" % number))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


class Range:
    """Secrets, a canary, listeners and a neighbour, all within reach of this user."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        self.folder = Path(tempfile.mkdtemp(prefix="range-"))
        self.folder.chmod(0o755)
        self.secret, self.sealed, self.breach = (
            f"{word}-{secrets.token_hex(8)}" for word in ("secret", "sealed", "breach")
        )
        self.canaries = self.folder / "canary"
        self.canaries.mkdir()
        self.canaries.chmod(0o777)
        self.canary = self.canaries / "canary.txt"
        self.canary.write_text("alive\n")
        self.canary.chmod(0o666)
        secret_file = self.folder / "secret.txt"
        secret_file.write_text(self.secret)
        secret_file.chmod(0o644)
        self.secret_file = secret_file
        os.environ["SPARRING_TEST_SECRET"] = self.secret
        self.leak = os.open(secret_file, os.O_RDWR)  # a descriptor that somebody forgot to close
        os.set_inheritable(self.leak, True)
        self._listen()
        self.log = self.folder / "neighbour.log"
        self.neighbour = self._start_neighbour()
        self.before = self._look()

    def places(self) -> dict[str, str]:
        """What the tokens in the programs stand for."""
        return {
            "SECRET_FILE": str(self.secret_file), "CANARY_DIR": str(self.canaries), "CANARY_FILE": str(self.canary),
            "TRAINER": str(os.getpid()), "NEIGHBOUR": str(self.neighbour.pid), "BREACH": self.breach,
            "TCP4": str(self.tcp4), "TCP6": str(self.tcp6), "UDP": str(self.udp), "UNIX": self.unix,
            "ABSTRACT": self.abstract, "CHECKOUT": str(ROOT), "STDLIB": str(Path(json.__file__).parent.parent),
        }  # fmt: skip

    def hits(self) -> list[str]:
        """What was hit since the last look; everything is then set up again."""
        found = [f"{name} is {now!r:.200}" for name, now in self._look().items() if now != self.before[name]]
        ready, _, _ = select.select(self.sockets, [], [], 0)
        found += [f"a listener heard something: {link.getsockname()!r}" for link in ready]
        for link in ready:
            _drain(link)
        if found:
            self._repair()
        return found

    def told(self, text: str) -> list[str]:
        """The secrets that a program's words hold."""
        words = {"the secret": self.secret, "the sealed answer": self.sealed, "a breach": self.breach}
        return [
            f"it told {name}: {text[max(0, text.find(word) - 60) :][:160]!r}"
            for name, word in words.items()
            if word in text
        ]

    def processes(self) -> list[str]:
        """Our descendants but the neighbour: pid, state and name. Dead children of our own do not count."""
        return [f"{pid} {state} {name}" for pid, state, name in _descendants() if pid != self.neighbour.pid]

    def left_over(self, expected: int) -> list[str]:
        """Processes beyond ``expected``, once the kernel has had its time."""
        until = time.monotonic() + _PATIENCE
        while len(found := self.processes()) > expected and time.monotonic() < until:
            time.sleep(0.02)
        return found if len(found) > expected else []

    def close(self) -> None:
        for link in self.sockets:
            link.close()
        os.close(self.leak)
        self.neighbour.kill()
        self.neighbour.wait()
        assert self.neighbour.stdout is not None
        self.neighbour.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> None:
        self.sockets: list[socket.socket] = []
        self.tcp4 = self._bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.tcp6 = self._bind(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)) if _has_ipv6() else 9
        self.udp = self._bind(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self.unix = str(self.folder / "socket")
        self.abstract = f"sparring-{secrets.token_hex(4)}"
        self._bind(socket.AF_UNIX, socket.SOCK_STREAM, self.unix)
        self._bind(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.abstract)
        Path(self.unix).chmod(0o777)

    def _bind(self, family: int, kind: int, address: object) -> int:
        link = socket.socket(family, kind)
        link.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            link.listen(64)
        link.setblocking(False)
        self.sockets.append(link)
        return 0 if family == socket.AF_UNIX else link.getsockname()[1]

    def _start_neighbour(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-S", "-c", _NEIGHBOUR, str(self.log)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        return started

    def _look(self) -> dict[str, object]:
        library = Path(json.__file__).parent
        stat = Path(f"/proc/{self.neighbour.pid}/stat")
        state = stat.read_text().rpartition(")")[2].split() if self.neighbour.poll() is None else []
        return {
            "the canary": [(path.name, _facts(path)) for path in sorted(self.canaries.iterdir())],
            "the canary's folder": self.canaries.stat().st_mode,
            "the secret's file": _facts(self.secret_file),
            "the library": [
                _facts(library / "__init__.py"),
                sorted(os.listdir(library)),
                sorted(os.listdir(library.parent)),
            ],
            "the library's cache": sorted(name for name in os.listdir(library / "__pycache__") if ".pyc." not in name),
            "the neighbour": "gone" if not state else "stopped" if state[0] in "tT" else f"nice {state[16]}",
            "the neighbour's signals": self.log.read_text(),
            "our own priority": (os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))),
            "the machine's name": socket.gethostname(),
            "core_pattern": Path("/proc/sys/kernel/core_pattern").read_text(),
            "kernel objects": [kind for kind in ("shm", "msg", "sem") if _owned(Path("/proc/sysvipc") / kind)],
            "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
            "shared memory": sorted(n for n in os.listdir("/dev/shm") if n.startswith(("psm_", "left-by", "full"))),
        }

    def _repair(self) -> None:
        for path in self.canaries.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.canary.write_text("alive\n")
        self.canary.chmod(0o666)
        self.secret_file.write_text(self.secret)
        if self.neighbour.poll() is None:
            self.neighbour.send_signal(signal.SIGKILL)
        self.neighbour.wait()
        assert self.neighbour.stdout is not None
        self.neighbour.stdout.close()
        self.log.write_text("")
        self.neighbour = self._start_neighbour()
        self.before = self._look()


def _facts(path: Path) -> object:
    seen = path.lstat()
    content = path.read_bytes()[:4096] if path.is_file() and not path.is_symlink() else b""
    return seen.st_mode, seen.st_mtime_ns, seen.st_size, hash(content)


def _drain(link: socket.socket) -> None:
    """Take all that came, so that the next program is not blamed for it."""
    try:
        while True:
            if link.type == socket.SOCK_STREAM:
                link.accept()[0].close()
            else:
                link.recv(4096)
    except BlockingIOError:
        pass


def _owned(table: Path) -> bool:
    keys = [line.split()[0] for line in table.read_text().splitlines()[1:]] if table.is_file() else []
    return str(int(_KEY, 16)) in keys


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as link:
            link.bind(("::1", 0))
    except OSError:
        return False
    return True


def _descendants() -> list[tuple[int, str, str]]:
    rows: dict[int, tuple[int, str, str]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        left, _, right = text.rpartition(")")
        state, parent = right.split()[:2]
        rows[int(name)] = (int(parent), state, left.partition("(")[2])
    me, found = os.getpid(), []
    for pid, (parent, state, name) in rows.items():
        above = parent
        while above not in (me, 0) and above in rows:
            above = rows[above][0]
        if above == me and not (state == "Z" and parent == me):
            found.append((pid, state, name))
    return found
