"""Small tools that know nothing of uploads: group commit, cancellation, a rate limit, durable files.

A module here may import bigupload's `errors` and `units`.
"""
