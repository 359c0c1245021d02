"""Between a queue's results and Label Studio's (https://labelstud.io/guide/export#Label-Studio-JSON-format). Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from heliograph.bus.contract.payloads import LabelTask, Prediction, Region, Result
from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.errors import Refused
from heliograph.label_studio.png import png_of

SAMPLE, LABEL = "sample", "label"
"""Names of the two tags of every project: what is shown, and what is given."""
TASK = "heliograph_task"
"""Key in the data of each task: the SHA-256 of its sample."""
_SHAPES = {"rectanglelabels": "box", "polygonlabels": "polygon", "keypointlabels": "point"}


def config_of(schema: LabelSchema, media_type: str) -> str:
    """Return the labelling configuration of a project for samples of a media type."""
    shown = _shown(media_type)
    show = f'<{shown} name="{SAMPLE}" value="${SAMPLE}"/>'
    choices = "".join(f"<Choice value={quoteattr(each)}/>" for each in schema.classes)
    labels = "".join(f"<Label value={quoteattr(each)}/>" for each in schema.classes)
    match schema.type:
        case "choice" | "choices":
            kind = "single" if schema.type == "choice" else "multiple"
            give = f'<Choices name="{LABEL}" toName="{SAMPLE}" choice="{kind}" showInline="true">{choices}</Choices>'
        case "number":
            bounds = "".join(f' {name}="{value:g}"' for name, value in (("min", schema.low), ("max", schema.high))
                             if value is not None)  # fmt: skip
            give = f'<Number name="{LABEL}" toName="{SAMPLE}"{bounds}/>'
        case "text":
            give = f'<TextArea name="{LABEL}" toName="{SAMPLE}" maxSubmissions="1"/>'
        case "regions":
            give = "".join(
                f'<{tag} name="{name}" toName="{SAMPLE}">{labels}</{tag}>'
                for tag, name in (("RectangleLabels", LABEL), ("PolygonLabels", "polygon"), ("KeyPointLabels", "point"))
            )
    header = f"<Header value={quoteattr(schema.question)}/>" if schema.question else ""
    return f"<View>{header}{show}{give}</View>"


def task_of(task: LabelTask, schema: LabelSchema) -> dict[str, Any]:
    """Return the task to import, with its predictions. Raise Refused where its sample is not in it."""
    if task.data.inline is None:
        raise Refused("missing", topic=task.task[:12], field="data", expected="a sample in the task", got="none")
    predictions = [prediction_of(each, schema) for each in task.predictions]
    return {
        "data": {SAMPLE: _shown_data(task), TASK: task.task, "heliograph_edge": task.edge},
        **({"predictions": predictions} if predictions else {}),
    }


def prediction_of(prediction: Prediction, schema: LabelSchema) -> dict[str, Any]:
    """Return a prediction to import."""
    score = prediction.score if prediction.score is not None else prediction.result.score
    return {
        "model_version": prediction.model[:250] or "unknown",
        "result": results_of(prediction.result, schema),
        **({"score": score} if score is not None else {}),
    }


def results_of(result: Result, schema: LabelSchema) -> list[dict[str, Any]]:
    """Return a result as Label Studio's list of results."""
    value: Any = result.value
    match schema.type:
        case "choice":
            return [_given("choices", {"choices": [value]})]
        case "choices":
            return [_given("choices", {"choices": value})]
        case "number":
            return [_given("number", {"number": value})]
        case "text":
            return [_given("textarea", {"text": [value]})]
    return [_region_given(number, region) for number, region in enumerate(result.regions)]


def result_of(results: object, schema: LabelSchema) -> Result:
    """Return the result of Label Studio's list of results.

    Raises Refused, naming the part, where it is none of the schema's type. Results of other tags are left out.
    """
    given = [each for each in results if isinstance(each, Mapping)] if isinstance(results, Sequence) else []
    try:
        match schema.type:
            case "choice" | "choices":
                named = _values(given, "choices", "choices")
                flat = [str(each) for one in named for each in one]
                return Result(type=schema.type, value=flat[0] if schema.type == "choice" and flat else flat)
            case "number":
                found = _values(given, "number", "number")
                return Result(type="number", value=float(found[0]) if found else None)
            case "text":
                texts = _values(given, "textarea", "text")
                first = texts[0] if texts else ""
                return Result(type="text", value=str(first if isinstance(first, str) else "\n".join(map(str, first))))
        return Result(type="regions", regions=[each for one in given for each in _regions(one)])
    except (ValueError, TypeError, KeyError, IndexError) as error:  # pydantic's errors are ValueErrors
        raise Refused("invalid", field="result", expected=f"a result of Label Studio for a {schema.type}",
                      got=str(error).splitlines()[0] if str(error) else type(error).__name__) from None  # fmt: skip


