"""The files that a confined worker needs: its own, the interpreter's, the system's, and devices."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

import heliograph
from heliograph.edge_agent.confinement.landlock import DEVICE, READ, WRITE, Files
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.edge_agent.launcher import LaunchRequest

MAX_LINKS = 256
"""Directories to which links in a data set lead, at most."""
MAX_LISTED = 65536
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/proc", "/sys", "/run/systemd/resolve",
    "/run/nvidia-persistenced",
)  # fmt: skip
_SETTINGS = (
    "alternatives", "ca-certificates", "fonts", "gai.conf", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "localtime", "mime.types", "nsswitch.conf", "OpenCL", "os-release", "passwd",
    "pki/ca-trust", "pki/tls/certs", "protocols", "resolv.conf", "services", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "timezone", "vulkan",
)  # fmt: skip
"""Files of ``/etc`` that libraries read. Password hashes and private keys are not among them."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "dri", "kfd", "nvidia-caps", "nvidia-uvm",
            "nvidia-uvm-tools", "nvidiactl", "nvidia-modeset", "dxg")  # fmt: skip
_SHARED_MEMORY = Path("/dev/shm")
"""Where frameworks share tensors between processes of one worker; other workers' lie there too."""


def rights_of(
    request: LaunchRequest, own: Iterable[Path], policy: SitePolicy, private: Collection[Path] = ()
) -> list[tuple[Path, Files]]:
    """Return what a worker may do with which files and directories.

    Args:
        own: the directories in which the worker may write.
        private: directories that the worker may not read, although they may lie below its code or data.
    """
    read = [*request.code, *policy.read, *(path for data in request.data for path in data_paths(data))]
    if request.working_directory is not None:
        read.append(request.working_directory)
    found = [*_of_the_machine(), (request.models.resolve(), READ)]
    for path in dict.fromkeys(each.resolve() for each in read):
        found += _all_but(path, [each for each in private if each.is_relative_to(path)])
    found += [(path.resolve(), WRITE | DEVICE) for path in policy.write]
    found += [(path, WRITE) for path in own]
    return found


def _all_but(path: Path, private: Collection[Path]) -> Iterator[tuple[Path, Files]]:
    """Yield the rights to read a directory without the private ones below it. What these hold can be listed, but not
    opened: a right to a directory holds for all below it."""
    if not private:
        yield path, READ
    elif path not in private:
        yield path, Files.READ_DIRECTORY
        with contextlib.suppress(OSError):
            for child in path.iterdir():
                if not child.is_symlink():
                    yield from _all_but(child, [each for each in private if each.is_relative_to(child)])


def data_paths(path: Path) -> Iterator[Path]:
    """Yield where a data set's files lie: of an index the directory of the files that it names, of a directory also
    those to which links in it lead."""
    if path.suffix.lower() in (".json", ".txt"):
        yield path.parent.parent if path.parent.name == "annotations" else path.parent  # as COCO's are laid out
        return
    yield path
    if path.is_dir():
        yield from _behind_links(path)


def _behind_links(directory: Path) -> list[Path]:
    """Return the directories to which links in a directory and in those below it lead."""
    found, left, waiting = dict[Path, None](), MAX_LISTED, [directory]
    while waiting and left and len(found) < MAX_LINKS:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if not left:
                        break
                    if entry.is_symlink():
                        target = Path(entry.path).resolve()
                        found[target if target.is_dir() else target.parent] = None
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError:
            continue
    return list(found)[:MAX_LINKS]


@cache
def _of_the_machine() -> tuple[tuple[Path, Files], ...]:
    """Return the rights that all workers have: to the interpreter and its libraries, the system's, and devices."""
    read = [*map(Path, _SYSTEM), *(Path("/etc") / name for name in _SETTINGS), *_interpreter()]
    devices = [Path("/dev") / name for name in _DEVICES]
    devices += [each for each in Path("/dev").glob("nvidia[0-9]*") if stat.S_ISCHR(each.stat().st_mode)]
    return (
        *((path, READ) for path in dict.fromkeys(read)),
        *((path, DEVICE) for path in devices),
        (_SHARED_MEMORY, WRITE),
    )


def _interpreter() -> Iterator[Path]:
    """Yield where Python and its packages lie, Heliograph's among them, which may be links to a checkout."""
    yield from (Path(each) for each in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix))
    yield from (Path(each) for each in sys.path if each.startswith("/"))
    package = Path(heliograph.__file__ or "").parent
    yield package
    yield from (each.resolve() for each in package.iterdir() if each.is_symlink())
