"""The engine that computes a shared prefix once answers what transformers `generate` answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from near_ties import GREEDY, NEAR_TIE
from tinies import ENGINE, LONG, OTHER, Tinies, answers, ask, check_all, mixed_prompts
from tiny_models import FAMILIES, WORDS

from aceslm.core.engine import never
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine import shared_prefix
from aceslm.engine.model_runner import Fill, PackedModel
from aceslm.engine.prefix_tree import MIN_SAVED_TOKENS, prefix_tree

# every test here holds for any engine: "generate" must pass too (tinies.ENGINE), but for margins
pytestmark = pytest.mark.usefixtures("one_core", "small_nodes")

CONTEXT_WINDOW = 256
SMALL = 8
WORD = [word for line in WORDS for word in line.split()]


@pytest.fixture(scope="module")
def small_nodes() -> Iterator[None]:
    """Let the short prefixes of tiny models be worth a node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_prefix, "MIN_SAVED_TOKENS", SMALL)
        yield


# ---- every architecture


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_equal_transformers_generate(tinies: Tinies, name: str) -> None:
    tiny = tinies(name)
    found = check_all(tiny, tiny.engine(rows=5), mixed_prompts())
    assert {one.finish_reason for one in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tiny_models_say_different_things_after_different_prefixes(tinies: Tinies, name: str) -> None:
    reference = tinies(name).reference
    assert len({reference.endless(prompt)[:5] for prompt in mixed_prompts()}) >= 9
    # behind the window of a sliding family nothing is heard: change the words just before the question
    ends = ["1 2 ?", "normal", "A B C", "option 5"]
    near, far = (
        [reference.endless(ask(LONG + word + end)) for end in ends] for word in ("gross ", "letter ")
    )
    assert near != far


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.shares])
def test_the_families_of_the_registry_are_driven_and_not_left_to_generate(tinies: Tinies, name: str) -> None:
    info = tinies(name).engine(rows=4).info
    assert (info.engine, info.engine_effective) == (ENGINE, ENGINE)


def test_an_architecture_with_linear_biases_is_left_to_generate(tinies: Tinies) -> None:
    info = tinies("bloom").engine(rows=4).info
    assert (info.engine, info.engine_effective) == (ENGINE, "generate")


