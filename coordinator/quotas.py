"""Quotas: the most that one caller, and all callers together, may ask for and store.

They bound the work and the memory that documents from outside can cause. An honest script stays far below them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heliograph.coordinator import settings as options
from heliograph.core.errors import Refused


@dataclass(frozen=True)
class Usage:
    """What a caller, or all together, have stored by requests.

    Attributes:
        bytes: size of the stored documents, their status included.
        workers: entries for workers in jobs and services that have not ended.
    """

    resources: int = 0
    bytes: int = 0
    workers: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.resources + other.resources, self.bytes + other.bytes, self.workers + other.workers)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.resources - other.resources, self.bytes - other.bytes, self.workers - other.workers)


@dataclass(frozen=True)
class Quotas:
    """The quotas of one coordinator. A field's name with dashes is the quota's name in ``--quota NAME=N``.

    Attributes:
        requests_per_second: requests of one caller that are handled in a second, in the long run. A ``get`` or a
            ``status`` of at most 512 bytes counts as a quarter of one.
        requests_at_once: requests that a caller may send at once before that rate applies.
        bytes_per_second: bytes of one caller's requests and answers in a second, in the long run.
        bytes_at_once: bytes before that rate applies.
        requests_per_second_in_all: requests of all callers that are handled in a second, counted alike.
        resources, resources_in_all: stored resources that requests created.
        stored_bytes, stored_bytes_in_all: their size.
        resource_bytes: size of one resource, as its request writes it.
        workers_of_job: workers that one job or service lists. ``participants: {all: true}`` is one entry.
        workers, workers_in_all: workers that all jobs and services list, except those that have ended.
    """

    requests_per_second: int = 200
    requests_at_once: int = 1000
    bytes_per_second: int = 2 << 20
    bytes_at_once: int = 4 << 20
    requests_per_second_in_all: int = 1000
    resources: int = 2000
    resources_in_all: int = 10_000
    stored_bytes: int = 64 << 20
    stored_bytes_in_all: int = 128 << 20
    resource_bytes: int = 1 << 20
    workers_of_job: int = 10_000
    workers: int = 20_000
    workers_in_all: int = 50_000

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Quotas:
        """Return the quotas with these settings, each ``NAME=N``. Raise Refused for others."""
        return options.changed(cls(), "quota", settings)

    def check_size(self, size: int) -> None:
        """Raise Refused where a request is larger than a resource may be."""
        _check("resource-bytes", size, self.resource_bytes, "bytes of one resource", "Shorten the document.")

    def check(self, caller: str, whole: Usage, growth: Usage, own: Usage, in_all: Usage) -> None:
        """Raise Refused, naming the quota, where a caller may not store a resource.

        Args:
            whole: usage of the resource.
            growth: its part that is not stored yet.
            own, in_all: usage of the caller and of all, without ``growth``.
        """
        _check("workers-of-job", whole.workers, self.workers_of_job, "workers in one document",
               "Use participants with one worker for many edges, or ask for a higher quota.")  # fmt: skip
        mend = "Delete resources that are no longer needed, or ask the operator for a higher quota."
        whose = f"of caller {caller}" if caller else "of callers without a name"
        for what, unit in (("resources", "resources"), ("bytes", "bytes"), ("workers", "workers of jobs that run")):
            more = getattr(growth, what)
            if more <= 0:  # a change that takes less is always allowed
                continue
            quota = "stored_bytes" if what == "bytes" else what
            for place, used, suffix in ((whose, own, ""), ("of all callers", in_all, "_in_all")):
                _check(f"{quota}{suffix}".replace("_", "-"), getattr(used, what) + more,
                       getattr(self, f"{quota}{suffix}"), f"{unit} {place}", mend, getattr(used, what))  # fmt: skip


def _check(quota: str, wanted: int, most: int, unit: str, mend: str, used: int | None = None) -> None:
    if wanted > most:
        got = f"{wanted}" if used is None else f"{wanted} ({used} are there)"
        raise Refused("quota", field=quota, expected=f"at most {most} {unit}, the quota {quota}", got=got, hint=mend)
