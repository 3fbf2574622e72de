"""Mixture of experts: blocks of the units that choose experts and compute them."""
