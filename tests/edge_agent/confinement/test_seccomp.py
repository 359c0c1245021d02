"""The filter of system calls, run by an interpreter of its instructions: what each machine's kernel would decide."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from heliograph.edge_agent.confinement import seccomp

ALLOWED = "allowed"
MACHINES = {"x86_64": (0xC000003E, {"read": 0, "socket": 41, "clone": 56, "clone3": 435, "setsid": 112, "mount": 165,
                                    "ptrace": 101, "io_uring_setup": 425, "openat": 257, "bpf": 321}),
            "aarch64": (0xC00000B7, {"read": 63, "socket": 198, "clone": 220, "clone3": 435, "setsid": 157, "mount": 40,
                                     "ptrace": 117, "io_uring_setup": 425, "openat": 56, "bpf": 280})}  # fmt: skip
CLONE_NEWUSER, CLONE_VM = 0x10000000, 0x100


def decided(program: bytes, architecture: int, number: int, *arguments: int) -> object:
    """Return ``ALLOWED``, or the number of the error that the call gets."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *padded)
    place, loaded = 0, 0
    for _ in range(4096):
        operation, true, false, operand = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        match operation:
            case 0x20:
                loaded = struct.unpack_from("=I", data, operand)[0]
            case 0x54:
                loaded &= operand
            case 0x15:
                place += true if loaded == operand else false
            case 0x35:
                place += true if loaded >= operand else false
            case 0x45:
                place += true if loaded & operand else false
            case 0x06:
                return ALLOWED if operand == 0x7FFF0000 else operand & 0xFFFF
            case _:
                raise AssertionError(f"no instruction of this filter: {operation:#x}")
    raise AssertionError("the filter does not end")


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_reach_beyond_the_process_are_denied(machine: str) -> None:
    architecture, calls = MACHINES[machine]
    program = seccomp.program(datagrams=False, machine=machine)
    for name in ("read", "openat"):
        assert decided(program, architecture, calls[name]) == ALLOWED
    for name in ("mount", "ptrace", "io_uring_setup", "bpf"):
        assert decided(program, architecture, calls[name]) == errno.EPERM
    assert decided(program, architecture, calls["setsid"]) == 0  # it succeeds, and nothing happens
    assert decided(program, architecture, calls["clone3"]) == errno.ENOSYS
    assert decided(program, architecture, calls["clone"], CLONE_VM) == ALLOWED
    assert decided(program, architecture, calls["clone"], CLONE_VM | CLONE_NEWUSER) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "without", "with_datagrams"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, ALLOWED, ALLOWED),
        (socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, ALLOWED, ALLOWED),
        (socket.AF_INET, socket.SOCK_DGRAM, errno.EPERM, ALLOWED),
        (socket.AF_INET6, socket.SOCK_RAW, errno.EPERM, ALLOWED),
        (socket.AF_UNIX, socket.SOCK_DGRAM, ALLOWED, ALLOWED),
        (16, socket.SOCK_RAW, ALLOWED, ALLOWED),
        (17, socket.SOCK_RAW, errno.EPERM, ALLOWED),
        (40, socket.SOCK_STREAM, errno.EPERM, ALLOWED),
    ],
    ids=["tcp", "tcp6", "udp", "raw6", "unix", "netlink", "packet", "vsock"],
)  # fmt: skip
def test_without_a_network_there_are_no_datagrams(
    machine: str, family: int, kind: int, without: object, with_datagrams: object
) -> None:
    architecture, calls = MACHINES[machine]
    for datagrams, expected in ((False, without), (True, with_datagrams)):
        program = seccomp.program(datagrams, machine)
        assert decided(program, architecture, calls["socket"], int(family), int(kind)) == expected


def test_calls_of_another_architecture_and_other_numbers_are_denied() -> None:
    program = seccomp.program(datagrams=True, machine="x86_64")
    assert decided(program, 0x40000003, 11) == errno.EPERM  # the 32-bit calls, with numbers of their own
    assert decided(program, MACHINES["x86_64"][0], 0x40000000 | 101) == errno.ENOSYS  # x32
