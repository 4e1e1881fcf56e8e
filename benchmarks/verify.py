"""Are the committed studies repeatable? One training of each, drawn at random, is run again and its error compared.

    python -m benchmarks.verify                                   the studies whose images come with attnsearch
    python -m benchmarks.verify --files FOLDER                    also those on files found under FOLDER by name
    python -m benchmarks.verify --study pretrained --seed 3       one study; another draw

Errors are equal to the last digit on the same kind of processor with the same versions; a processor without AMX or
another version of torch adds in another order. The exit code is 1 where an error differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from attnsearch.core.errors import AttnsearchError, UsageError
from attnsearch.core.machine import versions
from attnsearch.core.messages import DataSource, Job
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Weights
from attnsearch.cost.cost_table import CostTable
from attnsearch.space.arch import Arch, plain
from attnsearch.space.space import Space
from attnsearch.study.ablation import laid_out, positive_control
from attnsearch.study.coordinator import images_of
from attnsearch.study.study import data_of, space_of
from attnsearch.train.worker import Worker

RESULTS = Path(__file__).parent.parent / "results"
EMBEDDED = ("cued-digits", "cluttered-digits", "digits")  # made without a file


class Missing(Exception):
    """A file that the study needs is not at hand."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", type=Path, help="a folder with the images and the checkpoints, under any names"
    )
    parser.add_argument("--study", help="a folder under results; all when left out")
    parser.add_argument("--seed", type=int, help="of the draw; printed, so that it can be repeated")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000) if args.seed is None else args.seed
    print(f"draw of seed {seed}")
    torch.set_num_threads(1)  # as in a worker
    folders = sorted(path.parent for path in RESULTS.glob("*/provenance.json"))
    chosen = [folder for folder in folders if args.study in (None, folder.name)]
    if not chosen:
        sys.exit(f"no study '{args.study}' under {RESULTS}; there are {', '.join(f.name for f in folders)}")
    equal = [verify(folder, args.files, random.Random(f"{seed} {folder.name}")) for folder in chosen]
    sys.exit(0 if all(equal) else 1)


def verify(folder: Path, files: Path | None, chooser: random.Random) -> bool:
    """Train one finished trial of a study again and print both errors; whether they are equal, or nothing was run."""
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["facts"]
    record = StudyRecord(folder.name, facts, ())
    rows = pd.read_csv(folder / "trials.csv", keep_default_na=False)
    rows = rows[rows["state"] == "complete"]
    row = rows.iloc[chooser.randrange(len(rows))].to_dict()
    try:
        job, source = job_of(record, row, files)
    except Missing as missing:
        print(f"{folder.name}: skipped, {missing}")
        return True
    except AttnsearchError as error:
        print(f"{folder.name}: {error}")
        return False
    outcome = Worker(source, "cpu").run(job, lambda progress: True)
    label = f"{folder.name}: trial {row['trial']}, {row['arch']}, seed {row['seed']}"
    if outcome.state != "complete":
        print(f"{label}: {outcome.reason}")
        return False
    then, now = float(row["error_pct"]), outcome.curve[-1].val_error
    same = abs(then - now) < 1e-9
    moved = "" if same else f"; versions then {dict(record.info.run.versions or {})}, now {versions()}"
    print(f"{label}: error {then:.4f} % then, {now:.4f} % now, {'equal' if same else 'NOT EQUAL'}{moved}")
    return same


def job_of(record: StudyRecord, row: dict[str, Any], files: Path | None) -> tuple[Job, DataSource]:
    """The training of a row, and its images where they are now.

    Raises:
        Missing: images or weights are not under `files`. DataError: the images are others.
        UsageError: the study has no such arch.
    """
    info = record.info
    data = info.images
    name = data.name if data.name in EMBEDDED else str(found(Path(data.name).name, files))
    data_of(replace(data, name=name))  # refuses images of another fingerprint
    weights = None
    if info.weights is not None:
        file = found(Path(info.weights.path).name, files)
        weights = Weights(str(file), info.weights.sha256)
    recipe, half = images_of(row["role"], info.search.confirmed_on, info.recipe)
    recipe = replace(recipe, epochs=int(row["epochs"]))
    spec = arch_of(space_of(record), record, str(row["key"]), str(row["arch"])).to_dict()
    job = Job(0, spec, int(row["seed"]), recipe, val_half=half, weights=weights)
    return job, DataSource(name, data.options)


def arch_of(space: Space, record: StudyRecord, key: str, text: str) -> Arch:
    """The arch of a key among those that a study trains: of its design, its controls, or its space by name.

    Where a block has got an option since, keys are others; then the arch that is written alike is meant.
    """
    for arch in archs(space, record, text):
        if arch.key == key or str(arch) == text:
            return arch
    raise UsageError(f"study '{record.name}': no arch of the space has the key {key} ({text})")


def archs(space: Space, record: StudyRecord, text: str) -> Iterator[Arch]:
    """Those that a key may stand for; a design's own costs nothing but counting."""
    yield plain(space.host)
    yield positive_control(space)
    data = record.info.images
    if record.info.design is not None:
        design = record.info.design
        settings = Settings(design=design.kind, seeds=design.seeds, seed=record.info.run.seed)
        table = CostTable(space, data.image, len(data.classes))
        yield from (variant.arch for variant in laid_out(space, table, settings)[1].values())
    else:
        yield space.arch({**(space.choice(space.baseline()) or {}), **space.named(text)})


def found(name: str, files: Path | None) -> Path:
    """The one file of that name under a folder; which one it is, hashes and fingerprints tell."""
    where = sorted(files.rglob(name)) if files is not None else []
    if not where:
        raise Missing(f"{name} is not {'named: use --files FOLDER' if files is None else f'under {files}'}")
    return where[0]


if __name__ == "__main__":
    main()
