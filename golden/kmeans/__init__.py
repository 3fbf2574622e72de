"""K-Means indices on both sides of a GEMM (KLLM, later OASIS): schemes, specifications and bit-true models."""
