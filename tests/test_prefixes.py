"""The prefix tree: which leading tokens are computed once, found on token ids alone."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aceslm.engine.prefix_tree import PrefixTree, prefix_tree

Prompts = list[list[int]]

TOKENS = st.lists(st.integers(0, 2), max_size=9)
KNOWN = st.lists(TOKENS, max_size=3)


@st.composite
def prompts_with_shared_beginnings(draw: st.DrawFn) -> Prompts:
    """Prompts of at least one token; beginnings are used again, with others behind them."""
    beginnings: Prompts = [[]]
    for _ in range(draw(st.integers(0, 4))):
        beginnings.append(draw(st.sampled_from(beginnings)) + draw(TOKENS))
    size = draw(st.integers(0, 12))
    made = [draw(st.sampled_from(beginnings)) + draw(TOKENS) for _ in range(size)]
    return [prompt or [0] for prompt in made]


def tokens_on_path(tree: PrefixTree, prompt: int) -> list[int]:
    return [token for node in tree.path(prompt) for token in tree.nodes[node].tokens]


def below(tree: PrefixTree, node: int) -> list[int]:
    """Return the prompts whose path has a node."""
    return [prompt for prompt in range(len(tree.leaf_of)) if node in tree.path(prompt)]


def prefilled(tree: PrefixTree, prompts: Prompts) -> int:
    """Return the tokens that are computed: nodes once, the rest of each prompt for itself."""
    own = sum(len(prompt) - tree.shared(index) for index, prompt in enumerate(prompts))
    return own + sum(node.stop - node.start for node in tree.nodes)


def check_whole(tree: PrefixTree, prompts: Prompts) -> None:
    """Nodes follow each other without a gap, hold the prompts' own tokens, and leave each its last one."""
    for number, node in enumerate(tree.nodes):
        assert node.parent < number
        assert node.start == (tree.nodes[node.parent].stop if node.parent >= 0 else 0)
        assert len(node.tokens) == node.stop - node.start > 0
        assert below(tree, number)
    for index, prompt in enumerate(prompts):
        assert tree.shared(index) < len(prompt)
        assert tokens_on_path(tree, index) == prompt[: tree.shared(index)]


@given(prompts=prompts_with_shared_beginnings(), known=KNOWN, min_saved=st.integers(1, 12))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_the_nodes_of_a_prompt_are_its_leading_tokens_and_the_last_token_stays_its_own(
    prompts: Prompts, known: Prompts, min_saved: int
) -> None:
    check_whole(prefix_tree(prompts, known, min_saved), prompts)


@given(prompts=prompts_with_shared_beginnings(), known=KNOWN, min_saved=st.integers(1, 12))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_the_order_has_every_prompt_once_and_those_below_a_node_together(
    prompts: Prompts, known: Prompts, min_saved: int
) -> None:
    tree = prefix_tree(prompts, known, min_saved)
    assert sorted(tree.order) == list(range(len(prompts)))
    place = {prompt: position for position, prompt in enumerate(tree.order)}
    for number, node in enumerate(tree.nodes):
        places = sorted(place[prompt] for prompt in below(tree, number))
        lone = all(tree.leaf_of[prompt] == number for prompt in below(tree, number))
        if not (node.parent < 0 and lone):  # what shares only a kept prefix may stand anywhere
            assert places == list(range(places[0], places[0] + len(places)))


@given(prompts=prompts_with_shared_beginnings(), min_saved=st.integers(1, 30))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_every_node_saves_at_least_the_tokens_asked_for(prompts: Prompts, min_saved: int) -> None:
    tree = prefix_tree(prompts, min_saved_tokens=min_saved)
    for number, node in enumerate(tree.nodes):
        users = sum(child.parent == number for child in tree.nodes) + tree.leaf_of.count(number)
        assert (node.stop - node.start) * (users - 1) >= min_saved


@given(prompts=prompts_with_shared_beginnings())
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_with_nothing_to_pay_for_a_node_every_shared_token_is_computed_once(prompts: Prompts) -> None:
    tree = prefix_tree(prompts, min_saved_tokens=1)
    beginnings = {tuple(prompt[: stop + 1]) for prompt in prompts for stop in range(len(prompt) - 1)}
    assert prefilled(tree, prompts) == len(beginnings) + len(prompts)


@pytest.mark.parametrize(("users", "is_node"), [(1, False), (4, False), (5, True), (9, True)])
def test_a_group_becomes_a_node_exactly_where_it_saves_enough(users: int, is_node: bool) -> None:
    prompts = [[*range(10), 100 + n] for n in range(users)]
    assert bool(prefix_tree(prompts, min_saved_tokens=40).nodes) is is_node


def test_a_playbook_and_the_tables_below_it_are_two_levels() -> None:
    playbook, tables = list(range(50)), [[1000 + n] * 30 for n in range(3)]
    prompts = [[*playbook, *tables[n % 3], 2000 + n, 7] for n in range(9)]
    tree = prefix_tree(prompts, min_saved_tokens=40)
    assert sorted((node.start, node.stop) for node in tree.nodes) == [(0, 50), (50, 80), (50, 80), (50, 80)]
    assert [tree.shared(prompt) for prompt in range(9)] == [80] * 9
    assert prefilled(tree, prompts) == 50 + 3 * 30 + 9 * 2


