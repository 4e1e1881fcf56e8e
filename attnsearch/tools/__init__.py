"""What stands beside a study: the block check, the environment check, the catalogue of blocks and spaces."""
