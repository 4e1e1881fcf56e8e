"""A Ray cluster of two nodes on the loopback of a network namespace of its own; run by tests/test_ray.py.

    unshare -n python tests/ray_cluster.py FOLDER

A search on both nodes, one of which is killed and replaced three times; the same search on one local worker, and on
one place of the cluster. Prints counts as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

from ray.cluster_utils import Cluster  # noqa: E402  # loopback first

from attnsearch.core.settings import Settings  # noqa: E402
from attnsearch.space.space import load_space  # noqa: E402
from attnsearch.study.observer import Observer  # noqa: E402
from attnsearch.study.run import Run  # noqa: E402

TINY = """
question: Does a tiny host want a gate?
host: {name: resnet8, width: 4}
stages: {attention: [none, se, eca, gct, simam]}
recipe: {epochs: 30, lr: 0.1, batch_size: 32, train_images: 256}
"""
TRIALS, KILLS = 24, 3
MEMORY = 80 * 2**20


class Killer(Observer):
    """Kills a node after every fourth finished trial and starts another, on the main thread as Ray wants it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.kills, self.complete = cluster, 0, 0
        self.nodes = [self.add(), self.add()]

    def add(self):
        return self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)

    def trial_ended(self, row) -> None:
        self.complete += row.state == "complete"
        if self.kills < KILLS and self.complete >= 4 * (self.kills + 1):
            self.kills += 1
            self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
            self.nodes.append(self.add())


def search(folder: Path, name: str, observer: Observer, **more):
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    settings = Settings(
        data="digits",
        out=folder / name,
        device="cpu",
        sampler="random",
        confirm=0.0,
        pruner="none",
        trials=TRIALS,
        **more,
    ).check()
    return Run(load_space(path), settings, observer).execute().record.trials


def main() -> None:
    folder = Path(sys.argv[1])
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    killer = Killer(cluster)
    ray = {"engine": "ray", "address": cluster.address, "patience": 120.0}
    rows = search(folder, "nodes", killer, **ray)
    alone = search(folder, "local", Observer(), workers=1)
    one = search(folder, "one", Observer(), workers=1, **ray)
    finished = [row for row in rows if row.state == "complete"]
    cells = Counter((row.key, row.seed) for row in finished)
    errors = {(row.key, row.seed): row.error for row in alone}
    common = [row for row in finished if (row.key, row.seed) in errors]
    print(
        json.dumps(
            {
                "trials": TRIALS,
                "kills": killer.kills,
                "finished": len(finished),
                "lost": sum(row.lost for row in rows),
                "twice": sum(n > 1 for n in cells.values()),
                "common": len(common),
                "other_errors": sum(row.error != errors[row.key, row.seed] for row in common),
                "one_place_differs": sum(
                    (a.key, a.seed, a.error) != (b.key, b.seed, b.error)
                    for a, b in zip(one, alone, strict=True)
                ),
            }
        )
    )
    cluster.shutdown()


if __name__ == "__main__":
    main()
