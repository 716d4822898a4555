"""The stores that uploads go to.

`s3` and `service_client` implement `ports.MultipartStore`. `local_store` runs a store on this machine. `targets` makes
the store from `s3://…`, a service's URL or a manifest. A module here may import `http`, `core`, `support`, `ports`,
`options`, `errors` and `units`.
"""
