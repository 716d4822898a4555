"""The operator's own checks: before an upload begins, and before a file counts."""
