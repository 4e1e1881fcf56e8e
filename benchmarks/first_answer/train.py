"""One training of the embedded data, as a line of JSON: `python -m benchmarks.first_answer.train --help`."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from attnsearch.build.resnet import build
from attnsearch.core.trial import Recipe
from attnsearch.data import open_data
from attnsearch.space.arch import Arch
from attnsearch.train.fit import fit
from attnsearch.train.images import device_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", default="none")
    parser.add_argument("--widths", default="16-32-64")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    widths = [int(width) for width in args.widths.split("-")]
    host: dict[str, Any] = {"name": "resnet8", "unit": "single", "widths": widths}
    arch = Arch.from_dict({"host": host, "stages": [{"attention": args.block}]})
    recipe = Recipe(args.epochs, args.batch, optimizer="adamw", lr=0.015, warmup=0.15)
    began = time.process_time()
    data = device_data(open_data("cued-digits"), recipe, "cpu")
    history = fit(build(arch, seed=args.seed), data, recipe, seed=args.seed)
    print(json.dumps({**vars(args), "error": history[-1].val_error, "cpu_s": time.process_time() - began}))


if __name__ == "__main__":
    main()
