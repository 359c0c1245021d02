"""User: a person or a program with a login, and what it may do in which projects."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import Document, Resource, ShortText
from heliograph.bus.contract.resources.invitation import UserKey
from heliograph.bus.contract.scopes import DEFAULT_PROJECT, Scope
from heliograph.core.names import Label

MOST_GRANTS = 256


class Grant(Document):
    """A scope in a project. That of an operator holds in every project."""

    project: Label = DEFAULT_PROJECT
    scope: Scope


class UserInvitation(Document):
    """A key by which the user may enrol.

    Attributes:
        key: public half; the token that the user gets has the private one.
        expires: seconds since 1970.
    """

    key: UserKey
    expires: Annotated[int, Field(ge=0, le=1 << 40)]


class UserSpec(Document):
    """What a user may do, and how it may enrol."""

    grants: list[Grant] = Field(default_factory=list, max_length=MOST_GRANTS)
    invitation: UserInvitation | None = None

    @model_validator(mode="after")
    def _one_grant_for_each_project(self) -> "UserSpec":
        projects = [each.project for each in self.grants]
        if len(set(projects)) != len(projects):
            raise ValueError("expected one grant for each project")
        return self

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """The scope by project."""
        return {each.project: each.scope for each in self.grants}


class UserStatus(Document):
    """The key that the user has enrolled with, when, and the key of the invitation; empty before."""

    key: ShortText = ""
    enrolled: ShortText = ""
    invited_by: ShortText = ""


class User(Resource):
    """``kind: User``. Its name is that of the login."""

    plural: ClassVar[str] = "users"
    of_project: ClassVar[bool] = False

    kind: Literal["User"] = "User"
    spec: UserSpec = Field(default_factory=UserSpec)
    status: UserStatus = Field(default_factory=UserStatus)

    @property
    def belongs_to(self) -> str:
        return self.name
