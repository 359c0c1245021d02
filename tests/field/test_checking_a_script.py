"""What a script does wrong is said before anything is trained, in one sentence that says what to change."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph import FederatedLearning
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World
from heliograph.local.preflight import Check, ScriptRefused, check, check_syntax, user_lines
from heliograph.local.probe import Spec
from heliograph.local.run_folder import RunFolder, require_writable

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMAND = "heliograph run train.py --edges 3 --data digits.npz --split dirichlet:0.5 --test 0.2"
SCRIPTS = {
    "typo.py": ("ValueError: a typo", 'File "{code}/typo.py", line 1, in <module>'),
    "args.py": ("args.py: the script's arguments: the following arguments are required: --lr", "usage: args.py [-h]"),
    "notused.py": ("notused.py: the script makes a FederatedLearning, but never loops over its rounds()", ""),
    "missing.py": ("ModuleNotFoundError: No module named 'no_such_package'", 'File "{code}/missing.py", line 2'),
    "text.py": ("text.py: field model: expected a torch.nn.Module", ""),
    "unfitted.py": ("unfitted.py: field model: step standardscaler: expected a fitted StandardScaler", ""),
    "all_data.py": ("all_data.py: field num_samples: expected at most the 20 samples of edge-1's data set, got 60. "
                    "Load the data from dataset()", ""),
    "killed.py": ("killed.py was killed by signal 11 (segmentation fault) before its first round", ""),
    "read_only.py": ("read_only.py: field model['w']: expected an array that can be written", ""),
    "in_child.py": ("in_child.py: the script ended before a round, and a child process of it called rounds()", ""),
    "exits.py": ("exits.py: it ended with exit code 3 before its first round", ""),
}  # fmt: skip
"""The script, its reason, and a line of what is shown with it."""
OWN = {
    "missing.py": "import numpy as np\nimport no_such_package\n",
    "text.py": "from heliograph import FederatedLearning\nfor r in FederatedLearning('x').rounds(): ...\n",
    "unfitted.py": """
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from heliograph import FederatedLearning
for r in FederatedLearning(make_pipeline(StandardScaler(), SGDClassifier()), num_samples=3).rounds(): ...
""",
    "all_data.py": """
import numpy as np
from heliograph import FederatedLearning
for r in FederatedLearning({"w": np.zeros(3)}, num_samples=60).rounds(): ...
""",
    "exits.py": "import os; os._exit(3)\n",
    "killed.py": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n",
    "read_only.py": """
import numpy as np
from heliograph import FederatedLearning
w = np.zeros(3); w.flags.writeable = False
for r in FederatedLearning({"w": w}).rounds(): ...
""",
    "in_child.py": """
import os, numpy as np
from heliograph import FederatedLearning
if os.fork() == 0:
    for r in FederatedLearning({"w": np.zeros(3)}).rounds(): ...
