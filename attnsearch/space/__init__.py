"""A question as a YAML file, the architectures (archs) it allows, and their canonical form."""
