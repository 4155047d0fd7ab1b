"""Replies that are JSON of a given schema: which schemas, where a reply stands, which tokens may follow."""
