"""Published shards -> results.parquet; progress; repair."""
