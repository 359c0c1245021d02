"""The key by which an agent signs the login of each launch: it lets into one account, as a worker alone.

    worker-issuer.json      {"account": …, "key": …}, in the authority's directory, for the agent's user alone

The agent signs offline. What such a login may is bound to the key (a scope of the account), so that whoever has the
file is any worker, and nobody else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import encode
from heliograph.core.private_files import write_private

if TYPE_CHECKING:
    from heliograph.bus.contract.launch_permissions import Launch

WORKER_ISSUER = "worker-issuer.json"
"""Name of the file in an authority's directory."""
_MOST_BYTES = 4096


@dataclass(frozen=True)
class WorkerIssuer:
    """Signs logins of workers. ``repr`` shows no secret.

    Attributes:
        account: public key of the account that the logins belong to.
        key: the signing key of the account's scope for workers.
    """

    account: str
    key: KeyPair = field(repr=False)

    @classmethod
    def read(cls, file: Path) -> WorkerIssuer:
        """Read a file that ``write`` has written. Raise Refused, which shows no secret, if it is none."""
        try:
            with file.open("rb") as source:
                tree = json.loads(source.read(_MOST_BYTES))
            account, seed = tree["account"], tree["key"]
            if not isinstance(account, str) or not isinstance(seed, str):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Refused("bad-credentials", topic=str(file), expected="the key that signs workers' logins", got="none",
                          hint="The authority of the broker writes it.") from None  # fmt: skip
        return cls(account, KeyPair.from_seed(seed, str(file)))

    def write(self, file: Path) -> None:
        """Write a file that its user alone may read."""
        write_private(file, json.dumps({"account": self.account, "key": self.key.seed}))

    def issue(self, launch: Launch, key: KeyPair, now: float, expires: int) -> UserCredentials:
        """Return a login of a launch that is good until ``expires``, in seconds since 1970."""
        from heliograph.bus.contract.accounts import EDGE_TAG, JOB_TAG, UID_TAG, WORKER_TAG

        names = {WORKER_TAG: launch.worker, JOB_TAG: launch.job, UID_TAG: launch.job_uid, EDGE_TAG: launch.edge}
        tags = tuple(f"{name}:{value}" for name, value in names.items())
        claims = UserClaims(subject=key.public, name=launch.login, expires=expires, account=self.account, tags=tags)
        return UserCredentials(encode(claims, self.key, now), claims, key)
