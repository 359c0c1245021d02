"""Declarations of features: a kind of resource, its request verbs and topics, and where its other parts are."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.scopes import Scope
from heliograph.core.errors import Refused
from heliograph.core.lazy import Declaration, References

if TYPE_CHECKING:
    from heliograph.bus.contract import dataset_requests as datasets
    from heliograph.bus.contract import enrolment_requests as enrolment
    from heliograph.bus.contract import garbage, join_bodies, label_requests, payloads, request_bodies, resources
    from heliograph.bus.contract import job_requests as jobs
    from heliograph.bus.contract import learning_requests as learning
    from heliograph.bus.contract import model_requests as models
    from heliograph.bus.contract import pair_requests as pairs
else:
    datasets = References("heliograph.bus.contract.dataset_requests")
    enrolment = References("heliograph.bus.contract.enrolment_requests")
    garbage = References("heliograph.bus.contract.garbage")
    join_bodies = References("heliograph.bus.contract.join_bodies")
    jobs = References("heliograph.bus.contract.job_requests")
    label_requests = References("heliograph.bus.contract.label_requests")
    learning = References("heliograph.bus.contract.learning_requests")
    models = References("heliograph.bus.contract.model_requests")
    pairs = References("heliograph.bus.contract.pair_requests")
    payloads = References("heliograph.bus.contract.payloads")
    request_bodies = References("heliograph.bus.contract.request_bodies")
    resources = References("heliograph.bus.contract.resources")

ENTRY_POINTS = "heliograph.features"
"""The entry-point group in which a package outside Heliograph names its declarations, one entry each."""
READ = ("list", "get", "watch")
"""Verbs of a kind whose resources only the coordinator makes."""
ANYONE: Literal["anyone"] = "anyone"
CATALOG = ("create", "list", "get", "watch", "update", "delete")


@dataclass(frozen=True)
class Verb(Declaration):
    """A request verb of one feature, beside those that every feature has; ``Feature.answer`` answers it.

    Attributes:
        name: last word of the request topic.
        doc: what the verb does, in one sentence.
        body: fields of the request. A verb that changes anything takes a ``Change``, with ``resource_version`` and
            ``dry_run``.
        answer: result of the answer; None where it is the resource.
        named: whether the request is about one resource, the one of ``body.name``.
        scope: what a caller needs, whoever owns the resource: a scope in its project, in any where the request is about
            none; ``anyone`` where the request proves by itself who asks. Without it a viewer reads, and an owner or an
            admin changes.
        participants: whether a program that takes part in a job by itself may ask, too.
    """

    name: str
    doc: str
    body: type[BaseModel] = field(default_factory=lambda: request_bodies.Named)
    answer: type[BaseModel] | None = field(default_factory=lambda: None)
    named: bool = True
    scope: Scope | Literal["anyone"] | None = field(default_factory=lambda: None)
    participants: bool = False


WRITES = {
    "create": "Create a resource; the same document again changes nothing.",
    "update": "Change spec, labels and annotations. It is refused where somebody has changed them since the version "
    "that `metadata.resourceVersion` names.",
}
"""Verbs whose body is the document of a resource, with `dry_run` beside its fields."""
STANDARD: dict[str, Verb] = {
    each.name: each
    for each in (
        Verb("list", "Return the resources.", request_bodies.ListQuery, named=False),
        Verb("get", "Return a resource."),
        Verb("watch", "Return the resources that have changed since a version.", request_bodies.WatchQuery,
             named=False),
        Verb("delete", "Delete a resource, and return it.", request_bodies.Change),
        Verb("status", "Return the status of a resource."),
    )
}
"""The other verbs that the coordinator answers for every feature."""


@dataclass(frozen=True)
class FeatureDeclaration(Declaration):
    """One kind of resource and all that belongs to it. Every process loads it, so its module must be light to import:
    Heliograph's own name their classes by ``References``.

    Attributes:
        name: the feature's name in messages; an outside feature uses the name of its entry point.
        kind: class of the resource; its ``plural`` names the requests, the status topics and the client's collection.
        verbs: request verbs of the resource. The coordinator answers ``create``, ``list``, ``get``, ``watch``,
            ``update``, ``delete`` and ``status`` for every feature; the feature answers any other verb: a name by
            ``Feature.steer``, which returns the changed resource, a ``Verb`` by ``Feature.answer``.
        topics: topics that the feature adds. Permissions, streams and schemas follow from them.
        coordinator: ``module:Class`` of its ``coordinator.feature.Feature``, imported by the coordinator alone.
        command_line: ``module:object`` of its ``cli.presentation.Presentation``, imported by the command line alone.
        ended: final phases of ``status``; a watch of the resource stops there.
        collection: the kind's ``plural``, stated so that nobody has to load the kind for it; empty: the kind is loaded.
    """

    name: str
    kind: type[resources.Resource]
    verbs: tuple[str | Verb, ...]
    topics: tuple[topics.Topic[Any], ...] = ()
    coordinator: str = ""
    command_line: str = ""
    ended: tuple[str, ...] = field(default_factory=tuple)
    collection: str = ""

    @property
    def plural(self) -> str:
        return self.collection or self.kind.plural

    @cached_property
    def own_verbs(self) -> dict[str, Verb]:
        """The verbs that have a declaration of their own, by name."""
        return {verb.name: verb for verb in self.verbs if isinstance(verb, Verb)}

    @cached_property
    def verb_names(self) -> tuple[str, ...]:
        """The names of all verbs, in the order of the declaration."""
        return tuple(verb.name if isinstance(verb, Verb) else verb for verb in self.verbs)

    def verb(self, name: str) -> Verb:
        """Return a verb that is none of ``WRITES``: its own, a standard one, or one that changes the resource alone."""
        return self.own_verbs.get(name) or STANDARD.get(name) or Verb(
            name, f"{name.capitalize()} it.", request_bodies.Change
        )

    def load(self, part: Literal["coordinator", "command_line"]) -> Any:
        """Import a part; return None if the feature has none. Raises Refused naming feature and reference."""
        reference: str = getattr(self, part)
        if not reference:
            return None
        try:
            return pkgutil.resolve_name(reference)
        except Exception as error:  # whatever a foreign module raises
            raise Refused("broken-feature", field=f"{part} of feature {self.name}", expected="module:object to import",
                          got=f"{reference} ({type(error).__name__}: {error})",
                          hint="Mend or uninstall its package.") from error  # fmt: skip


JOIN_VERBS = (
    Verb("join", "Let an edge take part in a job, or the participant that asks; answer what it has to do now.",
         join_bodies.Join, payloads.Participation, participants=True),
    Verb("weights", "Answer a participant with a part of the weights that a job trains from now, or has ended with.",
         join_bodies.GetWeights, payloads.WeightsPart, participants=True),
    Verb("upload", "Take a part of a participant's weights, which are too large for an update.",
         join_bodies.UploadWeights, payloads.UploadState, participants=True),
)  # fmt: skip
COLLECT = Verb(
    "collect", "Delete what has come to the end of its life: old versions, blobs that nothing names, cut uploads and "
    "records of rounds. What is deployed or named is never taken.", garbage.Collect, garbage.Garbage, named=False,
    scope="operator",
)  # fmt: skip
_LABELLING = (
    Verb("claim", "Take a lease on tasks: each is given to one labeller, and never twice to the same one.",
         label_requests.ClaimTasks, label_requests.Claimed, scope="submitter"),
    Verb("renew", "Keep a lease for as long again.", label_requests.RenewLease, label_requests.Renewed,
         scope="submitter"),
    Verb("submit", "Give a label for a claimed task, or replace the labeller's own earlier one.",
         label_requests.SubmitLabel, label_requests.Submitted, scope="submitter"),
    Verb("skip", "Pass over a claimed task.", label_requests.SkipTask, label_requests.Given, scope="submitter"),
    Verb("release", "Give a claimed task back.", label_requests.ReleaseLease, label_requests.Given, scope="submitter"),
    Verb("propose", "Add a model's prediction to a task; above the calibrated bar it becomes a label.",
         label_requests.ProposeLabel, label_requests.Proposed, scope="submitter"),
    Verb("sample", "Read a task's sample, a part at a time, where it is too large for the answer to `claim`.",
         label_requests.ReadSample, label_requests.SamplePart),
    Verb("tasks", "List tasks with their labels, conflicts too.", label_requests.ListTasks, label_requests.TaskPage),
)  # fmt: skip

JOB_QUESTIONS = (
    Verb("dataset", "Tell the data that a job trains on and is evaluated on.", jobs.EdgesQuery, jobs.JobDatasets),
    Verb("models", "Tell the models that a job has made, and the one that it trains now.", answer=jobs.JobModels),
    Verb("training", "Tell how a job's training goes, round by round and edge by edge.", jobs.EdgesQuery,
         jobs.JobTraining),
    Verb("evaluation", "Tell what a job's models score on held-out data.", answer=jobs.JobEvaluation),
    Verb("deployment", "Tell where the result of a job is to run.", answer=jobs.JobDeployment),
)  # fmt: skip
"""What is asked about a job beside its document."""
BUILT_IN: tuple[FeatureDeclaration, ...] = (
    FeatureDeclaration(
        "federated-learning",
        resources.FederatedTask,
        (*CATALOG, "status", "start", "stop", *JOB_QUESTIONS, *JOIN_VERBS),
        (topics.MODEL_UPDATE, topics.AGGREGATION, topics.EVALUATION, topics.JOB_ENDED,
         topics.MODEL_READY),
        collection="jobs",
        coordinator="heliograph.coordinator.features.federated.controller:FederatedController",
        command_line="heliograph.cli.features.job_columns:JOBS",
        ended=resources.ENDED,
    ),
    FeatureDeclaration(
        "joint-inference",
        resources.JointInferenceService,
        (*CATALOG, "status", "start", "stop"),
        (topics.HARD_SAMPLE, topics.INFERENCE_STATS, topics.INFERENCE_REQUEST, topics.OFFLOAD, topics.BIG_MODEL,
         topics.BIG_MODEL_ANSWER, topics.ANSWER),
        collection="services",
        coordinator="heliograph.coordinator.features.inference.controller:InferenceController",
        command_line="heliograph.cli.features.service_columns:SERVICES",
    ),
    FeatureDeclaration(
        "incremental-learning",
        resources.IncrementalLearningJob,
        (*CATALOG, "status", "start", "stop",
         Verb("training", "Begin a round now, in place of its trigger.", request_bodies.Change),
         Verb("evaluation", "Evaluate the candidates now, in place of the trigger.", request_bodies.Change),
         Verb("deployment", "Deploy the candidates that have passed now, in place of the trigger.",
              request_bodies.Change),
         Verb("models", "Tell what the rounds of a job have made, and what serves.", answer=learning.LearnedModels)),
        (topics.CANDIDATE, topics.VERDICT),
        collection="incremental-jobs",
        coordinator="heliograph.coordinator.features.incremental.controller:IncrementalController",
        command_line="heliograph.cli.features.learning_columns:LEARNING",
        ended=resources.LEARNING_ENDED,
    ),
    FeatureDeclaration(
        "pair-training",
        resources.PairTrainingJob,
        (*CATALOG, "status", "start", "stop",
         Verb("models", "Tell the two models that a job has trained, and what was measured of them.",
              answer=pairs.PairModels)),
        (topics.PAIR_RESULT,),
        collection="pair-jobs",
        coordinator="heliograph.coordinator.features.pairs.controller:PairController",
        command_line="heliograph.cli.features.pair_columns:PAIRS",
        ended=resources.PAIR_ENDED,
    ),
    FeatureDeclaration(
        "models",
        resources.Model,
        (*CATALOG,
         Verb("versions", "List the versions of a model, its aliases, and what is deployed.", models.VersionsQuery,
              models.ModelVersionList),
         Verb("evaluation", "Tell what versions of a model score, and on which data.", models.VersionQuery,
              models.ModelEvaluation),
         Verb("deployment", "Tell what each edge runs of a model.", models.DeploymentQuery, models.ModelDeployment),
         Verb("register", "Add a file as the next version of a model.", models.VersionRegistration),
         Verb("rollout", "Let a version answer a share of the requests, and then all or none.", models.RolloutStart),
         Verb("alias", "Move an alias to a version, bind edges to it, or remove it.", models.AliasChange),
         Verb("rollback", "Move an alias back to an earlier version.", models.Rollback),
         Verb("export", "Tell all that an export of a version contains, beside its weights.", models.VersionQuery,
              models.ModelExport),
         Verb("key", "Tell the key that signs versions of models.", models.KeyQuery, models.SigningKey, named=False),
         COLLECT),
        collection="models",
        coordinator="heliograph.coordinator.registry.controller:ModelController",
        command_line="heliograph.cli.features.catalog_columns:MODELS",
    ),
    FeatureDeclaration(
        "datasets",
        resources.Dataset,
        (*CATALOG, Verb("versions", "Return the versions of a data set, and which edge has which.",
                        answer=datasets.DatasetVersions)),
        collection="datasets",
        coordinator="heliograph.coordinator.features.datasets.controller:DatasetController",
        command_line="heliograph.cli.features.catalog_columns:DATASETS",
    ),
    FeatureDeclaration(
        "algorithms", resources.Algorithm, CATALOG,
        collection="algorithms",
        coordinator="heliograph.coordinator.features.algorithms.controller:AlgorithmFeature",
        command_line="heliograph.cli.features.catalog_columns:ALGORITHMS",
    ),
    FeatureDeclaration(
        "labelling",
        resources.LabelQueue,
        (*CATALOG, *_LABELLING),
        (topics.LABEL_TASK, topics.LABEL),
        collection="labels",
        coordinator="heliograph.coordinator.features.labelling.controller:LabellingController",
        command_line="heliograph.cli.features.label_columns:LABELS",
    ),
    FeatureDeclaration(
        "edges", resources.Edge,
        (*READ, "delete",
         Verb("revoke", "Take an edge's login away; its connections end, and what is stored for it is deleted.",
              enrolment.Revoke, scope="admin")),
        collection="edges",
        coordinator="heliograph.coordinator.edges.feature:EdgeFeature",
        command_line="heliograph.cli.features.catalog_columns:EDGES",
    ),
    FeatureDeclaration(
        "invitations", resources.Invitation,
        (*CATALOG,
         Verb("enroll", "Give a node that has an invitation its login. Anybody may ask; the invitation's key signs.",
              enrolment.Enroll, enrolment.IssuedLogin, scope=ANYONE),
         Verb("renew", "Give an edge a login that is good for longer. Anybody may ask; the edge's key signs.",
              enrolment.Renew, enrolment.IssuedLogin, named=False, scope=ANYONE),
         Verb("revoke", "Withdraw an invitation, and take the logins of all edges away that have enrolled by it, or by"
              " an earlier one of its name. One request revokes a hundred; the answer says how many are left.",
              enrolment.RevokeGroup, enrolment.RevokedGroup, named=False, scope="operator")),
        (topics.RENEWAL,),
        collection="invitations",
        coordinator="heliograph.coordinator.identity.controller:InvitationFeature",
        command_line="heliograph.cli.features.catalog_columns:INVITATIONS",
    ),
    FeatureDeclaration(
        "users", resources.User,
        (*CATALOG,
         Verb("enroll", "Give an invited user its login. Anybody may ask; the invitation's key signs.",
              enrolment.EnrollUser, enrolment.IssuedLogin, scope=ANYONE),
         Verb("renew", "Give a user a login that is good for longer. Anybody may ask; the user's key signs.",
              enrolment.Renew, enrolment.IssuedLogin, named=False, scope=ANYONE),
         Verb("token", "Give whoever asks a password for MQTT, in its own name.", enrolment.TokenQuery,
              enrolment.IssuedToken, named=False)),
        collection="users",
        coordinator="heliograph.coordinator.identity.users:UserFeature",
        command_line="heliograph.cli.features.catalog_columns:USERS",
    ),
    FeatureDeclaration(
        "quarantine", resources.Quarantine, (*READ, "delete"),
        collection="quarantines",
        command_line="heliograph.cli.features.catalog_columns:QUARANTINES",
    ),
)  # fmt: skip
"""Heliograph's own features; an outside feature declares itself the same way."""