def _values(given: Iterable[Mapping[str, Any]], kind: str, key: str) -> list[Any]:
    return [each["value"][key] for each in given if each.get("type") == kind]


def _given(kind: str, value: dict[str, Any], name: str = LABEL) -> dict[str, Any]:
    return {"from_name": name, "to_name": SAMPLE, "type": kind, "value": value}


def _region_given(number: int, region: Region) -> dict[str, Any]:
    percent = [100 * each for each in region.points]
    if region.shape == "box":
        x, y, width, height = percent
        place = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
        given = _given("rectanglelabels", {**place, "rectanglelabels": [region.value]})
    elif region.shape == "polygon":
        points = [list(each) for each in zip(percent[::2], percent[1::2], strict=True)]
        given = _given("polygonlabels", {"points": points, "polygonlabels": [region.value]}, "polygon")
    else:
        spot = {"x": percent[0], "y": percent[1], "width": 1}
        given = _given("keypointlabels", {**spot, "keypointlabels": [region.value]}, "point")
    score = {"score": region.score} if region.score is not None else {}
    return {"id": f"r{number}", **given, **score}


def _regions(given: Mapping[str, Any]) -> list[Region]:
    """Return the region of one result; a box that is turned becomes a polygon. A result of another tag has none."""
    kind = given.get("type")
    if kind not in _SHAPES:
        return []
    value = given["value"]
    names = value[kind]
    shape, points = _SHAPES[kind], _points(given, kind, value)
    if shape == "box" and value.get("rotation"):
        shape, points = "polygon", _turned(points, float(value["rotation"]), _aspect(given))
    if not all(map(math.isfinite, points)):
        raise ValueError("expected finite places")
    shares = [min(1.0, max(0.0, each)) for each in points]
    if shape == "box":  # rounding may leave the image by a hair
        shares[2], shares[3] = min(shares[2], 1 - shares[0]), min(shares[3], 1 - shares[1])
    return [Region(shape=shape, value=str(each), points=shares) for each in names]  # type: ignore[arg-type]


def _points(given: Mapping[str, Any], kind: str, value: Mapping[str, Any]) -> list[float]:
    if kind == "polygonlabels":
        return [float(each) / 100 for point in value["points"] for each in point[:2]]
    keys = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y")
    return [float(value[key]) / 100 for key in keys]


def _aspect(given: Mapping[str, Any]) -> float:
    """Return the image's width over its height, which an angle needs."""
    width, height = float(given.get("original_width") or 1), float(given.get("original_height") or 1)
    return width / height if width > 0 and height > 0 else 1.0


def _turned(box: Sequence[float], degrees: float, aspect: float) -> list[float]:
    """Return the corners of a box that is turned clockwise about its upper left one, in shares of the image."""
    x, y, width, height = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners: list[float] = []
    for across, down in ((0.0, 0.0), (width * aspect, 0.0), (width * aspect, height), (0.0, height)):
        corners += [x + (across * cosine - down * sine) / aspect, y + across * sine + down * cosine]
    return corners


def _shown(media_type: str) -> str:
    return "Image" if media_type == TENSOR or media_type.startswith("image/") else "Text"


def _shown_data(task: LabelTask) -> str:
    """Return the sample as Label Studio shows it: a data URL of an image, or a text."""
    content, media_type = task.data.inline or b"", task.data.media_type
    if media_type.startswith("image/"):
        return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    if media_type == TENSOR:
        return f"data:image/png;base64,{base64.b64encode(png_of(content)).decode()}"
    text = content.decode(errors="replace")
    if media_type == COLUMNS:
        try:
            return "\n".join(f"{name}: {value}" for name, value in json.loads(text).items())
        except (ValueError, AttributeError):
            return text
    return text
