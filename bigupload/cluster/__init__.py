"""Parts on the machines of a Dask cluster: workers hash ranges of a file and PUT them to presigned URLs.

The coordinator, which is the process that uploads, runs the engine as always. `transport` gives the engine its two
doors, and `worker_side` is what runs in the workers. May import the engine, `http`, `sources` and what is below them.
Only `_compat` and `local_cluster` import Dask, and only when somebody asks for a cluster.
"""
