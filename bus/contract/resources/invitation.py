"""Invitation: nodes may enrol by it, until it expires or is used up."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.resources.base import Document, Resource, ShortText
from heliograph.core.names import Label, LabelOrEmpty

MOST_SECONDS = 30 * 86_400
"""Seconds for which an invitation is good, at most."""
MOST_NODES = 10_000
UserKey = Annotated[str, StringConstraints(pattern=r"^U[A-Z2-7]{55}$")]
"""Public key of a user, as NATS writes it."""


class InvitationSpec(Document):
    """Who may enrol.

    Attributes:
        key: public key of the invitation: the node signs with the private one, which the token has.
        seconds: how long it is good, from its creation.
        nodes: how many may enrol by it. One of a single node is for the edge of the invitation's own name; nodes of a
            larger one take names that begin with the invitation's name and ``-``.
        project: the project that the edges serve; empty for all.
    """

    key: UserKey
    seconds: Annotated[int, Field(ge=10, le=MOST_SECONDS)] = 900
    nodes: Annotated[int, Field(ge=1, le=MOST_NODES)] = 1
    project: LabelOrEmpty = ""


class InvitedNode(Document):
    """A node that has enrolled: its key, and when."""

    key: UserKey
    at: ShortText


class InvitationStatus(Document):
    """Who has enrolled, by the edge's name."""

    enrolled: dict[Label, InvitedNode] = Field(default_factory=dict)


class Invitation(Resource):
    """``kind: Invitation``. Its name is that of the edge, or what the names of a group of edges begin with."""

    plural: ClassVar[str] = "invitations"
    of_project: ClassVar[bool] = False

    kind: Literal["Invitation"] = "Invitation"
    spec: InvitationSpec
    status: InvitationStatus = Field(default_factory=InvitationStatus)

    @property
    def project(self) -> str:
        return self.spec.project

    def names(self, edge: str) -> bool:
        """Return whether an edge of that name may enrol by it."""
        return edge == self.name if self.spec.nodes == 1 else edge.startswith(f"{self.name}-")
