"""Scheduling of rows: slots, packed passes, admission; plain Python, no torch."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aceslm.engine.prefix_tree import prefix_tree
from aceslm.engine.scheduler import (
    AdmissionQueue,
    SlotShape,
    pack_passes,
    slot_shape,
    users_of_nodes,
)

LENGTHS = st.lists(st.integers(0, 40), max_size=12)


# ---- slots


def test_a_slot_has_room_for_the_longest_row_rounded_up() -> None:
    assert slot_shape([5, 70, 33], budget_tokens=10_000, max_slots=9) == SlotShape(3, 96)
    assert slot_shape([64], budget_tokens=10_000, max_slots=9) == SlotShape(1, 64)


@pytest.mark.parametrize(("budget", "slots"), [(10_000, 4), (320, 4), (319, 3), (160, 2), (79, 1), (1, 1)])
def test_there_are_as_many_slots_as_the_budget_the_limit_and_the_rows_allow(budget: int, slots: int) -> None:
    assert slot_shape([80] * 9, budget, max_slots=4, round_to=8) == SlotShape(slots, 80)
    assert slot_shape([80] * 3, budget, max_slots=4, round_to=8).slots == min(slots, 3)


@given(needs=st.lists(st.integers(1, 500), min_size=1, max_size=20), budget=st.integers(1, 9000))
@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
def test_slots_together_never_exceed_the_budget_unless_there_is_one(needs: list[int], budget: int) -> None:
    shape = slot_shape(needs, budget, max_slots=16)
    assert shape.length >= max(needs)
    assert shape.slots == 1 or shape.slots * shape.length <= budget


# ---- passes


@given(lengths=LENGTHS, pass_tokens=st.integers(1, 50))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_passes_hold_every_token_once_in_order_and_never_more_than_fit(
    lengths: list[int], pass_tokens: int
) -> None:
    passes = pack_passes(lengths, pass_tokens)
    packed = [
        (chunk.item, token)
        for chunks in passes
        for chunk in chunks
        for token in range(chunk.start, chunk.stop)
    ]
    assert packed == [(item, token) for item, length in enumerate(lengths) for token in range(length)]
    assert all(0 < sum(chunk.stop - chunk.start for chunk in chunks) <= pass_tokens for chunks in passes)


@given(lengths=LENGTHS, pass_tokens=st.integers(1, 50))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_an_item_is_cut_only_where_it_is_longer_than_a_pass(lengths: list[int], pass_tokens: int) -> None:
    cuts = [chunk.item for chunks in pack_passes(lengths, pass_tokens) for chunk in chunks if chunk.start]
    assert all(lengths[item] > pass_tokens for item in cuts)


@given(lengths=LENGTHS, pass_tokens=st.integers(1, 50))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_an_item_opens_a_new_pass_only_where_it_does_not_fit_the_last(
    lengths: list[int], pass_tokens: int
) -> None:
    passes = pack_passes(lengths, pass_tokens)
    for before, after in pairwise(passes):
        room = pass_tokens - sum(chunk.stop - chunk.start for chunk in before)
        assert lengths[after[0].item] > room


# ---- admission


def test_rows_are_given_out_in_the_order_of_the_tree() -> None:
    queue = AdmissionQueue([4, 2, 0, 1, 3])
    assert queue.waiting() == (4, 2, 0, 1, 3)
    assert queue.take(free=2, in_flight=0) == [4, 2]
    assert queue.take(free=9, in_flight=0) == [0, 1, 3]
    assert len(queue) == 0
    assert queue.take(free=9, in_flight=0) == []


def test_free_slots_are_refilled_an_eighth_at_a_time() -> None:
    queue = AdmissionQueue(range(100))
    assert len(queue.take(free=32, in_flight=0)) == 32
    assert queue.take(free=3, in_flight=29) == []
    assert queue.take(free=4, in_flight=28) == [32, 33, 34, 35]
    assert queue.take(free=0, in_flight=32) == []


def test_the_rest_of_the_queue_does_not_wait_for_more_free_slots() -> None:
    queue = AdmissionQueue([7, 8])
    assert queue.take(free=1, in_flight=31) == []
    assert queue.take(free=2, in_flight=30) == [7, 8]


def test_rows_put_back_are_the_next_in_their_order() -> None:
    queue = AdmissionQueue([1, 2, 3, 4])
    taken = queue.take(free=3, in_flight=0)
    queue.put_back(taken)
    assert queue.waiting() == (1, 2, 3, 4)


@given(size=st.integers(0, 40), slots=st.integers(1, 20), finishing=st.lists(st.integers(0, 20), max_size=60))
@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
def test_every_row_is_admitted_once_however_slots_come_free(
    size: int, slots: int, finishing: list[int]
) -> None:
    queue, in_flight, admitted = AdmissionQueue(range(size)), 0, []
    for done in [*finishing, *[slots] * (size + 1)]:
        taken = queue.take(slots - in_flight, in_flight)
        admitted += taken
        in_flight += len(taken)
        assert in_flight <= slots
        assert in_flight or not len(queue)
        in_flight -= min(done, in_flight)
    assert admitted == list(range(size))


# ---- nodes


def test_a_node_is_used_by_all_prompts_below_it() -> None:
    playbook = list(range(50))
    prompts = [[*playbook, *[100 + n % 2] * 30, 200 + n] for n in range(6)]
    prompts += [[*playbook, 7], [8]]
    tree = prefix_tree(prompts, min_saved_tokens=40)
    by_range = {}
    for node, users in zip(tree.nodes, users_of_nodes(tree), strict=True):
        by_range.setdefault((node.start, node.stop), []).append(users)
    assert by_range == {(0, 50): [7], (50, 80): [3, 3]}
