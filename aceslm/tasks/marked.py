"""Where a reply marks its answer: the one idea that all answer types share.

Strongest first:

1. a JSON object's `answer`, `final_answer`, `choice`, `label`, ... (`json_answer`), whatever surrounds it;
2. `stated`: `\\boxed{}`, `####`, `<answer>`, "the answer is", "Final answer:", a self-correction;
3. `concluded`: "so", "therefore", "in total", ... and "=";
4. what a line or bold type sets apart.

Within one kind the last mark counts, unless two lines, one after the other, bear the same mark: they are two
values. A correction that only doubts takes the answer back. Lines that check the answer are not read. A mark
with several values in it marks none of them; reasoning that only mentions a value never wins over a mark.
Pure functions that never raise and take linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

_END = re.compile(r"<\|?(?:im_end|endoftext|eot_id|end_of_text|end|end_of_turn|eos)\|?>|</s>")
_SPECIAL = re.compile(r"<\|[a-z_]+\|>(?:assistant\b)?|<start_of_turn>(?:model\b)?")
_REASONING = re.compile(r"</(?:think|thinking|thought|reasoning|scratchpad)>", re.IGNORECASE)
_OPEN_REASONING = re.compile(r"<(?:think|thinking|thought|reasoning|scratchpad)>", re.IGNORECASE)
# Small models go on to invent the next question, or repeat the instruction; that is not the answer any more.
_NEXT_QUESTION = re.compile(
    r"^[^\w\n]*(?:(?:(?:(?:next|new|another|example) )?(?:question|problem)(?: ?\d+)?"
    r"|context|options|q ?\d*|user|human|instruction"
    r"|input|text|passage|sentence|review|tweet|example(?: \d+)?)\**\s?:"
    r"|choose one of these\b|answer with (?:only )?the (?:number|letter|words)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_INSTRUCTION = re.compile(
    r"[#*\W]*(?:choose one of these\b|answer with (?:only )?the (?:number|letter|words)\b)[^\n]*\n*",
    re.IGNORECASE,
)
_TICKED = re.compile(r"^[-* ]*\[[xX✓✔]\]", re.MULTILINE)
# A check by the inverse sum comes after the answer, and its result is not the answer.
_CHECK = re.compile(
    r"[#* ]*(?:let(?:['’]s| us| me) (?:verify|check|double[- ]check)|(?:double[- ])?check(?:ing)?"
    r"|verif(?:ication|y|ying)|proof|to (?:verify|check)(?: this| the answer)?)\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"\b(?:answer|wait|actually|so|therefore|wrong|incorrect|mistake)\b", re.IGNORECASE)
_LABEL_DASH = re.compile(
    r"^([* ]*(?:fy ?(?:19|20)[0-9]{2}|[a-z][a-z ]{1,40}(?<!\bis)(?<!\bwas)(?<!\bare)(?<!\bof)(?<!\bby)))"
    r" [-–—] (?=[$€£(]?[0-9])(?!(?:19|20)[0-9]{2}\b)(?=[^=+*/\n]*$)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^\s*```[\w+-]*\s*$", re.MULTILINE)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9.,]+)\s*\}\s*\{\s*([0-9.,]+)\s*\}")
_QUOTIENT = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_STYLED = re.compile(r"\\(?:text|math|operatorname|mbox)[a-z]{0,4}\s*\{([^{}]*)\}")
_SIGNS = (
    ("{,}", ","), ("\\,", " "), ("\\!", ""), ("\\;", " "), ("\\:", " "), ("\\$", "$"), ("\\%", "%"),
    ("\\times", "x"),
        ("\\cdot", "x"), ("\\div", "/"), ("\\approx", "≈"), ("\\left", ""), ("\\right", ""), ("\\(", " "),
    ("\\)", " "),
        ("\\[", " "), ("\\]", " "), ("$$", " "), ("\\&", "&"), ("\\_", "_"), ("\\quad", " "), ("\\ ", " "),
)  # fmt: skip
_BOXED = re.compile(r"\\?\b(?:f?boxed)\s*\{([^{}\n]*)\}?")
_QUALITY = (
    r"(?:final|correct|right|best|most \w+|likely|numeric(?:al)?|single|short|predicted"
    r"|estimated|overall|actual|chosen"
    r"|selected|exact|approximate|required|ultimate|complete|only|suggested|proposed)"
)
_IS = (
    r"(?:(?:is|are|was|were|(?:would|should|must|will|could|might|may) be|becomes?"
    r"|equals?|remains|comes out to)\b|['’]s\b"
    r"|[:=→⇒]|-+>)"
)
_FILLER = (
    r"(?:[\s*_:\"'`]|\b(?:therefore|thus|hence|so|clearly|simply|probably|(?:most"
    r" )?likely|definitely|indeed|indeed|that|then"
    r"|given by|as follows|just|still|actually|now|to be|obviously|in fact|of course|either)\b,?)*"
)
_ABROAD = (
    r"(?:正确)?(?:答案|选项)(?:应该)?(?:是|为|[:：])|(?:应?选择?|正解は|答えは)\s?[:：]?(?=\s?[(（]?[A-Z])"
    r"|\b(?:antwort|l[oö]sung) (?:ist|lautet)\b"
    r"|\br[eé]ponse(?: correcte)? est\b(?: la\b| le\b)?"
    r"|\brespuesta(?: correcta)? es\b(?: l[ao]s?\b| el\b)?(?: opci[oó]n\b| letra\b)?|\brisposta(?:"
    r" corretta)? [eè]\b|\bresposta(?: correta)? [eé]\b"
    r"|\b(?:antwort|r[eé]ponse|respuesta|risposta|resposta)\s?:"
)
_NOUN_TAIL = r"(?:s|\(s\))?(?:[ _](?:choice|option|letter|label|value))?(?: ?\([^()\n]{0,40}\))?"
_OF = r"(?:\s(?:to|for|of|in|here|from|given|i|we)\b[^.:=\n?]{0,90}?)?"
_CORRECTION = (
    r"(?:\b(?:actually|correction|scratch that|i mean|or rather|wait|sorry)\b|(?<=[.!?,;…-]"
    r" )no\b(?=[,.!:—]))[ ,.:;!—-]*"
    r"(?:(?:no|wait|sorry|actually|i meant?|that's wrong|it(?:['’]s| is| should be)"
    r"|that(?:['’]s| is| should be)|make that)\b[ ,.:;!]*)*"
)
_CONCLUSION = re.compile(
    r"(?<![\w-])(?<!or )(?<!even )(?<!not )(?<!just )(?<!think )(?:so(?! (?:that|far"
    r"|much|many|on|as|called|long|if)\b)(?!-)"
    r"|therefore|thus|hence|consequently|accordingly|in conclusion|to conclude|in"
    r" total|altogether|in all|overall|finally"
    r"|as a result|in summary|to summari[sz]e|it follows that"
    r"|on (?:reflection|second thoughts?|closer inspection|balance)|(?:this|that|which)"
    r" (?:means|gives(?: us)?|leaves|makes|equals)"
    r"|we (?:get|find|obtain|conclude)|giving(?: us)?|leaving|(?:a|the)? ?(?:grand"
    r" )?total (?:of|is|was|comes to)|for a total of|resulting in)\b"
    r"|=|≈|⇒|→|∴",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|__([^_\n]{1,200})__")
# What is read of a reply that repeats itself without end: its last marks, and so many characters behind each.
_MARKS_READ = 30
_LINE_READ = 1200
_BLOCK_READ = 8000


@dataclass(frozen=True, slots=True)
class AnswerMark:
    """What stands behind a mark: the rest of its line, and of its block (to the next empty line).

    `direct`: only a value that stands right behind the mark is meant. `rival`: the line above has the same
    mark, and nothing says which of the two holds.
    """

    line: str
    block: str
    direct: bool = False
    rival: bool = False


def answer_text(text: str, question: str = "") -> str:
    """Return the part of a reply that can hold the answer: no reasoning block, no invented next question.

    Lines are trimmed, runs of spaces and of empty lines made one, code fences left out, and the question
    where the reply begins by repeating it. An unfinished reasoning block leaves nothing.
    """
    text = _OPEN_REASONING.split(_REASONING.split(text)[-1], maxsplit=1)[0]
    text = _FENCE.sub("", _SPECIAL.sub("", _END.split(text.lstrip(), maxsplit=1)[0]))
    lines = [" ".join(line.split()) for line in _LABEL_DASH.sub(r"\1: ", _TICKED.sub("✓", text)).splitlines()]
    tidied = _without_echo(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), question)
    while (match := _INSTRUCTION.match(tidied)) is not None:
        tidied = tidied[match.end() :]
    tidied = "\n\n".join(_unchecked(tidied.split("\n\n")))
    for match in _NEXT_QUESTION.finditer(tidied):
        begun = any(map(str.isalnum, tidied[: match.start()]))
        if begun or match.group().lower().strip("#* ").startswith(("question", "q", "problem")):
            return tidied[: match.start()].strip()
    return tidied


def _unchecked(paragraphs: list[str]) -> Iterator[str]:
    """Give the paragraphs without those lines that check the answer and conclude nothing."""
    for n, paragraph in enumerate(paragraphs):
        lines = paragraph.split("\n")
        at = next((k for k, line in enumerate(lines) if k + n and _CHECK.match(line)), len(lines))
        if _CONCLUDES.search("\n".join(lines[at:])):
            at = len(lines)
        if at:
            yield "\n".join(lines[:at])


def _without_echo(text: str, question: str) -> str:
    """Return a reply without the question with which it begins."""
    asked = " ".join(question.split())
    head = re.match(r"[#*\s]*(?:(?:question|q)\**:\**\s*)?", text, re.IGNORECASE)
    start = head.end() if head else 0
    if len(asked) > 5 and text[start : start + len(asked)].casefold() == asked.casefold():
        return text[start + len(asked) :].strip()
    return text


def plain_latex(text: str) -> str:
    """Return a text with the LaTeX that replies use written plainly; `\\boxed{}` stays."""
    if "\\" not in text and "{" not in text:
        return text
    text = _FRACTION.sub(r" \1/\2", text)
    text = _STYLED.sub(r"\1", _STYLED.sub(r"\1", text))
    text = _QUOTIENT.sub(r"(\1) / (\2)", text)
    for sign, shown in _SIGNS:
        text = text.replace(sign, shown)
    return text


def marks_of(nouns: str, verbs: str = "", *, corrections: bool = True) -> re.Pattern[str]:
    """Compile the marks of `stated`.

    Args:
        nouns: what the reply may call its answer besides "answer", as alternatives of a pattern.
        verbs: what it may do with it ("choose"); denied and conditional ones do not count.
        corrections: read "Actually, ..." too; words from a text may begin like that.
    """
    chosen = (
        rf"|(?<!not )(?<!n't )(?<!n’t )(?<!if you )(?<!if we )\b(?:{verbs})\b(?!\s(?:that|whether|why)\b)"
        if verbs
        else ""
    )
    return re.compile(
        rf"(?P<boxed>\\?\bf?boxed\s*\{{)"
        rf"|(?P<hash>####)|(?P<tag><(?:final_?)?answer>)"
        rf"|{_ABROAD}"
        rf"|(?<!each )(?<!every )(?<!other )(?<!these )(?<!all )(?<!incorrect )(?<!wrong )"
        rf"\b(?:{_QUALITY}\s+){{0,3}}"
        rf"(?:(?:answer|ans\.?){_NOUN_TAIL}{_OF}|(?:{nouns}){_NOUN_TAIL})[*_\"'`]*\s*{_IS}"
        rf"|^[#*_ ]*(?:(?:the|my|your) )?(?:{_QUALITY} )*(?:answer|{nouns})[*_]*(?:$|\s(?=[(\[*]*(?:[A-Z]\b"
        rf"|[-$0-9])))"
        rf"|(?<![-\w])(?P<direct>{_CORRECTION if corrections else '(?!)'}){chosen}",
        re.IGNORECASE | re.MULTILINE,
    )


_SKIPPED = re.compile(_FILLER, re.IGNORECASE)
_HEADING = re.compile(
    r"^\W*(?:step|solution|explanation|calculation|part|given|method|approach|analysis"
    r"|reasoning|working|note|conclusion)s?\b",
    re.IGNORECASE,
)


def stated(text: str, marks: re.Pattern[str]) -> Iterator[AnswerMark]:
    """Give what the strong marks of a text point at, the last one first."""
    matches = list(marks.finditer(text))[-_MARKS_READ - 1 :]
    for n in range(len(matches) - 1, -1, -1):
        match = matches[n]
        if match["boxed"]:
            inside = _BOXED.match(text, match.start())
            content = inside[1] if inside else ""
            yield AnswerMark(content, content)
            continue
        mark = _behind(text, match.end(), direct=bool(match["direct"]) or bool(match["hash"]))
        if match["hash"] and _HEADING.match(mark.line):
            continue
        yield replace(mark, rival=n > 0 and _is_repeated(text, matches[n - 1], match))


def _is_repeated(text: str, one: re.Match[str], other: re.Match[str]) -> bool:
    between = text[one.end() : other.start()]
    return (
        one.group().casefold() == other.group().casefold() and len(between) < 60 and between.count("\n") == 1
    )


_DOUBT = re.compile(r"\b(?:not (?:\w+ )?(?:sure|certain)|unsure|uncertain|no idea)\b", re.IGNORECASE)


def doubts(text: str) -> bool:
    """Say whether a text says that it does not know."""
    return bool(_DOUBT.search(text))


def _behind(text: str, at: int, *, direct: bool = False) -> AnswerMark:
    if direct:
        line = text[at : at + _LINE_READ].partition("\n")[0].strip()
        return AnswerMark(line, line, direct)
    skipped = _SKIPPED.match(text, at, at + _LINE_READ)
    at = skipped.end() if skipped else at
    block = text[at : at + _BLOCK_READ].partition("\n\n")[0].partition("</")[0]
    return AnswerMark(block.partition("\n")[0][:_LINE_READ], block, direct)


def concluded(text: str) -> Iterator[tuple[str, str, str]]:
    """Give (the line before it, the mark, the rest of the line) of each conclusion, the last first."""
    for match in reversed(list(_CONCLUSION.finditer(text))[-_MARKS_READ:]):
        before = text[max(0, match.start() - _LINE_READ) : match.start()].rpartition("\n")[2]
        yield before, match.group(), text[match.end() : match.end() + _LINE_READ].partition("\n")[0]


def bold(text: str) -> list[str]:
    """Return what is set in bold type, but for headings ("**Step 1:**")."""
    found = [one or other for one, other in _BOLD.findall(text)]
    return [one.strip() for one in found if not one.rstrip().endswith(":")]
