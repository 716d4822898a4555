"""What a call to the engine ends with while it is away. Apart, for those who may never have an engine."""


class EngineAwayError(Exception):
    """The engine does not respond, or refuses. The caller does without it."""
