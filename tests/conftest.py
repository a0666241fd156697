"""What all tests share."""

import gc
import os

import pytest

# Threads of BLAS wait for one another by spinning: on small arrays, beside other tests, they cost six times the work.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

pytest_plugins = ["langchain_stormtrooper.testing.fixtures"]


@pytest.fixture(scope="module", autouse=True)
def _forget_earlier_modules() -> None:
    """Collections pass over what earlier modules have left in the process: looking at it takes seconds each time."""
    gc.collect()
    gc.freeze()
