"""A finished corpus, for people: ``terminal`` prints it, ``page`` writes one HTML file.

The files that the corpus stage wrote enter (``gather``).
"""

from pathlib import Path
from typing import Any

from groundup.core.errors import UsageError
from groundup.core.files import read_json


def gather(folder: Path) -> dict[str, Any]:
    """All that the corpus in ``folder`` (a run directory, or its ``corpus``) says of itself.

    Raises:
        UsageError: there is no finished corpus.
        ArtifactError: a file of it is damaged.
    """
    place = folder / "corpus" if (folder / "corpus" / "funnel.json").exists() else folder
    if not (place / "funnel.json").exists():
        raise UsageError(f"{folder} holds no finished corpus; give the directory of a run: groundup corpus report DIR")
    funnel, sources = read_json(place / "funnel.json"), read_json(place / "sources.json")
    evidence, seconds = read_json(place / "evidence.json"), read_json(place / "seconds.json")
    steps = [
        {**row, **found, "seconds": seconds.get(row["step"])}
        for row, found in zip(funnel["steps"], evidence["steps"], strict=True)
    ]
    name = (folder.resolve().parent if folder.resolve().name == "corpus" else folder.resolve()).name
    return {
        **{"name": name, "steps": steps},
        **{side: funnel[side] for side in ("train", "validation", "test") if side in funnel},
        **{"sources": sources, "read": evidence["read"], "kept": evidence["kept"]},
    }
