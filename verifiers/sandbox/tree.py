"""The worker's own world: namespaces, and a read-only tree that holds the interpreter's library and little else.

Made once for each worker, before any program is near. As root the tree is built with root's rights, which can read an
interpreter in a private home; root is then given up for good, and what follows is done as a user without rights.
"""

from __future__ import annotations

import os
import sys
import sysconfig

from verifiers.sandbox import kernel

NOBODY = 65_534
SCRATCH = "/tmp"
"""Where each program finds its own empty file system."""
_ZONES = ("/usr/share/zoneinfo",)  # what zoneinfo reads
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_STAGES = ("/mnt", "/media", "/srv", "/sys", "/opt", "/var", "/tmp")  # any folder will do that hides nothing we need


def library() -> str:
    """The standard library's folder."""
    return os.path.realpath(sysconfig.get_path("stdlib"))


def foreign() -> list[str]:
    """Folders of installed packages, which no program is to see."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= {os.path.join(library(), name) for name in ("site-packages", "dist-packages")}
    return sorted(folder for folder in map(os.path.realpath, folders) if os.path.isdir(folder))


def shared() -> list[str]:
    """Folders of the shared libraries that this interpreter has mapped: extension modules look there for more."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        files = {fields[5].rstrip("\n") for line in maps if len(fields := line.split(maxsplit=5)) == 6}
    folders = {os.path.dirname(file) for file in files if file.startswith("/") and ".so" in os.path.basename(file)}
    return sorted(folder for folder in folders if os.path.isdir(folder))


def places() -> list[str]:
    """What the tree holds, none below another. ``/usr/lib`` itself and the like come in only if they are the place."""
    wanted = {library(), os.path.realpath(sysconfig.get_path("platstdlib")), *shared()}
    wanted |= {path for path in (*sys.path, *_ZONES) if os.path.isdir(path)}
    return sorted(one for one in wanted if not any(one.startswith(other + "/") for other in wanted))


def isolate() -> int:
    """Enter the namespaces and the tree; gives a descriptor of the machine's /proc, for our own use.

    What then runs is a new process, the first of its own process namespace: this one waits for it, and ends as it
    ends. Raises ``OSError`` where the kernel, or a container's policy, refuses.
    """
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    spaces = kernel.NEWUSER | kernel.NEWNS | kernel.NEWPID | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS
    root = os.geteuid() == 0
    uid, gid = os.geteuid(), os.getegid()
    if root:
        kernel.call("unshare", kernel.NEWNS)
        _build(places(), foreign())
        uid, gid = become_nobody()
        kernel.prctl(kernel.DUMPABLE, 1)  # or else /proc/self would still be root's
    try:
        kernel.call("unshare", spaces | kernel.NEWCGROUP)
    except OSError:  # a kernel without cgroup namespaces
        kernel.call("unshare", spaces)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        file = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)
    if not root:
        _build(places(), foreign())
    _follow()
    return proc


def become_nobody() -> tuple[int, int]:
    """Give up root. Where no other user is mapped this root is not the machine's, and stays what it is."""
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        with open("/proc/self/uid_map", encoding="ascii") as table:
            if any(int(first) <= NOBODY < int(first) + int(count) for first, _, count in map(str.split, table)):
                raise
    return os.geteuid(), os.getegid()


def _build(folders: list[str], hidden: list[str]) -> None:
    kernel.mount(None, "/", None, kernel.REC | kernel.PRIVATE)
    root = next(stage for stage in _STAGES if os.path.isdir(stage) and not any(_below(p, stage) for p in folders))
    kernel.mount("tmpfs", root, "tmpfs", kernel.NOSUID | kernel.NODEV, "size=1m,mode=755")
    for folder in folders:
        os.makedirs(root + folder, exist_ok=True)
        kernel.mount(folder, root + folder, None, kernel.BIND | kernel.REC)
        kernel.read_only(root + folder)
    for folder in hidden:
        if os.path.isdir(root + folder):
            flags = kernel.RDONLY | kernel.NOSUID | kernel.NODEV | kernel.NOEXEC
            kernel.mount("tmpfs", root + folder, "tmpfs", flags, "size=4k,mode=755")
    for name in ("/lib", "/lib64", "/usr/lib64"):
        if os.path.islink(name) and not os.path.lexists(root + name):
            os.makedirs(os.path.dirname(root + name), exist_ok=True)
            os.symlink(os.readlink(name), root + name)
    for folder in ("/dev", SCRATCH):
        os.makedirs(root + folder, exist_ok=True)
    for device in _DEVICES:
        if os.path.exists(device):
            os.close(os.open(root + device, os.O_CREAT | os.O_CLOEXEC, 0o444))
            kernel.mount(device, root + device, None, kernel.BIND)
            kernel.read_only(root + device, device=True)
    os.chdir(root)
    try:
        kernel.call("pivot_root", b".", b".")
        kernel.call("umount2", b".", kernel.DETACH)
    except OSError:  # the machine's root is its first file system, which cannot be swapped
        kernel.mount(".", "/", None, kernel.MOVE)
        os.chroot(".")
    os.chdir("/")
    kernel.read_only("/", below=False)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _follow() -> None:
    """Go on as the first process of the new process namespace; if either of the two dies, so does the other."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.prctl(kernel.PDEATHSIG, 9)
