"""What every engine with a loaded model does alike: text in, token counts, grammars, memory back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aceslm.core.prompts import Prompt
from aceslm.engine.chat_template import Prompter
from aceslm.engine.grammar.masks import Grammars
from aceslm.engine.loading import LoadedModel
from aceslm.engine.requests import Request


class ModelEngine:
    """A loaded model with its tokenizer; engines derive from it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._prompter = Prompter(loaded.tokenizer, loaded.spec)
        self._grammars: Grammars | None = None

    def render(self, prompt: Prompt) -> str:
        """Return the exact text that the model sees."""
        return self._prompter.render(prompt)

    def count_tokens(self, text: str) -> int:
        """Return the length of a text in the model's own tokens."""
        return self._prompter.count_tokens(text)

    def close(self) -> None:
        """Free the model's memory."""
        self._loaded = None  # type: ignore[assignment]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _grammars_for(self, requests: Sequence[Request]) -> Grammars | None:
        """Return the model's grammars, made for the first requests that need them."""
        if self._grammars is None and any(request.prompt.json_schema for request in requests):
            width = self._loaded.model.config.get_text_config().vocab_size
            self._grammars = Grammars(self._loaded.tokenizer, width)
        return self._grammars
