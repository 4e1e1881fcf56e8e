"""The training images that a study kept, for its page."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attnsearch.core.augmentations import MIXES
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.text import many


@dataclass(frozen=True)
class Samples:
    """Training images: the address of their picture, and what they are in words."""

    source: str
    alt: str
    caption: str


def samples(info: StudyInfo) -> Samples | None:
    """None where the study kept none, or none that is a picture."""
    stored = info.samples
    if (
        stored is None
        or stored.kind not in ("png", "jpeg")
        or not re.fullmatch(r"[A-Za-z0-9+/]+=*", stored.data)
    ):
        return None
    size = "x".join(map(str, reversed(info.images.image[1:])))
    changed = f"after {', '.join(stored.augment)}" if stored.augment else "not augmented"
    mixed = " before they were mixed" if any(name.split("=")[0] in MIXES for name in stored.augment) else ""
    caption = (
        f"{many(len(stored.classes), 'training image')} of {size} pixels as a network sees them, {changed}; "
        f"classes{mixed}: {', '.join(stored.classes)}."
    )
    return Samples(f"data:image/{stored.kind};base64,{stored.data}", "Training images in a row", caption)
