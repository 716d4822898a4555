"""The sources of uploads. Each module implements `ports.Source`.

A module here may import `core`, `support`, `ports`, `errors` and `units`. It knows nothing of stores, HTTP or manifest
files.
"""
