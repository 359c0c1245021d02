"""A server of a site: the agents of some edges connect to it, and one link leads from there to the cloud.

    SITE/nats.conf      configuration of nats-server as a leaf node; its paths begin where it runs
    SITE/EDGE.creds     a login of each edge's account, for the link
    SITE/SYS.creds      the login by which the cloud sees who is connected there
    SITE/ENROL.creds    the login by which edges whose login has expired renew it
    SITE/ca.pem, server.pem, server.key

It stores nothing, and has no key that signs. It lets in whom the cloud has given a login, and knows the accounts of its
edges alone. Who comes without a login may ask that an expired one be renewed, and nothing else. Made again, with other
edges too, it has new logins for its link; those of before stay good until the site is revoked with its edges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliograph.bus.connection_url import TLS
from heliograph.bus.contract.accounts import ENROL, allowed_of, allowed_of_renewal
from heliograph.bus.contract.accounts import SYSTEM as _SYSTEM
from heliograph.bus.contract.permissions import NEWCOMER, site_login
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.authority_keys import FILE as KEYS
from heliograph.bus.nats.authority_keys import AuthorityKeys
from heliograph.bus.nats.login import login_of_edge
from heliograph.core.certificates import Authority, read_certificate
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.claims import NATS_CONNECTIONS, NO_LIMIT, AccountClaims, Allowed, UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode, encode
from heliograph.core.names import require_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.local.broker_tls import BrokerTls, in_url, protected
from heliograph.local.certificates import CERTIFICATE_DAYS
from heliograph.local.nats_server import (
    MAX_CONNECTIONS,
    MAX_PAYLOAD,
    MAX_PENDING,
    MAX_SUBSCRIPTIONS,
    PATIENCE,
    PING_INTERVAL,
    WRITE_DEADLINE,
    pings_in,
)


def make_site(
    cloud: Path, site: str, edges: Sequence[str], hosts: Sequence[str], names: Sequence[str], world: World, *,
    leaf_port: int, port: int = 4222, host: str = "0.0.0.0",
) -> Path:  # fmt: skip
    """Write the directory of a site's server, to be carried there; return it.

    Args:
        cloud: the cloud's directory, with the authority.
        edges: those behind the server; each has enrolled.
        hosts: by which the site reaches the cloud's servers, each at ``leaf_port``.
        names: host names and addresses by which the site's edges reach its server.
        port, host: where it listens.

    Raises:
        Refused: where an edge has not enrolled, or a name cannot stand in a certificate.
        HeliographError: where the cloud's files cannot be read.
    """
    keys = AuthorityKeys.read(cloud / "broker" / "identity" / KEYS, world)
    if missing := [edge for edge in edges if edge not in keys.enrolled]:
        known = ", ".join(sorted(keys.enrolled)[:10]) or "none has"
        raise Refused("not-enrolled", field="--edge", expected=f"edges that have enrolled: {known}",
                      got=", ".join(missing))  # fmt: skip
    directory = make_private(cloud / "sites" / require_label(site, "site"))
    links = {f"{edge}.creds": login_of_edge(edge).account for edge in edges}
    links |= {f"{account}.creds": account for account in (_SYSTEM, ENROL)}  # no edge has such a name
    for file, account in links.items():
        user = NEWCOMER if account == ENROL else site_login(site)  # the cloud takes the link for whom it asks for
        _write_login(directory / file, user, keys.accounts[account], _allowed(account, keys, edges), world)
    tls = _write_certificates(directory, cloud / "tls", names, world)
    accounts = [_account(_SYSTEM, Allowed(), keys, world), _account(ENROL, allowed_of_renewal(), keys, world)]
    for edge in edges:
        login = login_of_edge(edge)
        allowed = allowed_of("agent", DEFAULT_ROOT, login=login.name, edge=edge)
        accounts.append(_account(login.account, allowed, keys, world))
    remotes = [_remote(file, keys.accounts[name].public, hosts, leaf_port) for file, name in links.items()]
    config = {
        "server_name": site_login(site),
        "host": host,
        "port": port,
        "max_payload": MAX_PAYLOAD,
        "ping_interval": PING_INTERVAL,
        "ping_max": pings_in(PATIENCE),
        "write_deadline": WRITE_DEADLINE,
        "max_connections": MAX_CONNECTIONS,
        "max_subscriptions": MAX_SUBSCRIPTIONS,
        "max_pending": MAX_PENDING,
        **_trusted(cloud),
        "default_sentinel": _sentinel(keys.accounts[ENROL], world),
        "resolver": "MEMORY",
        "resolver_preload": {decode(each, AccountClaims).subject: each for each in accounts},
    }
    tree: dict[str, Any] = protected(config, tls)
    tree["leafnodes"] = {"remotes": remotes}
    write_private(directory / "nats.conf", json.dumps(tree, indent=1))
    return directory


def _allowed(account: str, keys: AuthorityKeys, edges: Sequence[str]) -> Allowed:
    """Return what may pass the link of an account: of the system's own, who comes and goes among these edges, and the
    cloud's questions about it; of those without a login, renewals; what an edge may is its account's to say."""
    if account == ENROL:
        return allowed_of_renewal()
    if account != _SYSTEM:
        return Allowed()
    own = [keys.accounts[login_of_edge(edge).account].public for edge in edges]
    events = tuple(f"$SYS.ACCOUNT.{key}.{event}" for key in own for event in ("CONNECT", "DISCONNECT"))
    return Allowed(publish=(*events, "_INBOX.>"),
                   subscribe=("$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.>",
                              *(f"$SYS.REQ.ACCOUNT.{key}.CLAIMS.UPDATE" for key in own)))  # fmt: skip


def _sentinel(account: KeyPair, world: World) -> str:
    """Return the token that the server gives to clients without one. It is no secret: the cloud lets everybody in who
    asks for as much."""
    claims = UserClaims(subject=KeyPair("user", world.new_secret()).public, name=NEWCOMER, bearer=True,
                        connection_types=NATS_CONNECTIONS, allowed=allowed_of_renewal())  # fmt: skip
    return encode(claims, account, world.now())


def _write_login(file: Path, login: str, account: KeyPair, allowed: Allowed, world: World) -> None:
    key = KeyPair("user", world.new_secret())
    claims = UserClaims(subject=key.public, name=login, allowed=allowed, connection_types=("LEAFNODE",))
    UserCredentials(encode(claims, account, world.now()), claims, key).write(file)


def _account(name: str, allowed: Allowed, keys: AuthorityKeys, world: World) -> str:
    """Return an account's token for the site: without what crosses its border, which the cloud's servers do."""
    claims = AccountClaims(subject=keys.accounts[name].public, name=name, issuer=keys.operator.public,
                           allowed=allowed, leaf_nodes=NO_LIMIT, revoked=keys.revoked.get(name, {}))  # fmt: skip
    return encode(claims, keys.operator, world.now())


def _remote(file: str, account: str, hosts: Sequence[str], port: int) -> dict[str, Any]:
    return {"urls": [f"tls://{in_url(host)}:{port}" for host in hosts], "account": account, "credentials": file,
            "tls": {"ca_file": "ca.pem", "min_version": "1.3"}}  # fmt: skip


def _write_certificates(directory: Path, authorities: Path, names: Sequence[str], world: World) -> BrokerTls:
    files = sorted(authorities.glob("authority-*.pem"), key=lambda file: int(file.stem.rpartition("-")[2]))
    if not files:
        raise Refused("insecure", field="DIRECTORY", expected="a cloud with TLS", got="one that listens on loopback",
                      hint="Make it with --tls-name, so that sites can reach it.")  # fmt: skip
    made = Authority(read_certificate(files[0], files[0])).server(world, names, CERTIFICATE_DAYS)
    for name, text in (("server.pem", made.certificate), ("server.key", made.key)):
        write_private(directory / name, text)
    write_private(directory / "ca.pem", (authorities / "ca.pem").read_text())
    return BrokerTls(Path("server.pem"), Path("server.key"), TLS(Path("ca.pem")), names[0])


def _trusted(cloud: Path) -> dict[str, str]:
    try:
        config = json.loads((cloud / "broker" / "nats.conf").read_text())
        return {option: config[option] for option in ("operator", "system_account")}
    except (OSError, ValueError, KeyError) as error:
        raise HeliographError(f"{cloud} is damaged: {error!r}; run 'heliograph init' there again") from None
