"""HTTP to a store: the PUT of one part, the GET of one range, connections, and errors translated into `Fault`s.

A module here may import `core`, `support`, `ports`, `errors` and `units`. It knows nothing of S3's API, sources or
manifest files. It serves parts, reads and the media service's client. botocore sends all other S3 requests over its own
connections, and resolves names itself.
"""
