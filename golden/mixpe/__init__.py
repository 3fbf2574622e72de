"""Mixed-precision GEMM as MixPE does it (arXiv 2411.16158): integer group sums first, dequantisation after."""
