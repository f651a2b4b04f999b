"""Settings for all tests; a fixture belongs here only when tests of more than one package use it."""

import os

# Before torch is imported: two test processes share two cores, and one thread each keeps sums reproducible.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may call out; MLflow would report its use.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
