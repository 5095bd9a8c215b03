from __future__ import annotations

import pickle

import pytest

from polar_env.errors import PolarError, TraceError, UnknownNameError


@pytest.mark.parametrize("error", [UnknownNameError("model", "x", ["y"], "Or z."), TraceError("damaged")])
def test_errors_come_back_from_a_worker_s_process(error: PolarError) -> None:
    """Whatever arguments their constructors take."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
