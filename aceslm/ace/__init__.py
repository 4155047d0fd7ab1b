"""ACE: playbooks that evolve (Zhang et al. 2025, arXiv 2510.04618). This package holds the pure part.

A round of evolution in these words:

    messages = build_messages(sample, playbook.render())              # aceslm.tasks: the Generator
    messages = reflector_messages(sample, answer, labels=True)        # roles; reply -> parse_reflection
    messages = curator_messages(domain, playbook, lessons)            # roles; reply -> parse_curation
    applied = apply(playbook, curation.deltas, round_number=3, source_units=units, refuse=refuse)
    kept = maintain(applied.playbook, limits, round_number=3, count_tokens=engine.count_tokens)
    save(path, kept.playbook.advanced())                              # codec

No clock, no model and no torch here; only `codec` touches the disk.
"""
