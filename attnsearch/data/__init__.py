"""Data sets as uint8 arrays: `open_data` for a search, `open_test` for the one look at the test split.

`attnsearch.data.batches` moves a split to a device; nothing else here needs torch.
"""

from __future__ import annotations

from attnsearch.data.dataset import Data, Split
from attnsearch.data.open import open_data, open_test, rows_of, subset
from attnsearch.data.shipping import open_shipped

__all__ = ["Data", "Split", "open_data", "open_shipped", "open_test", "rows_of", "subset"]