def test_tokens_of_a_group_that_is_no_node_pass_on_to_what_is_below() -> None:
    big = [[1, 2, *range(10, 30), n] for n in range(100, 105)]
    tree = prefix_tree([*big, [1, 2, 3]], min_saved_tokens=20)
    assert [(node.parent, node.start, node.stop) for node in tree.nodes] == [(-1, 0, 22)]
    assert tree.leaf_of == (0, 0, 0, 0, 0, -1)


def test_the_groups_with_the_longest_prompts_come_first() -> None:
    short = [[1, 2, 3, 4, n] for n in (10, 11)]
    long = [[5, 6, 7, 8, n, *range(90)] for n in (10, 11)]
    order = prefix_tree([*short, *long], min_saved_tokens=2).order
    assert set(order[:2]) == {2, 3}


def test_equal_prompts_and_a_prompt_inside_another_share_all_but_their_last_tokens() -> None:
    prompts = [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3], [1]]
    tree = prefix_tree(prompts, min_saved_tokens=1)
    check_whole(tree, prompts)
    assert [tree.shared(index) for index in range(4)] == [3, 3, 2, 0]


def test_no_prompts_are_an_empty_tree() -> None:
    assert prefix_tree([]) == PrefixTree((), (), ())


# ---- prefixes that an earlier call has left


PLAYBOOK = tuple(range(100, 130))


def test_a_known_prefix_is_used_again_even_for_one_prompt() -> None:
    tree = prefix_tree([[*PLAYBOOK, 1, 2]], [PLAYBOOK], min_saved_tokens=20)
    assert [(node.parent, node.tokens) for node in tree.nodes] == [(-1, PLAYBOOK)]
    assert tree.shared(0) == len(PLAYBOOK)


def test_a_known_prefix_is_used_in_part_where_a_prompt_leaves_it() -> None:
    tree = prefix_tree([[*PLAYBOOK[:25], 1, 2]], [PLAYBOOK], min_saved_tokens=20)
    assert [node.tokens for node in tree.nodes] == [PLAYBOOK[:25]]


def test_a_prompt_inside_a_known_prefix_keeps_its_last_token() -> None:
    tree = prefix_tree([list(PLAYBOOK[:25])], [PLAYBOOK], min_saved_tokens=20)
    assert tree.shared(0) == 24


def test_too_little_of_a_known_prefix_is_not_worth_a_node() -> None:
    assert prefix_tree([[*PLAYBOOK[:19], 1]], [PLAYBOOK], min_saved_tokens=20).nodes == ()


def test_of_several_known_prefixes_the_longest_match_is_used() -> None:
    tree = prefix_tree([[*PLAYBOOK, 1]], [PLAYBOOK[:22], PLAYBOOK, PLAYBOOK[:25]], min_saved_tokens=20)
    assert [node.stop for node in tree.nodes] == [30]


def test_a_longer_shared_prefix_is_a_known_root_and_a_node_below_it() -> None:
    prompts = [[*PLAYBOOK, *range(25), 90 + n] for n in range(3)]
    tree = prefix_tree(prompts, [PLAYBOOK], min_saved_tokens=20)
    assert [(node.parent, node.start, node.stop) for node in tree.nodes] == [(-1, 0, 30), (0, 30, 55)]


def test_a_root_that_is_nearly_a_known_prefix_becomes_it() -> None:
    prompts = [[*PLAYBOOK, 7, 8, 90 + n] for n in range(3)]
    tree = prefix_tree(prompts, [PLAYBOOK], min_saved_tokens=20)
    assert [(node.parent, node.stop) for node in tree.nodes] == [(-1, 30)]


def test_prompts_that_share_nothing_else_read_one_known_root() -> None:
    prompts = [[*PLAYBOOK, 1], [*PLAYBOOK[:27], 3], [*PLAYBOOK, 2], [5, 6]]
    tree = prefix_tree(prompts, [PLAYBOOK], min_saved_tokens=20)
    check_whole(tree, prompts)
    assert tree.shared(3) == 0
    assert len({node.tokens for node in tree.nodes}) == len(tree.nodes)


@given(prompts=prompts_with_shared_beginnings(), known=KNOWN, min_saved=st.integers(1, 12))
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_what_a_prompt_shares_with_a_known_prefix_is_never_computed_again(
    prompts: Prompts, known: Prompts, min_saved: int
) -> None:
    tree = prefix_tree(prompts, known, min_saved)
    for index, prompt in enumerate(prompts):
        path = tree.path(index)
        if not path:
            usable = max((common(prompt[:-1], tokens) for tokens in known), default=0)
            assert usable < min_saved


def common(a: list[int], b: list[int]) -> int:
    length = min(len(a), len(b))
    return next((n for n in range(length) if a[n] != b[n]), length)


# ---- depth


def test_five_thousand_chained_prompts_do_not_overflow_the_stack() -> None:
    size = 5000
    assert size > sys.getrecursionlimit()
    line = list(range(size + 1))
    prompts = [line[: n + 2] for n in range(size)]
    tree = prefix_tree(prompts, min_saved_tokens=1)
    assert len(tree.nodes) == size - 1
    assert len(tree.path(size - 1)) == size - 1
    assert sorted(tree.order) == list(range(size))
