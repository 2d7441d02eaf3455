"""The one training loop, checkpoints, and runs on disk."""
