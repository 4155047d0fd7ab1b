"""The YAML files a user writes, read strictly: grids, registries, cluster profiles."""
