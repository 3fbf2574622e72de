"""Hardware of K-Means index GEMM: clustering, index GEMM, functions of indices."""
