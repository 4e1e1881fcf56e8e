"""Networks beside the host's ResNet, which the neck of `blocks/pmfs.py` also stands in; no search builds them."""
