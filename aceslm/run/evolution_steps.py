"""The steps of an evolution in order, and what a shard of it begins with.

    steps = planned_steps(work)             # rounds, merges, the gate, the last comparison
    playbook = starting(work, evolution)    # the playbook before the first of them

One worker: the rounds of each epoch, then the gate; at last the comparison with the first version. Several:
a worker's shard has the rounds of its share of one epoch; the merge shard merges them, then asks the gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aceslm.ace.curator import kept_small
from aceslm.ace.evolution import GENERATOR, Evolution
from aceslm.ace.leakage import GoldIndex
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.playbook.merge import merge_workers
from aceslm.ace.round import in_seed_order, rounds_of
from aceslm.core.ace_config import AceConfig
from aceslm.core.errors import UpstreamMissing
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Sample, Shard, Unit
from aceslm.data import read_snapshot
from aceslm.run.evolution_journal import Journal
from aceslm.run.evolution_state import State
from aceslm.run.work import Work

ROUND, MERGE, GATE, FINAL = ("round", "merge", "gate", "final")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. A round has `work`, and in `scored` the samples whose gold answers came before it.

    `ends_epoch`: the epoch's playbook stands after this step. `ends`: nothing follows in this journal.
    """

    kind: str
    epoch: int
    work: tuple[tuple[Unit, Sample], ...] = ()
    scored: tuple[Sample, ...] = ()
    curate: bool = False
    ends_epoch: bool = False
    ends: bool = False


def journal_of(paths: RunPaths, cell: Cell, shard: Shard) -> Journal:
    """Return the journal that a shard writes: the evolution's own, or the worker's share of one epoch."""
    folder = paths.playbooks(cell.cell_id)
    if shard.worker is None:
        return Journal(folder)
    return Journal(folder / _share(shard.epoch or 0, shard.worker))


def planned_steps(work: Work) -> tuple[Step, ...]:
    """Return all steps of the journal that a shard writes, up to the shard's last one."""
    ace = work.cell.playbook_settings
    if work.shard.step == MERGE:
        epochs = range((work.shard.epoch or 0) + 1)
        steps = [step for epoch in epochs for step in (Step(MERGE, epoch), *_gate(ace, epoch))]
    else:
        steps = list(_rounds(work, ace))
    if ace.gate and work.shard.worker is None and steps[-1].epoch == work.cell.epochs - 1:
        steps.append(Step(FINAL, steps[-1].epoch))
    lasts = {step.epoch: n for n, step in enumerate(steps) if step.kind != FINAL}
    # the merges of all epochs stand in one journal: only the last one ends it
    closing = work.shard.step != MERGE or work.shard.epoch == work.cell.epochs - 1
    return tuple(
        replace(step, ends_epoch=lasts[step.epoch] == n, ends=closing and n == len(steps) - 1)
        for n, step in enumerate(steps)
    )


def starting(work: Work, evolution: Evolution) -> Playbook:
    """Return the playbook that a journal starts with.

    Raises:
        UpstreamMissing: a worker's epoch builds on one that is not merged yet.
    """
    epoch = work.shard.epoch or 0
    if work.shard.worker is None or epoch == 0:
        return _initial(work, evolution)
    journal = Journal(work.run.paths.playbooks(work.cell.cell_id))
    return journal.playbook(_merged_epochs(work)[epoch - 1])


def require_upstream(work: Work) -> None:
    """Check that what a shard builds on is there: before a model is loaded.

    Raises:
        UpstreamMissing: the epoch before is not merged yet, or a worker has not ended its share of this one.
    """
    if len(_merged_epochs(work)) < (work.shard.epoch or 0):
        raise UpstreamMissing(
            f"shard {work.shard.shard_id}: the epoch before is not merged yet: "
            f"aceslm retry {work.run.paths.root}"
        )
    if work.shard.step == MERGE:
        _shares(work)


