"""The container image that a worker runs in as a pod of its node, and what its container is given."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from heliograph.bus.contract.resources.base import Document, ShortText
from heliograph.bus.contract.versions import added

MOST_VARIABLES = 64
MOST_VOLUMES = 16
_RESERVED = ("HELIOGRAPH_", "KUBERNETES_")
_PYTHON = "python"

ImageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,511}$", max_length=512)]
"""An image as a container runtime takes it: ``registry.example.com/team/trainer:1.4``, or with ``@sha256:…``."""
_Path = Annotated[str, StringConstraints(pattern=r"^/[^:\x00]*$", max_length=1024)]
_ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)]


class EnvVariable(Document):
    """An environment variable of a worker's container. Its value travels in events: it is no place for a secret."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", max_length=128)]
    value: ShortText = ""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name.startswith(_RESERVED):
            raise ValueError("expected a name that does not begin with HELIOGRAPH_ or KUBERNETES_")
        return name


class PodVolume(Document):
    """A volume of a worker's container: exactly one of the three sources.

    Attributes:
        mount_path: where the container finds it.
        host_path: a directory of the node, below one that the operator has allowed (docs/pods.md).
        config_map: name of a ConfigMap in the namespace of the workers' Jobs.
        empty_dir: a directory that lives as long as the pod; its size limit, such as ``1Gi``, or empty for none.
        writable: whether the worker may write into the node's directory.
    """

    mount_path: _Path
    host_path: _Path | None = None
    config_map: _ObjectName | None = None
    empty_dir: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,9}(Ki|Mi|Gi|Ti|k|M|G|T)?)?$")] | None = None
    writable: bool = False

    @field_validator("mount_path", "host_path")
    @classmethod
    def _stays_below(cls, path: str | None) -> str | None:
        if path is not None and ".." in PurePosixPath(path).parts:
            raise ValueError("expected an absolute path without '..'")
        return path

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.host_path, self.config_map, self.empty_dir)) != 1:
            raise ValueError("expected exactly one of hostPath, configMap and emptyDir")
        if self.writable and self.host_path is None:
            raise ValueError("expected writable beside hostPath alone")
        return self


class RunsImage(Document):
    """Base of what a worker runs: the image that it runs in, where it is a pod. A subclass names the script's fields.

    ``command`` and ``args`` are read as in a pod: a Python interpreter of the image, then the script in the image and
    its arguments. Without a script there the worker runs one of its node, or a package, with the image's interpreter.
    """

    image: ImageName | None = added("0.2")
    """Image that the worker runs in, as a pod of its node; without one it is a process of its node's agent."""
    command: Annotated[list[ShortText], Field(max_length=16)] = added("0.2", [])
    """With an image: its Python interpreter, by default `python`, and what precedes `args`."""
    args: Annotated[list[ShortText], Field(max_length=256)] = added("0.2", [])
    """With an image: the script in the image, as an absolute path, and the script's arguments."""
    env: Annotated[list[EnvVariable], Field(max_length=MOST_VARIABLES)] = added("0.2", [])
    """With an image: variables of the worker's container."""
    volumes: Annotated[list[PodVolume], Field(max_length=MOST_VOLUMES)] = added("0.2", [])
    """With an image: further volumes of the worker's container."""

    @property
    def interpreter(self) -> str:
        """The image's Python interpreter."""
        return self.command[0] if self.command else _PYTHON

    @property
    def image_script(self) -> tuple[str, ...]:
        """The script in the image, and its arguments; empty where it runs none of the image."""
        return (*self.command[1:], *self.args) if self.image is not None else ()

    @property
    def pod_fields(self) -> dict[str, Any]:
        """What makes another pod of it."""
        return {name: getattr(self, name) for name in RunsImage.model_fields}

    @model_validator(mode="after")
    def _fits_its_image(self) -> Self:
        if self.image is None:
            if given := [name for name, value in self.pod_fields.items() if value]:
                raise ValueError(f"{' and '.join(given)} without an image; name the image that the worker runs in")
            return self
        if not re.fullmatch(r"(/[^\x00-\x20]+/)?python[0-9.]*", self.interpreter):
            raise ValueError("command begins with a Python interpreter of the image, such as python or "
                             "/opt/venv/bin/python3; a worker is a Python script")  # fmt: skip
        script = self.image_script
        if script and (not script[0].startswith("/") or ".." in PurePosixPath(script[0]).parts):
            raise ValueError("after the interpreter comes the absolute path of a script in the image, without options "
                             "and '..', such as args: [/app/train.py, --lr, '0.1']")  # fmt: skip
        for what, names in (("env", [each.name for each in self.env]),
                            ("volumes", [each.mount_path for each in self.volumes])):  # fmt: skip
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: two entries have the same {'name' if what == 'env' else 'mountPath'}")
        return self
