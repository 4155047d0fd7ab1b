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

from aceslm.core.errors import EngineError
from aceslm.core.machine import available_cores
from aceslm.engine.grammar.bounded_schema import check_bounded
from aceslm.engine.grammar.position import Position, bounded_strings

# the allowed tokens of a place in a schema, one bit a token
Known = dict[str, torch.Tensor]

_KEPT_PLACES = 4096  # of a schema; 6 kB each with 49,152 tokens
_KEPT_SCHEMAS = 64  # one takes about 2 MB per 100 characters of strings
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
_CONTROL = re.compile(rb"[\x00-\x1f]")


class Matcher:
    """Follows one reply through its grammar."""

    def __init__(self, inner: Any, texts: Sequence[bytes], known: Known, place: Position) -> None:
        self._inner = inner
        self._texts = texts
        self._place = place
        self.known = known
        self.may_be_surrogate = False

    @property
    def place(self) -> str | None:
        """Where the reply stands, as a key of `known`; None where that is not known."""
        return self._place.key

    def accept(self, token: int) -> bool:
        """Take the chosen token; False (and no change) if the grammar does not allow it here."""
        if self.finished or not self._inner.accept_token(token):
            return False
        text = self._texts[token]
        self.may_be_surrogate = text.endswith(b"\xed")
        self._place.take(text)
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
        self._texts = _texts(xgrammar, tokenizer, vocab_size)
        info = xgrammar.TokenizerInfo(
            self._texts, vocab_type=xgrammar.VocabType.RAW, vocab_size=vocab_size, stop_token_ids=[]
        )
        cores = available_cores()
        # With its own cache on, 0.2.8 fails on a schema that has two different patterns.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=cores, cache_enabled=False)
        self._compiled: dict[str, Any] = {}
        self._strings: dict[str, frozenset[str]] = {}
        self._known: dict[tuple[str, tuple[int, ...]], Known] = {}
        self._filler = xgrammar.BatchGrammarMatcher(max_threads=cores)
        # UTF-8 has no surrogates (RFC 3629), but xgrammar 0.2.8 takes their bytes; decoded, each would become
        # three replacement characters. ED is harmless unless A0 to BF follows.
        high = torch.tensor([text[:1] >= b"\xa0" for text in self._texts])
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
        known = self._known.setdefault((json_schema, tuple(ends)), {})
        return Matcher(inner, self._texts, known, Position(self._strings[json_schema]))

    def _compile(self, json_schema: str) -> Any:
        """Return a schema's compiled grammar, kept since its first use."""
        if json_schema not in self._compiled:
            check_bounded(json_schema)
            if len(self._compiled) >= _KEPT_SCHEMAS:
                oldest = next(iter(self._compiled))
                del self._compiled[oldest], self._strings[oldest]
                self._known = {key: known for key, known in self._known.items() if key[0] != oldest}
            try:
                self._compiled[json_schema] = self._compiler.compile_json_schema(
                    json_schema, any_whitespace=False, separators=(",", ":")
                )
            except RuntimeError as error:
                reason = re.sub(r"^\[.*?\] \S+: ", "", str(error)).strip().splitlines()[0]
                raise EngineError(f"JSON schema: {reason}") from None
            self._strings[json_schema] = bounded_strings(json_schema)
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
        places = [matcher.place for matcher in matchers]
        self._find(matchers, places)
        bits = torch.empty((len(matchers), len(self._not_high)), dtype=torch.int32)
        unknown = []
        for row, (matcher, place) in enumerate(zip(matchers, places, strict=True)):
            if place is None:
                unknown.append(row)
            else:
                bits[row] = matcher.known[place]
        for matcher in matchers:
            while len(matcher.known) > _KEPT_PLACES:
                del matcher.known[next(iter(matcher.known))]
        if unknown:
            bits[unknown] = self._filled([matchers[row] for row in unknown])
        for row, matcher in enumerate(matchers):
            if matcher.may_be_surrogate:
                bits[row] &= self._not_high
        return bits

    def _find(self, matchers: Sequence[Matcher], places: Sequence[str | None]) -> None:
        """Ask the grammar about each place that no reply has been at before."""
        new = {
            (id(matcher.known), place): matcher
            for matcher, place in zip(matchers, places, strict=True)
            if place is not None and place not in matcher.known
        }
        if not new:
            return
        for ((_, place), matcher), words in zip(new.items(), self._filled(list(new.values())), strict=True):
            matcher.known[place] = words.clone()

    def _filled(self, matchers: Sequence[Matcher]) -> torch.Tensor:
        bits = torch.empty((len(matchers), len(self._not_high)), dtype=torch.int32)
        self._filler.batch_fill_next_token_bitmask([matcher._inner for matcher in matchers], bits)
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
