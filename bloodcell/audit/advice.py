"""What to do about unknown sources and leaks: the commands."""

from __future__ import annotations

from typing import Any

from bloodcell.data.samples import Samples


def unaudited_sets(data: dict[str, Any], samples: Samples) -> list[str]:
    """Say which sets of a joint table have images of unknown source, and what finds the sources."""
    unknown = [name for name in samples.sets() if not samples.of_set(name).sources_known()]
    return [f"note: sources of {name} are unknown; find them: {audit_of_set(data, name)}" for name in unknown]


def audit_of_set(data: dict[str, Any], name: str) -> str:
    """Return the command that finds the sources of one of `data.sets`."""
    from bloodcell.data import joint

    return joint.audit_of_set(joint.named_sets(data["sets"])[name])


def leak_advice(data: dict[str, Any], samples: Samples) -> str:
    """Say what to do about copies in training that the sources do not tell of."""
    if unknown := [name for name in samples.sets() if not samples.of_set(name).sources_known()]:
        return f"find the sources: {'; '.join(audit_of_set(data, name) for name in unknown)}"
    if samples.sets():
        return "two of data.sets show the same cells; train without one of them"
    readers = {"read_kaggle": "kaggle", "read_imagefolder": "imagefolder", "read_table": "table"}
    name = readers.get(data["reader"]["_target_"].rpartition(".")[2], "synthetic")
    where = f"data.table={data['table']}" if name == "table" else f"data.root={samples.root}"
    return f"find the sources: bloodcell audit data={name} {where}"
