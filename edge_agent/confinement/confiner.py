"""Confine a worker: what its process does between fork and exec, by the site policy and by what the machine can."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.edge_agent.confinement import capabilities, landlock, seccomp
from heliograph.edge_agent.confinement.cgroups import Bounds, WorkerGroup, WorkerGroups
from heliograph.edge_agent.confinement.kernel import gaining_no_privileges
from heliograph.edge_agent.confinement.paths import rights_of
from heliograph.edge_agent.confinement.site_policy import OPEN, SitePolicy
from heliograph.edge_agent.confinement.task_count import tasks_of_user
from heliograph.edge_agent.launcher import BUS, LaunchRequest

OOM_SCORE = 500
"""Added to a worker's score: where memory runs out the kernel ends a worker before the agent."""
MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of a worker process; 0 is no limit. ``memory_mb`` bounds its private memory (RLIMIT_DATA)."""

    memory_mb: int = 0
    nice: int = 0


class Confinement:
    """What one launch needs; to be closed once the child has been started, or could not be.

    Attributes:
        variables: variables of the worker's environment.
        enter: what the child calls before it becomes the worker; raises OSError where the kernel refuses.
        group: the worker's cgroup; None where it has none. It outlives the launch: who ends the worker ends it.
    """

    def __init__(
        self, variables: dict[str, str], enter: Callable[[], None], ruleset: int | None, group: WorkerGroup | None,
    ) -> None:  # fmt: skip
        self.variables = variables
        self.enter = enter
        self.group = group
        self._ruleset = ruleset

    def close(self) -> None:
        if self._ruleset is not None:
            os.close(self._ruleset)
            self._ruleset = None
        if self.group is not None:
            self.group.close()


class Confiner:
    """Confines the workers of one node.

    Args:
        private: directories that workers may not read, beside those of the policy.
        groups: makes a cgroup for each worker; None where the machine lends the agent none.
    """

    def __init__(
        self, policy: SitePolicy = OPEN, limits: Limits | None = None, private: Collection[Path] = (),
        groups: WorkerGroups | None = None,
    ) -> None:  # fmt: skip
        self.policy = policy
        self._groups = groups
        self._limits = limits or Limits()
        self._private = [path.resolve() for path in (*policy.private, *private)]

    def confine(self, request: LaunchRequest, directory: Path, own: Sequence[Path]) -> Confinement:
        """Return the confinement of one launch. It looks at files, and blocks.

        Args:
            directory: the worker's own directory, which exists.
            own: the directories in which the worker may write, that one among them.

        Raise OSError where the kernel refuses.
        """
        if self.policy.files == "machine":
            return Confinement({}, _limiting(self._limits, 0), None, None)
        variables, ruleset = _homes(directory), None
        user = capabilities.user_of(directory) if self._gives_own_users else None
        steps = [_limiting(self._limits, self._processes(user)), _lead_group, capabilities.becoming(user)]
        steps.append(gaining_no_privileges())
        if landlock.version():
            ruleset = self._ruleset(request, own)
            steps.append(landlock.entering(ruleset))
        if seccomp.available():
            steps.append(seccomp.entering(self._program(request)))
        group = None
        if self._groups is not None:
            bounds = Bounds(self._limits.memory_mb, self.policy.processes, self.policy.cpu_percent)
            group = self._groups.make(bounds)
            steps.insert(0, group.enter)
        return Confinement(variables, _in_turn(steps), ruleset, group)

    @cached_property
    def unenforced(self) -> list[str]:
        """What the site policy asks for and this machine cannot enforce, a sentence each."""
        if self.policy.files == "machine":
            return []
        found = []
        if not landlock.version():
            found.append("the kernel has no Landlock: workers read and write all files that the agent's user may. Use "
                         "a kernel of 5.13 or later with landlock among its security modules (lsm=)")  # fmt: skip
        if self.policy.network == "node" and landlock.version() < landlock.NETWORK_FROM:
            found.append("the kernel bounds no TCP connections, as Landlock does from 6.7 on: workers reach every "
                         "address that the node reaches")  # fmt: skip
        if not seccomp.available():
            found.append("no filter of system calls is known for this machine: a worker's processes may leave its "
                         "process group, and use other sockets than TCP's")  # fmt: skip
        if self.policy.cpu_percent and self._groups is None:
            found.append("no cgroup is delegated to the agent: cpu-percent bounds no worker. Start the agent as a unit "
                         "of systemd with Delegate=yes, or take cpu-percent out of the site policy")  # fmt: skip
        return found

    @property
    def counts_processes(self) -> bool:
        """Whether the agent counts a worker's processes: without cgroups the kernel bounds none of root's."""
        return (self.policy.files == "own" and os.geteuid() == 0 and not self._gives_own_users
                and self._groups is None)  # fmt: skip

    @cached_property
    def _gives_own_users(self) -> bool:
        return capabilities.gives_own_users() and landlock.version() > 0

    def _processes(self, user: int | None) -> int:
        """Return how many processes and threads the worker's user may have while it runs; 0 for no bound. The kernel
        counts all of the user's, other workers' too: a cgroup bounds each worker alone."""
        if self._groups is not None or (user is None and os.geteuid() == 0):
            return 0
        return tasks_of_user(os.getuid() if user is None else user) + self.policy.processes

    def _program(self, request: LaunchRequest) -> bytes:
        return seccomp.program(self.policy.network == "full" or _needs_names(_broker(request).host))

    def _ruleset(self, request: LaunchRequest, own: Sequence[Path]) -> int:
        broker = _broker(request)
        files = (broker.tls.ca, broker.tls.certificate, broker.tls.key, broker.credentials.file)
        login = [(each, landlock.READ) for each in files if each]
        rights = [*rights_of(request, own, self.policy, self._private), *login]
        ports = [port for _, port in broker.places]
        return landlock.make_ruleset(rights, ports if self.policy.network == "node" else None)


def _homes(directory: Path) -> dict[str, str]:
    """Return variables by which libraries find a user's name, and places of their own to write; make these."""
    home, temporary = directory / "home", directory / "tmp"
    for each in (home, temporary):
        each.mkdir(exist_ok=True)
    return {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / ".cache"),
            "USER": "worker", "LOGNAME": "worker"}  # fmt: skip


def _broker(request: LaunchRequest) -> ConnectionUrl:
    return ConnectionUrl.parse(request.environment[BUS], BUS)


def _needs_names(host: str) -> bool:
    """Return whether a broker's name is resolved by DNS, whose questions are datagrams."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


def _lead_group() -> None:
    """Lead a process group and a session: later nobody in it can leave it."""
    with contextlib.suppress(PermissionError):  # it leads them already
        os.setsid()


def _limiting(limits: Limits, processes: int) -> Callable[[], None]:
    def limit() -> None:
        if limits.memory_mb:
            resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_mb * MB, limits.memory_mb * MB))
        if limits.nice:
            os.nice(limits.nice)
        if processes:
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            most = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds data, and fills the disk
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write(str(OOM_SCORE))

    return limit


def _in_turn(steps: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def enter() -> None:
        for step in steps:
            step()

    return enter
