"""Performs what `core` decides: creates the multipart upload, sends its parts, resumes, completes and proves it.

A module here may import `core`, `support`, `events`, `ports`, `errors` and `units`. It reaches files, stores and
sockets through the Protocols of `ports` alone, so that a test can replace each of them.
"""
