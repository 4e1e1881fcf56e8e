"""Training one network: the loop, the worker processes that run it, and the fused kernels that speed it up."""
