"""Replies that are JSON of a given schema: before each choice, tokens that would break it get -inf.

grammars = Grammars(tokenizer, vocab_size)                    # once per model
matcher = grammars.matcher(prompt.json_schema, end_tokens)    # one per row: it follows that row's tokens
masked = grammars.mask(logits, [matcher, None])               # None: a row without a schema
matcher.accept(token)

The mask comes after the repetition penalty and before temperature, top-k, top-p and min-p, so that those
count legal tokens only. The JSON is compact (no blanks between its parts: a model must not spend its budget
on them) and its keys stand in the schema's order. A string bounded by `maxLength` holds no escapes, hence no
quotation mark, backslash or line end; one bounded by a `pattern` may.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import torch

from aceslm.engine.devices import available_cores
from aceslm.engine.schema import check_bounded
from aceslm.errors import EngineError

_KEPT_SCHEMAS = 64  # one takes about 2 MB per 100 characters of strings
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
_CONTROL = re.compile(rb"[\x00-\x1f]")


class Matcher:
    """Follows one reply through its grammar."""

    def __init__(self, inner: Any, surrogate_starts: frozenset[int]) -> None:
        self._inner = inner
        self._surrogate_starts = surrogate_starts
        self.may_be_surrogate = False

    def accept(self, token: int) -> bool:
        """Take the chosen token; False (and no change) if the grammar does not allow it here."""
        if self.finished or not self._inner.accept_token(token):
            return False
        self.may_be_surrogate = token in self._surrogate_starts
        return True

    @property
    def finished(self) -> bool:
        """Whether an end token came after the JSON; without end tokens, whether the JSON is complete."""
        return bool(self._inner.is_terminated())


class Grammars:
    """The schemas of one model, compiled when first used (1 to 3 s each) and kept.

    Args:
        tokenizer: a transformers tokenizer.
        vocab_size: width of the model's logits; rows beyond the tokenizer's vocabulary are never allowed.
    """

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        xgrammar = _xgrammar()
        self._vocab_size = vocab_size
        texts = _texts(xgrammar, tokenizer, vocab_size)
        info = xgrammar.TokenizerInfo(
            texts, vocab_type=xgrammar.VocabType.RAW, vocab_size=vocab_size, stop_token_ids=[]
        )
        cores = available_cores()
        # With its own cache on, 0.2.8 fails on a schema that has two different patterns.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=cores, cache_enabled=False)
        self._compiled: dict[str, Any] = {}
        self._filler = xgrammar.BatchGrammarMatcher(max_threads=cores)
        # UTF-8 has no surrogates (RFC 3629), but xgrammar 0.2.8 takes their bytes; decoded, each would become
        # three replacement characters. ED is harmless unless A0 to BF follows.
        self._surrogate_starts = frozenset(
            token for token, text in enumerate(texts) if text.endswith(b"\xed")
        )
        high = torch.tensor([text[:1] >= b"\xa0" for text in texts])
        self._not_high = _pack(~high)

    def matcher(self, json_schema: str, end_tokens: Sequence[int]) -> Matcher:
        """Return a matcher for one reply.

        Args:
            json_schema: JSON text; see `check_bounded` for what it may hold.
            end_tokens: allowed as soon as, and only when, the JSON is complete. Without any, the reply is
                finished when its JSON is.

        Raises:
            EngineError: the schema is not JSON, has no bound somewhere, or does not compile.
        """
        compiled = self._compile(json_schema)
        xgrammar = _xgrammar()
        ends = [token for token in end_tokens if token < self._vocab_size]
        inner = xgrammar.GrammarMatcher(
            compiled, override_stop_tokens=ends or None, terminate_without_stop_token=not ends
        )
        return Matcher(inner, self._surrogate_starts)

    def _compile(self, json_schema: str) -> Any:
        """Return a schema's compiled grammar, kept since its first use."""
        if json_schema not in self._compiled:
            check_bounded(json_schema)
            if len(self._compiled) >= _KEPT_SCHEMAS:
                self._compiled.pop(next(iter(self._compiled)))
            try:
                self._compiled[json_schema] = self._compiler.compile_json_schema(
                    json_schema, any_whitespace=False, separators=(",", ":")
                )
            except RuntimeError as error:
                reason = re.sub(r"^\[.*?\] \S+: ", "", str(error)).strip().splitlines()[0]
                raise EngineError(f"JSON schema: {reason}") from None
        return self._compiled[json_schema]

    def mask(self, logits: torch.Tensor, matchers: Sequence[Matcher | None]) -> torch.Tensor:
        """Return logits with -inf for every token that a row's grammar does not allow next.

        Rows without a matcher, or whose matcher is finished, keep their bits. The result is a new tensor;
        where no row is constrained, it is `logits` itself.

        Args:
            logits: (rows, vocabulary), on any device; matchers: one a row.
        """
        rows = [row for row, matcher in enumerate(matchers) if matcher is not None and not matcher.finished]
        if not rows:
            return logits
        if logits.shape != (len(matchers), self._vocab_size):
            raise EngineError(
                f"a grammar for {len(matchers)} rows x {self._vocab_size} tokens "
                f"got logits of shape {tuple(logits.shape)}"
            )
        bits = self._allowed([matcher for matcher in matchers if matcher and not matcher.finished])
        result = logits.clone(memory_format=torch.contiguous_format)
        if logits.device.type == "cpu":
            full = torch.full((len(matchers), bits.shape[1]), -1, dtype=torch.int32)
            full[rows] = bits
            _xgrammar().apply_token_bitmask_inplace(result, full, vocab_size=self._vocab_size, indices=rows)
            return result
        # xgrammar's own kernel for CUDA compiles C at first use, and a compute node may have no compiler
        allowed = _unpack(bits.to(logits.device))[:, : self._vocab_size]
        where = torch.tensor(rows, device=logits.device)
        result[where] = result[where].masked_fill(~allowed, -torch.inf)
        return result

    def _allowed(self, matchers: Sequence[Matcher]) -> torch.Tensor:
        """Return (matchers, vocabulary / 32) words, one bit a token."""
        bits = torch.empty((len(matchers), len(self._not_high)), dtype=torch.int32)
        self._filler.batch_fill_next_token_bitmask([matcher._inner for matcher in matchers], bits)
        for row, matcher in enumerate(matchers):
            if matcher.may_be_surrogate:
                bits[row] &= self._not_high
        return bits


