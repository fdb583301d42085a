"""Run folders, checkpoints and training that can be killed at any moment and taken up again."""
