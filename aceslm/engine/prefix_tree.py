"""The prefix tree: which leading tokens several prompts share, found on token ids alone.

    tree = prefix_tree(prompts)          # a playbook, below it the tables that several questions ask about
    tree.nodes[tree.leaf_of[3]].stop     # how many tokens of prompt 3 are computed for others as well

A node exists only where it saves enough prefill to pay for its own attention call in every decode step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MIN_SAVED_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens `start` to `stop` (absolute positions) that all prompts below share; `parent` -1: a root."""

    parent: int
    start: int
    stop: int
    tokens: tuple[int, ...]  # of this node alone: stop - start of them


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Nodes, parents before children; `leaf_of[i]` is prompt i's deepest node or -1.

    `order` lists the prompts so that those below one node stand together, the longest groups first.
    """

    nodes: tuple[Node, ...]
    leaf_of: tuple[int, ...]
    order: tuple[int, ...]

    def path(self, prompt: int) -> tuple[int, ...]:
        """Return the nodes of a prompt, root first."""
        found: list[int] = []
        node = self.leaf_of[prompt]
        while node >= 0:
            found.append(node)
            node = self.nodes[node].parent
        return tuple(reversed(found))

    def shared(self, prompt: int) -> int:
        """Return how many leading tokens of a prompt lie in nodes."""
        leaf = self.leaf_of[prompt]
        return self.nodes[leaf].stop if leaf >= 0 else 0


@dataclass(slots=True)
class _Group:
    """Prompts `first` to `last` (in sorted order) share `depth` tokens; `parts` are prompts or groups."""

    depth: int
    parts: list[_Group | int]
    heads: int = 0  # how often the tokens of this group would be computed if it were no node
    longest: int = 0  # tokens of the longest prompt
    kept: bool = False


def prefix_tree(
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]] = (),
    min_saved_tokens: int = MIN_SAVED_TOKENS,
) -> PrefixTree:
    """Find the shared prefixes of token-id prompts.

    At least the last token of every prompt stays its own: its logits are needed.

    Args:
        known: root prefixes whose keys and values exist already; they are used again, whole or in part.
        min_saved_tokens: prefill tokens that a node has to save.
    """
    arrays = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    ranked = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    common = [_common(arrays[a], arrays[b]) for a, b in pairwise(ranked)]
    lengths = [len(prompt) for prompt in prompts]
    forest = _groups(ranked, common, [length - 1 for length in lengths])
    for group in forest:
        _keep(group, lengths, min_saved_tokens)
    return _Builder(arrays, [np.asarray(tokens, dtype=np.int64) for tokens in known], min_saved_tokens).build(
        forest
    )


def _common(a: np.ndarray, b: np.ndarray) -> int:
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if differs.size else length


def _groups(ranked: Sequence[int], common: Sequence[int], limits: Sequence[int]) -> list[_Group | int]:
    """Return the branching points of the sorted prompts (an LCP-interval tree), top level first."""
    stack = [_Group(0, [ranked[0]])] if ranked else []
    for position, prompt in enumerate(ranked[1:]):
        depth = min(common[position], limits[prompt], limits[ranked[position]])
        last: _Group | int | None = None
        while stack[-1].depth > depth:
            last = stack.pop()
            if stack[-1].depth >= depth:
                stack[-1].parts.append(last)
                last = None
        if stack[-1].depth < depth:
            below = last if last is not None else stack[-1].parts.pop()
            stack.append(_Group(depth, [below]))
        elif last is not None:
            stack[-1].parts.append(last)
        stack[-1].parts.append(prompt)
    while len(stack) > 1:
        closed = stack.pop()
        stack[-1].parts.append(closed)
    return stack[0].parts if stack else []


def _keep(group: _Group | int, lengths: Sequence[int], min_saved_tokens: int) -> None:
    """Decide bottom-up which groups become nodes: a group passes its tokens on to its parts otherwise."""
    order: list[tuple[_Group, int]] = []
    stack = [(group, 0)]
    while stack:
        current, above = stack.pop()
        if isinstance(current, int):
            continue
        order.append((current, above))
        stack.extend((part, current.depth) for part in current.parts)
    for current, above in reversed(order):
        current.heads = sum(1 if isinstance(part, int) or part.kept else part.heads for part in current.parts)
        current.longest = max(
            lengths[part] if isinstance(part, int) else part.longest for part in current.parts
        )
        current.kept = (current.depth - above) * (current.heads - 1) >= min_saved_tokens


class _Builder:
    """Turns kept groups into nodes, and adds the parts of known prefixes."""

    def __init__(self, prompts: list[np.ndarray], known: list[np.ndarray], min_saved_tokens: int) -> None:
        self._prompts = prompts
        self._known = known
        self._min = min_saved_tokens
        self._nodes: list[Node] = []
        self._leaf_of = [-1] * len(prompts)

    def build(self, forest: list[_Group | int]) -> PrefixTree:
        order: list[int] = []
        for part in sorted(forest, key=self._length, reverse=True):
            self._place(part, -1, order)
        return PrefixTree(tuple(self._nodes), tuple(self._leaf_of), tuple(order))

    def _place(self, top: _Group | int, parent: int, order: list[int]) -> None:
        stack = [(top, parent)]
        while stack:
            part, above = stack.pop()
            prompt = self._any(part)
            if isinstance(part, int):
                self._leaf_of[part] = self._rooted(prompt, len(self._prompts[part]) - 1, above)
                order.append(part)
                continue
            if part.kept:
                above = self._node(prompt, part.depth, above)
            stack.extend((below, above) for below in sorted(part.parts, key=self._length))

    def _node(self, prompt: int, stop: int, parent: int) -> int:
        """Add a node; a root that is nearly a known prefix becomes that prefix."""
        if parent < 0:
            known = self._known_length(prompt, stop)
            if known > 0:
                root = self._add(prompt, known, -1)
                return root if stop - known < self._min else self._add(prompt, stop, root)
        return self._add(prompt, stop, parent)

    def _rooted(self, prompt: int, limit: int, parent: int) -> int:
        """Return a prompt's leaf; one that shares with no other may use a known prefix."""
        if parent >= 0:
            return parent
        known = self._known_length(prompt, limit)
        if known == 0:
            return -1
        for index, node in enumerate(self._nodes):
            if (
                node.parent < 0
                and node.stop == known
                and _common(np.asarray(node.tokens), self._prompts[prompt]) == known
            ):
                return index
        return self._add(prompt, known, -1)

    def _add(self, prompt: int, stop: int, parent: int) -> int:
        start = self._nodes[parent].stop if parent >= 0 else 0
        tokens = tuple(int(token) for token in self._prompts[prompt][start:stop])
        self._nodes.append(Node(parent, start, stop, tokens))
        return len(self._nodes) - 1

    def _known_length(self, prompt: int, limit: int) -> int:
        longest = max((_common(tokens, self._prompts[prompt]) for tokens in self._known), default=0)
        usable = min(longest, limit)
        return usable if usable >= self._min else 0

    def _any(self, part: _Group | int) -> int:
        while not isinstance(part, int):
            part = part.parts[0]
        return part

    def _length(self, part: _Group | int) -> int:
        """Return the longest prompt of a part."""
        return len(self._prompts[part]) if isinstance(part, int) else part.longest
