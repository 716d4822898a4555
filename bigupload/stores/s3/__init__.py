"""S3: create, presign, list, complete and abort, for any store that speaks S3.

A module here may import `http`, `core`, `support`, `ports`, `options`, `errors` and `units`, and not
`stores.service_client`.
"""
