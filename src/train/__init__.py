"""Model and batches in, a tracked run with a checkpoint out."""
