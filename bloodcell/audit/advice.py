"""What to do about unknown sources and leaks: the commands."""

from __future__ import annotations

from bloodcell.data.samples import Samples
from bloodcell.runtime.schema.data import DataConfig


def unaudited_sets(data: DataConfig, samples: Samples) -> list[str]:
    """Say which sets of a joint table have images of unknown source, and what finds the sources."""
    unknown = [name for name in samples.sets() if not samples.of_set(name).sources_known()]
    return [f"note: sources of {name} are unknown; find them: {audit_of_set(data, name)}" for name in unknown]


def audit_of_set(data: DataConfig, name: str) -> str:
    """Return the command that finds the sources of one of `data.sets`."""
    from bloodcell.data import joint

    return joint.audit_of_set(joint.named_sets(data.sets)[name])


def leak_advice(data: DataConfig, samples: Samples) -> str:
    """Say what to do about copies in training that the sources do not tell of."""
    if unknown := [name for name in samples.sets() if not samples.of_set(name).sources_known()]:
        return f"find the sources: {'; '.join(audit_of_set(data, name) for name in unknown)}"
    if samples.sets():
        return "two of data.sets show the same cells; train without one of them"
    where = f"data.table={data.table}" if data.kind == "table" else f"data.root={samples.root}"
    return f"find the sources: bloodcell audit data={data.kind} {where}"
