"""What replicas share through Valkey or Redis, and what each of them does while that is away."""
