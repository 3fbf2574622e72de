"""Mixture of experts: a dense SwiGLU network split into shared and routed experts without training."""
