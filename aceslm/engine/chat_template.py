"""Messages -> text -> token ids: the model's chat template, one BOS, no smuggled control tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import ModelSpec

_NEUTRAL = "x"
_INSTRUCTION = "Answer in 17 words."
_BLANK = " \t\r\n\v\f\u00a0\u2581"  # \u2581 is how SentencePiece writes a blank
_JOINER = "\u2060"  # word joiner: invisible, and breaks a control token's text apart


@dataclass(frozen=True)
class Prompter:
    """Renders and encodes prompts for one tokenizer."""

    tokenizer: Any
    spec: ModelSpec

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model sees, control tokens of the template included."""
        return self._render(tuple(self._neutral(message) for message in prompt.messages))

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt, with exactly one BOS where the model has one."""
        text = self.render(prompt)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        if self._adds_bos and (not ids or ids[0] != bos):
            ids = [bos, *ids]
        return ids

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _adds_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        if bos is None or self._has_template:
            return False
        return bool(bos in self.tokenizer(_NEUTRAL)["input_ids"])

    @cached_property
    def _has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def _control_texts(self) -> tuple[str, ...]:
        """Return the texts of all control tokens, longest first.

        Many vocabularies add runs of blanks and line ends (Gemma, Phi-2): these control nothing.
        """
        tokens = set(self.tokenizer.all_special_tokens)
        tokens |= {str(token) for token in self.tokenizer.get_added_vocab()}
        return tuple(
            sorted((token for token in tokens if len(token.strip(_BLANK)) > 1), key=len, reverse=True)
        )

    def _neutral(self, message: Message) -> Message:
        """Break the text of control tokens inside a message, so that they are encoded as text."""
        content = message.content
        for token in self._control_texts:
            if token in content:
                content = content.replace(token, token[0] + _JOINER + token[1:])
        return Message(message.role, content)

    def _render(self, messages: tuple[Message, ...]) -> str:
        if not self._has_template:
            return "\n\n".join(message.content for message in messages) + "\n\nAnswer:"
        chat = [{"role": message.role, "content": message.content} for message in messages]
        if chat[0]["role"] == "system" and len(chat) > 1 and not self._takes_system:
            first = {"role": "user", "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}
            chat = [first, *chat[2:]]
        return self._apply(chat)

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the template shows a system message; some refuse it, some leave it out without a word.

        It then opens the first user message.
        """
        chat = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": _NEUTRAL}]
        try:
            return _INSTRUCTION in self._apply(chat)
        except Exception:  # templates are programs: they fail in any way
            return False

    def _apply(self, chat: list[dict[str, str]]) -> str:
        text = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, **self.spec.chat_template_args
        )
        return str(text)
