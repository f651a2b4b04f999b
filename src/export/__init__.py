"""A finished run in, a bundle out: the only thing serving reads."""
