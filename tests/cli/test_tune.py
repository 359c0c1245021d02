"""``tune``: it tunes a service's rule on a labelled set, or leaves the rule and gives the reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.inference.calibration import calibrate
from heliograph.inference.hard_samples import choose

pytestmark = pytest.mark.asyncio(loop_scope="module")


def labelled(file: Path, samples: int = 600) -> Path:
    """Write the set of an overconfident edge and a nearly perfect cloud as an npz."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (samples, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(4, p=p) for p in true])
    edge = true**2 / (true**2).sum(1, keepdims=True)
    cloud = np.where(rng.random(samples) < 0.97, labels, (labels + 1) % 4)
    np.savez(file, edge_scores=edge, labels=labels, cloud_labels=cloud)
    return file


async def serve(cli: Any, service: str, **rule: Any) -> None:
    script = {"model": {"name": "digits"}, "scriptBootFile": "serve.py"}
    spec = {"edgeWorker": script, "cloudWorker": script} | ({"hardSampleRule": rule} if rule else {})
    document = {"kind": "JointInferenceService", "metadata": {"name": service, "labels": {"of": "tests"}}, "spec": spec}
    ran = await cli("apply", "-f", "-", stdin=json.dumps(document))
    assert ran.code == 0, ran


async def shown(cli: Any, name: str) -> Any:
    return json.loads((await cli("get", f"services/{name}", "-o", "json")).out)


async def test_a_target_sets_threshold_and_temperature_that_reach_the_printed_figures(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "first")
    file = labelled(tmp_path / "set.npz")
    ran = await cli("tune", "service", "first", "--data", file, "--target-accuracy", "0.85")
    assert (ran.code, ran.err) == (0, ""), ran
    assert "accuracy over offload · threshold · 600 samples" in ran.out
    assert "calibration error 0." in ran.out
    assert re.search(r"^value 0\.\d+: accuracy 0\.85\d* with [\d.]+ % offloaded$", ran.out, re.MULTILINE)
    last = ran.out.splitlines()[-1]
    assert re.fullmatch(r"service/first updated: value 0\.9 -> 0\.\d+, temperature 1 -> [12]\.\d+", last), last

    document = await shown(cli, "first")
    assert document["metadata"]["labels"] == {"of": "tests"}
    assert document["metadata"]["generation"] == 2
    stored = document["spec"]["hardSampleRule"]
    rule = choose(stored["name"], {each["key"]: each["value"] for each in stored["parameters"]})
    with np.load(file) as arrays:
        edge, labels, cloud = (arrays[name] for name in ("edge_scores", "labels", "cloud_labels"))
    hard = np.array([rule(calibrate(row, stored["temperature"])) for row in edge])
    accuracy = np.mean(np.where(hard, cloud, edge.argmax(1)) == labels)
    assert f"accuracy {accuracy:.4f} with {hard.mean() * 100:.1f} % offloaded" in ran.out
    assert accuracy >= 0.85

    again = await cli("tune", "services/first", "--data", file, "--target-accuracy", "0.85")
    assert again.out.splitlines()[-1] == "service/first unchanged"
    assert (await shown(cli, "first"))["metadata"]["generation"] == 2


async def test_a_dry_run_changes_nothing_and_writes_the_plot(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "tried")
    page = tmp_path / "curve.html"
    words = ("--data", labelled(tmp_path / "set.npz"), "--max-offload", "0.2", "--plot", page, "--dry-run")
    ran = await cli("tune", "services/tried", *words)
    assert (ran.code, ran.err) == (0, ""), ran
    assert ran.out.splitlines()[-1].startswith("service/tried updated (dry run): value 0.9 -> 0.")
    assert f"plot in {page}" in ran.out
    assert "tried: accuracy and offload" in page.read_text()
    assert (await shown(cli, "tried"))["metadata"]["generation"] == 1


async def test_an_unreachable_target_changes_nothing(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "too-far")
    ran = await cli("tune", "services/too-far", "--data", labelled(tmp_path / "s.npz"), "--target-accuracy", "0.999")
    assert ran.code == 1
    assert re.fullmatch(
        r"accuracy 0\.999 cannot be reached with this rule; the nearest is accuracy 0\.9\d+ with [\d.]+ % offloaded\. "
        "service/too-far is unchanged",
        ran.error,
    )
    assert (await shown(cli, "too-far"))["metadata"]["generation"] == 1


async def test_another_rule_can_be_chosen_and_the_router_is_trained(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "routed", name="always")
    file = labelled(tmp_path / "set.npz")
    ran = await cli("tune", "services/routed", "--data", file, "--max-offload", "0.3")
    assert ran.code == 1
    assert "field rule: expected a rule that reads the scores" in ran.error
    assert ran.error.endswith("got always. Choose one with --rule.")
    ran = await cli("tune", "services/routed", "--data", file, "--max-offload", "0.3", "--rule", "router")
    assert ran.code == 0, ran
    assert ran.out.splitlines()[-1].startswith("service/routed updated: rule always -> router, limit 0.")
    stored = (await shown(cli, "routed"))["spec"]["hardSampleRule"]
    assert {each["key"] for each in stored["parameters"]} == {"limit", "bias", "best", "margin", "entropy"}


async def test_a_rules_other_parameters_stay(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "boxes", name="ibt", parameters=[{"key": "threshold_box", "value": 0.6}], temperature=1)
    ran = await cli("tune", "services/boxes", "--data", labelled(tmp_path / "set.npz"), "--max-offload", "0.5")
    assert ran.code == 0, ran
    stored = (await shown(cli, "boxes"))["spec"]["hardSampleRule"]
    assert {"key": "threshold_box", "value": 0.6} in stored["parameters"]
    assert "temperature" not in ran.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("services/absent --data FILE --max-offload 0.2", 4, "service/absent: expected "),
        ("services/absent --data gone.npz --max-offload 0.2", 1, "cannot read gone.npz: No such file or directory"),
        ("services/absent --data FILE", 2, "--target-accuracy: expected this option or --max-offload, got neither."),
        ("services/absent --data FILE --max-offload 0 --target-accuracy 1", 2, "or --max-offload, got both."),
        ("services/absent --data FILE --max-offload 1.5", 2, "--max-offload': Input should be less than or equal"),
        ("services/absent --max-offload 0.5", 2, "missing option '--data'."),
        ("jobs/one --data FILE --max-offload 0.5", 2, "expected services/NAME, got jobs/one."),
        ("services --data FILE --max-offload 0.5", 2, "expected services/NAME, got services."),
    ],
)
async def test_a_mistake_is_one_line(cli: Any, tmp_path: Path, words: str, code: int, message: str) -> None:
    file = str(labelled(tmp_path / "set.npz", 20))
    ran = await cli("tune", *(file if word == "FILE" else word for word in words.split()))
    assert ran.code == code, ran
    assert message in ran.error


async def test_scores_that_are_no_probabilities_name_the_file(cli: Any, tmp_path: Path) -> None:
    await serve(cli, "raw")
    file = tmp_path / "raw.npz"
    np.savez(file, edge_scores=np.array([[3.0, -1.0]]), labels=np.array([0]), cloud_labels=np.array([0]))
    ran = await cli("tune", "services/raw", "--data", file, "--max-offload", "0.5")
    assert ran.code == 1
    assert ran.error.startswith(f"{file} field edge_scores[0]: expected probabilities that sum to 1")