# ---- every shape of a batch


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Prompt], int, int]:
    """Prompts in any order over groups of prefixes (nested or not, or none), rows at once, where to cut."""
    words = st.lists(st.sampled_from(WORD), max_size=40)
    groups = [" ".join(draw(words)) for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        groups.append(groups[0] + " ".join(draw(words)))
    prompts = []
    for number in range(draw(st.integers(1, 7))):
        own = " ".join(draw(st.lists(st.sampled_from(WORD), min_size=1, max_size=12)))
        text = draw(st.sampled_from(groups)) + draw(st.sampled_from(["", " ", " " + own])) or own
        prompts.append(ask(text, f"r{number}", new=draw(st.integers(1, 7)), ignore_eos=draw(st.booleans())))
    return prompts, draw(st.integers(1, 9)), draw(st.integers(0, len(prompts)))


@pytest.mark.parametrize("min_saved", [SMALL, MIN_SAVED_TOKENS])
@pytest.mark.parametrize("name", ["llama", "mistral-sliding", "gemma3"])
@given(batch=batches(), stop_at=st.integers(0, 9), stop_length=st.integers(1, 3))
@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
def test_no_batch_order_prefix_limit_or_stop_changes_an_answer(
    tinies: Tinies,
    name: str,
    min_saved: int,
    batch: tuple[list[Prompt], int, int],
    stop_at: int,
    stop_length: int,
) -> None:
    tiny = tinies(name)
    prompts, rows, cut = batch
    said = tiny.reference.text(tiny.reference.endless(prompts[0]))
    if stop := said[stop_at : stop_at + stop_length]:  # what a row really says, for every second one
        prompts = [
            replace(one, stop=(stop, "never said")) if n % 2 == 0 else one for n, one in enumerate(prompts)
        ]
    engine = tiny.engine(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_prefix, "MIN_SAVED_TOKENS", min_saved)
        check_all(tiny, engine, prompts[:cut])
        check_all(tiny, engine, prompts[cut:])  # what the first call left behind must not show


def prefilled_tokens(engine: Any, prompts: Sequence[Prompt], patch: pytest.MonkeyPatch) -> int:
    """Return how many tokens a call of an engine prefills."""
    counted = 0
    real = PackedModel.prefill

    def prefill(packed: PackedModel, fills: Sequence[Fill]) -> Any:
        nonlocal counted
        counted += sum(len(fill.tokens) for fill in fills)
        return real(packed, fills)

    with patch.context() as counting:
        counting.setattr(PackedModel, "prefill", prefill)
        answers(engine, prompts)
    return counted


def test_a_playbook_is_prefilled_once_and_used_again_by_the_next_calls(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tinies("llama")
    engine = tiny.engine(rows=4)
    prompts = [ask(LONG + word, f"a{n}", new=3) for n, word in enumerate(["1 2", "normal", "A ?", "x"])]
    more = [ask(LONG + word, f"b{n}", new=3) for n, word in enumerate(["3 4", "gross", "B ?"])]
    sizes = {one.request_id: len(tiny.reference.encode(one)) for one in [*prompts, *more]}
    first = prefilled_tokens(engine, prompts, monkeypatch)
    (root,) = engine._roots
    own = sum(sizes[one.request_id] - len(root) for one in prompts)
    assert first == len(root) + own < sum(sizes[one.request_id] for one in prompts) / 2
    spent_s = engine.counters.shared_prefill_s
    assert spent_s > 0
    own = sum(sizes[one.request_id] - len(root) for one in more)
    assert prefilled_tokens(engine, more, monkeypatch) == own
    alone = ask(LONG + "letter", "alone", new=3)
    assert prefilled_tokens(engine, [alone], monkeypatch) == len(tiny.reference.encode(alone)) - len(root)
    assert engine.counters.shared_prefill_s < 1.1 * spent_s
    check_all(tiny, engine, [*more, *prompts])


def test_a_playbook_and_the_tables_below_it_are_each_prefilled_once(
    tinies: Tinies, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tinies("gemma3")
    prompts = [
        ask(f"{LONG}{table}{question} ?", f"{table[:3]}{question}", new=4)
        for table in (OTHER[:60], "profit " * 6, "C A C A C A 8 ")
        for question in (1, 2, 3, 4)
    ]
    engine = tiny.engine(rows=3)
    tree = prefix_tree([tiny.reference.encode(prompt) for prompt in prompts], (), SMALL)
    assert {len(tree.path(prompt)) for prompt in range(len(prompts))} == {2}
    own = sum(len(tiny.reference.encode(one)) - tree.shared(n) for n, one in enumerate(prompts))
    nodes = sum(node.stop - node.start for node in tree.nodes)
    assert prefilled_tokens(engine, prompts, monkeypatch) == own + nodes
    check_all(tiny, tiny.engine(rows=3), prompts)
    check_all(tiny, engine, prompts[::-1])


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_one_prompt_asked_many_times_and_a_prompt_inside_another_are_answered(
    tinies: Tinies, rows: int
) -> None:
    tiny = tinies("llama")
    texts = ["x", "x", LONG, LONG, LONG, LONG + "1 2 3", LONG + "1 2 3 normal", "xx", "1"]
    check_all(tiny, tiny.engine(rows), [ask(text, f"d{n}", new=6) for n, text in enumerate(texts)])


def test_no_prompts_give_no_completions(tinies: Tinies) -> None:
    assert answers(tinies("llama").engine(rows=4), []) == {}


def test_a_row_that_fills_the_context_window_to_its_last_token_is_answered(tinies: Tinies) -> None:
    for name in ("llama", "gpt2"):
        tiny = tinies(name)
        text = "\n" * 400
        while len(tiny.reference.encode(ask(text))) > CONTEXT_WINDOW - 7:
            text = text[1:]
        size = len(tiny.reference.encode(ask(text)))
        prompts = [
            ask(text, "full", new=CONTEXT_WINDOW - size, ignore_eos=True),
            ask(text, "over", new=CONTEXT_WINDOW - size + 1),
            ask(text[:30], "short", new=8),
        ]
        found = answers(tiny.engine(rows=3), prompts)
        assert found["over"].finish_reason == "error"
        assert all(tiny.reference.check(prompt, found[prompt.request_id]) for prompt in prompts[::2])


def test_a_prompt_beyond_the_context_window_is_an_error_and_the_others_are_answered(tinies: Tinies) -> None:
    tiny = tinies("llama")
    prompts = mixed_prompts()
    long = ask(LONG * 12, "long", new=4)
    found = answers(tiny.engine(rows=4), [*prompts[:3], long, *prompts[3:]])
    assert found["long"].finish_reason == "error"
    assert f"context window of {CONTEXT_WINDOW}" in (found["long"].error or "")
    assert (found["long"].text, found["long"].token_ids) == ("", ())
    assert found["long"].prompt_tokens == len(tiny.reference.encode(long))
    assert all(tiny.reference.check(prompt, found[prompt.request_id]) for prompt in prompts)


# ---- sampling

SAMPLING = {
    "temperature": GenerationSettings(temperature=1.0),
    "top-k": GenerationSettings(temperature=1.5, top_k=20),
    "top-p": GenerationSettings(temperature=1.2, top_p=0.9),
    "min-p": GenerationSettings(temperature=1.2, min_p=0.05),
    "penalty": GenerationSettings(temperature=0.8, repetition_penalty=1.3),
    "all": GenerationSettings(temperature=1.2, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.1),
}


@pytest.mark.parametrize("kind", SAMPLING)
def test_a_sampled_answer_does_not_depend_on_its_company(tinies: Tinies, kind: str) -> None:
    tiny, settings = tinies("llama"), SAMPLING[kind]
    prompts = mixed_prompts()[1:]
    alone = tiny.engine(rows=1)
    check_all(tiny, tiny.engine(rows=12), prompts, settings)
    check_all(tiny, tiny.engine(rows=3), prompts[::-1], settings)
    check_all(tiny, tiny.engine(rows=3), prompts[4:9], settings)
    for prompt in prompts[::4]:
        assert tiny.reference.check(prompt, answers(alone, [prompt], settings)[prompt.request_id], settings)


def test_sampled_answers_differ_by_request_and_not_by_their_place(tinies: Tinies) -> None:
    tiny, settings = tinies("mistral-sliding"), SAMPLING["temperature"]
    prompts = [ask(LONG + "normal", f"s{n}", new=8) for n in range(6)]
    found = check_all(tiny, tiny.engine(rows=4), prompts, settings)
    assert len({one.token_ids for one in found.values()}) == 6


def test_a_greedy_answer_under_a_repetition_penalty_equals_that_of_generate(tinies: Tinies) -> None:
    tiny, settings = tinies("gemma3"), GenerationSettings(repetition_penalty=1.5)
    found = check_all(tiny, tiny.engine(rows=4), mixed_prompts(), settings)
    plain = [tiny.reference.answer(prompt).tokens for prompt in mixed_prompts()]
    assert [one.token_ids for one in found.values()] != plain


# ---- what a completion says


def test_times_are_measured_and_the_first_token_comes_first(tinies: Tinies) -> None:
    for completion in answers(tinies("llama").engine(rows=4), mixed_prompts()).values():
        assert completion.ttft_ms is not None
        assert completion.latency_ms >= completion.ttft_ms > 0
        assert completion.prefill_ms is not None
        assert completion.decode_ms is not None
        assert completion.prefill_ms >= 0
        assert completion.decode_ms >= 0
        assert 1 <= (completion.batch_size or 0) <= 4


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere"])
def test_the_smallest_margin_of_an_answer_is_recorded(tinies: Tinies, name: str) -> None:
    tiny = tinies(name)
    prompts = mixed_prompts()
    found = answers(tiny.engine(rows=4), prompts)
    for prompt in prompts:
        completion = found[prompt.request_id]
        owed = tiny.reference.min_margin(prompt, completion.token_ids)
        assert completion.min_margin == pytest.approx(owed, abs=NEAR_TIE)


# ---- stopping


def test_a_stop_request_ends_early_and_what_was_finished_is_right(tinies: Tinies) -> None:
    tiny = tinies("llama")
    short = [ask(LONG + word, f"short-{word}", new=2) for word in ("1", "2", "3")]
    long = [ask(LONG + word, f"long-{word}", new=120, ignore_eos=True) for word in ("4", "5", "6")]
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 20

    engine = tiny.engine(rows=6)
    found = {one.request_id: one for one in engine.generate([*short, *long], GREEDY, stop)}
    assert set(found) == {prompt.request_id for prompt in short}
    assert all(tiny.reference.check(prompt, found[prompt.request_id]) for prompt in short)
    assert calls <= 24
    check_all(tiny, engine, mixed_prompts())  # nothing of the stopped rows is left


def test_a_caller_who_stops_listening_does_no_harm_to_the_next_call(tinies: Tinies) -> None:
    tiny = tinies("mistral-sliding")
    engine = tiny.engine(rows=3)
    listening: Iterator[Completion] = engine.generate(mixed_prompts(), GREEDY, never)
    next(listening)
    listening.close()  # type: ignore[attr-defined]
    check_all(tiny, engine, mixed_prompts()[::-1])
