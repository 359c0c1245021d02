"""What a training worker runs and on which data: a part of every kind of job that trains."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from heliograph.bus.contract.resources.base import Parameter, Reference, ShortText
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.bus.contract.resources.worker_image import RunsImage
from heliograph.bus.contract.versions import added

_SCRIPT_FIELDS = (
    "trainScriptDir", "trainScriptBootFile", "trainScriptArguments", "trainScriptWorkingDir", "frameworkType",
    "frameworkVersion",
)  # fmt: skip


class WorkerSpec(RunsImage):
    """Script, image, data set and parameters of a training worker. Script settings may be in ``dataset``, as in Sedna.

    Attributes:
        algorithm: the Algorithm whose package it runs, in place of a script on its node.
        train_script_boot_file: the script, below a code root of the edge's agent.
        train_script_dir: the directory that the script imports from; by default its own.
        train_script_arguments: the script's arguments, one for each word.
        train_script_working_dir: the directory whose files the script finds by relative names; by default the one that
            it imports from.
        resources: what the worker asks of its node.
    """

    dataset: Reference | None = None
    algorithm: Reference | None = added("0.2")
    train_script_dir: ShortText | None = None
    train_script_boot_file: ShortText | None = None
    train_script_arguments: Annotated[list[ShortText], Field(max_length=256)] = added("0.2", [])
    train_script_working_dir: ShortText | None = added("0.2")
    framework_type: ShortText | None = None
    framework_version: ShortText | None = None
    parameters: list[Parameter] = Field(default_factory=list, max_length=256)
    resources: WorkerResources | None = added("0.2")

    @model_validator(mode="before")
    @classmethod
    def _script_settings_leave_dataset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("dataset"), Mapping):
            return given
        dataset = dict(given["dataset"])
        moved = {field: dataset.pop(field) for field in _SCRIPT_FIELDS if field in dataset}
        for field, value in moved.items():
            if given.get(field, value) != value:
                raise ValueError(f"{field} stands in workerSpec and in its dataset, and they differ; give it once")
        return {**given, "dataset": dataset or None, **moved}

    @model_validator(mode="after")
    def _one_code(self) -> "WorkerSpec":
        scripts = (self.train_script_boot_file, self.train_script_dir, self.train_script_working_dir)
        if self.algorithm is not None and any(scripts):
            raise ValueError("algorithm and a script on the node (trainScript…); give one of the two")
        if self.image_script and (self.algorithm is not None or any(scripts) or self.train_script_arguments):
            raise ValueError("args name a script in the image, beside algorithm or a script on the node "
                             "(trainScript…); give one of the two")  # fmt: skip
        return self

    @property
    def names_code(self) -> bool:
        """Whether it says what the worker runs: a script on its node or in its image, or a package."""
        return bool(self.train_script_boot_file or self.algorithm or self.image_script)

    @field_validator("framework_version", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
