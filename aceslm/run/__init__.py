"""A shard is worked on: answered or evolved, flushed as parts, published."""
