"""The page: everything about a run in one file that opens offline, in light and dark, and follows a run at work.

Enters: a :class:`Run`. Leaves: one HTML file without a network address in it. The numbers lie in it as JSON; its script
(``page.js``) draws them.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from groundup.core.errors import ArtifactError
from groundup.core.files import read_json, write_text
from groundup.core.run import environment
from groundup.evaluation.evaluate import STAGES as TRAINED
from groundup.evaluation.evaluate import table as rows_of
from groundup.monitor.records import Curve, Run, Stage

#: Digits of a number on the page.
DIGITS = 5


def write_page(found: Run, path: Path, interval: float | None) -> None:
    """Write the page of a run, whole or not at all.

    Args:
        found: the run, as it was last read.
        path: of the file.
        interval: seconds after which the page loads itself again; None: it is final.

    Raises:
        StorageError: it cannot be written.
    """
    folder = resources.files("groundup.monitor")
    text = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": _escaped(found.out.resolve().name),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": (folder / "page.js").read_text(encoding="utf-8"),
        # "<" could end the element: in JSON it may be spelt otherwise.
        "data": json.dumps(content(found, interval), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    text = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], text)
    write_text(path, text.encode("utf-8", "replace").decode())


def content(found: Run, interval: float | None) -> dict[str, Any]:
    """What the page knows."""
    manifests = [stage.manifest for stage in found.stages if stage.manifest]
    return {
        "name": found.out.resolve().name,
        "folder": str(found.out),
        "description": str(found.recipe.get("description", "")),
        "written": time.time(),
        "interval": interval,
        "running": found.running,
        "stages": [_stage(stage, found) for stage in found.stages],
        "scores": _scores(found),
        "findings": found.findings,
        "machine": manifests[-1].get("environment", {}) if manifests else environment(),
        "recipe": found.recipe_text,
    }


def _stage(stage: Stage, found: Run) -> dict[str, Any]:
    manifest = stage.manifest or {}
    return {
        "name": stage.name,
        "state": stage.state,
        "seconds": manifest.get("seconds"),
        "memory": manifest.get("peak_memory_bytes"),
        "metrics": manifest.get("metrics", {}),
        "planned": stage.planned,
        "step": stage.log.step,
        "remaining": stage.remaining,
        "cost": _cost(stage, found.recipe),
        "parameters": stage.model.get("parameters"),
        "last": {name: _rounded(value) for name, value in stage.log.last.items()},
        "curves": {name: _points(curve) for name, curve in stage.log.curves.items()},
        "skipped": stage.log.skipped[-1000:],
        "damaged": stage.log.damaged,
        "events": stage.events,
        "samples": stage.samples,
    }


def _points(curve: Curve) -> Mapping[str, Sequence[float]]:
    """Steps and values; the least and the largest of those that were merged, if any were."""
    buckets = curve.buckets
    points = {
        "steps": [_rounded(bucket.step, 9) for bucket in buckets],
        "values": [_rounded(bucket.mean) for bucket in buckets],
    }
    if any(bucket.count > 1 for bucket in buckets):
        points["lows"] = [_rounded(bucket.low) for bucket in buckets]
        points["highs"] = [_rounded(bucket.high) for bucket in buckets]
    return points


def _cost(stage: Stage, recipe: Mapping[str, Any]) -> float | None:
    """What the training cost so far, at the recipe's price of an hour."""
    price: Any = recipe
    for key in (stage.name, "watch", "price"):
        price = price.get(key) if isinstance(price, Mapping) else None
    seconds = stage.log.last.get("seconds")
    return price * seconds / 3600 if isinstance(price, int | float) and price > 0 and seconds else None


def _scores(found: Run) -> dict[str, Any] | None:
    if not any(stage.name == "evaluate" and stage.manifest for stage in found.stages):
        return None
    with suppress(ArtifactError, LookupError):
        rows = rows_of(read_json(found.out / "evaluate" / "results.json"))
        return {"columns": ["", "chance", *TRAINED], "rows": rows}
    return None


def _rounded(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
