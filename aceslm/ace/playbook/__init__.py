"""The playbook: immutable versions, typed changes, files, limits, exemplars, retrieval."""
