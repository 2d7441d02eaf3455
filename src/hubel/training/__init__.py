"""Recipes, the one training loop, checkpoints, and runs on disk.

Nothing is imported here, so that a recipe can be read without torch.
"""
