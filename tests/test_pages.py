"""The pages: every link leads somewhere, the README is short, and what they tell a reader to type exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import typer
from conftest import ROOT

if not (ROOT / ".git").exists():
    pytest.skip("git says which pages there are, and this is no checkout", allow_module_level=True)

README_BYTES = 8600
PACKAGES = ("aceslm", "launch")
ROOMS_WITH_A_PAGE = ("ace", "analysis", "engine", "run", "tracking")

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_TARGET = r"\(\s*<?([^)\s>]+)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
_PICTURE = re.compile(r"!\[[^\]]*\]" + _TARGET)
_LINK = re.compile(r"\[[^\]]*\]" + _TARGET)
_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
_SOURCE = re.compile(r"<(?:img|a)\b[^>]*?\b(?:src|href)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_ROOM = re.compile(r"^\| *\[?`((?:aceslm|launch)/[^`]+?)/?`", re.MULTILINE)
_PATH = re.compile(r"(?<![\w./-])(?:aceslm|launch|configs|data/tasks|sbatch|tests)/[\w./-]*\w(?:\.\w+|/)")
_LONG_OPTION = re.compile(r"--[a-z][a-z-]*")


@cache
def listed_by_git(*arguments: str) -> tuple[str, ...]:
    command = ["git", "-C", str(ROOT), "ls-files", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(result.stdout.splitlines())


def pages() -> list[str]:
    """Return every page, one that is not added yet among them."""
    names = listed_by_git("--cached", "--others", "--exclude-standard", "--", "*.md")
    return sorted({name for name in names if (ROOT / name).is_file()})


def living_pages() -> list[str]:
    """Return the pages that speak of today: a changelog names what has since been renamed."""
    return [name for name in pages() if name != "CHANGELOG.md"]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a page without its code blocks and code spans: what may hold links."""
    return _SPAN.sub("`code`", _FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Return the targets of a page's links and pictures."""
    words = prose(text)
    found = [target for shape in (_DEFINITION, _SOURCE, _PICTURE) for target in shape.findall(words)]
    return found + _LINK.findall(_PICTURE.sub("picture", words))  # a picture may stand inside a link


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        bare = re.sub(r"[^\w\- ]", "", shown.replace("`", "").lower()).strip()
        slug = bare.replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(page: str, target: str) -> str | None:
    """Return why a link of a page leads nowhere, None where it is sound or leads out of the repository."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return None
    place, _, anchor = target.partition("#")
    if place.startswith("/"):
        return "starts at the root of a machine"
    path = ((ROOT / page).parent / place).resolve() if place else ROOT / page
    if not path.is_relative_to(ROOT):
        return "leads out of the repository"
    if not path.exists():
        return "there is no such file"
    if path.is_file() and str(path.relative_to(ROOT)) not in {*pages(), *listed_by_git()}:
        return "git ignores that file"
    if anchor and (path.suffix != ".md" or anchor not in slugs(path.read_text(encoding="utf-8"))):
        return f"there is no heading '#{anchor}'"
    return None


@pytest.mark.parametrize("page", pages())
def test_every_relative_link_of_a_page_leads_somewhere(page: str) -> None:
    reasons = {target: why for target in links(read(page)) if (why := broken(page, target))}
    assert reasons == {}


def test_a_link_to_nowhere_is_found() -> None:
    text = "\n".join(
        [
            "[gone](no/such/page.md) [here](#no-such-heading) ![picture](missing.png)",
            "[![badge](gone.svg)](LICENSE) [out](../elsewhere.md) [title](nowhere.md 'a title')",
            "[ref]: missing.md",
            '<img src="gone.png"> [fine](README.md) [far](https://example.org/x.md) `[code](none.md)`',
            "```text\n[block](none.md)\n```",
        ]
    )
    found = {target for target in links(text) if broken("README.md", target)}
    assert found == {
        *("no/such/page.md", "#no-such-heading", "missing.png", "gone.svg", "../elsewhere.md"),
        *("missing.md", "gone.png", "nowhere.md"),
    }


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("The run directory", "the-run-directory"),
        ("W&B", "wb"),
        ("`aceslm run`, one cell", "aceslm-run-one-cell"),
        ("How fast is it?", "how-fast-is-it"),
        ("What [ACE](README.md) is", "what-ace-is"),
        ("top_k - and more", "top_k---and-more"),
    ],
)
def test_a_heading_has_the_anchor_that_github_gives_it(heading: str, slug: str) -> None:
    assert slugs(f"## {heading}\n") == {slug}


def test_equal_headings_are_counted_and_code_has_none() -> None:
    assert slugs("# A b\n\n## A b\n\n```console\n# no heading\n```\n") == {"a-b", "a-b-1"}


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= README_BYTES


def rooms_on_disk() -> list[str]:
    """Return the folders directly below the packages that hold modules."""
    folders = [folder for package in PACKAGES for folder in (ROOT / package).iterdir() if folder.is_dir()]
    return sorted(str(folder.relative_to(ROOT)) for folder in folders if any(folder.glob("*.py")))


def test_the_readme_lists_every_room_once() -> None:
    assert sorted(_ROOM.findall(read("README.md"))) == rooms_on_disk()


def test_every_room_with_something_to_tell_has_a_page_that_the_readme_links() -> None:
    told = [f"aceslm/{room}/README.md" for room in ROOMS_WITH_A_PAGE]
    told += ["configs/README.md", "data/README.md", "launch/README.md"]
    linked = {target.partition("#")[0] for target in links(read("README.md"))}
    assert set(told) - linked == set()
    assert {page for page in pages() if page.endswith("/README.md")} - linked == set()


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it; in a code block it is to be typed as it stands."""

    page: str
    line: str
    typed: bool


def shown_commands(page: str) -> Iterator[Shown]:
    """Yield the `aceslm ...` lines of a page's code blocks, and the code spans that begin with one."""
    text = read(page)
    for block in _FENCE.finditer(text):
        joined = re.sub(r"\\\n\s*", " ", block[0])
        lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
        yield from (Shown(page, line, True) for line in lines if line.startswith("aceslm "))
    for span in _SPAN.finditer(_FENCE.sub("", text)):
        line = " ".join(span[2].split())
        if line.startswith("aceslm "):
            yield Shown(page, line, False)


ALL_COMMANDS = [shown for page in living_pages() for shown in shown_commands(page)]


def fault(shown: Shown) -> str | None:
    """Return what is wrong with a shown command, None where it could be typed."""
    words = shlex.split(shown.line, comments=True)[1:]
    words = words[: next((n for n, word in enumerate(words) if word in {">", "|", "&&", ";"}), len(words))]
    from launch.cli import app

    verb: Any = typer.main.get_command(app)
    while hasattr(verb, "commands"):
        if words == ["--help"]:
            return None
        if not words or words[0] not in verb.commands:
            return f"there is no verb '{words[0] if words else ''}'"
        verb = verb.commands[words.pop(0)]
    options = {name: one for one in verb.params for name in (*one.opts, *one.secondary_opts)}
    places = [one for one in verb.params if one.param_type_name == "argument"]
    given: set[str] = {"--help"} & set(words)
    free = 0
    words = [word for word in words if word != "--help"]
    while words:
        name, equals, _ = words.pop(0).partition("=")
        if not name.startswith("-"):
            free += 1
        elif name not in options:
            return f"'{verb.name}' has no option '{name}'"
        else:
            given.add(options[name].name)
            if not options[name].is_flag and not equals and not words:
                return f"option '{name}' wants a value"
            if not options[name].is_flag and not equals:
                words.pop(0)
    if free > sum(one.nargs for one in places) and all(one.nargs > 0 for one in places):
        return f"'{verb.name}' does not take {free} arguments"
    if shown.typed and "--help" not in given:
        needed = [one.name for one in verb.params if one.required and one not in places]
        if missing := [name for name in needed if name not in given]:
            return f"'{verb.name}' needs {', '.join(missing)}"
        if free < sum(one.required for one in places):
            return f"'{verb.name}' needs an argument"
    return None


@pytest.mark.parametrize("shown", ALL_COMMANDS, ids=lambda shown: f"{shown.page}: {shown.line[:60]}")
def test_a_command_that_a_page_shows_has_a_verb_and_options_that_exist(shown: Shown) -> None:
    assert fault(shown) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("aceslm submitt configs/quickstart.yaml", "no verb 'submitt'"),
        ("aceslm data export x", "no verb 'export'"),
        ("aceslm submit configs/quickstart.yaml --dryrun", "no option '--dryrun'"),
        ("aceslm status results/a results/b", "does not take 2 arguments"),
        ("aceslm submit configs/quickstart.yaml --limit", "wants a value"),
        ("aceslm summarize", "needs input_dir"),
        ("aceslm retry", "needs an argument"),
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line: str, reason: str) -> None:
    assert reason in (fault(Shown("README.md", line, True)) or "")


