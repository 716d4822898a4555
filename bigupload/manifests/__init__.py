"""The manifest's file: append, fsync, lock, damaged tails.

A module here may import `core`, `support`, `ports`, `errors` and `units`. It knows nothing of stores, HTTP or sources.
"""
