"""Files that the service itself fetches from public URLs, into uploads like any others."""
