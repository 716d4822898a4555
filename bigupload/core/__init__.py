"""Pure decisions: what to send, what a response proves, what may be retried, what the manifest records.

A module here does no I/O, does not wait, and has no clock: time and randomness are arguments. It may import the pure
modules of the standard library, `awscrt` (checksums), and bigupload's `errors`, `units` and `core`.
"""
