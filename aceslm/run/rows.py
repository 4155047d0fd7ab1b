"""One unit -> its prompt; one completion -> its result row. The same for every mode."""

from __future__ import annotations

import logging

from aceslm import tasks as task_types
from aceslm.core.digests import digest, question_digest
from aceslm.core.engine import Engine
from aceslm.core.prompts import Completion
from aceslm.core.record import Record
from aceslm.core.values import Sample, Unit
from aceslm.run.work import Work

log = logging.getLogger(__name__)


def noise_key(seed: int, sample: Sample | None, *place: object) -> str:
    """Return the key of a request's sampling noise.

    Neither the gold answer nor the mode is in it: a corrected gold changes no sampled answer, and modes that
    are compared draw the same noise (common random numbers).

    Args:
        sample: what is asked about; None where it is not one sample.
        place: epoch or step, role, round and candidate.
    """
    asked = question_digest(sample.question, sample.context, sample.choices) if sample else ""
    return digest("noise", seed, asked, *place)


def record_of(work: Work, unit: Unit, completion: Completion, engine: Engine, prompt_digest: str) -> Record:
    """Score one completion. A failed or unparsed one is a row with `error` set and `correct = 0`."""
    cell, sample = work.cell, work.samples[unit.sample_id]
    failed = completion.error is not None
    verdict = task_types.judge(sample, "" if failed else completion.text)
    error = completion.error
    if failed:
        log.info("no answer to sample %s: %s", sample.sample_id, error, extra={"unit": unit.unit_id})
    if not failed and not verdict.parsed:
        error = f"unparsed: no {sample.answer_type} in the output"
    return Record(
        model_id=cell.model.model_id,
        task_name=cell.task_name,
        domain=sample.domain or cell.domain,
        mode=cell.mode,
        sample_id=sample.sample_id,
        gold=task_types.gold(sample),
        pred=None if failed else verdict.pred,
        latency_ms=completion.latency_ms,
        question=sample.question,
        context=sample.context,
        correct=0 if error else verdict.correct,
        reflection_latency_ms=None,
        reflected=None,
        unit_id=unit.unit_id,
        cell_id=cell.cell_id,
        shard=work.shard.shard_id,
        seed=cell.seed,
        epoch=unit.epoch,
        split=cell.split or None,
        context_id=sample.context_id or None,
        quantization=engine.info.quantization,
        dtype=engine.info.dtype,
        device=engine.info.device,
        engine=engine.info.engine_effective,
        model_revision=cell.model.revision,
        answer_type=sample.answer_type,
        choices=sample.choices,
        choice_permutation=task_types.permutation(sample),
        scale=sample.scale or None,
        predicted_scale=None if failed else verdict.predicted_scale,
        exact_match=0.0 if error else verdict.exact_match,
        f1=0.0 if error else verdict.f1,
        score=0.0 if error else verdict.score,
        raw_output=None if failed else completion.text,
        parsed=not failed and verdict.parsed,
        error=error,
        prompt_digest=prompt_digest,
        prompt_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        finish_reason=completion.finish_reason,
        truncated=completion.truncated,
        ttft_ms=completion.ttft_ms,
        prefill_ms=completion.prefill_ms,
        decode_ms=completion.decode_ms,
        batch_size=completion.batch_size,
        batch_ms=completion.batch_ms,
        min_margin=completion.min_margin,
        attempt=str(work.attempt),
        variant=cell.variant or None,
    )
