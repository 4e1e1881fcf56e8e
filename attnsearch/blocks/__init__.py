"""One file per block; a new one is found by being here (`attnsearch.blocks.registry`)."""
