"""Algorithm: a rule by which updates are aggregated, as the agents that offer it describe it; or training code as a
package."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from heliograph.bus.contract.parameter_schema import check_parameters
from heliograph.bus.contract.resources.base import (
    Binary,
    Condition,
    Document,
    Parameter,
    Resource,
    ShortText,
    WeightsRef,
)
from heliograph.bus.contract.versions import added
from heliograph.core.document_bounds import json_tree
from heliograph.core.names import Digest
from heliograph.core.package_paths import MAX_SIZE, check_entry_point
from heliograph.core.signing import Envelope

EntryPoint = Annotated[ShortText, AfterValidator(check_entry_point)]


class PackageManifest(Document):
    """The file ``heliograph-package.json`` of a package: how its code is run. The package's digest covers it.

    Attributes:
        entry_point: path of the script in the package.
        framework: name of the framework that the script trains with.
        parameters: JSON schema of each parameter that the script reads, by its name; empty where it declares none.
    """

    entry_point: EntryPoint
    framework: ShortText | None = None
    parameters: Annotated[dict[str, Any], Field(max_length=64), AfterValidator(check_parameters)] = Field(
        default_factory=dict
    )


class AlgorithmPackage(Document):
    """Training code as a package (``package_file``). Its manifest repeats entry point, framework and parameters.

    Attributes:
        digest: SHA-256 of the package.
        size: bytes of the package.
        entry_point: path of the script in the package.
        framework: name of the framework that the script trains with.
        inline: the package itself if it has at most 256 kB; otherwise it lies in the bucket ``packages``. Documents do
            not show it.
        signature: the statement of an operator that this digest may run; see ``package_signature``.
    """

    digest: Digest
    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    entry_point: EntryPoint
    framework: ShortText | None = None
    inline: Binary | None = None
    signature: Envelope | None = None

    @property
    def ref(self) -> WeightsRef:
        """The reference to its blob."""
        return WeightsRef(digest=self.digest, size=self.size)


class PinnedPackage(Document):
    """The package that a job runs from its begin to its end, whatever becomes of the Algorithm meanwhile.

    Attributes:
        defaults: parameters that have a default, for those that the job does not give.
        signature: that of the Algorithm, as long as it has the same digest.
    """

    digest: Digest
    size: int
    framework: ShortText | None = None
    defaults: list[Parameter] = Field(default_factory=list)
    signature: Envelope | None = None


class AlgorithmSpec(Document):
    """An algorithm and the JSON schema of its parameters; with ``package``, training code for jobs that name it."""

    description: ShortText = ""
    parameters: Annotated[dict[str, Any], Field(max_length=64), AfterValidator(json_tree)] = Field(default_factory=dict)
    package: AlgorithmPackage | None = added("0.2")


class AlgorithmStatus(Document):
    """The edges, or the cloud, whose workers can run an algorithm; of a package, the edges that have it.

    Attributes:
        available: digest of the package that lies in the cloud, proven.
        superseded: digests of earlier packages that may still lie there.
    """

    edges: list[str] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)
    available: str = added("0.2", "")
    superseded: list[str] = added("0.2", [])


class Algorithm(Resource):
    """``kind: Algorithm``. Its name is the algorithm's name in lower case."""

    plural: ClassVar[str] = "algorithms"

    kind: Literal["Algorithm"] = "Algorithm"
    spec: AlgorithmSpec = Field(default_factory=AlgorithmSpec)
    status: AlgorithmStatus = Field(default_factory=AlgorithmStatus)
