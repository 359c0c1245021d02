"""What Sedna's documents do not say, and ``--set NAME=VALUE`` does: scripts, which Sedna has in images, and names."""

from __future__ import annotations

from collections.abc import Iterable

from heliograph.core.errors import Refused
from heliograph.core.names import require_label

TRAIN_SCRIPT = "trainScriptBootFile"
EDGE_SCRIPT, CLOUD_SCRIPT = "edgeWorker.scriptBootFile", "cloudWorker.scriptBootFile"
ROUNDS, CLASSES, NODE = "rounds", "classes", "nodeName."
NAMES = {
    TRAIN_SCRIPT: "the training workers' script",
    EDGE_SCRIPT: "the script of the edges' inference workers",
    CLOUD_SCRIPT: "the script of the deep model",
    ROUNDS: "number of rounds of a federated task",
    CLASSES: "the classes of an incremental job's labels, with commas between",
    NODE + "NODE": "the edge, or cloud, in place of a node of Sedna's",
}
"""The settings, and what each is; for the help and for errors."""


class Settings:
    """The settings by name; it notes which ones a document has used."""

    def __init__(self, given: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        self._used: set[str] = set()
        for text in given:
            name, equals, value = text.partition("=")
            known = name in NAMES or (name.startswith(NODE) and name != NODE)
            if not (known and equals and value):
                expected = f"NAME=VALUE with NAME of {', '.join(NAMES)}"
                raise Refused("invalid", field="--set", expected=expected, got=text)
            if name.startswith(NODE):
                require_label(value, f"--set {name}")
            self._values[name] = value

    def get(self, name: str) -> str:
        """Return a setting; empty where it is not given."""
        self._used.add(name)
        return self._values.get(name, "")

    def node(self, name: str) -> str:
        """Return the edge that a node of Sedna's is; empty where nobody says so."""
        return self.get(NODE + name)

    def check_all_used(self) -> None:
        """Raise Refused for a setting that no document has used: it is misspelt, or for another file."""
        for name in self._values.keys() - self._used:
            raise Refused("invalid", field=f"--set {name}", expected="a setting that a document of the file lacks",
                          got=self._values[name], hint="Leave it out.")  # fmt: skip
