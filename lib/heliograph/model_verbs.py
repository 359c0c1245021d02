"""The requests that models alone have, for the client: versions, aliases, rollbacks, evaluations, deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]


class ModelVerbs:
    """Requests about the versions of a model; ``AsyncClient.models`` has them. Answers are documents, as ``topics.md``
    lists them."""

    async def ask(self, verb: str, name: str | None = None, **fields: Any) -> Any:
        """Send a request, and return the result of its answer."""
        raise NotImplementedError

    async def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Document:
        """Return the versions of a model, newest first, with its aliases and what is deployed.

        Args:
            before: go on from the ``before`` of an earlier answer.
        """
        found: Document = await self.ask("versions", name, **given(before=before, limit=limit))
        return found

    async def evaluation(self, name: str, version: int | str | None = None) -> Document:
        """Return what versions of a model score, and on which data; of one version, by number or alias, or of all."""
        found: Document = await self.ask("evaluation", name, **which(version))
        return found

    async def deployment(self, name: str, *, state: str | None = None, after: str | None = None) -> Document:
        """Return what each edge runs of a model.

        Args:
            state: only edges that are ``deployed``, ``pending``, ``offline`` or ``failing``.
            after: only edges after this one by name.
        """
        found: Document = await self.ask("deployment", name, **given(state=state, after=after))
        return found

    async def register(self, name: str, weights: Document, **fields: Any) -> Document:
        """Add a file, which is stored already, as the next version of a model. Return the model's document.
        ``AsyncClient.upload`` stores the file, too.

        Args:
            weights: the reference to the file.
            fields: ``inputs``, ``outputs``, ``label_schema``, ``parent``, ``metrics``, ``deploy``; see ``topics.md``.
        """
        found: Document = await self.ask("register", name, weights=weights, **fields)
        return found

    async def rollout(
        self, name: str, version: int, canary: Mapping[str, Any] | None = None, *, resource_version: str = "",
        dry_run: bool = False,
    ) -> Document:  # fmt: skip
        """Let a version answer a share of the requests, and then all or none. Return the model's document.

        Args:
            canary: share and bounds, as ``Canary`` has them: ``share``, ``by``, ``leastRequests``, ``deadlineSeconds``,
                ``mostErrors``, ``mostLatency``, ``leastAgreement``, ``watchSeconds``.
            resource_version, dry_run: see ``Resources.delete``.
        """
        fields = given(version=version, canary=canary, resource_version=resource_version or None,
                       dry_run=dry_run or None)  # fmt: skip
        found: Document = await self.ask("rollout", name, **fields)
        return found

    async def alias(
        self,
        name: str,
        alias: str,
        version: int | None = None,
        *,
        was: int | None = None,
        edges: Sequence[str] | None = None,
        remove: bool = False,
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Document:
        """Move an alias of a model to a version, bind edges to it, or remove it. Return the model's document.

        Args:
            was: the version that you saw it name; refused as ``conflict`` where somebody has moved it since.
            edges: the edges on which the alias decides what is deployed, in place of ``champion``; none frees them.
            resource_version, dry_run: see ``Resources.delete``.
        """
        fields = given(alias=alias, version=version, was=was, remove=remove or None, dry_run=dry_run or None,
                       edges=list(edges) if edges is not None else None,
                       resource_version=resource_version or None)  # fmt: skip
        found: Document = await self.ask("alias", name, **fields)
        return found

    async def rollback(
        self,
        name: str,
        *,
        alias: str = "champion",
        to: int | None = None,
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Document:
        """Move an alias of a model back to the version that it named before, or to the one of that number. Return the
        model's document."""
        fields = given(alias=alias, to=to, resource_version=resource_version or None, dry_run=dry_run or None)
        found: Document = await self.ask("rollback", name, **fields)
        return found

    async def key(self) -> Document:
        """Return the public key that signs versions of models, for ``heliograph agent --model-keys``."""
        found: Document = await self.ask("key")
        return found


def which(version: int | str | None) -> Document:
    """Return the fields that name a version by number or alias."""
    return given(alias=version) if isinstance(version, str) else given(version=version)


def given(**fields: Any) -> Document:
    """Return the fields that are not None."""
    return {key: value for key, value in fields.items() if value is not None}
