"""What ``get`` shows of each kind: pure translations of documents into columns and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Document = Mapping[str, Any]
Cell = str | list[str]
"""Text, or several words that a wide cell may break between."""
NAMED = 4
"""How many names a cell holds before it counts the rest."""


def table(plural: str, documents: Sequence[Document], now: float) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows for resources of one kind; ``now``, seconds since 1970, turns times into ages."""
    columns, row = _TABLES[plural]
    return columns.split(), [row(each, now) for each in documents]


def short_metrics(metrics: Mapping[str, Any] | None) -> list[str]:
    """``accuracy=0.9712``, ``loss=0.08``."""
    return [f"{key}={value:.4g}" for key, value in (metrics or {}).items()]


def failing(document: Document) -> str:
    """What the conditions say is wrong, in one sentence; of what has ended, why; empty where nothing is."""
    found = [each for each in _status(document).get("conditions", ()) if each.get("status") == "False"]
    end = [each for each in found if each.get("type") == "Complete"]
    return "; ".join(each.get("message") or each.get("reason", "") for each in end or found)


def age(since: str, now: float) -> str:
    """``42s``, ``5m``, ``3h`` or ``12d``; empty where ``since`` is no time."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(since).timestamp()))
    except ValueError:
        return ""
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def size(number: int) -> str:
    """``1.5 kB``, ``100 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def percent(share: float | None) -> str:
    """``25.1 %``; empty where there is none."""
    return f"{100 * share:.1f} %" if share is not None else ""


def latency(seconds: float | None) -> str:
    """``1.2 ms``, ``35 ms``, ``1.5 s``; empty where there is none."""
    if seconds is None:
        return ""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def _job(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), _status(document)
    rounds = status.get("rounds") or [{}]
    lost = [f"{status[key]} {word}" for key, word in (("refusedCount", "refused"), ("lateCount", "late"))
            if status.get(key)]  # fmt: skip
    return [
        _name(document),
        status.get("phase", ""),
        f"{status.get('round', 0)}/{spec.get('rounds', '?')}",
        str(len(status.get("assignments", ()))),
        short_metrics(status.get("evaluation") or rounds[-1].get("evaluation") or rounds[-1].get("metrics")),
        _age(document, now),
        "; ".join(filter(None, [failing(document), ", ".join(lost)])),
    ]


def _service(document: Document, now: float) -> list[Cell]:
    status = _status(document)
    total, edges = status.get("total", {}), status.get("edges", {})
    online = [each for each in edges.values() if each.get("trouble") != "offline"]
    lost = [f"{total[key]} {key}" for key in ("degraded", "errors") if total.get(key)]
    return [
        _name(document),
        status.get("phase", ""),
        f"{len(online)}/{len(edges)}",
        str(total.get("requests", 0)),
        percent(total.get("offloadRatio")).replace(" ", ""),
        percent(total.get("agreement")).replace(" ", ""),
        latency(total.get("p50Seconds")).replace(" ", ""),
        latency(total.get("p99Seconds")).replace(" ", ""),
        _age(document, now),
        "; ".join(filter(None, [failing(document), ", ".join(lost)])),
    ]


def _edge(document: Document, now: float) -> list[Cell]:
    status = _status(document)
    return [
        _name(document),
        "online" if status.get("online") else "offline",
        age(status.get("since", ""), now),
        _names(status.get("datasets", ())),
        _names([each.replace(" ", "=") for each in status.get("frameworks", ())]),
        str(len(status.get("workers", ()))),
        str(status.get("waitingEvents", 0)),
        _names([f"{key}={value}" for key, value in document.get("spec", {}).get("labels", {}).items()]),
    ]


def _model(document: Document, now: float) -> list[Cell]:
    from heliograph.bus.contract.resources import Model, resolve

    deployed = resolve(Model.model_validate(document, extra="ignore"))
    return [
        _name(document),
        str(deployed.version if deployed else 0),
        str(deployed.round) if deployed and deployed.version else "",
        size(deployed.weights.size).replace(" ", "") if deployed else "",
        deployed.weights.digest[:12] if deployed else "",
        short_metrics(deployed.metrics) if deployed else [],
        _age(document, now),
        document.get("spec", {}).get("description", ""),
    ]


def _dataset(document: Document, now: float) -> list[Cell]:
    edges: Mapping[str, Document] = _status(document).get("edges", {})
    good = [each for each in edges.values() if not each.get("error")]
    columns = {name: dtype for each in good for name, dtype in each.get("columns", {}).items()}
    return [
        _name(document),
        _names(sorted(edges)),
        str(sum(each.get("samples", 0) for each in good)),
        _names(sorted({each["format"] for each in good if each.get("format")})),
        _names([f"{name}:{dtype}" for name, dtype in columns.items()]),
        "; ".join(f"{edge}: {each['error']}" for edge, each in edges.items() if each.get("error")),
    ]


def _algorithm(document: Document, now: float) -> list[Cell]:
    spec = document.get("spec", {})
    parameters = [
        f"{key}={schema['default']}" if isinstance(schema, Mapping) and schema.get("default") is not None else key
        for key, schema in spec.get("parameters", {}).items()
    ]
    return [
        _name(document),
        _names(_status(document).get("edges", ())),
        parameters,
        spec.get("description", "").partition(". ")[0],
    ]


_TABLES = {
    "jobs": ("NAME PHASE ROUND EDGES METRICS AGE NOTE", _job),
    "services": ("NAME PHASE EDGES REQUESTS OFFLOAD AGREEMENT P50 P99 AGE NOTE", _service),
    "edges": ("NAME STATE SINCE DATASETS FRAMEWORKS WORKERS WAITING LABELS", _edge),
    "models": ("NAME VERSION ROUND SIZE DIGEST METRICS AGE DESCRIPTION", _model),
    "datasets": ("NAME EDGES SAMPLES FORMAT COLUMNS NOTE", _dataset),
    "algorithms": ("NAME EDGES PARAMETERS DESCRIPTION", _algorithm),
}


def _status(document: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("status") or {}
    return found


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])


def _age(document: Document, now: float) -> str:
    return age(document["metadata"].get("creationTimestamp", ""), now)


def _names(names: Sequence[str]) -> list[str]:
    return [*names[:NAMED], *([f"+{len(names) - NAMED}"] if len(names) > NAMED else [])]
