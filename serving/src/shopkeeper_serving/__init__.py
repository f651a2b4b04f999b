"""Answer visitors from a shopkeeper bundle: `Predictor.load(path).predict(events)`, and an HTTP service over it."""
