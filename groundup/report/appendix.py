"""How to repeat the run, and where every number comes from.

Enters: a ``Draft``. Leaves: JSON objects for ``appendix.typ``.
"""

import re
import tomllib

from groundup.core.errors import UsageError
from groundup.corpus.pipeline.registry import STEPS, expand, sections
from groundup.report.readings import (
    STAGES,
    Draft,
    Section,
    finished,
    humanised,
)
from groundup.report.wording import (
    ABSENT,
    BREAK,
    breakable,
    count,
    one_line,
    significant,
    size,
)


def recipe(draft: Draft) -> Section:
    """The resolved recipe, but for steps that the corpus did not go through; versions and hardware."""
    facts = draft.facts
    text = facts.whole("recipe.toml", "The complete recipe")
    stages = finished(facts)
    manifest = f"{stages[-1]}/manifest.json" if stages else "evaluate/manifest.json"
    rows = []
    for name in facts.names(manifest, "environment"):
        label = f"Environment: {name.replace('_', ' ')}"
        key = f"environment.{name}"
        if name == "memory_bytes":
            rows.append(["Memory", size(facts.number(manifest, key, label))])
        elif facts.is_number(manifest, key):
            rows.append([humanised(name), significant(facts.number(manifest, key, label))])
        else:
            rows.append([humanised(name), one_line(facts.text(manifest, key, label) or ABSENT, 90)])
    for name, label in (("code_version", "Version of the code"), ("seed", "Seed")):
        if found := facts.text(manifest, name, label):
            rows.append([label, one_line(found, 64)])
    return {"text": breakable(_used(text)) if text else None, "rows": rows, "from": manifest}


def _used(recipe: str) -> str:
    """A recipe without the sections of corpus steps that the run did not take."""
    try:
        taken = expand(tomllib.loads(recipe)["corpus"]["steps"])
    except (tomllib.TOMLDecodeError, LookupError, TypeError, UsageError):
        return recipe
    idle = sections(STEPS) - sections(taken) - {"exact"}  # three more steps have their settings from that one
    parts = re.split(r"^(?=\[)", recipe, flags=re.MULTILINE)
    return "".join(part for part in parts if part.partition("]")[0] not in {f"[corpus.{name}" for name in idle})


def sources_of_numbers(draft: Draft) -> Section:
    """The ledger for the appendix. To be called last: it prints what the others asked for."""
    facts = draft.facts
    files = [
        {
            "file": group["file"],
            "sha256": group["sha256"],
            "rows": [
                [
                    one_line(row["label"], 60),
                    breakable(re.sub("[._,]", lambda mark: mark.group() + BREAK, row["key"])),
                    _shown(row["value"]) if row["single"] else f"{count(row['value'])} values",
                ]
                for row in group["rows"]
            ],
        }
        for group in sorted(facts.summary(), key=lambda group: _place_in_road(group["file"]))
    ]
    missing: dict[str, dict[str, None]] = {}
    for _, file, key in facts.missing:
        missing.setdefault(file, {})[key] = None
    places = [f"{file}: {', '.join(keys)}" if any(keys) else file for file, keys in missing.items()]
    return {"files": files, "missing": [one_line(place, 160) for place in places[:40]]}


def _place_in_road(file: str) -> tuple[int, str]:
    """Files in the order of the stages, what belongs to no stage first."""
    stages = list(STAGES)
    stage = file.split("/")[0]
    return (stages.index(stage) if stage in stages else -1, file)


def _shown(value: float | str) -> str:
    """A value of the ledger as it is, a long text by its beginning."""
    if isinstance(value, str):
        return one_line(value, 12)
    return count(value) if value == int(value) else f"{value:.6g}".replace("-", "−")
