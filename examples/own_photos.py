"""From a folder of photos to a network as plain PyTorch. The photos here are drawn; put yours in their place.

python examples/own_photos.py [FOLDER]
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def draw(folder: Path, per_class: int = 60) -> None:
    """Discs and squares of any colour on noise, a folder each."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for shape in ("disc", "square"):
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            y, x, radius = (*rng.uniform(9, 23, 2), rng.uniform(4, 8))
            away = (np.abs(rows - y), np.abs(columns - x))
            inside = np.hypot(*away) < radius if shape == "disc" else np.maximum(*away) < 0.89 * radius
            pixels = rng.normal(110, 40, (32, 32, 3))
            pixels[inside] = rng.uniform(0, 255, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / shape / f"{i}.png")


def attnsearch(*words: str) -> None:
    print("$ attnsearch", *words, flush=True)
    subprocess.run([sys.executable, "-m", "attnsearch", *words], check=True)


if __name__ == "__main__":
    photos = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("photos")
    if not photos.exists():
        draw(photos)
    attnsearch("check", "--data", str(photos))
    attnsearch(
        *("run", "--host", "resnet8", "--blocks", "se,eca", "--data", str(photos)),
        *("--study", "photos", "--seeds", "2", "--epochs", "2", "--batch-size", "16"),
    )
    attnsearch("export", "photos", "--trial", "best")
