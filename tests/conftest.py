"""One thread for each test process: the suite runs two beside each other, and on networks as small as the tests'
a second thread mostly waits, the longer the busier the machine."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # read once, when torch is imported: by the test modules, after this
