"""The configuration of every stage: values in YAML, composed by Hydra, checked by `shopkeeper.config`."""
