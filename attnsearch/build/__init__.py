"""An arch as an `nn.Module`: the host (a ResNet) with its blocks, or blocks inserted into your own model."""
