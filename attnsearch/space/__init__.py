"""A question as a YAML file, the architectures (archs) it allows, and their canonical form."""

from attnsearch.space.space import Space, load_space, read_space

__all__ = ["Space", "load_space", "read_space"]
