"""Hubel: a workbench for convolutional neural networks."""