def _xgrammar() -> Any:
    # With older torch its foreign-function layer would compile a C++ extension at import, which only saves
    # microseconds; compute nodes often have neither compiler nor a writable home.
    os.environ.setdefault("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")
    import xgrammar

    return xgrammar


def _texts(xgrammar: Any, tokenizer: Any, vocab_size: int) -> list[bytes]:
    """Return each token's bytes; empty (never allowed) for tokens that cannot stand in compact JSON.

    xgrammar 0.2.8 takes control tokens for their text (`<|im_start|>` inside a string, which decoding then
    drops) and allows raw control characters in strings with `maxLength` (which JSON forbids).
    """
    known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size, stop_token_ids=[0])
    texts = [bytes(text) for text in known.decoded_vocab]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special |= set(tokenizer.all_special_ids)
    return [
        b"" if token in special or _CONTROL.search(text) or _SURROGATE.search(text) else text
        for token, text in enumerate(texts)
    ]


def _pack(allowed: torch.Tensor) -> torch.Tensor:
    """Return (vocabulary,) booleans as 32-bit words, the first token in the lowest bit."""
    padded = torch.nn.functional.pad(allowed, (0, -len(allowed) % 32)).view(-1, 32)
    return (padded.to(torch.int64) << torch.arange(32)).sum(dim=1).to(torch.int32)


def _unpack(words: torch.Tensor) -> torch.Tensor:
    """Return (rows, 32 x words) booleans."""
    shifts = torch.arange(32, dtype=torch.int32, device=words.device)
    return ((words.unsqueeze(-1) >> shifts) & 1).bool().flatten(1)
