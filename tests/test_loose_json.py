"""JSON as replies hold it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.tasks.json_answers import json_answer
from aceslm.tasks.loose_json import find_json


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": "B"}', ["B"]),
        ('{"final_answer": "B", "answer": "A"}', ["B"]),
        ('{"reasoning": "The answer: D", "answer_choice": "B"}', ["B"]),
        ('{"reasoning": "choice D", "finalAnswer": "B', ["B"]),
        ("{'answer': 'it's B'}", ["it's B"]),
        ("{answer: B,}", ["B"]),
        ('{"answer": 1,234}', ["1,234"]),
        ('{"answer": {"letter": "B", "text": "Iron"}}', ["B", "Iron"]),
        ('{"response": {"result": {"value": 5, "unit": "million"}}}', ["5 million"]),
        ('{"answer": ["a", "b"]}', ["a", "b"]),
        ('{"normal": false, "anomalous": true}', ["anomalous"]),
        ('{"normal": 0.2, "anomalous": 0.8}', ["anomalous"]),
        ('{"answer": null, "why": "B"}', []),
        ('{"reasoning": "We have 5 and', []),
        ("the set {x} and \\\\boxed{5}", None),
        ("no object", None),
    ],
)
def test_the_answer_of_an_object_is_found(text: str, answer: list[str] | None) -> None:
    assert json_answer(text) == answer


@given(st.text() | st.text("{}[]\"':,ab1\\\\ \n", max_size=60))
def test_no_text_crashes_the_reader(text: str) -> None:
    for found in find_json(text):
        assert 0 <= found.start < found.end
    json_answer(text)
