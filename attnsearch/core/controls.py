"""Names of the controls whose result is known beforehand to be worse, as studies keep them."""

from __future__ import annotations

NARROW = "narrow host"
HALF_IMAGES = (
    "half of the images"  # where no narrower host can be had: given weights, a model of the user's own
)
POSITIVE = (NARROW, HALF_IMAGES)
