"""Tools for tests of uploads. `plugin` has the fixtures for pytest, see `docs/testing.md`.

`strict_s3` is a strict fake of AWS S3, `fault_proxy` a proxy that breaks exchanges with a real store, `faults` the
faults of both, `named_faults` the same by names. None of them imports the rest of bigupload: a fake that shared
code with the uploader would share its mistakes, and no test would notice them.
"""
