"""Data that is not read as it is: the hint how to convert it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

VIDEOS = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"))
_HUGGING_FACE = frozenset(("dataset_dict.json", "state.json", "dataset_info.json"))
_ARROW = ("is a data set as Hugging Face's save_to_disk writes it; convert it: "
          "datasets.load_from_disk(path)['train'].to_parquet('train.parquet')")  # fmt: skip
_VIDEO = ("is a video; convert it to images: ffmpeg -i {name} -vf fps=1 frames/CLASS/%06d.jpg, "
          "in a directory for each class")  # fmt: skip


def hint_for_file(name: str, start: bytes) -> str:
    """Return why a file is not read, by its name or its first 12 bytes; empty for others."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".arrow" or start.startswith(b"ARROW1"):
        return _ARROW
    is_mp4 = start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    if suffix in VIDEOS or is_mp4 or start.startswith(b"\x1aE\xdf\xa3") or start[:4] + start[8:12] == b"RIFFAVI ":
        return _VIDEO.format(name=PurePosixPath(name).name[:80])
    return ""


def hint_for_directory(files: Collection[str]) -> str:
    """Return why a directory with these files is not read; empty for others."""
    if "dataset_dict.json" in files or len(_HUGGING_FACE.intersection(files)) > 1:
        return _ARROW
    if video := next((name for name in files if PurePosixPath(name).suffix.lower() in VIDEOS), ""):
        return f"holds {video[:80]}, which " + _VIDEO.format(name=video[:80])
    return ""
