"""Strip: an architecture as one cell for each stage, short enough for a line and ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NOTHING = "·"
BAR = " | "


@dataclass(frozen=True)
class StripCell:
    """What stands in one stage; two that look alike are equal.

    Args:
        stage: the stage's name.
        block: what it is coloured by: names of blocks; empty where nothing was put in.
        text: block and options in the study's short notation, as `cbam r4 parallel`; empty where nothing was put in.
        units: for each residual unit of the stage, whether it carries a block; empty where that is not known.
        after: whether the block stands behind the stage's last unit and not in its units.
        options: block, option and value of all that is recorded, defaults among them.
    """

    stage: str
    block: str = ""
    text: str = ""
    units: tuple[bool, ...] = ()
    after: bool = False
    options: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Strip:
    """An architecture for people.

    Args:
        cells: one for each stage.
        label: its full spelling.
        name: what a design calls it, where that says more than the cells.
        role: baseline, or which control it is; empty for what the study asks about.
        widths: the stages' widths where they are not the host's own, as `7-14-28`.
    """

    cells: tuple[StripCell, ...]
    label: str
    name: str = ""
    role: str = ""
    widths: str = ""

    def __str__(self) -> str:
        """`cbam r4 | · | se`, on one line, and what it is there for."""
        return f"{self.short} ({self.role})" if self.role and self.role != self.name else self.short

    @property
    def short(self) -> str:
        """The cells on one line, or the name."""
        if self.name:
            return self.name
        return f"{self._joined()}, widths {self.widths}" if self.widths else self._joined()

    @property
    def texts(self) -> tuple[str, ...]:
        """What the cells say; empty where nothing was put in anywhere."""
        texts = tuple(cell.text for cell in self.cells)
        return texts if any(texts) else ()

    def _joined(self) -> str:
        texts = self.texts
        if not texts:
            return "plain"
        if len(texts) > 1 and len(set(texts)) == 1:
            return f"all stages: {texts[0]}"
        return BAR.join(text or NOTHING for text in texts)

    def lines(self, width: int) -> Iterator[str]:
        """On as many lines as it takes, broken between cells alone; a single cell may be longer than `width`."""
        line = ""
        for piece in str(self).split(BAR):
            joined = f"{line}{BAR}{piece}" if line else piece
            if line and len(joined) > width - len(BAR.rstrip()):
                yield f"{line}{BAR.rstrip()}"
                joined = piece
            line = joined
        yield line