os.wait()
""",
}


@pytest.fixture
def examined(project: Path, tmp_path: Path) -> Callable[..., Check]:
    """Return ``examined(script, test=False)``: the check of a script on a data set of 20 samples."""
    np.savez(tmp_path / "part.npz", x=np.zeros((20, 64), np.float32), y=np.arange(20) % 10)

    def make(script: str, test: bool = False) -> Check:
        def spec(role: Any, edge: str) -> Spec:
            here, data = str(project), str(tmp_path / "part.npz")
            return Spec(role, str(project / script), here, here, edge, dataset=data, samples=20)

        evaluate = spec("evaluate", "cloud") if test else None
        return Check(script, spec("train", "edge-1"), tmp_path / script, evaluate, "--test 0.2")

    return make


async def test_10_what_a_script_does_wrong_is_said_before_round_1(
    project: Path, examined: Callable[..., Check]
) -> None:
    for name, text in OWN.items():
        (project / name).write_text(text)
    found = await asyncio.gather(*(check(examined(name), World(), 300) for name in SCRIPTS), return_exceptions=True)
    for (name, (reason, line)), error in zip(SCRIPTS.items(), found, strict=True):
        assert isinstance(error, ScriptRefused), (name, error)
        assert reason in str(error)
        assert "\n" not in str(error)
        assert any(line.format(code=project) in each for each in error.lines) or not line, error.lines
        assert not [each for each in error.lines if "runpy" in each or "site-packages" in each]


async def test_a_check_measures_and_runs_nothing_of_the_loop_and_nothing_after_it(
    project: Path, examined: Callable[..., Check], tmp_path: Path
) -> None:
    (project / "good.py").write_text(
        "import atexit, pathlib, numpy as np\n"
        "from heliograph import FederatedLearning, dataset\n"
        f"ran = pathlib.Path({str(tmp_path / 'ran')!r})\n"
        "atexit.register(ran.touch); x = np.load(dataset())['x']\n"
        "w = {'w': np.zeros((64, 10), 'f4'), 'n': np.zeros(1, 'i8')}\n"
        "for r in FederatedLearning(w, evaluate=lambda: (w['w'] ** 2).mean()).rounds(): ran.touch()\n"
        "ran.touch()\n"
    )
    checked = await check(examined("good.py", test=True), World(), 300)
    assert checked.train is not None and checked.evaluate is not None
    assert (checked.train.arrays, checked.train.numbers, checked.train.dataset_asked) == (2, 641, True)
    assert checked.evaluate.metrics == {"accuracy": 0.0}
    assert not (tmp_path / "ran").exists()


async def test_a_test_without_evaluate_is_refused_with_the_exact_change(examined: Callable[..., Check]) -> None:
    with pytest.raises(ScriptRefused) as refused:
        await check(examined("slownoeval.py", test=True), World(), 300)
    expected = "slownoeval.py, line 6: --test 0.2 wants evaluate=: write FederatedLearning(w, evaluate=accuracy), where"
    assert str(refused.value).startswith(expected)


async def test_a_script_that_never_loops_is_not_waited_for(project: Path, examined: Callable[..., Check]) -> None:
    (project / "endless.py").write_text("import threading\nthreading.Event().wait()\n")
    checked = await check(examined("endless.py"), World(), 0.1)
    assert checked.train is None


async def test_a_process_that_a_script_leaves_behind_neither_delays_its_check_nor_outlives_it(
    project: Path, examined: Callable[..., Check]
) -> None:
    (project / "leaves.py").write_text(
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '3600'], start_new_session=True)\n"
        f"open({str(project / 'pid')!r}, 'w').write(str(child.pid))\n"
    )
    with pytest.raises(ScriptRefused, match="without using Heliograph"):
        await check(examined("leaves.py"), World(), 3600)
    assert not Path("/proc", (project / "pid").read_text(), "exe").exists()


def test_a_typo_is_not_tried_again_and_again(
    typed: Any, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = typed("run", project / "typo.py", "--edges", "1")
    assert (ran.code, ran.error) == (1, f"{project}/typo.py: ValueError: a typo")
    assert ran.out.count('raise ValueError("a typo")') == 1
    assert "round" not in ran.out
    assert list(tmp_path.glob("heliograph-runs/*")) == []


def _diffs() -> list[str]:
    """Return the scripts that the diffs in the README make."""
    blocks = re.findall(r"```diff\n(.*?)```", README, re.S)
    return ["".join(line[1:] + "\n" for line in block.splitlines() if line[0] in "+ ") for block in blocks]


BEFORE = {
    "torch": """
import numpy as np, torch
Net = lambda: torch.nn.Linear(64, 10)
def load(path):
    with np.load(path) as file: return torch.utils.data.TensorDataset(*map(torch.from_numpy, (file["x"], file["y"])))
def train_epoch(model, data): ...
def accuracy(): return (model(data.tensors[0]).argmax(1) == data.tensors[1]).float().mean()
""",
    "numpy": """
import numpy as np
def step(weights, data): ...
def accuracy(): return ((data["x"] @ weights["w"] + weights["b"]).argmax(1) == data["y"]).mean()
""",
    "keras": """
import keras, numpy as np
def load(path):
    with np.load(path) as file: return file["x"], file["y"]
