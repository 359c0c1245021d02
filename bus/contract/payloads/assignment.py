"""A task on its way from the agent to the worker that runs it."""



from heliograph.bus.contract.payloads.base import EdgeName, Payload, Text
from heliograph.bus.contract.payloads.worker_tasks import WorkerTask
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest


class Assignment(Payload):
    """A task as its agent assigns it to the worker process: its weights are files on this node, or inline.

    Attributes:
        number: counts an agent's assignments; a worker skips one that is not its newest.
        model_file: path of the model that the worker loads.
        down_file: path of the task's ``down``.
        dataset_file: path of the data set.
        dataset_samples: number of samples in the data set.
        dataset_files: path of each further data set of the task, by what it is for.
        files: path of each further file of the task, by its digest.
    """

    number: int = 0
    task: WorkerTask
    edge: EdgeName
    model_file: Text = ""
    down_file: Text | None = added("0.2")
    dataset_file: Text = ""
    dataset_samples: int = 0
    dataset_files: dict[Text, Text] = added("0.2", {})
    files: dict[Digest, Text] = added("0.2", {})
    ended: bool = False
    """True where the job has ended: the worker finishes, no round follows."""
