"""A network to take away: one Python file without attnsearch, weights, and graphs, each proved equal.

    choose(record, "best")                   which training of a study    package.py
    pack(row, info, folder) -> Package      its files
    source(arch) -> text                     the Python file              source.py, definitions.py

`source` is not imported here: it needs torch, and a mistyped format is answered without.
"""

from __future__ import annotations

from attnsearch.export.package import FORMATS, Package, check_formats, choose, pack, run_onnx, to_onnx

__all__ = ["FORMATS", "Package", "check_formats", "choose", "pack", "run_onnx", "to_onnx"]
