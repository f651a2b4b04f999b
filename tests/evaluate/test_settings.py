from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.config import UserError
from shopkeeper.evaluate.settings import AuditConfig


@pytest.mark.parametrize("override", ["values=0", "shuffle.resamples=0", "warn_above.tied_times=1.5"])
def test_what_is_out_of_range_is_named(compose: Callable[..., Any], override: str) -> None:
    with pytest.raises(UserError, match=override.split("=")[0]):
        compose("audit", AuditConfig, "prepared=p", override)
