"""transformers' continuous batching (`generate_batch`) behind the engine protocol: a peer for the benchmark.

Not for runs: it ignores stop strings, and a prompt that does not fit fails every other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import transformers

from aceslm.core.engine import EngineCounters, EngineInfo, never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.devices import dtype_name
from aceslm.engine.loading import LoadedModel
from aceslm.engine.model_engine import ModelEngine


class ContinuousEngine(ModelEngine):
    """`generate_batch` over all prompts at once; greedy only."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded)
        self.info = EngineInfo(
            engine="continuous",
            engine_effective="continuous",
            device=str(loaded.device),
            dtype=dtype_name(loaded.dtype),
            quantization=loaded.quantization,
            context_window=loaded.context_window,
            load_s=loaded.load_s,
            footprint_bytes=loaded.footprint_bytes,
            determinism="batch-dependent: rows are packed with whatever else is waiting",
        )

    @property
    def counters(self) -> EngineCounters:
        """Nothing is shared, nothing given up."""
        return EngineCounters()

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Completion]:
        """Yield completions as they finish; `should_stop` is asked between them.

        Raises:
            EngineError: a temperature above 0, or generation ended early.
        """
        if settings.temperature:
            raise EngineError("continuous batching is timed under greedy decoding only")
        for completion in self._answer(prompts):
            if should_stop():
                return
            yield completion

    def _answer(self, prompts: Sequence[Prompt]) -> Iterator[Completion]:
        """Hand all prompts to a manager, each with its own limit, and collect until all are answered."""
        config = transformers.GenerationConfig(
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=self._loaded.eos_token_ids[0] if self._loaded.eos_token_ids else 0,
        )
        waiting: dict[str, Prompt] = {}
        with self._loaded.model.continuous_batching_context_manager(
            generation_config=config, block=True
        ) as manager:
            for prompt in prompts:
                name = manager.add_request(
                    self._prompter.encode(prompt),
                    max_new_tokens=prompt.max_new_tokens,
                    eos_token_id=-1 if prompt.ignore_eos else list(self._loaded.eos_token_ids),
                )
                waiting[name] = prompt
            while waiting:
                output = manager.get_result(timeout=1)
                if output is not None and output.is_finished():
                    yield self._completion(waiting.pop(output.request_id), output)
                elif output is None and not manager.is_running():
                    raise EngineError(f"continuous batching ended with {len(waiting)} prompts unanswered")

    def _completion(self, prompt: Prompt, output: Any) -> Completion:
        tokens = tuple(output.generated_tokens)
        return Completion(
            request_id=prompt.request_id,
            text=str(self._loaded.tokenizer.decode(tokens, skip_special_tokens=True)),
            token_ids=tokens,
            finish_reason="length" if len(tokens) >= prompt.max_new_tokens else "stop",
            error=output.error,
            prompt_tokens=len(output.prompt_ids),
            output_tokens=len(tokens),
        )
