"""What all tests share."""

import os

# Threads of BLAS wait for one another by spinning: on small arrays, beside other tests, they cost six times the work.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

pytest_plugins = ["langchain_stormtrooper.testing.fixtures"]
