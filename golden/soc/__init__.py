"""The accelerator: units behind AXI4, driven by lists of jobs in memory."""
