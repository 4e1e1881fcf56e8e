"""Three blocks against the plain host on the same seeds, with a verdict on each. A minute on two cores.

python examples/ablation.py
"""

from pathlib import Path

import attnsearch

SPACE = """
question: Does a gate help a small ResNet to read 8x8 digits?
host: {name: resnet8, width: 8}
tied: true
stages:
  attention: [none, se, eca, simam]
recipe: {epochs: 2, lr: 0.1, batch_size: 64}
"""

if __name__ == "__main__":  # workers are processes of their own, which import this file
    path = Path("digits.yaml")
    path.write_text(SPACE, encoding="utf-8")
    study = attnsearch.run(path, data="digits", design="add", seeds=3, margin=2.0)
    table = study.verdicts()
    print("Percentage points better than the plain host, with simultaneous 95 % intervals:")
    for row in table[table["control"] == "no"].itertuples():
        low, high = row.over_baseline_points_low, row.over_baseline_points_high
        print(f"  {row.arch:30} {row.verdict:12} {row.over_baseline_points:+.2f} ({low:+.2f} to {high:+.2f})")
