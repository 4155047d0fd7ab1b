"""Values that the ACE tests share: short playbooks, hypothesis strategies, a word counter."""

from __future__ import annotations

from hypothesis import strategies as st

from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.ace.playbook.deltas import HARMFUL, HELPFUL, Add, Merge, Remove, Tag, Update

LESSONS = (
    "Match the year with the column header.",
    "Read the footnote below the table.",
    "Rule out what the history forbids.",
    "Compare every reading with its neighbours.",
    "Copy the unit that the table states.",
    "Answer what the question asks and stop.",
)


def words(text: str) -> int:
    return len(text.split())


def playbook(*lessons: str, **counts: tuple[int, int]) -> Playbook:
    """A playbook of `lessons` as b1, b2, ...; `b2=(helpful, harmful)` sets counters."""
    bullets = []
    for number, lesson in enumerate(lessons, start=1):
        helpful, harmful = counts.get(f"b{number}", (0, 0))
        bullets.append(Bullet(f"b{number}", "reading", lesson, helpful, harmful))
    return Playbook(1, tuple(bullets), len(lessons) + 1)


_ids = st.integers(1, 12).map(lambda number: f"b{number}")
_texts = st.one_of(st.sampled_from(LESSONS), st.text(max_size=60), st.text("abc de", min_size=6, max_size=40))

deltas = st.lists(
    st.one_of(
        st.builds(Add, st.text(max_size=12), _texts),
        st.builds(Update, _ids, _texts),
        st.builds(Merge, st.lists(_ids, max_size=3).map(tuple), _texts),
        st.builds(Remove, _ids),
        st.builds(Tag, _ids, st.sampled_from([HELPFUL, HARMFUL])),
    ),
    max_size=25,
)
