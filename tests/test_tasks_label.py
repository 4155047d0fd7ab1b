"""Classification: which label a reply names."""

from __future__ import annotations

import pytest

from aceslm.core.values import Sample
from aceslm.tasks import build_messages, judge

SAMPLE = Sample("l1", "State?", "normal", choices=("normal", "abnormal", "No failure"), answer_type="label")


@pytest.mark.parametrize(
    ("text", "pred"),
    [
        ("normal", "normal"),
        ("NORMAL.", "normal"),
        ("Label: normal", "normal"),
        ("The answer is: abnormal!", "abnormal"),
        ("The sensor is abnormal", "abnormal"),
        ("no  failure", "No failure"),
        ("**No failure**", "No failure"),
        ("It is not normal, it is abnormal", "abnormal"),
        ("normal\nabnormal values would be higher", "normal"),
    ],
)
def test_a_label_is_found(text: str, pred: str) -> None:
    verdict = judge(SAMPLE, text)
    assert (verdict.pred, verdict.correct) == (pred, int(pred == "normal"))


@pytest.mark.parametrize("text", ["normal or abnormal", "not normal", "paranormal", "yes", ""])
def test_a_reply_that_names_no_single_label_is_unparsed(text: str) -> None:
    assert not judge(SAMPLE, text).parsed


def test_the_labels_stand_in_the_prompt_in_published_order() -> None:
    (message,) = build_messages(SAMPLE, None)
    assert "normal, abnormal, No failure" in message.content