def merged(work: Work, evolution: Evolution, base: Playbook) -> Playbook:
    """Return what the workers of one epoch made of `base`, as the next version.

    New lessons that carry a gold answer which another worker was asked are left out: their own worker could
    not know.

    Raises:
        UpstreamMissing: a worker has not ended its share.
    """
    journals = _shares(work)
    ace = evolution.ace
    union = merge_workers(
        base, [journal.committed(state) for journal, state in journals], threshold=ace.dedup_similarity
    ).playbook
    if ace.labels:
        known = {bullet.bullet_id: bullet.text for bullet in base.bullets}
        golds = GoldIndex.of(_answered(work, [journal for journal, _ in journals]))
        union = union.with_bullets(
            bullet
            for bullet in union.bullets
            if known.get(bullet.bullet_id) == bullet.text or not golds.leaks(bullet.text)
        )
    return kept_small(evolution, union).advanced()


def _rounds(work: Work, ace: AceConfig) -> Iterator[Step]:
    """Yield the rounds of a shard epoch by epoch, whole contexts together, and each epoch's gate."""
    scored: dict[str, Sample] = {}
    if work.shard.epoch:  # a worker's samples were all answered in the epoch before, by whomever
        scored = dict(work.samples)
    number = 0
    for epoch in sorted({unit.epoch for unit in work.units}):
        units = {unit.sample_id: unit for unit in work.units if unit.epoch == epoch}
        samples = in_seed_order((work.samples[name] for name in units), work.cell.seed)
        rounds = rounds_of(samples, ace.round_size)
        last_epoch = epoch == max(unit.epoch for unit in work.units)
        for members in rounds:
            number += 1
            last = last_epoch and members is rounds[-1]
            pairs = tuple((units[sample.sample_id], sample) for sample in members)
            curate = number % ace.curate_every == 0 or last
            yield Step(ROUND, epoch, pairs, tuple(scored.values()), curate)
            scored |= {sample.sample_id: sample for sample in members}
        if work.shard.worker is None:
            yield from _gate(ace, epoch)


def _merged_epochs(work: Work) -> tuple[int, ...]:
    """Return the playbook version that each finished epoch ended with."""
    state = Journal(work.run.paths.playbooks(work.cell.cell_id)).state()
    return state.epochs if state else ()


def _gate(ace: AceConfig, epoch: int) -> tuple[Step, ...]:
    return (Step(GATE, epoch),) if ace.gate else ()


def _initial(work: Work, evolution: Evolution) -> Playbook:
    """Return version 0: empty, or the given playbook: ids kept, rounds counted from here, within limits."""
    if not work.cell.initial_playbook:
        return Playbook()
    given = codec.load(work.run.paths.initial_playbook(work.cell.initial_playbook))
    bullets = (replace(bullet, created=0, last_used=0) for bullet in given.bullets)
    return kept_small(evolution, replace(given, version=0).with_bullets(bullets))


def _shares(work: Work) -> list[tuple[Journal, State]]:
    cell, epoch = work.cell, work.shard.epoch or 0
    found = []
    for worker in range(cell.playbook_settings.workers):
        journal = Journal(work.run.paths.playbooks(cell.cell_id) / _share(epoch, worker))
        state = journal.state()
        if state is not None and state.ended:
            found.append((journal, state))
    if not found or len(found) < len(work.shard.needs):
        raise UpstreamMissing(
            f"shard {work.shard.shard_id}: {len(found)} of {len(work.shard.needs)} workers have ended their "
            f"share of the epoch: aceslm retry {work.run.paths.root}"
        )
    return found


def _answered(work: Work, journals: list[Journal]) -> list[Sample]:
    units = {call.unit_id for journal in journals for call in journal.calls() if call.role == GENERATOR}
    epoch = work.shard.epoch or 0
    samples = read_snapshot(work.run.paths.task(work.cell.task_digest))
    return [one for one in samples if work.cell.unit(one.sample_id, epoch).unit_id in units]


def _share(epoch: int, worker: int) -> str:
    return f"e{epoch + 1:02d}-w{worker + 1:02d}"
