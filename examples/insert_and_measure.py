"""A gate in a model that attnsearch did not build: what it costs, and that it starts as the identity.

python examples/insert_and_measure.py
"""

import torch

import attnsearch

# Any ResNet in the layout of torchvision or timm will do; this one needs neither.
model = attnsearch.create_model("resnet18", num_classes=10).eval()
images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
before, plain = model(images), attnsearch.measure(model, (3, 64, 64))

attnsearch.insert(model, "cbam", stages=(3, 4), init="identity")
after, gated = model(images), attnsearch.measure(model, (3, 64, 64))

print(f"largest change of an output: {(after - before).abs().max():.1e}")
print(f"parameters {plain.params:,} -> {gated.params:,}, {gated.params / plain.params - 1:+.2%}")
print(f"MACs       {plain.macs:,} -> {gated.macs:,}, {gated.macs / plain.macs - 1:+.2%}")
print(
    f"bytes      {plain.bytes_moved:,} -> {gated.bytes_moved:,}, {gated.bytes_moved / plain.bytes_moved - 1:+.2%}"
)
