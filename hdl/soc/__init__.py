"""The accelerator: registers, sequencer, DMA, and the units behind it."""
