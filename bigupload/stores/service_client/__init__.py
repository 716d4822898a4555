"""The media service's API as a store, with an API key in place of credentials.

A module here may import `http`, `core`, `support`, `ports`, `options`, `errors` and `units`, and not `stores.s3`.
"""
