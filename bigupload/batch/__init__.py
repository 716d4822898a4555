"""Many files: which are selected (`tree`), and the job that uploads them.

A module here may import `sources`, `ports`, `events`, `options`, `core`, `support`, `errors` and `units`. It knows no
store and no engine: `api` gives it the functions that upload one file.
"""
