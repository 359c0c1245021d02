"""Access rules for mosquitto, from the same registry as the embedded broker's permissions.

mosquitto's own format (mosquitto.conf(5), ``acl_file``). Rules before the first user are those of anonymous clients; a
user gets none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heliograph.bus.contract.permissions import Place, permissions
from heliograph.bus.contract.topics import DEFAULT_ROOT, Role


def mosquitto_acl(place: Place, logins: Mapping[str, Role], root: str = DEFAULT_ROOT) -> str:
    """Return an ACL file for a broker at that place: for anonymous clients and for each login, by its role.

    ``cloud`` is a door in front of the coordinator, ``node`` a node's broker. Raises Refused if a user's or an
    operator's name is no DNS label.
    """
    lines = [f"# Access rules of Heliograph for mosquitto ({place}); made by 'heliograph topics --mosquitto-acl'",
             "", "# anonymous clients", *_rules("anonymous", place, root)]  # fmt: skip
    for login, role in logins.items():
        lines += ["", f"# {role}", f"user {login}", *_rules(role, place, root, login)]
    return "\n".join(lines) + "\n"


def _rules(role: Role, place: Place, root: str, login: str = "") -> Iterator[str]:
    allowed = permissions(role, place, root, login=login)
    for right, subjects in (("write", allowed.publish), ("read", allowed.subscribe)):
        for subject in dict.fromkeys(subjects):
            if subject == ">":  # mosquitto needs no more: other topics are other programs'
                yield f"topic {right} {root}/#"
            elif subject.startswith(root.replace("/", ".") + "."):
                yield f"topic {right} {subject.replace('.', '/').replace('*', '+').replace('>', '#')}"
