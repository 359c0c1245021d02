"""The health of an inference worker: whether it answers, and what keeps it from answering as it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures

About = Literal["weights", "settings", "model", "candidate"]
"""What a trouble is about: each is mended by its own success."""


class Health:
    """The troubles of one service's worker. The script's thread and the event loop call it.

    Args:
        warn: called with a line for the log.
    """

    def __init__(self, service: str, warn: Callable[[str], None]) -> None:
        self._service = service
        self._warn = warn
        self._troubles: dict[About, str] = {}
        self._failures = Failures(warn)
        self._check: Callable[[], None] | None = None
        self._checked = False
        self._has_weights = False

    @property
    def trouble(self) -> str:
        """What keeps the worker from answering as it should, for people; empty if nothing does."""
        return "; ".join(list(self._troubles.values()))

    @property
    def ready(self) -> bool:
        """Whether the worker answers: its model has passed its check or answered, with the service's weights."""
        return self._checked and (self._has_weights or "weights" not in self._troubles)

    def check(self, model: Callable[[], None]) -> None:
        """Run the script's check of its model. The worker answers if it passes, and else after its first answer, or
        once the check passes with other weights."""
        self._check = model
        try:
            model()
        except Exception as error:  # the model's own: requests may work all the same
            self.model_failed(error)
        else:
            self.model_worked()

    def model_failed(self, error: Exception) -> None:
        """Show the error of the model in the service's status and in the log, until it works again."""
        text = str(error) if isinstance(error, HeliographError) else f"{type(error).__name__}: {error}"
        self._troubles["model"] = f"the model fails: {text}"[:1000]
        about = f"service {self._service}"
        self._failures.add(about, Refused("model-failed", topic=about, expected="an answer of the model", got=text))

    def model_worked(self) -> None:
        """Note that the model has answered."""
        self._checked = True
        self._troubles.pop("model", None)

    def weights_failed(self, digest: str, error: Exception) -> None:
        """Note that new weights could not be read or set; the previous ones stay."""
        self._troubles["weights"] = f"model {digest[:12]}: {error}"
        serves = "the previous model keeps serving" if self._has_weights else "the service's model is not loaded"
        self._warn(f"{serves}: {self._troubles['weights']}")

    def weights_set(self) -> None:
        """Note that the model has the service's newest weights."""
        self._has_weights = True
        self._troubles.pop("weights", None)
        if self._check is not None and not self._checked:
            self.check(self._check)

    def candidate_failed(self, digest: str, error: Exception) -> None:
        """Note that a candidate could not be taken: it answers no request."""
        self._troubles["candidate"] = f"candidate {digest[:12]}: {error}"[:1000]
        self._warn(f"the serving model answers all: {self._troubles['candidate']}")

    def candidate_set(self) -> None:
        """Note that the newest candidate is tried, or that there is none any more."""
        self._troubles.pop("candidate", None)

    def settings_failed(self, error: Refused) -> None:
        """Note that new settings were refused; the previous ones stay."""
        self._troubles["settings"] = str(error)
        self._warn(f"the previous settings stay: {error}")

    def settings_set(self) -> None:
        """Note that the newest settings are in use."""
        self._troubles.pop("settings", None)
