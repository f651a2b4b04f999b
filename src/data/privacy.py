"""Pseudonyms: ids of persons, sessions and orders as hashes under a secret key, from the door on."""

import hashlib
import os

import ibis.expr.types as ir

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.settings import PrivacyConfig
from shopkeeper.data.sources import Source

PERSONAL = (s.USER, s.SESSION, s.ORDER)
LETTERS = 32
"""Hexadecimal digits that are kept of a hash: 128 bits."""


def secret_of(config: PrivacyConfig) -> str | None:
    """The secret under which ids are hashed; None where they are kept.

    Raises:
        UserError: when the environment variable is named but holds nothing.
    """
    if config.key_variable is None:
        return None
    secret = os.environ.get(config.key_variable, "")
    if not secret:
        raise UserError(f"data.privacy.key_variable: the environment variable {config.key_variable} is not set")
    return secret


def pseudonym(value: ir.Value, secret: str) -> ir.Value:
    """A keyed hash of text: sha256(secret : sha256(secret : value)), nested so that hashes cannot be extended."""
    inner = (secret + ":" + value).hexdigest("sha256")
    return (secret + ":" + inner).hexdigest("sha256").substr(0, LETTERS)


def pseudonym_of(value: str, secret: str) -> str:
    """The same in Python, for one value."""
    inner = hashlib.sha256(f"{secret}:{value}".encode()).hexdigest()
    return hashlib.sha256(f"{secret}:{inner}".encode()).hexdigest()[:LETTERS]


def with_pseudonyms(source: Source, secret: str) -> None:
    """Replace the personal ids of every table of a log; the same id gets the same pseudonym everywhere."""

    def hidden(table: ir.Table, *columns: str) -> ir.Table:
        return table.mutate(**{c: pseudonym(table[c], secret) for c in columns if c in table.columns})

    source.events = hidden(source.events, *PERSONAL)
    source.users = hidden(source.users, s.USER) if source.users is not None else None
    source.identities = hidden(source.identities, s.USER, s.ALIAS) if source.identities is not None else None
