"""The keys of an authority, kept in a file that its user alone may read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.private_files import write_private
from heliograph.core.world import World

FILE = "authority.json"
"""Name of the file in an authority's directory."""


ALL = "*"
"""Stands for every key in a list of those that were taken away."""


@dataclass(frozen=True)
class Origin:
    """How an edge has enrolled.

    Attributes:
        invitation: name of the invitation.
        node: name of its machine, where it enrolled by that; else empty.
    """

    invitation: str
    node: str = ""


@dataclass
class AuthorityKeys:
    """Keys by name, and who has which login. ``repr`` shows no secret, since that of a key does not.

    Attributes:
        operator: signs accounts.
        accounts: the key of each account.
        scopes: keys that sign for the logins of one role in one account, by ``ACCOUNT/role``.
        logins: public key of each login, by account and name.
        revoked: public keys of logins that were taken away, with the time in seconds since 1970, by account.
        enrolled: public key of each edge that has enrolled, and whose private key never was here, by its name.
        users: the same of users.
        origins: how each edge has enrolled that did so by an invitation.
    """

    operator: KeyPair
    accounts: dict[str, KeyPair] = field(default_factory=dict)
    scopes: dict[str, KeyPair] = field(default_factory=dict)
    logins: dict[str, dict[str, str]] = field(default_factory=dict)
    revoked: dict[str, dict[str, int]] = field(default_factory=dict)
    enrolled: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, world: World) -> AuthorityKeys:
        """Read a file that ``write`` has written; make the operator's key where there is none.

        Raises:
            HeliographError: if the file cannot be read: other keys would lock every client out.
        """
        try:
            tree = json.loads(file.read_text())
            return cls(
                KeyPair.from_seed(tree["operator"], str(file)),
                {name: KeyPair.from_seed(seed, str(file)) for name, seed in tree["accounts"].items()},
                {name: KeyPair.from_seed(seed, str(file)) for name, seed in tree["scopes"].items()},
                {account: dict(logins) for account, logins in tree["logins"].items()},
                {account: dict(keys) for account, keys in tree["revoked"].items()},
                dict(tree.get("enrolled", {})),
                dict(tree.get("users", {})),
                {edge: Origin(each["invitation"], each["node"]) for edge, each in tree.get("origins", {}).items()},
            )
        except FileNotFoundError:
            return cls(KeyPair("operator", world.new_secret()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Refused):
            hint = "delete its directory to make every login anew"
            raise HeliographError(f"{file} cannot be read; {hint}") from None

    def write(self, file: Path) -> None:
        tree = {
            "operator": self.operator.seed,
            "accounts": {name: key.seed for name, key in self.accounts.items()},
            "scopes": {name: key.seed for name, key in self.scopes.items()},
            "logins": self.logins,
            "revoked": self.revoked,
            "enrolled": self.enrolled,
            "users": self.users,
            "origins": {edge: asdict(each) for edge, each in self.origins.items()},
        }
        text = json.dumps(tree)
        if not file.exists() or file.read_text() != text:
            write_private(file, text)

    def revoke(self, account: str, key: str, world: World) -> None:
        """Note that a login of an account is taken away."""
        self.revoked.setdefault(account, {})[key] = int(world.now())

    def revoke_all(self, account: str, world: World) -> None:
        """Note that all logins of an account are taken away that were signed before this second."""
        self.revoked.setdefault(account, {})[ALL] = int(world.now()) - 1

    @staticmethod
    def make(keys: dict[str, KeyPair], name: str, world: World) -> None:
        """Make the key of an account, or of a role in one, unless there is one."""
        if name not in keys:
            keys[name] = KeyPair("account", world.new_secret())
