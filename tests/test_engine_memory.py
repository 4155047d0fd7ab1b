"""Memory of the shared-prefix engine: a prefix is held once, and running out of memory loses nothing."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import pytest
import torch
from near_ties import GREEDY
from tinies import LONG, OTHER, Tinies, answers, ask, check_all, mixed_prompts

from aceslm.core.engine import never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Prompt
from aceslm.engine import load_engine, shared_prefix
from aceslm.engine.attention.kv_cache import KVStore, SlotCache
from aceslm.models.registry import resolve_model

pytestmark = pytest.mark.usefixtures("one_core")

TOKEN_BYTES = 2 * 2 * 2 * 12 * 4  # llama of tiny_models: layers x (keys, values) x heads x dim x float32
PREFIX = LONG * 2


@pytest.fixture(autouse=True)
def small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the short prefixes of tiny models be worth a node."""
    monkeypatch.setattr(shared_prefix, "MIN_SAVED_TOKENS", 8)


def behind_one_prefix(rows: int, new: int = 4) -> list[Prompt]:
    return [
        ask(f"{PREFIX}{row % 10}{row // 10} ?", f"p{row}", new=new, ignore_eos=True) for row in range(rows)
    ]


def shared_tokens(tinies: Tinies, prompts: Sequence[Prompt]) -> int:
    ids = [tinies("llama").reference.encode(prompt) for prompt in prompts]
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False)))


# ---- a prefix once


