"""Session checkpoints, step logs and results as bytes under string keys."""
