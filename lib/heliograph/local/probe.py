"""The process that checks a training script: it runs the script as a worker would, up to its first round, and ends.

    python -P -m heliograph.local.probe SPEC.json VERDICT.json

Nothing of the loop's body and nothing after the loop runs. What the script prints goes to stdout and stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from heliograph import script_process, session
from heliograph.bus.contract.payloads import Assignment, TrainTask
from heliograph.bus.contract.payloads.task_parts import ScriptSpec
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.core.errors import Refused
from heliograph.session import Trained, Work
from heliograph.workers.script import run_script
from heliograph.workers.script_end import ScriptEnd, end_of

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.base import WeightsRef

JOB = "check"


@dataclass(frozen=True)
class Spec:
    """What to check.

    Attributes:
        role: ``train``: make the first weights and load them again. ``evaluate``: measure the model.
        script: path of the script.
        directory: directory that the script imports from.
        code: root of the code that may run.
        samples: number of samples in the data set; 0 if it is not known.
    """

    role: Literal["train", "evaluate"]
    script: str
    directory: str
    code: str
    edge: str
    arguments: list[str] = field(default_factory=list)
    dataset: str = ""
    samples: int = 0
    parameters: dict[str, Scalar] = field(default_factory=dict)


@dataclass
class Verdict:
    """What came of it.

    Attributes:
        passed: whether the script got as far as its first round.
        reason: the script's error in one line.
        began: whether the script has asked for its first round.
        dataset_asked: whether the script has asked for its data set.
        arrays, numbers, size: arrays of the model, numbers in them, and their bytes.
        metrics: the evaluation.
    """

    passed: bool = False
    reason: str = ""
    began: bool = False
    dataset_asked: bool = False
    arrays: int = 0
    numbers: int = 0
    size: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class ProbeSession:
    """The worker's side of the script, without a broker: see ``heliograph.session.Session``."""

    def __init__(self, spec: Spec, verdict_file: Path) -> None:
        self._spec = spec
        self._file = verdict_file
        self._directory = verdict_file.parent
        self._process = os.getpid()
        self._weights: WeightsRef | None = None
        self.verdict = Verdict()
        self.edge = spec.edge
        self.job = JOB
        self.dataset_samples = spec.samples
        self.parameters = dict(spec.parameters)

    @property
    def dataset(self) -> Path | None:
        self.verdict.dataset_asked = True
        return Path(self._spec.dataset) if self._spec.dataset else None

    @property
    def code(self) -> Sequence[Path]:
        return [Path(self._spec.code)]

    def begin(self) -> Assignment:
        session.current = cast(session.Session, self)  # its data set is only read
        script_process.describe(session.current, self._directory)
        self.verdict.dataset_asked = False  # the description has asked for it
        task = TrainTask(worker=JOB, job=JOB, job_uid="", round=0, script=self._script(), parameters=self.parameters)
        return Assignment(task=task, edge=self._spec.edge, dataset_file=self._spec.dataset)

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        return end_of(error, session.reached, script_process.a_child_was_refused(self._directory))

    def failed(self, line: str, final: bool) -> None:
        self.verdict.reason = line

    def finish(self) -> None: ...

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        self._require_main_process()

    def leave(self, trained: Trained) -> None: ...

    def next_work(self) -> Work | None:
        self._require_main_process()
        session.reached = "worked"
        self.verdict.began = True
        if self._spec.role == "evaluate":
            if self.verdict.metrics:
                self.end()
            return Work("evaluate", JOB, 0)
        if self._weights is None:
            return Work("initialise", JOB, 0)
        source = self._weights.inline or self._directory / self._weights.digest
        return Work("train", JOB, 1, _LastWeights(source, self))

    def send_update(self, trained: Trained) -> None:
        arrays, num_samples = trained.arrays, trained.num_samples
        if self._weights is not None:  # the end of round 1: its weights were loaded in another way than expected
            self.end()
        if 0 < self._spec.samples < num_samples:
            raise Refused(
                "num-samples", field="num_samples", got=num_samples,
                expected=f"at most the {self._spec.samples} samples of {self.edge}'s data set",
                hint="Load the data from dataset(), so that each edge trains on its own part of them.",
            )  # fmt: skip
        self._weights = write(arrays, self._directory)
        self.verdict.arrays = len(arrays)
        self.verdict.numbers = sum(array.size for array in arrays.values())
        self.verdict.size = self._weights.size

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None:
        self.verdict.metrics = dict(metrics)
        self.end()

    def end(self) -> NoReturn:
        """End this process at once: no handler, no thread and no line of the script runs any more."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.verdict.passed = True
        self.write()
        os._exit(0)

    def write(self) -> None:
        self._file.write_text(json.dumps(asdict(self.verdict)))

    def _script(self) -> ScriptSpec:
        return ScriptSpec(boot_file=self._spec.script, directory=self._spec.directory, arguments=self._spec.arguments)

    def _require_main_process(self) -> None:
        if os.getpid() != self._process:
            raise script_process.refusal(self._directory)


class _LastWeights(TensorFile):
    """The weights of round 1: the process ends when the model has loaded them, before the loop's body."""

    def __init__(self, weights: Path | bytes, owner: ProbeSession) -> None:
        super().__init__(weights, "weights of round 1")
        self._owner = owner

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[0] is None:
            self._owner.end()


def main() -> int:
    """Check the script, write the verdict and return an exit code of no meaning."""
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    probe = ProbeSession(spec, Path(sys.argv[2]))
    code = run_script(probe)  # returns only where the script ended before its first round
    if not probe.verdict.reason:
        probe.verdict.reason = f"it ended with exit code {code} before its first round"
    probe.write()
    return code


if __name__ == "__main__":
    sys.exit(main())