class Held:
    """All stores and slot caches made since, and the most bytes that their tensors took together."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        self.peak = {KVStore: 0, SlotCache: 0}
        for kind in self.peak:
            self._watch(kind, patch)

    def _watch(self, kind: type[Any], patch: pytest.MonkeyPatch) -> None:
        real = kind.__init__

        def make(held: Any, *args: Any, **options: Any) -> None:
            real(held, *args, **options)
            self.made.append(held)

        patch.setattr(kind, "__init__", make)

    def look(self) -> None:
        for kind in self.peak:
            now = sum(one.nbytes for one in self.made if isinstance(one, kind))
            self.peak[kind] = max(self.peak[kind], now)


def peaks(tinies: Tinies, prompts: Sequence[Prompt]) -> tuple[int, int]:
    """Return the bytes of prefixes and of slots that a fresh engine took, all prompts in flight at once."""
    tiny = tinies("llama")
    engine = tiny.engine(rows=64)
    with pytest.MonkeyPatch.context() as patch:
        held = Held(patch)

        def stop() -> bool:
            held.look()
            return False

        found = list(engine.generate(prompts, GREEDY, stop))
    assert len(found) == len(prompts)
    assert {one.batch_size for one in found} == {len(prompts)}
    return held.peak[KVStore], held.peak[SlotCache]


def test_the_keys_and_values_of_a_prefix_exist_once_however_many_rows_read_it(tinies: Tinies) -> None:
    few, many = behind_one_prefix(10), behind_one_prefix(40)
    prefix_few, slots_few = peaks(tinies, few)
    prefix_many, slots_many = peaks(tinies, many)
    assert shared_tokens(tinies, few) > 60
    assert prefix_few == shared_tokens(tinies, few) * TOKEN_BYTES
    assert shared_tokens(tinies, many) * TOKEN_BYTES <= prefix_many <= prefix_few + 8 * TOKEN_BYTES
    assert slots_few == 10 * 32 * TOKEN_BYTES  # a slot is rounded up to 32 tokens
    assert slots_many == 40 * 32 * TOKEN_BYTES


def stores_alive() -> int:
    return sum(type(one) is KVStore for one in gc.get_objects())


@pytest.mark.slow
def test_tables_below_a_playbook_are_dropped_with_their_last_row_and_the_playbook_is_kept(
    tinies: Tinies,
) -> None:
    tiny = tinies("llama")
    engine = tiny.engine(rows=4)
    tables = [OTHER[:40] + word for word in ("1 1 1 1 1", "2 2 2 2 2", "3 3 3 3 3")]
    prompts = [
        ask(f"{LONG}{table}{row} ?", f"t{number}-{row}", new=3)
        for number, table in enumerate(tables)
        for row in range(4)
    ]
    gc.collect()
    before, alive = stores_alive(), []

    def stop() -> bool:
        alive.append(stores_alive() - before)
        return False

    assert len(list(engine.generate(prompts, GREEDY, stop))) == len(prompts)
    assert max(alive) == 2  # the playbook and the table whose rows are in flight
    ids = [tiny.reference.encode(prompt) for prompt in prompts]
    (root,) = engine._roots
    assert all(root == one[: len(root)] for one in ids)
    (block,) = engine._roots.values()
    assert block.store.nbytes == len(root) * TOKEN_BYTES


# ---- out of memory

Forward = Callable[..., Any]


def tight_memory(engine: Any, patch: pytest.MonkeyPatch, fails: Callable[[int, int], bool]) -> list[int]:
    """Let forward passes fail where `fails(call number, tokens)`; return the tokens of every call."""
    model = engine._loaded.model
    real: Forward = model.forward
    sizes: list[int] = []

    def forward(input_ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(input_ids.numel())
        if fails(len(sizes), input_ids.numel()):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(input_ids=input_ids, **options)

    patch.setattr(model, "forward", forward)
    return sizes


@pytest.mark.parametrize("failing", [1, 2, 3, 5, 9])
def test_a_passing_lack_of_memory_at_any_moment_halves_the_budget_and_loses_nothing(
    tinies: Tinies, failing: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = tinies("llama")
    prompts = [*behind_one_prefix(6), *mixed_prompts()]
    engine = tiny.engine(rows=8)
    sizes = tight_memory(engine, monkeypatch, lambda call, _: call == failing)
    with caplog.at_level(logging.WARNING, "aceslm"):
        check_all(tiny, engine, prompts)
    assert len(sizes) > failing
    assert engine.counters.token_budget_fraction == 0.5
    said = [record.getMessage() for record in caplog.records]
    assert said == ["out of memory: going on with 0.5 of the token budget"]


@pytest.mark.parametrize("room", [16, 40, 64])
def test_a_lasting_lack_of_memory_halves_the_budget_until_the_passes_fit(
    tinies: Tinies, room: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = tinies("llama")
    prompts = [ask(f"1 2 3 {row} normal", f"s{row}", new=6) for row in range(24)]
    undisturbed = answers(tiny.engine(rows=24), prompts)
    engine = tiny.engine(rows=24)
    sizes = tight_memory(engine, monkeypatch, lambda _, tokens: tokens > room)
    with caplog.at_level(logging.WARNING, "aceslm"):
        found = check_all(tiny, engine, prompts)
    assert [found[name].token_ids for name in undisturbed] == [one.token_ids for one in undisturbed.values()]
    assert max(sizes) > room
    halvings = len(caplog.records)
    assert halvings >= 1
    assert engine.counters.token_budget_fraction == 0.5**halvings
    before = list(sizes)
    check_all(tiny, engine, prompts)  # the next call begins where this one ended
    assert max(sizes[len(before) :]) <= room


def test_a_row_that_never_fits_is_an_error_row_and_the_others_are_answered(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tinies("llama")
    huge = ask("normal anomalous " * 16, "huge", new=4)
    small = [ask(f"{row} normal", f"s{row}", new=5) for row in range(5)]
    engine = tiny.engine(rows=4)
    size = len(tiny.reference.encode(huge))
    assert size > 50
    tight_memory(engine, monkeypatch, lambda _, tokens: tokens > 50)
    found: dict[str, Completion] = {
        one.request_id: one for one in engine.generate([*small[:2], huge, *small[2:]], GREEDY, never)
    }
    assert set(found) == {"huge", *(prompt.request_id for prompt in small)}
    assert found["huge"].finish_reason == "error"
    assert found["huge"].error == f"out of memory: {size} prompt tokens do not fit this device even alone"
    assert found["huge"].prompt_tokens == size
    assert all(tiny.reference.check(prompt, found[prompt.request_id]) for prompt in small)


def test_where_nothing_fits_every_row_says_so_and_the_call_ends(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tinies("llama")
    engine = tiny.engine(rows=4)
    tight_memory(engine, monkeypatch, lambda *_: True)
    found = answers(engine, [*behind_one_prefix(3), ask("x", "alone")])
    assert all("out of memory" in (one.error or "") for one in found.values())


def test_any_other_failure_breaks_the_run_and_is_named(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tinies("llama").engine(rows=4)

    def broken(**_: Any) -> None:
        raise ValueError("bad weights")

    monkeypatch.setattr(engine._loaded.model, "forward", broken)
    with pytest.raises(EngineError, match="generation failed: ValueError: bad weights"):
        answers(engine, mixed_prompts())


def test_an_attempt_after_one_that_ran_out_of_memory_starts_with_its_part_of_the_budget(
    tinies: Tinies,
) -> None:
    tiny = tinies("llama")
    engine = load_engine(
        resolve_model(str(tiny.folder)), dtype="float32", device="cpu", batch_size=8, batch_fraction=0.25
    )
    found = check_all(tiny, engine, behind_one_prefix(8))
    assert {one.batch_size for one in found.values()} <= {1, 2}
