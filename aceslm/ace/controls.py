"""Playbooks and samples for the control modes: does *any* text help, does learning from noise?

    ace_shuffled   length_matched(adapted, other_task_playbook, count_tokens)
    ace_neutral    neutral(adapted, count_tokens)        true sentences that help with nothing
    ace_placebo    permuted_golds(adapt_samples, seed)   what the Reflector sees: golds of other samples

A control keeps the ids and the number of bullets of the playbook that it stands in for, so that length and
layout of the prompt are the same. Exemplars: `ace_shuffled` has its donor's, `ace_neutral` none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.ace.playbook.limits import CountTokens
from aceslm.core.digests import digest
from aceslm.core.values import Sample

_NEUTRAL_SENTENCES = (
    "Rivers carry sand to the sea and leave it where the water slows.",
    "A bicycle stays upright more easily when it moves.",
    "Bees visit many flowers on a warm morning.",
    "Old roads often follow the edge of a valley.",
    "Wool keeps its warmth even when it is damp.",
    "The moon shows the same side all the time.",
    "Bread rises because yeast gives off gas.",
    "Many birds fly south before the cold arrives.",
)


@dataclass(frozen=True, slots=True)
class Control:
    """A control's playbook, with the lengths of both texts in tokens."""

    playbook: Playbook
    tokens: int
    target_tokens: int


def length_matched(target: Playbook, donor: Playbook, count_tokens: CountTokens) -> Control:
    """Replace every bullet of `target` by the donor's bullet nearest in tokens, each used once.

    A donor with fewer bullets is used over again. Sections come from the donor too: a section's name says
    something about its task. Where the gate refused all of the donor's bullets they serve as well: any text
    of another task will do. A donor without a single bullet leaves nothing to show: an empty playbook.
    """
    lent = donor.shown or donor.bullets
    if not lent:
        return _control(target.with_exemplars(donor.exemplars), (), count_tokens)
    lengths = {bullet.bullet_id: count_tokens(bullet.text) for bullet in lent}
    unused: list[Bullet] = []
    bullets = []
    for bullet in target.shown:
        unused = unused or list(lent)
        wanted = count_tokens(bullet.text)
        taken = min(unused, key=lambda one: (abs(lengths[one.bullet_id] - wanted), one.number))
        unused.remove(taken)
        bullets.append(_stand_in(bullet, taken.section, taken.text))
    return _control(target.with_exemplars(donor.exemplars), bullets, count_tokens)


def neutral(target: Playbook, count_tokens: CountTokens) -> Control:
    """Replace every bullet of `target` by neutral sentences, word by word up to its length in tokens."""
    bullets = []
    for position, bullet in enumerate(target.shown):
        wanted = count_tokens(bullet.text)
        start = position % len(_NEUTRAL_SENTENCES)
        words = " ".join(_NEUTRAL_SENTENCES[start:] + _NEUTRAL_SENTENCES[:start]).split()
        text = words[0]
        position_in_words = 1
        while count_tokens(text) < wanted:
            text = f"{text} {words[position_in_words % len(words)]}"
            position_in_words += 1
        bullets.append(_stand_in(bullet, "notes", text))
    return _control(target.with_exemplars(()), bullets, count_tokens)


def permuted_golds(samples: Iterable[Sample], seed: int) -> tuple[Sample, ...]:
    """Return the samples with golds passed around within equal answer types and label sets.

    Each gets the gold (with its scale) of another sample; gold frequencies stay. A sample that is alone in
    its group is left out: it could only keep its own gold. Choice options stay, their right letter moves.
    """
    samples = tuple(samples)
    groups: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        shape: object = len(sample.choices) if sample.answer_type == "choice" else sample.choices
        groups.setdefault((sample.answer_type, shape), []).append(sample)
    given: dict[str, Sample] = {}
    for members in groups.values():
        ordered = sorted(members, key=lambda one: digest("placebo", seed, one.sample_id))
        for sample, donor in zip(ordered, ordered[1:] + ordered[:1], strict=True):
            if donor is not sample:
                given[sample.sample_id] = replace(sample, answer=donor.answer, scale=donor.scale)
    return tuple(given[sample.sample_id] for sample in samples if sample.sample_id in given)


def _stand_in(bullet: Bullet, section: str, text: str) -> Bullet:
    return Bullet(bullet.bullet_id, section, text, created=bullet.created, last_used=bullet.created)


def _control(target: Playbook, bullets: Iterable[Bullet], count_tokens: CountTokens) -> Control:
    playbook = target.with_bullets(bullets)
    return Control(playbook, count_tokens(playbook.render()), count_tokens(target.render()))