def accuracy(): return model.evaluate(x, y, verbose=0, return_dict=True)
""",
}


@pytest.mark.parametrize(("number", "name"), list(enumerate(BEFORE)))
def test_10_the_readmes_diffs_run_with_the_readmes_own_command(
    number: int, name: str, typed: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    framework: Callable[[str], ModuleType],
) -> None:  # fmt: skip
    if name != "numpy":
        framework(name)
    assert f"\n    {COMMAND}\n" in README
    layers = "keras.layers.Input((64,)), keras.layers.Dense(10, activation='softmax')"
    text = _diffs()[number].replace("keras.Sequential([...])", f"keras.Sequential([{layers}])")
    if name == "keras":
        text = text.replace(
            "\nfor ", "\nmodel.compile('sgd', 'sparse_categorical_crossentropy', metrics=['accuracy'])\nfor "
        )
    (tmp_path / "train.py").write_text(BEFORE[name] + text)
    shutil.copy(digits, tmp_path / "digits.npz")
    monkeypatch.chdir(tmp_path)
    ran = typed(*COMMAND.split()[1:], "--check")
    assert (ran.code, ran.err) == (0, ""), ran
    assert "✓ train.py begins: a model of 2 arrays, 650 numbers" in ran.out
    assert re.search(r"evaluate= measures the untrained model: .*accuracy 0\.[0-9]+", ran.out)


@pytest.mark.parametrize("model", ["x", 3.0, None, object()])
def test_a_model_that_no_job_takes_is_refused_alone_too(model: object) -> None:
    with pytest.raises(Refused, match=r"field model: expected a torch\.nn\.Module"):
        next(iter(FederatedLearning(model).rounds(local=1)))


def test_an_unfitted_pipeline_is_refused_alone_too() -> None:
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with pytest.raises(Refused, match="field model"):
        next(iter(FederatedLearning(make_pipeline(StandardScaler(), SGDClassifier())).rounds(local=1)))


def test_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    script = tmp_path / "bad.py"
    script.write_text("x = 1\nfor r in fl.rounds(:\n    pass\n")
    with pytest.raises(ScriptRefused, match=r"bad.py, line 2 is no Python: ") as refused:
        check_syntax(script, "bad.py")
    assert refused.value.lines == ["for r in fl.rounds(:"]
    script.write_bytes(b"x = '\0'")
    with pytest.raises(ScriptRefused, match=r"bad.py.* is no Python: .*null"):
        check_syntax(script, "bad.py")
    with pytest.raises(ScriptRefused, match=r"none\.py: there is no such script"):
        check_syntax(tmp_path / "none.py", "none.py")


def test_the_users_own_frames_of_a_traceback_are_shown(tmp_path: Path) -> None:
    lines = ["Traceback (most recent call last):", f'  File "{tmp_path}/train.py", line 3, in <module>', "    fit()",
             '  File "/usr/lib/python3/torch/nn.py", line 9, in fit', "    raise ValueError(1)", "    ^^^^^",
             f'  File "{tmp_path}/v/site-packages/x.py", line 1, in g', "    return 1", "ValueError: 1"]  # fmt: skip
    assert user_lines(lines, tmp_path) == [*lines[:3], lines[-1]]


@pytest.mark.parametrize(
    ("place", "reason"), [("file/model.safetensors", "Not a directory|File exists"), ("", "is a directory")]
)
def test_an_unwritable_output_is_said_before_the_training(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HeliographError, match=reason):
        require_writable(tmp_path / place)


def test_the_folder_of_a_refused_run_goes_and_that_of_a_failed_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty, failed, refused = (RunFolder.create(None, Path("train.py")) for _ in range(3))
    named = RunFolder.create(tmp_path / "mine", Path("train.py"))
    for folder in (failed, refused, named):
        folder.log.touch()
        folder.models.mkdir()
    empty.discard(refused=False)
    failed.discard(refused=False)
    refused.discard(refused=True)
    named.discard(refused=True)
    assert [path.name for path in Path("heliograph-runs").iterdir()] == ["train-2"]
    assert list((tmp_path / "mine").iterdir()) == []
    failed.discard(refused=True)
    assert not Path("heliograph-runs").exists()


def test_a_folder_with_another_run_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [RunFolder.create(None, Path("train.py")).path.name for _ in range(2)]
    assert names == ["train-1", "train-2"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(HeliographError, match="mine is not empty; --folder takes a new or an empty directory"):
        RunFolder.create(tmp_path / "mine", Path("train.py"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr", "0.1"], "no such option: --lr; the script's own options stand after --, as in 'heliograph run train"),
        (["--set", "lr"], "--set: expected NAME=VALUE, got lr"),
        (["--set", "lr=1", "--set", "lr=2"], "--set: expected lr once, got lr=2"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(typed: Any, words: list[str], expected: str) -> None:
    ran = typed("run", "train.py", *words)
    assert ran.code == 2
    assert expected in ran.error
