"""Small tools that know nothing of uploads: group commit, shielding from cancellation, a rate limit, durable files.

A module here may import bigupload's `errors` and `units`.
"""
