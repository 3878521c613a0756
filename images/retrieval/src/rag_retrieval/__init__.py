"""Layer 4: hybrid retrieval, rerank, cited answers, audit."""

import os

# Before NumPy is loaded: its threads spin on MaxSim's small products and take the cores from
# the other requests and from the database (measured on two busy cores: a third of the requests/s).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
