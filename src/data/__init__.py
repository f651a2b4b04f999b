"""Raw logs in, batches out: sources -> events -> sessions -> split -> prepared -> batches."""
