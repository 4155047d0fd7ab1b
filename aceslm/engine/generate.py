"""The reference engine: transformers `generate`, left-padded, in batches sorted by length."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from aceslm.engine.base import EngineInfo, never
from aceslm.engine.devices import dtype_name, memory_error
from aceslm.engine.grammar import Grammars
from aceslm.engine.loading import LoadedModel
from aceslm.engine.prompting import Prompter
from aceslm.engine.sampling import penalised, sampling_scores
from aceslm.errors import EngineError
from aceslm.records import Completion, GenerationSettings, Prompt

log = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE = {"cpu": 8, "cuda": 32, "mps": 8}


@dataclass(frozen=True, slots=True)
class _Request:
    """An encoded prompt."""

    prompt: Prompt
    ids: list[int]


class GenerateEngine:
    """Left-padded batches through transformers `generate`; halves the batch when memory runs out."""

    def __init__(self, loaded: LoadedModel, batch_size: int | None = None, fraction: float = 1.0) -> None:
        self._model = loaded.model
        self._loaded = loaded
        self._prompter = Prompter(loaded.tokenizer, loaded.spec)
        usual = batch_size or DEFAULT_BATCH_SIZE.get(loaded.device.type, 8)
        self._batch_size = max(1, int(usual * fraction))
        ends = loaded.eos_token_ids
        pad = loaded.tokenizer.pad_token_id
        self._pad = pad if pad is not None else (ends[0] if ends else 0)
        self._grammars: Grammars | None = None
        self.info = EngineInfo(
            engine="generate",
            engine_effective="generate",
            device=str(loaded.device),
            dtype=dtype_name(loaded.dtype),
            quantization=loaded.quantization,
            context_window=loaded.context_window,
            load_s=loaded.load_s,
            footprint_bytes=loaded.footprint_bytes,
            determinism=_determinism(loaded),
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Completion]:
        """Yield completions batch by batch, the longest prompts first (memory trouble shows at once)."""
        requests = []
        for prompt in prompts:
            request = _Request(prompt, self._prompter.encode(prompt))
            if problem := self._too_long(request):
                yield Completion(
                    prompt.request_id,
                    "",
                    finish_reason="error",
                    error=problem,
                    prompt_tokens=len(request.ids),
                )
            else:
                requests.append(request)
        waiting = sorted(requests, key=lambda r: (-len(r.ids), r.prompt.max_new_tokens, r.prompt.request_id))
        size = self._batch_size
        while waiting and not should_stop():
            batch = waiting[:size]
            try:
                finished = self._answer(batch, settings, should_stop)
            except EngineError:
                raise
            except Exception as error:
                if not memory_error(error):
                    raise EngineError(f"generation failed: {type(error).__name__}: {error}") from error
                size = self._after_memory_error(batch, size)
                if size == 0:
                    size = 1
                    waiting = waiting[1:]
                    yield _out_of_memory(batch[0])
                continue
            waiting = waiting[len(batch) :]
            yield from finished

    def render(self, prompt: Prompt) -> str:
        """Return the exact text that the model sees."""
        return self._prompter.render(prompt)

    def count_tokens(self, text: str) -> int:
        """Return the length of a text in the model's own tokens."""
        return self._prompter.count_tokens(text)

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        self._loaded = None  # type: ignore[assignment]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _too_long(self, request: _Request) -> str | None:
        window = self.info.context_window
        needed = len(request.ids) + request.prompt.max_new_tokens
        if window is None or needed <= window:
            return None
        return (
            f"too long: {len(request.ids)} prompt tokens + {request.prompt.max_new_tokens} new tokens "
            f"do not fit the context window of {window}"
        )

    def _grammars_for(self, batch: Sequence[_Request]) -> Grammars | None:
        """Return the model's grammars, made for the first batch that needs them."""
        if self._grammars is None and any(request.prompt.json_schema for request in batch):
            width = self._model.config.get_text_config().vocab_size
            self._grammars = Grammars(self._loaded.tokenizer, width)
        return self._grammars

    def _after_memory_error(self, batch: Sequence[_Request], size: int) -> int:
        """Free what can be freed and return the next batch size; 0 when one row alone does not fit."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = min(size, len(batch)) // 2
        log.warning("out of memory with %d prompts at once; going on with %d", len(batch), max(smaller, 1))
        return smaller

    @torch.inference_mode()
    def _answer(
        self, batch: Sequence[_Request], settings: GenerationSettings, should_stop: Callable[[], bool]
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
        watch = _Watch(batch, longest, self._loaded, settings, should_stop, grammars)
        self._model.generate(
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
        batch: Sequence[_Request],
        prompt_length: int,
        loaded: LoadedModel,
        settings: GenerationSettings,
        should_stop: Callable[[], bool],
        grammars: Grammars | None,
    ) -> None:
        self._batch = batch
        self._grammars = grammars
        self._matchers = [
            grammars.matcher(request.prompt.json_schema, loaded.eos_token_ids)
            if grammars and request.prompt.json_schema
            else None
            for request in batch
        ]
        self._prompt_length = prompt_length
        self._tokenizer = loaded.tokenizer
        self._ends = set(loaded.eos_token_ids)
        self._settings = settings
        self._should_stop = should_stop
        self._began = time.perf_counter()
        self._first_ms: float | None = None
        self._tokens: list[list[int]] = [[] for _ in batch]
        self._ended: list[tuple[str, str, float] | None] = [None] * len(batch)

    def choose(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Return scores whose argmax is each row's next token (a logits processor)."""
        position = input_ids.shape[1] - self._prompt_length
        seen = (
            [
                torch.cat(
                    [torch.tensor(request.ids, device=scores.device), input_ids[row, self._prompt_length :]]
                )
                for row, request in enumerate(self._batch)
            ]
            if self._settings.repetition_penalty != 1.0
            else []
        )
        logits = penalised(scores, seen, self._settings.repetition_penalty)
        if self._grammars:
            logits = self._grammars.mask(logits, self._matchers)
        names = [request.prompt.request_id for request in self._batch]
        return sampling_scores(logits, names, [position] * len(names), self._settings)

    def step(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which rows are finished (a stopping criterion, called after every token)."""
        now_ms = (time.perf_counter() - self._began) * 1000
        if self._first_ms is None:
            self._first_ms = now_ms
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self._ended[row] is None:
                self._tokens[row].append(token)
                self._follow(row, token)
                self._ended[row] = self._end_of(row, token, now_ms)
        if self._should_stop():
            return torch.ones(len(self._batch), dtype=torch.bool, device=input_ids.device)
        return torch.tensor([end is not None for end in self._ended], device=input_ids.device)

    def completions(self) -> list[Completion]:
        """Return the finished rows."""
        batch_ms = (time.perf_counter() - self._began) * 1000
        prefill_ms = self._first_ms or 0.0
        finished = []
        for request, tokens, end in zip(self._batch, self._tokens, self._ended, strict=True):
            if end is None:
                continue
            reason, text, latency_ms = end
            finished.append(
                Completion(
                    request_id=request.prompt.request_id,
                    text=text,
                    token_ids=tuple(tokens),
                    finish_reason=reason,
                    prompt_tokens=len(request.ids),
                    output_tokens=len(tokens),
                    latency_ms=latency_ms,
                    ttft_ms=prefill_ms,
                    prefill_ms=prefill_ms,
                    decode_ms=latency_ms - prefill_ms,
                    batch_size=len(self._batch),
                    batch_ms=batch_ms,
                )
            )
        return finished

    def _follow(self, row: int, token: int) -> None:
        """Tell a row's grammar its token."""
        matcher = self._matchers[row]
        if matcher and not matcher.finished and not matcher.accept(token):
            request_id = self._batch[row].prompt.request_id
            raise EngineError(f"request {request_id}: the model's vocabulary cannot spell its JSON schema")

    def _end_of(self, row: int, token: int, now_ms: float) -> tuple[str, str, float] | None:
        """Return (reason, text, milliseconds) if this row ends with this token."""
        tokens = self._tokens[row]
        prompt = self._batch[row].prompt
        matcher = self._matchers[row]
        if (token in self._ends or (matcher and matcher.finished)) and not prompt.ignore_eos:
            return "stop", self._text(tokens[:-1] if token in self._ends else tokens), now_ms
        if prompt.stop:
            text = self._text(tokens)
            found = [text.find(stop) for stop in prompt.stop if stop in text]
            if found:
                return "stop", text[: min(found)], now_ms
        if len(tokens) >= prompt.max_new_tokens:
            return "length", self._text(tokens), now_ms
        return None

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _out_of_memory(request: _Request) -> Completion:
    return Completion(
        request.prompt.request_id,
        "",
        finish_reason="error",
        error=f"out of memory: {len(request.ids)} prompt tokens do not fit this device even alone",
        prompt_tokens=len(request.ids),
    )


def _determinism(loaded: LoadedModel) -> str:
    if loaded.dtype == torch.float32 and loaded.quantization == "none" and loaded.device.type == "cpu":
        return "near-exact: fp32 on the CPU; batch size may move ties closer than 1e-3"
    if loaded.quantization == "int8" and loaded.device.type == "cuda":
        return "batch-dependent: int8 on CUDA"
    return f"tolerant: {dtype_name(loaded.dtype)} rounding depends on the batch; near-ties may flip"
