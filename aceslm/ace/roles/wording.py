"""The wording of the Reflector's and the Curator's prompts: rules, and one worked case per domain.

Changing a word here changes what is measured: raise ROLE_PROMPT_VERSION with it. The lessons of the worked
cases are about reading questions, not about a task's answer format: a format lesson here would be the
author's, not the model's. A model that repeats one is refused (`aceslm.ace.roles.messages.echo_refusal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ROLE_PROMPT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class WorkedCase:
    """One example of each role in one domain, in the words of that domain."""

    about: str
    question: str
    answer: str
    correct: str
    diagnosis: str
    lesson: str
    section: str
    known: str


REFLECTOR_SYSTEM = "You review one answer and write one short lesson for later questions about {about}."
REFLECTOR_RULES = """Rules:
- The lesson is one sentence: a habit that helps with other questions.
- Never put the answer, a name, a year or a number of this question into the lesson.
- "helpful" and "harmful" list ids of the lessons used, such as "b3". Mostly they stay empty: [].
- Reply with one JSON object."""

CURATOR_SYSTEM = "You keep a short list of lessons for questions about {about}."
CURATOR_RULES = """Rules:
- add: a new lesson that the list does not have yet. Skip what it has.
- update: a listed lesson in better words. merge: listed lessons that say the same. remove: a wrong one.
- One sentence each. Never an answer, a name, a year or a number of a question.
- At most 3 operations. Nothing to change: {"operations": []}
- Reply with one JSON object."""

WORKED_CASES: Mapping[str, WorkedCase] = {
    "finance": WorkedCase(
        about="tables and text of financial reports",
        question="What were the deferred charges at the end of the earlier year?",
        answer="58",
        correct="61",
        diagnosis="The column of the later year was read.",
        lesson="Match the year asked for with the column header before reading a cell.",
        section="tables",
        known="Read the row label to its end before taking its cell.",
    ),
    "medical": WorkedCase(
        about="medicine",
        question="Which drug should this pregnant woman with high blood pressure get?",
        answer="lisinopril",
        correct="labetalol",
        diagnosis="The pregnancy was not used to rule drugs out.",
        lesson="Rule out every option that the history forbids before comparing the rest.",
        section="choosing",
        known="Look for the one finding that only a single diagnosis explains.",
    ),
    "iot": WorkedCase(
        about="sensor readings of machines",
        question="Does the flow of this cooling loop show a fault?",
        answer="no",
        correct="yes",
        diagnosis="One reading far from its neighbours was passed over.",
        lesson="Compare every reading with its neighbours before calling a series steady.",
        section="readings",
        known="Check which unit a reading has before comparing it.",
    ),
}
DEFAULT_CASE = WorkedCase(
    about="facts in a text",
    question="Which of the two bridges was opened first?",
    answer="the longer one",
    correct="the shorter one",
    diagnosis="The length was compared, not the date.",
    lesson="Name what the question compares before looking for it in the text.",
    section="reading",
    known="Read the whole sentence around a word that matches.",
)
