"""The default engine: shared prefixes prefilled once, rows in slots that are refilled while others decode.

    engine = SharedPrefixEngine(load_model(...))
    for completion in engine.generate(prompts, settings): ...

A call finds the prefix tree of its prompts (a playbook, below it the tables asked about), prefills each node
once, and answers rows in flight; the keys and values of roots stay for the next call. What the attention plan
cannot express (see `support`) is answered by `generate`, and `info.engine_effective` says so.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from aceslm.core.engine import EngineCounters, EngineInfo, never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.attention.interface import ATTENTION_NAME, register
from aceslm.engine.attention.partial import choose_kernels
from aceslm.engine.attention.plan import Block
from aceslm.engine.cpu_layers import keep_freed_memory, use_fast_layers
from aceslm.engine.devices import free_memory_bytes, memory_error
from aceslm.engine.generate import GenerateEngine
from aceslm.engine.loading import LoadedModel
from aceslm.engine.model_engine import ModelEngine
from aceslm.engine.model_runner import PackedModel
from aceslm.engine.prefix_tree import MIN_SAVED_TOKENS, prefix_tree
from aceslm.engine.requests import Request
from aceslm.engine.running_batch import BatchLimits, Flight
from aceslm.engine.self_check import head_dim, prove

log = logging.getLogger(__name__)

MAX_SLOTS = {"cpu": 128, "cuda": 256, "mps": 64}
PASS_TOKENS = {"cpu": 2048, "cuda": 8192, "mps": 2048}
KEPT_ROOTS = 4
CACHE_SHARE = 0.5  # of the device's free memory, for the keys and values of rows in flight
MAX_CACHE_BYTES = {"cpu": 4 * 2**30}


class SharedPrefixEngine(ModelEngine):
    """Answers prompts in flight over shared prefixes."""

    def __init__(self, loaded: LoadedModel, batch_size: int | None = None, fraction: float = 1.0) -> None:
        began_s = time.perf_counter()
        super().__init__(loaded)
        self._reference = GenerateEngine(loaded, batch_size, fraction)
        self._own_attention = loaded.model.config._attn_implementation
        self._roots: OrderedDict[tuple[int, ...], Block] = OrderedDict()
        self._batch_size = batch_size
        self._fraction = fraction
        self._shared_prefill_s = 0.0
        device = loaded.device.type
        if device == "cpu":
            keep_freed_memory()
        if device == "cpu" and loaded.dtype == torch.bfloat16 and loaded.quantization == "none":
            use_fast_layers(loaded.model)
        register()
        self._packed = PackedModel(
            loaded.model,
            loaded.device,
            choose_kernels(loaded.device, loaded.dtype, head_dim(loaded.model)),
            PASS_TOKENS.get(device, 2048),
        )
        self._unsupported, self._token_bytes = prove(loaded, self._packed)
        if self._unsupported:
            log.info(
                "shared_prefix cannot drive %s (%s): generate runs instead",
                loaded.spec.name,
                self._unsupported,
            )
            loaded.model.set_attn_implementation(self._own_attention)
        self.info: EngineInfo = replace(
            self._reference.info,
            engine="shared_prefix",
            engine_effective="generate" if self._unsupported else "shared_prefix",
            load_s=loaded.load_s + time.perf_counter() - began_s,
        )

    @property
    def counters(self) -> EngineCounters:
        """What prefixes have cost, and what memory errors have left of the token budget."""
        rest = self._reference.counters.token_budget_fraction
        return EngineCounters(self._shared_prefill_s, min(self._fraction, rest))

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Completion]:
        """Yield completions as rows finish; the longest groups of prompts first."""
        if self._unsupported:
            yield from self._reference.generate(prompts, settings, should_stop)
            return
        requests, alone = [], []
        for prompt in prompts:
            request = Request(prompt, self._prompter.encode(prompt))
            if problem := request.problem(self.info.context_window):
                yield request.failed(problem)
            elif request.need > self._loaded.same_rope_tokens:
                alone.append(prompt)
            else:
                requests.append(request)
        yield from self._answer(requests, settings, should_stop)
        if alone and not should_stop():
            yield from self._answer_alone(alone, settings, should_stop)

    def close(self) -> None:
        """Free the model's memory and the prefixes."""
        self._roots.clear()
        self._packed = None  # type: ignore[assignment]
        self._reference.close()
        super().close()

    def _answer(
        self, requests: Sequence[Request], settings: GenerationSettings, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        if not requests:
            return
        tree = prefix_tree([request.ids for request in requests], tuple(self._roots), MIN_SAVED_TOKENS)
        grammars = self._grammars_for(requests)
        flight = Flight(self._packed, self._loaded, requests, tree, settings, grammars, self._limits())
        flight.adopt_roots(self._roots)
        try:
            while flight.unfinished and not should_stop():
                yield from self._step(flight)
        finally:
            self._shared_prefill_s += flight.shared_prefill_s
        self._keep_roots(flight)

    def _step(self, flight: Flight) -> list[Completion]:
        try:
            return flight.step()
        except EngineError:
            raise
        except Exception as error:
            if not memory_error(error):
                raise EngineError(f"generation failed: {type(error).__name__}: {error}") from error
            return self._after_memory_error(flight)

    def _answer_alone(
        self, prompts: Sequence[Prompt], settings: GenerationSettings, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        """Answer prompts whose rotary frequencies depend on their length by `generate`."""
        self._loaded.model.set_attn_implementation(self._own_attention)
        try:
            yield from self._reference.generate(prompts, settings, should_stop)
        finally:
            self._loaded.model.set_attn_implementation(ATTENTION_NAME)

    def _limits(self) -> BatchLimits:
        device = self._loaded.device.type
        share = int(free_memory_bytes(self._loaded.device) * CACHE_SHARE)
        bytes_ = min(share, MAX_CACHE_BYTES.get(device, share))
        return BatchLimits(
            budget_tokens=max(1, int(bytes_ * self._fraction) // max(1, self._token_bytes)),
            max_slots=max(1, int((self._batch_size or MAX_SLOTS.get(device, 64)) * self._fraction)),
        )

    def _after_memory_error(self, flight: Flight) -> list[Completion]:
        """Halve the token budget and start the rows in flight again; a row that was alone fails."""
        self._roots.clear()
        self._fraction /= 2
        self._packed.pass_tokens = max(64, self._packed.pass_tokens // 2)
        failed = flight.start_again(self._limits())
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: going on with %.3g of the token budget", self._fraction)
        return failed

    def _keep_roots(self, flight: Flight) -> None:
        """Keep the roots used last; a playbook's keys and values serve the next call too."""
        for tokens, block in flight.roots().items():
            self._roots[tokens] = block
            self._roots.move_to_end(tokens)
        while len(self._roots) > KEPT_ROOTS:
            self._roots.popitem(last=False)