def test_every_page_that_tells_what_to_type_was_looked_at() -> None:
    counted = Counter(shown.page for shown in ALL_COMMANDS if shown.typed)
    telling = {"README.md", "launch/README.md", "data/README.md", "aceslm/ace/README.md"}
    assert telling <= counted.keys()
    assert counted["README.md"] >= 6


def code_of(page: str) -> list[str]:
    """Return the code blocks and code spans of a page."""
    text = read(page)
    spans = [span[2] for span in _SPAN.finditer(_FENCE.sub("", text))]
    return [*(block[0] for block in _FENCE.finditer(text)), *spans]


@pytest.mark.parametrize("page", living_pages())
def test_an_option_that_a_page_names_belongs_to_some_verb(page: str) -> None:
    spans = [span[2] for span in _SPAN.finditer(_FENCE.sub("", read(page)))]
    named = {match[0] for span in spans if (match := _LONG_OPTION.match(span))}
    assert named - every_option() == set()


def every_option() -> set[str]:
    from launch.cli import app

    found = {"--help"}
    waiting: list[Any] = [typer.main.get_command(app)]
    while waiting:
        verb = waiting.pop()
        waiting += getattr(verb, "commands", {}).values()
        found |= {name for one in verb.params for name in (*one.opts, *one.secondary_opts)}
    return found


@pytest.mark.parametrize("page", living_pages())
def test_a_file_of_the_repository_that_a_page_names_is_there(page: str) -> None:
    text = "\n".join(code_of(page))
    made = set(re.findall(r"> *(\S+)", text))  # a command on the page writes it
    named = {match[0] for match in _PATH.finditer(text)}
    absent = [name for name in sorted(named - made) if not (ROOT / name).exists() and not ignored(name)]
    assert absent == []


def ignored(name: str) -> bool:
    command = ["git", "-C", str(ROOT), "check-ignore", "--quiet", name]
    return subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("page", living_pages())
def test_a_target_of_make_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {name for code in code_of(page) for name in re.findall(r"^(?:\$ )?make ([a-z-]+)", code, re.M)}
    assert named - targets == set()
