"""Mixture of experts: specifications and bit-true models."""
