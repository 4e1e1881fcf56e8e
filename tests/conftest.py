"""What the tests take from the caller's environment: nothing that changes what is said, or where.

One thread for each test process: the suite runs two beside each other, and on networks as small as the tests'
a second thread mostly waits, the longer the busier the machine.
"""

from __future__ import annotations

import os

SPEAKS = (
    "ATTNSEARCH_STORAGE",
    "ATTNSEARCH_CACHE",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
)
for name in SPEAKS:
    os.environ.pop(name, None)
# Read once, when torch is imported: by the test modules, after this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
