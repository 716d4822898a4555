"""A connection's transport that takes bytes, and sends none."""

from __future__ import annotations


class NoTransport:
    """It remembers what it was told."""

    def __init__(self) -> None:
        self.unsent = 0
        self.closed = False
        self.pauses: list[bool] = []
        """Whether it was told to pause reading, or to resume."""

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        self.pauses.append(True)

    def resume_reading(self) -> None:
        self.pauses.append(False)

    def abort(self) -> None:
        self.closed = True
