"""Without a home folder, as in a container of another user: caches go where ATTNSEARCH_CACHE says, or nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# No home, and a package that cannot be written: where Numba would make a folder named `~`.
HOMELESS = """
import os
from pathlib import Path
real = os.access
os.access = lambda path, mode: not (mode == os.W_OK and Path(path).name == "fused") and real(path, mode)
os.path.expanduser = lambda path: os.fspath(path)
from attnsearch.train.fused import available
import numba
print(available(), numba.config.CACHE_DIR)
"""


def cache_folder(folder: Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    for name in {"ATTNSEARCH_CACHE", "NUMBA_CACHE_DIR"} - set(variables):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(folder.iterdir()) == []
    return done.stdout.strip()


def test_compiled_kernels_are_kept_where_the_cache_is(tmp_path, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    assert cache_folder(tmp_path, ATTNSEARCH_CACHE=str(cache)) == f"True {cache / 'numba'}"


def test_without_a_cache_nothing_is_compiled_and_nothing_left(tmp_path):
    assert cache_folder(tmp_path).startswith("False")
