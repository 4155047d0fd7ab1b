"""The reference engine: transformers `generate`, left-padded, in batches sorted by length."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers

from aceslm.core.engine import EngineCounters, EngineInfo, never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.devices import dtype_name, memory_error
from aceslm.engine.grammar.masks import Grammars
from aceslm.engine.loading import LoadedModel
from aceslm.engine.model_engine import ModelEngine
from aceslm.engine.requests import Reply, Request, best_tokens, matcher_for, token_scores

log = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE = {"cpu": 32, "cuda": 32, "mps": 8}


class GenerateEngine(ModelEngine):
    """Left-padded batches through transformers `generate`; halves the batch when memory runs out."""

    def __init__(self, loaded: LoadedModel, batch_size: int | None = None, fraction: float = 1.0) -> None:
        super().__init__(loaded)
        self._usual = batch_size or DEFAULT_BATCH_SIZE.get(loaded.device.type, 8)
        self._fraction = fraction
        self._batch_size = max(1, int(self._usual * fraction))
        self._pad = _padding(loaded)
        self.info = EngineInfo(
            engine="generate",
            engine_effective="generate",
            device=str(loaded.device),
            dtype=dtype_name(loaded.dtype),
            quantization=loaded.quantization,
            context_window=loaded.context_window,
            load_s=loaded.load_s,
            footprint_bytes=loaded.footprint_bytes,
            determinism=determinism(loaded),
        )

    @property
    def counters(self) -> EngineCounters:
        """What memory errors have left of the batch, for good."""
        return EngineCounters(token_budget_fraction=min(self._fraction, self._batch_size / self._usual))

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Completion]:
        """Yield completions batch by batch, the longest prompts first (memory trouble shows at once)."""
        requests = []
        for prompt in prompts:
            request = Request(prompt, self._prompter.encode(prompt))
            if problem := request.problem(self.info.context_window):
                yield request.failed(problem)
            else:
                requests.append(request)
        limit = self._loaded.same_rope_tokens
        waiting = sorted(
            requests,
            key=lambda r: (r.need <= limit, -len(r.ids), r.prompt.max_new_tokens, r.prompt.request_id),
        )
        before = None  # the batch size before the first of those waiting was met
        while waiting and not should_stop():
            batch = waiting[: self._batch_size]
            if batch[0].need > self._loaded.same_rope_tokens:
                batch = batch[:1]  # its rotary frequencies would become those of the whole batch
            try:
                finished = self._answer(batch, settings, should_stop)
            except EngineError:
                raise
            except Exception as error:
                if not memory_error(error):
                    raise EngineError(f"generation failed: {type(error).__name__}: {error}") from error
                before = before or self._batch_size
                if self._shrink(batch):
                    continue
                self._batch_size = before  # a row that never fits says nothing of the others
                finished = [batch[0].out_of_memory()]
            before = None
            waiting = waiting[len(batch) :]
            yield from finished

    def _shrink(self, batch: Sequence[Request]) -> bool:
        """Free what can be freed and halve the batch, of later calls too; False where a row was alone."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return False
        self._batch_size = len(batch) // 2
        log.warning("out of memory with %d prompts at once; going on with %d", len(batch), self._batch_size)
        return True

    @torch.inference_mode()
    def _answer(
        self, batch: Sequence[Request], settings: GenerationSettings, should_stop: Callable[[], bool]
    ) -> list[Completion]:
        """Answer one batch; rows that were not finished when `should_stop` came are left out."""
        longest = max(len(request.ids) for request in batch)
        ids = torch.full((len(batch), longest), self._pad)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, longest - len(request.ids) :] = torch.tensor(request.ids)
            mask[row, longest - len(request.ids) :] = 1
        device = self._loaded.device
        grammars = self._grammars_for(batch)
        watch = _Watch(batch, self._loaded, settings, should_stop, grammars)
        self._loaded.model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max(request.prompt.max_new_tokens for request in batch),
            do_sample=False,
            pad_token_id=self._pad,
            eos_token_id=None,  # _Watch ends the rows
            logits_processor=transformers.LogitsProcessorList([watch.choose]),
            stopping_criteria=transformers.StoppingCriteriaList([watch.step]),
        )
        return watch.completions()


class _Watch:
    """Follows one `generate` call: chooses tokens, notices when each row ends, and times it."""

    def __init__(
        self,
        batch: Sequence[Request],
        loaded: LoadedModel,
        settings: GenerationSettings,
        should_stop: Callable[[], bool],
        grammars: Grammars | None,
    ) -> None:
        self._began_s = time.perf_counter()
        ends = loaded.eos_token_ids
        self._replies = [
            Reply(request, matcher_for(request, grammars, ends), self._began_s, len(batch))
            for request in batch
        ]
        self._grammars = grammars
        self._tokenizer = loaded.tokenizer
        self._ends = frozenset(ends)
        self._settings = settings
        self._should_stop = should_stop
        self._margins: list[float] = []
        self._finished: list[Completion | None] = [None] * len(batch)

    def choose(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Return scores whose argmax is each row's next token (a logits processor)."""
        chosen = token_scores(scores, self._replies, self._settings, self._grammars)
        self._margins = [margin for _, margin in best_tokens(chosen)]
        return chosen

    def step(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which rows are finished (a stopping criterion, called after every token)."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self._finished[row] is None:
                self._finished[row] = self._replies[row].follow(
                    token, self._margins[row], self._ends, self._tokenizer
                )
        if self._should_stop():
            return torch.ones(len(self._replies), dtype=torch.bool, device=input_ids.device)
        return torch.tensor([end is not None for end in self._finished], device=input_ids.device)

    def completions(self) -> list[Completion]:
        """Return the finished rows."""
        batch_ms = (time.perf_counter() - self._began_s) * 1000
        return [replace(done, batch_ms=batch_ms) for done in self._finished if done is not None]


def _padding(loaded: LoadedModel) -> int:
    """Return a token to pad with. It is masked, so any will do that the embedding has."""
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    wanted = (loaded.tokenizer.pad_token_id, *loaded.eos_token_ids)
    return next((token for token in wanted if token is not None and 0 <= token < rows), 0)


def determinism(loaded: LoadedModel) -> str:
    """Say in words what may move an answer on this device, dtype and quantization."""
    if loaded.dtype == torch.float32 and loaded.quantization == "none" and loaded.device.type == "cpu":
        return "near-exact: fp32 on the CPU; batch size may move ties closer than 1e-3"
    if loaded.quantization == "int8" and loaded.device.type == "cuda":
        return "batch-dependent: int8 on CUDA"
    return f"tolerant: {dtype_name(loaded.dtype)} rounding depends on the batch; near-ties may flip"
