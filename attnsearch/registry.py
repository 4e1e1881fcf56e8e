"""The decorator for blocks of your own, under the name that plug-in files import it by."""

from attnsearch.blocks.registry import block

__all__ = ["block"]
